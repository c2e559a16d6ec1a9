#include "control/recording.h"

#include "base/buf.h"
#include "record/scanner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define READ_CHUNK ((size_t)256 << 10)

struct tm_recording {
    gzFile file;
    char *path;
    double size;      /* of the file, as it lies on disk */
    struct tm_buf in; /* what was read; from `at` on not yet used */
    size_t at;
    uint64_t line;
};

int tm_recording_open(const char *path, struct tm_recording **out, struct tm_error *err)
{
    struct stat st;
    gzFile file = gzopen(path, "rbe");
    if (!file || stat(path, &st) < 0) {
        int cause = errno;
        if (file)
            gzclose(file);
        return tm_error_errno(err, TM_EIO, cause, "%s: cannot be opened", path);
    }
    struct tm_recording *r = calloc(1, sizeof *r);
    TM_FATAL_UNLESS(r && (r->path = strdup(path)));
    r->file = file;
    r->size = (double)st.st_size;
    (void)gzbuffer(file, 256 << 10);
    *out = r;
    return TM_OK;
}

void tm_recording_close(struct tm_recording *r)
{
    if (!r)
        return;
    (void)gzclose(r->file);
    tm_buf_fini(&r->in);
    free(r->path);
    free(r);
}

/* 1: more is there, 0: the end. */
static int read_more(struct tm_recording *r, struct tm_error *err)
{
    tm_buf_consume(&r->in, r->at);
    r->at = 0;
    if (r->in.len > TM_RECORDING_LINE_MAX)
        return tm_error_set(err, TM_EPARSE, "%s:%llu: the line is longer than 8 MiB: expected one frame a line",
                            r->path, (unsigned long long)r->line + 1);
    if (tm_buf_reserve(&r->in, READ_CHUNK + TM_SCAN_PADDING))
        return tm_error_set(err, TM_ENOMEM, "no memory to read %s", r->path);
    int n = gzread(r->file, r->in.data + r->in.len, READ_CHUNK);
    int code = Z_OK;
    const char *why = gzerror(r->file, &code);
    if (n < 0 || (n == 0 && code != Z_OK && code != Z_STREAM_END))
        return tm_error_set(err, TM_EIO, "%s: cannot be read on: %s", r->path, why);
    r->in.len += (size_t)n;
    return n > 0;
}

/* The next line without its end. 1: there is one. */
static int read_line(struct tm_recording *r, const char **line, size_t *len, struct tm_error *err)
{
    size_t searched = 0;
    for (;;) {
        const char *start = r->in.data ? (const char *)r->in.data + r->at : "";
        size_t left = r->in.len - r->at;
        const char *end = left > searched ? memchr(start + searched, '\n', left - searched) : NULL;
        searched = left;
        int more = end ? 1 : read_more(r, err);
        if (more < 0)
            return more;
        if (!end && more)
            continue;
        start = r->in.data ? (const char *)r->in.data + r->at : "";
        *line = start;
        *len = end ? (size_t)(end - start) : r->in.len - r->at;
        r->at += *len + (end != NULL);
        r->line += end || *len;
        return end || *len;
    }
}

/* ---- the wrapping ---- */

static bool is(const struct tm_value *name, const char *text)
{
    return name->len == strlen(text) && memcmp(name->at, text, name->len) == 0;
}

static void take(struct tm_recorded *out, const struct tm_value *name, const struct tm_value *v)
{
    char number[32] = {0};
    if (is(name, "event") && v->kind == TM_VALUE_OBJECT) {
        out->frame = v->at;
        out->len = v->len;
    } else if (is(name, "conn") && v->len <= TM_RECORDING_CONN_MAX) {
        out->conn = v->at;
        out->conn_len = v->len;
    } else if (v->kind == TM_VALUE_NUMBER && v->len < sizeof number && (is(name, "recv_ms") || is(name, "recv_us"))) {
        memcpy(number, v->at, v->len);
        double t = strtod(number, NULL) * (is(name, "recv_ms") ? 1000 : 1);
        out->recv_us = t > 0 && t < 9e15 ? (int64_t)(t + 0.5) : 0;
    }
}

/* Look at the names of the outermost object. What is no whole object is left as it is, for the decoder to judge. */
static void unwrap(struct tm_recorded *out)
{
    struct tm_recorded found = *out;
    struct tm_scanner s;
    struct tm_value name, v;
    tm_scanner_init(&s, out->frame, out->len, true);
    const char *p = tm_scan_space(&s, out->frame);
    if (p >= s.end || *p != '{')
        return;
    p = tm_scan_space(&s, p + 1);
    while (p && p < s.end && *p == '"') {
        p = tm_scan_string(&s, p, &name);
        p = p ? tm_scan_space(&s, p) : NULL;
        if (!p || p >= s.end || *p != ':')
            return;
        p = tm_scan_value(&s, tm_scan_space(&s, p + 1), 1, &v);
        p = p ? tm_scan_space(&s, p) : NULL;
        if (!p || p >= s.end || (*p != ',' && *p != '}'))
            return;
        take(&found, &name, &v);
        if (*p == '}' && tm_scan_space(&s, p + 1) == s.end)
            *out = found;
        if (*p == '}')
            return;
        p = tm_scan_space(&s, p + 1);
    }
}

int tm_recording_next(struct tm_recording *r, struct tm_recorded *out, struct tm_error *err)
{
    *out = (struct tm_recorded){0};
    int rc;
    do {
        rc = read_line(r, &out->frame, &out->len, err);
        while (rc > 0 && out->len && strchr(" \t\r", out->frame[out->len - 1]))
            out->len--;
    } while (rc > 0 && out->len == 0);
    out->line = r->line;
    if (rc > 0)
        unwrap(out);
    return rc;
}

double tm_recording_progress(const struct tm_recording *r)
{
    z_off_t at = gzoffset(r->file);
    return r->size > 0 && at > 0 ? (double)at / r->size : 0;
}
