#include "journal/internal.h"
#include "base/hash.h"
#include "base/log.h"
#include "journal/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH_FILE "epoch"
#define EPOCH_TEMPORARY "epoch.tmp"

/* ---- the directory ---- */

struct listing {
    uint64_t *numbers;
    size_t count, cap;
    struct tm_buf temporaries; /* names, NUL after each */
    bool no_memory;
};

static void list_number(struct listing *l, uint64_t number)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        uint64_t *numbers = realloc(l->numbers, cap * sizeof *numbers);
        if (!numbers) {
            l->no_memory = true;
            return;
        }
        l->numbers = numbers;
        l->cap = cap;
    }
    l->numbers[l->count++] = number;
}

static void on_name(void *to, const char *name)
{
    struct listing *l = to;
    uint64_t number;
    size_t len = strlen(name);
    if (tm_segment_name_parse(name, &number))
        list_number(l, number);
    else if (len > 4 && strcmp(name + len - 4, ".tmp") == 0 && tm_buf_append(&l->temporaries, name, len + 1))
        l->no_memory = true;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Files that were being made when the process ended. */
static void remove_temporaries(struct tm_journal *j, const struct listing *l)
{
    for (size_t at = 0; at < l->temporaries.len;) {
        const char *name = (const char *)l->temporaries.data + at;
        (void)j->fs.unlink(j->fs.arg, j->dir, name);
        at += strlen(name) + 1;
    }
}

static int64_t size_of(struct tm_journal *j, uint64_t number)
{
    char name[TM_SEGMENT_NAME_BYTES];
    tm_segment_name(number, name);
    int fd = tm_fs_open(&j->fs, j->dir, name, O_RDONLY);
    if (fd < 0)
        return -1;
    int64_t size = j->fs.size(j->fs.arg, fd);
    int cause = errno;
    j->fs.close(j->fs.arg, fd);
    errno = cause;
    return size;
}

static int note_segments(struct tm_journal *j, const struct listing *l, struct tm_error *err)
{
    for (size_t i = 0; i < l->count; i++) {
        int64_t size = size_of(j, l->numbers[i]);
        if (size < 0)
            return tm_error_errno(err, TM_EIO, errno, "journal: %s: cannot read the size of segment %016" PRIx64,
                                  j->dir_name, l->numbers[i]);
        if (tm_journal_segment_reserve(j))
            return tm_error_set(err, TM_ENOMEM, "journal: no memory for a list of %zu segments", l->count);
        tm_journal_segment_add(j, l->numbers[i], (uint64_t)size);
        j->disk_bytes += (uint64_t)size;
    }
    return TM_OK;
}

static int list(struct tm_journal *j, struct tm_error *err)
{
    struct listing l = {0};
    int rc = TM_OK;
    if (j->fs.list_dir(j->fs.arg, j->dir, on_name, &l))
        rc = tm_error_errno(err, TM_EIO, errno, "journal: cannot list %s", j->dir_name);
    else if (l.no_memory)
        rc = tm_error_set(err, TM_ENOMEM, "journal: no memory to list %s", j->dir_name);
    if (!rc) {
        if (l.count)
            qsort(l.numbers, l.count, sizeof *l.numbers, by_number);
        remove_temporaries(j, &l);
        rc = note_segments(j, &l, err);
    }
    free(l.numbers);
    tm_buf_fini(&l.temporaries);
    return rc;
}

/* ---- one segment ---- */

/* First pass over the newest segment: all before *proven was durable, says one of its frames. */
static int survey_frames(struct tm_scan *scan, uint64_t size, uint64_t *proven, struct tm_error *err)
{
    struct tm_frame f;
    int rc;
    while ((rc = tm_scan_next(scan, size, &f, err)) == 1)
        if (f.synced > *proven)
            *proven = f.synced;
    return rc;
}

static void note_seqs(struct tm_journal *j, const struct tm_frame *f)
{
    struct tm_item item;
    uint32_t at = 0;
    while (tm_item_next(f->payload, f->length, &at, &item)) {
        if (item.stream >= j->decl_count)
            continue;
        int family = j->decls[item.stream].family;
        if (item.seq >= j->next_seq[family] && item.seq < INT64_MAX)
            j->next_seq[family] = item.seq + 1;
    }
}

/* Bytes that were durable cannot be read. The seqs in them may be in a store already, so none of them may be given out
 * again: step over as many as the bytes could hold. A hole in the numbers is seen and explained; a number used twice is
 * a lost record. */
static void step_over(struct tm_journal *j, uint64_t bytes)
{
    int64_t records = (int64_t)(bytes / TM_ITEM_BYTES_MIN) + 1;
    for (int i = 0; i < j->decl_count; i++)
        if (j->next_seq[i] <= INT64_MAX - records)
            j->next_seq[i] += records;
}

/* Second pass: take in the seqs of what stays, and find where the segment ends. */
static int take_frames(struct tm_journal *j, struct tm_scan *scan, uint64_t size, uint64_t proven, uint64_t *end,
                       struct tm_error *err)
{
    struct tm_frame f;
    int rc;
    uint64_t lost = 0;
    *end = scan->offset;
    while ((rc = tm_scan_next(scan, size, &f, err)) == 1) {
        if (scan->skipped_bytes && scan->skipped_from >= proven)
            break;
        if (scan->skipped_bytes)
            tm_journal_count_damage(j, 1, scan->skipped_bytes);
        lost += scan->skipped_bytes;
        note_seqs(j, &f);
        *end = tm_frame_end(&f);
    }
    if (rc == 0 && scan->skipped_bytes && scan->skipped_from < proven) {
        tm_journal_count_damage(j, 1, scan->skipped_bytes);
        lost += scan->skipped_bytes;
        *end = size;
    }
    if (lost)
        step_over(j, lost);
    return rc < 0 ? rc : TM_OK;
}

/* Cut what the last process did not get to sync, and make sure of the rest before anybody reads it. */
static int settle(struct tm_journal *j, struct tm_segment_file *file, int fd, uint64_t end, struct tm_error *err)
{
    if (end < file->end) {
        tm_log(TM_LOG_INFO, "journal", "torn tail cut", TM_F_STR("dir", j->dir_name), TM_F_U64("segment", file->number),
               TM_F_U64("offset", end), TM_F_U64("bytes", file->end - end));
        if (tm_fs_truncate(&j->fs, fd, end))
            return tm_error_errno(err, TM_EIO, errno,
                                  "journal: %s: cannot cut segment %016" PRIx64 " to %" PRIu64 " bytes", j->dir_name,
                                  file->number, end);
        j->stats.torn_bytes += file->end - end;
        j->disk_bytes -= file->end - end;
        file->end = end;
    }
    if (tm_fs_sync(&j->fs, fd) || tm_fs_sync(&j->fs, j->dir))
        return tm_error_errno(err, TM_EIO, errno, "journal: cannot sync %s", j->dir_name);
    return TM_OK;
}

static int take_header(struct tm_journal *j, const struct tm_segment_header *h, struct tm_error *err)
{
    struct tm_segment_stream s;
    size_t at = 0;
    memcpy(j->epoch, h->epoch, sizeof j->epoch);
    while (tm_segment_stream_next(h, &at, &s)) {
        int id = tm_journal_declare(j, &s, err);
        if (id == TM_ENOMEM)
            return id;
        if (id != s.id)
            return tm_error_set(err, TM_ECORRUPT,
                                "journal: %s: segment %016" PRIx64 " has a table of streams that "
                                "this version does not write",
                                j->dir_name, h->number);
        int family = j->decls[id].family;
        if (s.next_seq > j->next_seq[family])
            j->next_seq[family] = s.next_seq;
    }
    if (h->damaged_bytes) {
        tm_log(TM_LOG_WARN, "journal", "one copy of a segment header is damaged", TM_F_STR("dir", j->dir_name),
               TM_F_U64("segment", h->number));
        tm_journal_count_damage(j, 0, h->damaged_bytes);
    }
    return TM_OK;
}

static void forget_header(struct tm_journal *j)
{
    while (j->decl_count > 0) {
        struct tm_decl *d = &j->decls[--j->decl_count];
        free(d->name);
        free(d->columns);
        j->next_seq[j->decl_count] = 1;
    }
    j->table_bytes = 0;
}

/* Only the newest segment can have a torn tail; the others were made durable before the next was begun. */
static int take_segment(struct tm_journal *j, struct tm_segment_file *file, int fd, struct tm_error *err)
{
    bool newest = file == &j->segments[j->segment_count - 1];
    struct tm_scan scan = {.fs = &j->fs, .fd = fd};
    struct tm_segment_header header;
    uint64_t end = file->end, proven = 0;
    int rc = tm_scan_open(&scan, file->number, &header, err);
    uint64_t first = scan.offset;
    if (!rc)
        rc = take_header(j, &header, err);
    if (!rc)
        rc = survey_frames(&scan, file->end, &proven, err);
    if (!newest)
        proven = UINT64_MAX;
    scan.offset = first;
    if (!rc)
        rc = take_frames(j, &scan, file->end, proven, &end, err);
    tm_scan_fini(&scan);
    return rc ? rc : settle(j, file, fd, end, err);
}

/* ---- the journal ---- */

/* The newest segment with a good header tells the epoch, the streams and their seqs. Newer ones without a header held
 * records that were durable: their seqs are stepped over. TM_ENOENT: there is no good segment. */
static int take_newest(struct tm_journal *j, struct tm_error *err)
{
    uint64_t unreadable = 0;
    for (size_t i = j->segment_count; i-- > 0;) {
        struct tm_segment_file *file = &j->segments[i];
        char name[TM_SEGMENT_NAME_BYTES];
        tm_segment_name(file->number, name);
        int fd = tm_fs_open(&j->fs, j->dir, name, O_RDWR);
        if (fd < 0)
            return tm_error_errno(err, TM_EIO, errno, "journal: cannot open %s/%s", j->dir_name, name);
        int rc = take_segment(j, file, fd, err);
        j->fs.close(j->fs.arg, fd);
        if (rc != TM_ECORRUPT) {
            if (!rc && unreadable)
                step_over(j, unreadable);
            return rc;
        }
        tm_log(TM_LOG_ERROR, "journal", "segment cannot be read", TM_F_STR("dir", j->dir_name), TM_F_ERR(err));
        tm_journal_count_damage(j, 1, file->end);
        forget_header(j);
        unreadable += file->end;
    }
    return TM_ENOENT;
}

static int write_epoch(struct tm_journal *j, struct tm_error *err)
{
    (void)j->fs.unlink(j->fs.arg, j->dir, EPOCH_TEMPORARY);
    int fd = tm_fs_open(&j->fs, j->dir, EPOCH_TEMPORARY, O_WRONLY | O_CREAT | O_EXCL);
    int rc = fd < 0 ? -1 : tm_fs_write(&j->fs, fd, j->epoch, sizeof j->epoch, 0);
    if (!rc)
        rc = tm_fs_sync(&j->fs, fd);
    int cause = errno;
    if (fd >= 0)
        j->fs.close(j->fs.arg, fd);
    errno = cause;
    if (!rc)
        rc = j->fs.rename(j->fs.arg, j->dir, EPOCH_TEMPORARY, EPOCH_FILE);
    if (!rc)
        rc = tm_fs_sync(&j->fs, j->dir);
    return rc ? tm_error_errno(err, TM_EIO, errno, "journal: cannot write %s/" EPOCH_FILE, j->dir_name) : TM_OK;
}

static bool epoch_file_agrees(struct tm_journal *j)
{
    uint8_t found[17];
    int fd = tm_fs_open(&j->fs, j->dir, EPOCH_FILE, O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t n = tm_fs_read(&j->fs, fd, found, sizeof found, 0);
    j->fs.close(j->fs.arg, fd);
    return n == 16 && memcmp(found, j->epoch, 16) == 0;
}

int tm_journal_recover(struct tm_journal *j, struct tm_error *err)
{
    if (j->fs.lock_dir(j->fs.arg, j->dir))
        return tm_error_errno(err, TM_ECONFLICT, errno,
                              "journal: cannot lock %s: is another process using it? One journal has one owner",
                              j->dir_name);
    int rc = list(j, err);
    if (rc)
        return rc;
    uint64_t last = j->segment_count ? j->segments[j->segment_count - 1].number : 0;
    if (last == UINT64_MAX)
        return tm_error_set(err, TM_EFULL, "journal: %s: the last segment number is used up; start a new directory",
                            j->dir_name);
    j->next_segment = last + 1;
    j->durable = (struct tm_journal_position){.segment = j->next_segment};
    rc = take_newest(j, err);
    if (rc == TM_ENOENT) /* nothing that could continue: whatever is written from now on is another history */
        tm_random_bytes(j->epoch, sizeof j->epoch);
    else if (rc)
        return rc;
    memcpy(j->filed_seq, j->next_seq, sizeof j->filed_seq);
    return epoch_file_agrees(j) ? TM_OK : write_epoch(j, err);
}
