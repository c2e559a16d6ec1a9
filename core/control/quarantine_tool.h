/*
 * `tidemill quarantine list|retry|drop SCRIPT [ID...]`: the rows that a store could not take (store/quarantine.h), of the
 * script's own store: a gatherer's local one, a deduplicator's production. Processes may be running on it. Exit status:
 * 0 fine, 1 failed or some rows were refused again, 2 usage, 78 a bad script.
 */
#ifndef TM_CONTROL_QUARANTINE_TOOL_H
#define TM_CONTROL_QUARANTINE_TOOL_H

#include "control/cli.h"

extern const struct tm_cli_option tm_quarantine_tool_options[];
int tm_quarantine_tool_command(const struct tm_cli *cli);

#endif
