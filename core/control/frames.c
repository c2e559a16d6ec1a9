#include "control/frames.h"
#include "control/client.h"

#include "record/row_json.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_AHEAD TM_SCAN_PADDING
#define READ_BYTES 65536
#define FRAME_MAX ((int64_t)8 << 20)

volatile sig_atomic_t tm_frames_interrupted;

struct tm_frames {
    int fd;
    uint64_t id;
    struct tm_buf in, frame, scratch, error, text;
};

/* ---- bytes ---- */

/* A peer that is refused is told so and hung up on; what it sends may come too late, and reading tells why. */
static int send_all(struct tm_frames *f, const void *bytes, size_t len, struct tm_error *err)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(f->fd, (const char *)bytes + at, len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EPIPE)
            return TM_OK;
        if (n < 0 && errno != EINTR)
            return tm_error_errno(err, TM_EIO, errno, "cannot send the command");
        at += n > 0 ? (size_t)n : 0;
    }
    return TM_OK;
}

static int send_frame(struct tm_frames *f, const struct tm_buf *json, struct tm_error *err)
{
    struct tm_buf out = {0};
    int rc = tm_buf_printf(&out, "%zu\n", json->len);
    rc = rc ? rc : tm_buf_append(&out, json->data, json->len);
    rc = rc ? tm_error_set(err, rc, "out of memory") : send_all(f, out.data, out.len, err);
    tm_buf_fini(&out);
    return rc;
}

static int cancel(struct tm_frames *f, struct tm_error *err)
{
    struct tm_buf json = {0};
    int rc = tm_buf_printf(&json, "{\"id\":%" PRIu64 ",\"op\":\"cancel\"}", f->id);
    rc = rc ? tm_error_set(err, rc, "out of memory") : send_frame(f, &json, err);
    tm_buf_fini(&json);
    return rc;
}

/* Read some more. A signal that wants the command to end is passed on. */
static int receive_some(struct tm_frames *f, struct tm_error *err)
{
    if (tm_frames_interrupted) {
        tm_frames_interrupted = 0;
        int rc = cancel(f, err);
        if (rc)
            return rc;
    }
    struct pollfd p = {.fd = f->fd, .events = POLLIN};
    if (poll(&p, 1, 100) <= 0) /* also so that a signal just before it is seen soon */
        return TM_OK;
    if (tm_buf_reserve(&f->in, READ_BYTES) < 0)
        return tm_error_set(err, TM_ENOMEM, "out of memory");
    ssize_t n = recv(f->fd, f->in.data + f->in.len, READ_BYTES, 0);
    if (n < 0 && errno != EINTR)
        return tm_error_errno(err, TM_EIO, errno, "cannot read the answer");
    if (n == 0)
        return tm_error_set(err, TM_EIO, "tidemill hung up");
    f->in.len += n > 0 ? (size_t)n : 0;
    return TM_OK;
}

static int receive_line(struct tm_frames *f, struct tm_buf *line, struct tm_error *err)
{
    char *end;
    int rc = TM_OK;
    while (!rc && !(end = f->in.len ? memchr(f->in.data, '\n', f->in.len) : NULL))
        rc = receive_some(f, err);
    if (rc)
        return rc;
    size_t len = (size_t)(end - (char *)f->in.data);
    tm_buf_clear(line);
    rc = tm_buf_append(line, f->in.data, len);
    tm_buf_consume(&f->in, len + 1);
    return rc || !tm_buf_cstr(line) ? tm_error_set(err, TM_ENOMEM, "out of memory") : TM_OK;
}

/* The next frame into f->frame, with room for the scanner behind it. */
static int receive_frame(struct tm_frames *f, struct tm_error *err)
{
    int rc = receive_line(f, &f->scratch, err);
    if (rc)
        return rc;
    int64_t len = atoll((const char *)f->scratch.data);
    if (len <= 0 || len > FRAME_MAX)
        return tm_error_set(err, TM_EPARSE, "expected a frame from the process, got something else");
    while (!rc && f->in.len < (size_t)len)
        rc = receive_some(f, err);
    if (rc)
        return rc;
    tm_buf_clear(&f->frame);
    rc = tm_buf_append(&f->frame, f->in.data, (size_t)len);
    rc = rc ? rc : tm_buf_reserve(&f->frame, LOOK_AHEAD);
    if (rc)
        return tm_error_set(err, rc, "out of memory");
    memset(f->frame.data + len, 0, LOOK_AHEAD);
    tm_buf_consume(&f->in, (size_t)len);
    return TM_OK;
}

/* ---- opening ---- */

int tm_frames_text(struct tm_span string, struct tm_buf *out)
{
    struct tm_scanner s;
    struct tm_value value;
    tm_buf_clear(out);
    tm_scanner_init(&s, string.at, string.len, true);
    int rc = tm_scan_document(&s, &value);
    if (!rc)
        rc = value.kind == TM_VALUE_STRING ? tm_value_unescape(value, out) : TM_EPARSE;
    return rc || tm_buf_cstr(out) ? rc : TM_ENOMEM;
}

static bool get(struct tm_span document, const char *name, struct tm_span *out)
{
    return tm_json_get(document, name, out) == TM_OK;
}

static bool is_word(struct tm_span s, const char *word)
{
    return s.len == strlen(word) && memcmp(s.at, word, s.len) == 0;
}

/* The answer to the line "frames". */
static int check_hello(struct tm_frames *f, struct tm_error *err)
{
    int rc = receive_line(f, &f->frame, err);
    if (rc)
        return rc;
    if (tm_buf_reserve(&f->frame, LOOK_AHEAD) < 0)
        return tm_error_set(err, TM_ENOMEM, "out of memory");
    memset(f->frame.data + f->frame.len, 0, LOOK_AHEAD);
    struct tm_span hello = {(const char *)f->frame.data, f->frame.len}, part;
    if (get(hello, "ok", &part) && is_word(part, "true"))
        return TM_OK;
    if (get(hello, "error", &part) && tm_frames_text(part, &f->error) == TM_OK)
        return tm_error_set(err, TM_EIO, "%s", (const char *)f->error.data);
    return tm_error_set(err, TM_EPARSE, "the process does not know this protocol: it is of another version");
}

int tm_frames_open(const char *path, struct tm_frames **out, struct tm_error *err)
{
    int fd = tm_client_connect(path, err);
    if (fd < 0)
        return fd;
    struct tm_frames *f = calloc(1, sizeof *f);
    TM_FATAL_UNLESS(f);
    f->fd = fd;
    int rc = send_all(f, "frames\n", 7, err);
    rc = rc ? rc : check_hello(f, err);
    if (rc) {
        tm_frames_close(f);
        return rc;
    }
    *out = f;
    return TM_OK;
}

void tm_frames_close(struct tm_frames *f)
{
    if (!f)
        return;
    close(f->fd);
    tm_buf_fini(&f->in);
    tm_buf_fini(&f->frame);
    tm_buf_fini(&f->scratch);
    tm_buf_fini(&f->error);
    tm_buf_fini(&f->text);
    free(f);
}

/* ---- asking ---- */

static int send_request(struct tm_frames *f, const struct tm_frames_request *r, struct tm_error *err)
{
    struct tm_buf json = {0};
    int rc = tm_text_storable(r->text, r->len) ? TM_OK : TM_EINVAL;
    if (rc)
        return tm_error_set(err, rc, "expected text in UTF-8");
    f->id++;
    rc =
        tm_buf_printf(&json, "{\"id\":%" PRIu64 ",\"op\":\"%s\",\"json\":%s,\"color\":%s,\"width\":%d,\"text\":", f->id,
                      r->op, r->json ? "true" : "false", r->color ? "true" : "false", r->width);
    rc = rc ? rc : tm_json_put_text(&json, r->text, r->len);
    rc = rc ? rc : tm_buf_append(&json, "}", 1);
    rc = rc ? tm_error_set(err, rc, "out of memory") : send_frame(f, &json, err);
    tm_buf_fini(&json);
    return rc;
}

static void show_output(struct tm_frames *f, const struct tm_frames_request *r, struct tm_span string)
{
    if (r->on_output && tm_frames_text(string, &f->text) == TM_OK)
        r->on_output(r->arg, (const char *)f->text.data, f->text.len);
}

static const char *text_of(struct tm_span document, const char *name, struct tm_buf *out)
{
    struct tm_span string;
    return get(document, name, &string) && tm_frames_text(string, out) == TM_OK ? (const char *)out->data : NULL;
}

static void read_answer(struct tm_frames *f, struct tm_span whole, struct tm_frames_answer *out)
{
    struct tm_span part;
    *out = (struct tm_frames_answer){.whole = whole};
    out->ok = get(whole, "ok", &part) && is_word(part, "true");
    out->unfinished = get(whole, "unfinished", &part) && is_word(part, "true");
    (void)get(whole, "result", &out->result);
    out->error = text_of(whole, "error", &f->error);
    out->text = text_of(whole, "text", &f->text);
}

int tm_frames_ask(struct tm_frames *f, const struct tm_frames_request *request, struct tm_frames_answer *out,
                  struct tm_error *err)
{
    char wanted[24];
    (void)snprintf(wanted, sizeof wanted, "%" PRIu64, f->id + 1);
    int rc = send_request(f, request, err);
    while (!rc && !(rc = receive_frame(f, err))) {
        struct tm_span whole = {(const char *)f->frame.data, f->frame.len}, id, part;
        bool ours = get(whole, "id", &id) && is_word(id, wanted);
        if (ours && get(whole, "out", &part)) {
            show_output(f, request, part);
        } else if (ours) {
            read_answer(f, whole, out);
            return TM_OK;
        }
    }
    return rc;
}
