/*
 * `tidemill status` and `tidemill top`: the state of a running process, once and again and again. Where the process is:
 *
 *     --socket PATH, --at HOST:PORT     as asked for
 *     TIDEMILL_HEALTH, TIDEMILL_SOCKET  else as its environment says, which is often ours
 *     127.0.0.1:8080                    else where it listens by default
 *
 * The admin address is preferred, as it answers while the policy thread hangs.
 */
#ifndef TM_CONTROL_LOOKING_H
#define TM_CONTROL_LOOKING_H

#include "control/cli.h"

extern const struct tm_cli_option tm_status_options[], tm_top_options[];

int tm_status_command(const struct tm_cli *cli);
int tm_top_command(const struct tm_cli *cli);

#endif
