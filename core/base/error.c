#include "base/error.h"

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

int tm_error_wrap(struct tm_error *err, const char *fmt, ...)
{
    if (!err)
        return TM_EINVAL;
    char inner[sizeof err->message];
    memcpy(inner, err->message, sizeof inner);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->message)
        (void)snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", inner);
    return err->code;
}

int tm_error_errno(struct tm_error *err, int code, int errno_value, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    int n = vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->message)
        (void)snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", strerror(errno_value));
    return code;
}

const char *tm_code_name(int code)
{
    static const char *const names[] = {"ok",        "no memory", "invalid", "parse",   "io",
                                        "full",      "not found", "state",   "timeout", "stopped",
                                        "corrupt",   "retry",     "conflict", "denied", "script",
                                        "poison"};
    if (code > 0 || -code >= (int)(sizeof names / sizeof *names))
        return "unknown";
    return names[-code];
}

void tm_fatal(const char *file, int line, const char *text)
{
    fprintf(stderr, "tidemill: broken promise at %s:%d: %s\n", file, line, text);
    abort();
}
