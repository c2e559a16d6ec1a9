/*
 * The client's end of a session that speaks frames (control/server.h): connect, ask, print what comes meanwhile. One
 * request at a time. A SIGINT that was noted in `tm_frames_interrupted` cancels the command under way, and no more.
 */
#ifndef TM_CONTROL_FRAMES_H
#define TM_CONTROL_FRAMES_H

#include "base/buf.h"
#include "record/decode.h"
#include "record/scanner.h"

#include <signal.h>
#include <stdbool.h>

struct tm_frames;

/* Set by the program's handler of SIGINT, taken back here. */
extern volatile sig_atomic_t tm_frames_interrupted;

int tm_frames_open(const char *path, struct tm_frames **out, struct tm_error *err) TM_MUST_CHECK;
void tm_frames_close(struct tm_frames *f); /* NULL is fine */

struct tm_frames_request {
    const char *op; /* "eval", "complete", "command" */
    const char *text;
    size_t len;
    bool json, color;
    int width;
    void (*on_output)(void *arg, const char *text, size_t len); /* NULL: it is dropped */
    void *arg;
};

/* The parts of an answer; borrowed until the next request. */
struct tm_frames_answer {
    struct tm_span whole, result;
    bool ok, unfinished;
    const char *error, *text; /* unescaped; NULL: none */
};

/* Waits as long as it takes. An error here is one of the connection, which is of no use any more. */
int tm_frames_ask(struct tm_frames *f, const struct tm_frames_request *request, struct tm_frames_answer *out,
                  struct tm_error *err) TM_MUST_CHECK;

/* A string of JSON, with its quotes, as text. TM_EPARSE. */
int tm_frames_text(struct tm_span string, struct tm_buf *out) TM_MUST_CHECK;

#endif
