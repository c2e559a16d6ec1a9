/*
 * Commands of the command line that ask a running process in Lua: `tidemill eval`, `tap`, and `tidemill repl`
 * (repl.c). All take --socket or TIDEMILL_SOCKET. Colours on a terminal alone; NO_COLOR and TERM=dumb are respected.
 */
#ifndef TM_CONTROL_ASKING_H
#define TM_CONTROL_ASKING_H

#include "control/cli.h"
#include "control/frames.h"

/* The option of all commands that need the control socket. */
#define TM_SOCKET_OPTION                                                                                               \
    {                                                                                                                  \
        "--socket", "PATH", "the process's control socket; default TIDEMILL_SOCKET"                                    \
    }

extern const struct tm_cli_option tm_asking_options[], tm_tap_options_of_cli[], tm_repl_options[];

int tm_eval_command(const struct tm_cli *cli);
int tm_tap_command(const struct tm_cli *cli);
int tm_repl_command(const struct tm_cli *cli);

/* The socket of --socket or of the environment; NULL: there is none, which was said. */
const char *tm_asking_socket(const struct tm_cli *cli);

bool tm_asking_color(int fd);
int tm_asking_width(void);

/* What a command prints, without what could move the cursor about. `arg` is a FILE. */
void tm_asking_print(void *arg, const char *text, size_t len);

/* A SIGINT ends the command under way and not us. */
void tm_asking_hold_interrupts(void);

#endif
