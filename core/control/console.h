/*
 * The console: one page at the admin address that shows the state of the process while it changes (control/state.h). Read
 * only: nothing can be asked of the process here.
 *
 *     GET /             the page, with /console.css, /console.js and /icon.svg
 *     GET /state        the state as JSON; ?history: with the last ten minutes
 *     GET /live         a WebSocket: the state with its history at once, then the state each second
 *
 * The page is in the binary, not beside the Lua library: it reads the document that this very binary writes, there is no
 * path that may be wrong and no file to be read on the admin thread. It loads nothing from elsewhere and its
 * Content-Security-Policy says so.
 *
 * On the admin thread: it lives while policy hangs. At most TM_CONSOLES_MAX pages; one that does not take what it is told for
 * ten seconds is dropped (net/wsd.h), and comes back by itself when it can.
 */
#ifndef TM_CONTROL_CONSOLE_H
#define TM_CONTROL_CONSOLE_H

#include "control/state.h"
#include "engine/metrics.h"
#include "net/httpd.h"

#define TM_CONSOLES_MAX 64

struct tm_console;

struct tm_console_options {
    struct tm_loop *loop; /* the admin thread's */
    struct tm_httpd *httpd;
    const char *address; /* that is listened at */
    const char *names;   /* for browsers (net/httpd.h); NULL: none */
    struct tm_state *state;
    struct tm_metrics *metrics;
};

/* Before the loop runs, and after it has ended. NULL is fine for close. */
int tm_console_open(const struct tm_console_options *options, struct tm_console **out,
                    struct tm_error *err) TM_MUST_CHECK;
void tm_console_close(struct tm_console *console);

#endif
