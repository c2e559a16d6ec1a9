/*
 * The other end of the control socket: one command, one answer.
 */
#ifndef TM_CONTROL_CLIENT_H
#define TM_CONTROL_CLIENT_H

#include "base/buf.h"

/* A connected socket, or an error that says how to go on. */
int tm_client_connect(const char *socket_path, struct tm_error *err) TM_MUST_CHECK;

/* Send a line, append the answer without its newline. Waits at most `timeout_us`. */
int tm_client_ask(const char *socket_path, const char *line, int64_t timeout_us, struct tm_buf *answer,
                  struct tm_error *err) TM_MUST_CHECK;

#endif
