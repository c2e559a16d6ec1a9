#include "journal/scan.h"

#include <errno.h>

#define WINDOW_BYTES (256 * 1024)

/* Have the bytes [offset, offset + len) in the window, and more as far as `limit` allows. 1 when they are there, 0 when
 * the file or the limit ends before. Bytes behind the limit are never kept: they are still being written. */
static int fill(struct tm_scan *s, uint64_t offset, size_t len, uint64_t limit, struct tm_error *err)
{
    if (offset >= s->window_offset && offset + len <= s->window_offset + s->window.len)
        return 1;
    if (len > limit || offset > limit - len)
        return 0;
    size_t want = len > WINDOW_BYTES ? len : WINDOW_BYTES;
    if (want > limit - offset)
        want = (size_t)(limit - offset);
    tm_buf_clear(&s->window);
    if (tm_buf_reserve(&s->window, want))
        return tm_error_set(err, TM_ENOMEM, "journal: no memory for %zu bytes to read a segment", want);
    ssize_t n = tm_fs_read(s->fs, s->fd, s->window.data, want, offset);
    if (n < 0)
        return tm_error_errno(err, TM_EIO, errno, "journal: cannot read a segment at offset %llu",
                              (unsigned long long)offset);
    s->window.len = (size_t)n;
    s->window_offset = offset;
    return (size_t)n >= len;
}

static const uint8_t *at(const struct tm_scan *s, uint64_t offset)
{
    return s->window.data + (offset - s->window_offset);
}

int tm_scan_open(struct tm_scan *scan, uint64_t number, struct tm_segment_header *header, struct tm_error *err)
{
    int64_t size = scan->fs->size(scan->fs->arg, scan->fd);
    if (size < 0)
        return tm_error_errno(err, TM_EIO, errno, "journal: cannot read the size of segment %016llx",
                              (unsigned long long)number);
    size_t len = size > 2 * TM_SEGMENT_HEADER_MAX ? 2 * TM_SEGMENT_HEADER_MAX : (size_t)size;
    scan->window.len = 0;
    int rc = fill(scan, 0, len, (uint64_t)size, err);
    if (rc < 0)
        return rc;
    if (tm_segment_header_parse(scan->window.data, scan->window.len, number, header))
        return tm_error_set(err, TM_ECORRUPT,
                            "journal: segment %016llx: expected a header of this segment, version %d, found neither of "
                            "its two copies whole",
                            (unsigned long long)number, TM_SEGMENT_VERSION);
    scan->key = header->key;
    scan->offset = 2 * (uint64_t)header->bytes;
    return TM_OK;
}

/* 1: a good frame stands at `offset`. 0: it does not; *past is where to look next. */
static int try_frame(struct tm_scan *s, uint64_t offset, uint64_t limit, struct tm_frame *f, uint64_t *past,
                     struct tm_error *err)
{
    *past = offset + 1;
    int rc = fill(s, offset, TM_FRAME_HEAD_BYTES, limit, err);
    if (rc <= 0) {
        *past = limit;
        return rc;
    }
    if (!tm_frame_head_parse(at(s, offset), offset, s->key, f))
        return 0;
    rc = fill(s, offset, TM_FRAME_HEAD_BYTES + (size_t)f->length, limit, err);
    if (rc <= 0) {
        *past = limit;
        return rc;
    }
    f->payload = at(s, offset) + TM_FRAME_HEAD_BYTES;
    *past = tm_frame_end(f); /* the head is authentic, so its length is */
    return tm_frame_payload_ok(f);
}

int tm_scan_next(struct tm_scan *s, uint64_t limit, struct tm_frame *frame, struct tm_error *err)
{
    uint64_t offset = s->offset, past;
    s->skipped_bytes = 0;
    int rc = 0;
    while (offset < limit && (rc = try_frame(s, offset, limit, frame, &past, err)) == 0)
        offset = past;
    if (rc < 0)
        return rc;
    s->skipped_from = s->offset;
    s->skipped_bytes = offset - s->offset;
    s->offset = rc ? tm_frame_end(frame) : offset;
    return rc;
}

void tm_scan_fini(struct tm_scan *scan)
{
    tm_buf_fini(&scan->window);
}
