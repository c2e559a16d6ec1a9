/*
 * A recording: a file of lines, plain text or gzip. It is read from its beginning to its end, as often as it is rewound.
 * A file that cannot be read to its end is an error and never an end: of a gzip file that was cut, half would be
 * replayed as if it were all. A line that is longer than TM_RECORDING_LINE_MAX comes without its text. One reader.
 */
#ifndef TM_EXCHANGE_RECORDING_H
#define TM_EXCHANGE_RECORDING_H

#include "base/error.h"
#include "exchange/json.h"

#define TM_RECORDING_LINE_MAX (8u << 20)

struct tm_recording;

struct tm_line {
    struct tm_slice text; /* without its end; valid until the next one is read */
    uint64_t number;      /* from 1 */
    bool too_long;
};

int tm_recording_open(const char *path, struct tm_recording **out, struct tm_error *err) TM_MUST_CHECK;
void tm_recording_close(struct tm_recording *r);

/* The next line; TM_ENOENT, without a message, behind the last one. */
int tm_recording_next(struct tm_recording *r, struct tm_line *line, struct tm_error *err) TM_MUST_CHECK;
int tm_recording_rewind(struct tm_recording *r, struct tm_error *err) TM_MUST_CHECK;

#endif
