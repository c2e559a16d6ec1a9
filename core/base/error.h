/*
 * Errors: a negative code that programs act on, and a sentence that people act on.
 *
 * A function that can fail returns 0 or a negative enum tm_code and takes a `struct tm_error *` as its last
 * parameter. The error is owned by the caller, usually on its stack; the callee fills it once, where the fault is
 * found, with what was expected, what came, where, and what to do. It is logged once, where it is handled.
 * No function here allocates. Any thread.
 */
#ifndef TM_BASE_ERROR_H
#define TM_BASE_ERROR_H

#include <stddef.h>

#define TM_MUST_CHECK __attribute__((warn_unused_result))
#define TM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

enum tm_code {
    TM_OK = 0,
    TM_ENOMEM = -1,     /* allocation refused, or a stated memory bound reached */
    TM_EINVAL = -2,     /* the caller's arguments or configuration are wrong */
    TM_EPARSE = -3,     /* bytes that do not have the expected form */
    TM_EIO = -4,        /* a system call on a file or socket failed */
    TM_EFULL = -5,      /* a bounded queue or store is full; the stated policy applies */
    TM_ENOENT = -6,     /* what was asked for is not there */
    TM_ESTATE = -7,     /* not allowed in this state */
    TM_ETIMEOUT = -8,   /* a deadline passed */
    TM_ESTOPPED = -9,   /* asked to stop while waiting */
    TM_ECORRUPT = -10,  /* stored bytes fail their check */
    TM_ERETRY = -11,    /* a dependency is away or busy; the same call may succeed later */
    TM_ECONFLICT = -12, /* somebody else moved what we compare-and-swap; reload and start over */
    TM_EDENIED = -13,   /* authentication or permission */
    TM_ESCRIPT = -14,   /* a Lua script failed */
    TM_EPOISON = -15,   /* this datum can never be accepted; its neighbours can */
};

struct tm_error {
    int code;
    char message[1000];
};

/* Fill *err (may be NULL) and return `code`, so that callers write `return tm_error_set(err, TM_EIO, ...)`. */
int tm_error_set(struct tm_error *err, int code, const char *fmt, ...) TM_PRINTF(3, 4);

/* Put "what: " before the message that is there already; returns the code that is there. */
int tm_error_wrap(struct tm_error *err, const char *fmt, ...) TM_PRINTF(2, 3);

/* Append strerror(errno_value) as the cause. */
int tm_error_errno(struct tm_error *err, int code, int errno_value, const char *fmt, ...) TM_PRINTF(4, 5);

/* The name of a code, e.g. "corrupt"; never NULL. */
const char *tm_code_name(int code);

/* A broken promise inside the program: log file, line and text to stderr and abort. Never for bad input. */
#define TM_FATAL_UNLESS(condition)                                                                                     \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0))                                                                         \
            tm_fatal(__FILE__, __LINE__, #condition);                                                                  \
    } while (0)
_Noreturn void tm_fatal(const char *file, int line, const char *text);

#endif
