/*
 * `tidemill journal check|dump|repair DIR`: what is in a journal's directory, and making a damaged one whole
 * (journal/inspect.h, journal/repair.h). check and dump only read, also beside a running gatherer. Exit status: 0 fine,
 * 1 damaged or failed, 2 usage, 78 a script given with --script is bad.
 */
#ifndef TM_CONTROL_JOURNAL_TOOL_H
#define TM_CONTROL_JOURNAL_TOOL_H

#include "control/cli.h"

extern const struct tm_cli_option tm_journal_tool_options[];
int tm_journal_tool_command(const struct tm_cli *cli);

#endif
