/*
 * The archive by hand. (`tidemill restore-plan` and `rewind`, control/restore.h, are about what gatherers still hold.)
 *
 *     tidemill archive status SCRIPT    what of production is in the archive, stream by stream, and what is due
 *     tidemill archive run SCRIPT       export what is due, now; also beside a deduplicator at work
 *     tidemill archive verify SCRIPT    is everything there that manifests promise; --deep reads every object
 *     tidemill restore SCRIPT --from URL --since TIME --until TIME [--streams A,B] [--dry-run]
 *                                       from the archive into production (a script of a deduplicator; an empty database
 *                                       becomes one), or into the schema `restored` of a gatherer's store
 *
 * Times: 2026-11-26, 2026-11-26T05:00, or as RFC 3339; UTC where no offset stands. Periods that touch the span are whole.
 * Exit statuses: 0 done; 1 something is missing (named on stdout), or it failed; 2 usage; 78 the script.
 */
#ifndef TM_CONTROL_ARCHIVE_H
#define TM_CONTROL_ARCHIVE_H

#include "control/cli.h"

extern const struct tm_cli_option tm_archive_options[], tm_restore_options_of_cli[];
int tm_archive_command(const struct tm_cli *cli);
int tm_restore_command(const struct tm_cli *cli);

#endif
