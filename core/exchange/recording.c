#include "exchange/recording.h"
#include "base/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define READ_CHUNK (256u << 10)

typedef unsigned long long ull;

struct tm_recording {
    gzFile file;
    struct tm_buf in; /* bytes read, from `at` on not yet used */
    size_t at;
    uint64_t lines, bytes; /* read so far, unpacked */
    char path[];
};

int tm_recording_open(const char *path, struct tm_recording **out, struct tm_error *err)
{
    gzFile file = gzopen(path, "rbe");
    if (!file)
        return tm_error_errno(err, TM_EIO, errno, "replay %s: cannot be opened", path);
    struct tm_recording *r = calloc(1, sizeof *r + strlen(path) + 1);
    TM_FATAL_UNLESS(r);
    r->file = file;
    memcpy(r->path, path, strlen(path));
    *out = r;
    return TM_OK;
}

void tm_recording_close(struct tm_recording *r)
{
    (void)gzclose_r(r->file);
    tm_buf_fini(&r->in);
    free(r);
}

/* Why no more came: nothing is wrong at a true end. */
static int judge_end(const struct tm_recording *r, struct tm_error *err)
{
    int code, cause = errno;
    const char *text = gzerror(r->file, &code);
    if (code == Z_OK || code == Z_STREAM_END)
        return TM_OK;
    if (code == Z_ERRNO)
        return tm_error_errno(err, TM_EIO, cause, "replay %s: cannot be read behind line %llu", r->path, (ull)r->lines);
    const char *came = code == Z_BUF_ERROR ? "it was cut" : text;
    return tm_error_set(
        err, TM_ECORRUPT,
        "replay %s: expected a whole gzip file, but behind line %llu (%llu bytes, unpacked) it cannot be "
        "unpacked: %s; fetch it again, or replay what is left of it: gzip -dc FILE > PART",
        r->path, (ull)r->lines, (ull)r->bytes, came);
}

/* Bytes behind those that are there: *more is false at the end. */
static int read_more(struct tm_recording *r, bool *more, struct tm_error *err)
{
    tm_buf_consume(&r->in, r->at);
    r->at = 0;
    TM_FATAL_UNLESS(tm_buf_reserve(&r->in, READ_CHUNK) == TM_OK);
    int n = gzread(r->file, r->in.data + r->in.len, READ_CHUNK);
    *more = n > 0;
    if (n <= 0)
        return judge_end(r, err);
    r->in.len += (size_t)n;
    r->bytes += (size_t)n;
    return TM_OK;
}

static const char *find_end(const struct tm_recording *r)
{
    return r->in.len > r->at ? memchr(r->in.data + r->at, '\n', r->in.len - r->at) : NULL;
}

int tm_recording_next(struct tm_recording *r, struct tm_line *line, struct tm_error *err)
{
    const char *end;
    bool more = true;
    *line = (struct tm_line){.number = r->lines + 1};
    while (!(end = find_end(r)) && more) {
        if (r->in.len - r->at > TM_RECORDING_LINE_MAX) {
            line->too_long = true;
            r->at = r->in.len;
        }
        int rc = read_more(r, &more, err);
        if (rc)
            return rc;
    }
    size_t len = end ? (size_t)(end - (const char *)r->in.data) - r->at : r->in.len - r->at;
    if (!line->too_long)
        line->text = (struct tm_slice){(const char *)r->in.data + r->at, len};
    r->at += len + (end != NULL);
    r->lines++;
    return end || len || line->too_long ? TM_OK : TM_ENOENT;
}

int tm_recording_rewind(struct tm_recording *r, struct tm_error *err)
{
    if (gzrewind(r->file))
        return tm_error_errno(err, TM_EIO, errno, "replay %s: cannot be read from its beginning again", r->path);
    tm_buf_clear(&r->in);
    r->at = 0;
    r->lines = r->bytes = 0;
    return TM_OK;
}
