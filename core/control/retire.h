/*
 * `tidemill retire SCRIPT GATHERER [--force]`: a person gives up a gatherer for good (FAILURES T16).
 *
 * Its epochs become "retired" in production's tidemill.gatherers: they hold nothing and are refused from then on, with an
 * alarm when one of them comes back with more rows. A new journal and store make a new epoch, which is welcome.
 *
 * Refused while the gatherer's store has rows that production has not, or does not say whether it has any (away, or not
 * in the script any more). With --force it is done all the same, and production's `gaps` say per stream what is lost:
 * the last seq taken, the last one there was if known, and since when.
 */
#ifndef TM_CONTROL_RETIRE_H
#define TM_CONTROL_RETIRE_H

#include "control/cli.h"

/* Exit statuses: 0 retired, 1 refused or failed, 78 bad script. */
int tm_retire_command(const struct tm_cli *cli);
extern const struct tm_cli_option tm_retire_options[];

#endif
