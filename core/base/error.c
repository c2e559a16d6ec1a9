#include "base/error.h"
#include "base/log_writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int tm_error_set(struct tm_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    (void)vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    return code;
}

/* Add ": text" behind the `len` bytes that a printf wanted to write; what does not fit is cut. */
static void append_cause(struct tm_error *err, int len, const char *text)
{
    size_t at = len < 0 ? 0 : (size_t)len;
    const char *const parts[] = {": ", text};
    for (size_t i = 0; i < 2; i++)
        for (const char *c = parts[i]; *c && at + 1 < sizeof err->message; c++)
            err->message[at++] = *c;
    if (at < sizeof err->message)
        err->message[at] = '\0';
}

int tm_error_wrap(struct tm_error *err, const char *fmt, ...)
{
    if (!err)
        return TM_EINVAL;
    char inner[sizeof err->message];
    memcpy(inner, err->message, sizeof inner);
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    append_cause(err, len, inner);
    return err->code;
}

int tm_error_errno(struct tm_error *err, int code, int errno_value, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    int len = vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    append_cause(err, len, strerror(errno_value));
    return code;
}

const char *tm_code_name(int code)
{
    static const char *const names[] = {"ok",        "no memory", "invalid", "parse",   "io",      "full",
                                        "not found", "state",     "timeout", "stopped", "corrupt", "retry",
                                        "conflict",  "denied",    "script",  "poison"};
    if (code > 0 || -code >= (int)(sizeof names / sizeof *names))
        return "unknown";
    return names[-code];
}

void tm_fatal(const char *file, int line, const char *text)
{
    char said[TM_LOG_LINE_MAX];
    int len = snprintf(said, sizeof said, "tidemill: broken promise at %s:%d: %s\n", file, line, text);
    if (len > 0)
        tm_log_writer_put_last(said, (size_t)len < sizeof said ? (size_t)len : sizeof said - 1);
    abort();
}
