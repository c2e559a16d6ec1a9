/*
 * `tidemill coverage SCRIPT TICKER FROM TO`: asks the production database of a deduplicator's script whether at least one
 * gatherer brought every record of a market over a time, and if not, exactly when not and why (store/coverage.h).
 *
 * Exit status: 0 whole; 1 not whole, or it could not be asked; 2 usage; 78 the script.
 */
#ifndef TM_CONTROL_COVERAGE_H
#define TM_CONTROL_COVERAGE_H

#include "control/cli.h"

extern const struct tm_cli_option tm_coverage_options[];
int tm_coverage_command(const struct tm_cli *cli);

#endif
