/*
 * Commands to a running process, as a person gives them: ask its control socket, print the answer. They return the exit
 * status.
 */
#ifndef TM_CONTROL_REMOTE_H
#define TM_CONTROL_REMOTE_H

#include "record/decode.h"

#include <stdbool.h>
#include <stdio.h>

/*
 * Reload and wait for the outcome. What changed goes to stdout, the problems of a script that was rejected to stderr,
 * one per line as `check` prints them; with `json` the whole answer to stdout, whatever it is. 0 reloaded, 1 nobody
 * answers or it failed, 78 the script was rejected and the running one goes on.
 */
int tm_remote_reload(const char *socket_path, bool json);

/* Print the bytes of a JSON string of an answer: what is not printable ASCII was escaped byte by byte (control/command.h).
 */
void tm_remote_print_string(FILE *to, struct tm_span text);

#endif
