/*
 * After production was restored, or lost a table: what will be polled again, and how to have it polled again.
 *
 *     tidemill restore-plan SCRIPT                       for production as it is: from where each gatherer is polled, how many
 *                                                        rows, how long that takes, and what no gatherer holds any more
 *     tidemill rewind SCRIPT --to TIME [--dry-run]       move cursors back, so that all that gatherers received since TIME
 *                                                        is polled once more
 *
 * Rewinding is safe at any time: production's keys keep out what is there already, and a cursor is only ever moved to a
 * mark of the gatherer's (where its history is known) and never forward. The lease is taken from whoever holds it in the
 * same transaction, so that a running deduplicator forgets what it remembers and reads the cursors again.
 *
 * What is gone is told in time: a gatherer's missing seqs (its tidemill.absent) lie between the arrival of the row before
 * them and that of the row after them; what all gatherers of the script miss, nobody holds. A gatherer that cannot be
 * asked counts as one that holds nothing, and is named.
 *
 * Exit statuses: 0 done, and all of it is held; 1 something is gone, or it failed; 2 usage; 78 the script.
 */
#ifndef TM_CONTROL_RESTORE_H
#define TM_CONTROL_RESTORE_H

#include "control/cli.h"

extern const struct tm_cli_option tm_restore_plan_options[], tm_rewind_options[];
int tm_restore_plan_command(const struct tm_cli *cli);
int tm_rewind_command(const struct tm_cli *cli);

#endif
