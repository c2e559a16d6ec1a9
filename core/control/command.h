/*
 * Commands of the control socket: a table, so that help, roles and the audit are the same for all.
 */
#ifndef TM_CONTROL_COMMAND_H
#define TM_CONTROL_COMMAND_H

#include "base/buf.h"

/* What a peer may do. Root and our own user may do all of it. */
enum tm_command_role { TM_COMMAND_READ, TM_COMMAND_OPERATE, TM_COMMAND_ADMIN };

struct tm_command {
    const char *name;
    enum tm_command_role role;
    const char *help;
    /* Append the result as one JSON value without line breaks. `args` is what follows the name, "" if nothing. */
    int (*run)(void *context, const char *args, struct tm_buf *out, struct tm_error *err);
    /* After a run that failed: append more members of the answer, each with a comma before it. NULL: there are none. */
    int (*explain)(void *context, struct tm_buf *out);
};

/* Run one line (without its newline, any bytes) and append the whole answer with its newline. */
int tm_command_answer(const struct tm_command *commands, enum tm_command_role role, void *context, const char *line,
                      size_t len, struct tm_buf *out) TM_MUST_CHECK;

#endif
