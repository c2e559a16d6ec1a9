/*
 * Recordings of frames: a file with one JSON frame a line, plain or gzip, as it came or wrapped:
 *
 *     {"type":"trade","msg":{...}}
 *     {"recv_ms":1786622400123,"conn":"g1/3","event":{"type":"trade",...}}
 *
 * recv_ms is when it arrived (recv_us in microseconds will do too); conn names the connection it came over, for files that
 * hold several. A frame as it came may carry "conn" too. The reader tells frames apart and changes nothing in them; a
 * line that is not JSON is a frame that is not JSON. Empty lines are passed over. One thread.
 */
#ifndef TM_CONTROL_RECORDING_H
#define TM_CONTROL_RECORDING_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TM_RECORDING_LINE_MAX ((size_t)8 << 20)
#define TM_RECORDING_CONN_MAX 64

struct tm_recording;

struct tm_recorded {
    const char *frame; /* until the next one is read; 16 bytes behind it are readable */
    size_t len;
    uint64_t line;    /* from 1 */
    int64_t recv_us;  /* Unix; 0: the line does not say */
    const char *conn; /* at most TM_RECORDING_CONN_MAX bytes, not NUL-terminated; NULL: the line does not say */
    size_t conn_len;
};

int tm_recording_open(const char *path, struct tm_recording **out, struct tm_error *err) TM_MUST_CHECK;
void tm_recording_close(struct tm_recording *r);

/* 1: *out is the next frame, 0: the end, negative: it cannot be read on (the gzip is cut, a line is too long). */
int tm_recording_next(struct tm_recording *r, struct tm_recorded *out, struct tm_error *err) TM_MUST_CHECK;

/* How far it is, from 0 to 1. */
double tm_recording_progress(const struct tm_recording *r);

#endif
