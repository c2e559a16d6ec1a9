#include "journal/internal.h"
#include "base/clock.h"
#include "base/endian.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/planted.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RETRY_FIRST_MS 20
#define RETRY_MAX_MS 1000

/* ---- errors ---- */

/* After a failed sync nobody knows what is on the disk: the kernel may have dropped the dirty pages and will report
 * success next time. The only sound way on is to end here and let the restart read what is really there. */
static _Noreturn void die(struct tm_journal *j, const char *what)
{
    struct tm_error err;
    tm_error_errno(&err, TM_EIO, errno,
                   "journal: %s: %s failed; ending the process so that a restart replays what is really on disk. Check "
                   "the disk",
                   j->dir_name, what);
    tm_log(TM_LOG_ERROR, "journal", "sync failed", TM_F_ERR(&err));
    abort();
}

static int write_error(struct tm_journal *j, struct tm_error *err, const char *what)
{
    struct tm_error e;
    tm_error_errno(&e, TM_EIO, errno, "journal: cannot %s in %s; everything is kept in memory and tried again", what,
                   j->dir_name);
    pthread_mutex_lock(&j->lock);
    j->stats.write_errors++;
    pthread_mutex_unlock(&j->lock);
    TM_LOG_LIMITED(TM_LOG_ERROR, "journal", "write failed", TM_F_ERR(&e));
    if (err)
        *err = e;
    return TM_EIO;
}

static int disk_full(struct tm_journal *j, struct tm_error *err)
{
    int code = tm_error_set(err, TM_EFULL,
                            "journal: %s holds %" PRIu64 " bytes of at most %" PRIu64
                            "; writing goes on when the store has taken and released some, or raise the bound",
                            j->dir_name, j->disk_bytes, j->bytes_max);
    TM_LOG_LIMITED(TM_LOG_ERROR, "journal", "bound reached", TM_F_ERR(err));
    return code;
}

/* ---- what is durable ---- */

static void note_sync(struct tm_journal *j, int64_t started_us)
{
    int64_t now_us = tm_clock_mono_us();
    j->stats.syncs++;
    j->stats.last_sync_us = now_us;
    if (now_us - started_us > j->stats.sync_us_max)
        j->stats.sync_us_max = now_us - started_us;
}

static void publish(struct tm_journal *j, int64_t started_us)
{
    struct tm_tail *t = &j->tail;
    pthread_mutex_lock(&j->lock);
    note_sync(j, started_us);
    j->durable = (struct tm_journal_position){t->number, t->offset};
    j->segments[j->segment_count - 1].end = t->offset;
    j->stats.durable += t->records;
    j->stats.disk_bytes = j->disk_bytes;
    pthread_cond_broadcast(&j->synced);
    pthread_mutex_unlock(&j->lock);
    pthread_mutex_lock(&j->wake_lock);
    if (j->wake)
        j->wake(j->wake_arg, t->oldest_us);
    pthread_mutex_unlock(&j->wake_lock);
}

static void sync_tail(struct tm_journal *j)
{
    struct tm_tail *t = &j->tail;
    if (!t->dirty)
        return;
    int64_t started_us = tm_clock_mono_us();
    if (!TM_PLANTED(forget_fsync) && tm_fs_datasync(&j->fs, t->fd))
        die(j, "fdatasync");
    t->dirty = false;
    t->synced = t->offset;
    atomic_fetch_sub(&j->buffered_bytes, t->payload_bytes);
    publish(j, started_us);
    t->records = t->payload_bytes = 0;
    t->oldest_us = 0;
}

/* ---- segments ---- */

static int make_header(struct tm_journal *j, int decls, struct tm_segment_header *h, struct tm_error *err)
{
    *h = (struct tm_segment_header){.number = j->next_segment, .streams = (uint32_t)decls};
    memcpy(h->epoch, j->epoch, sizeof h->epoch);
    tm_random_bytes(&h->salt, sizeof h->salt);
    int rc = tm_segment_header_begin(&j->header, h);
    for (int i = 0; i < decls && !rc; i++) {
        const struct tm_decl *d = &j->decls[i];
        struct tm_segment_stream s = {.id = (uint16_t)i,
                                      .next_seq = j->filed_seq[d->family],
                                      .name = d->name,
                                      .columns = d->columns,
                                      .name_len = (uint32_t)strlen(d->name),
                                      .columns_len = (uint32_t)strlen(d->columns)};
        rc = tm_segment_header_stream(&j->header, &s);
    }
    if (!rc)
        rc = tm_segment_header_end(&j->header, h);
    return rc ? tm_error_set(err, rc, "journal: no memory for a segment header") : TM_OK;
}

/* The file appears under its name only whole and durable, so a segment without a header is damage, never a crash. */
static int make_file(struct tm_journal *j, struct tm_error *err)
{
    char name[TM_SEGMENT_NAME_BYTES], temporary[TM_SEGMENT_NAME_BYTES + 4];
    tm_segment_name(j->next_segment, name);
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", name);
    int fd = tm_fs_open(&j->fs, j->dir, temporary, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0)
        return write_error(j, err, "create a segment");
    int rc = tm_fs_write(&j->fs, fd, j->header.data, j->header.len, 0);
    if (!rc && tm_fs_sync(&j->fs, fd))
        die(j, "fsync");
    if (!rc)
        rc = j->fs.rename(j->fs.arg, j->dir, temporary, name);
    if (rc) {
        rc = write_error(j, err, "create a segment");
        j->fs.close(j->fs.arg, fd);
        (void)j->fs.unlink(j->fs.arg, j->dir, temporary);
        return rc;
    }
    if (tm_fs_sync(&j->fs, j->dir))
        die(j, "fsync of the directory");
    return fd;
}

static void close_tail(struct tm_journal *j)
{
    sync_tail(j);
    if (j->tail.fd >= 0)
        j->fs.close(j->fs.arg, j->tail.fd);
    j->tail.fd = -1;
}

static int reserve_segment(struct tm_journal *j, struct tm_error *err)
{
    pthread_mutex_lock(&j->lock);
    int rc = tm_journal_segment_reserve(j);
    pthread_mutex_unlock(&j->lock);
    return rc ? tm_error_set(err, rc, "journal: no memory for the list of segments") : TM_OK;
}

static void start_segment(struct tm_journal *j, int fd, int decls, const struct tm_segment_header *h)
{
    j->tail = (struct tm_tail){
        .fd = fd,
        .number = h->number,
        .key = h->key,
        .offset = j->header.len,
        .synced = j->header.len,
        .data_offset = j->header.len,
        .decls = decls,
    };
    j->disk_bytes += j->header.len;
    j->next_segment++;
    pthread_mutex_lock(&j->lock);
    tm_journal_segment_add(j, h->number, j->header.len);
    j->durable = (struct tm_journal_position){h->number, j->header.len};
    j->stats.disk_bytes = j->disk_bytes;
    pthread_mutex_unlock(&j->lock);
}

static int roll(struct tm_journal *j, size_t need, struct tm_error *err)
{
    int decls = atomic_load(&j->decl_count);
    struct tm_segment_header header;
    if (j->next_segment == UINT64_MAX)
        return tm_error_set(err, TM_EFULL, "journal: %s: the last segment number is used up", j->dir_name);
    int rc = make_header(j, decls, &header, err);
    if (!rc && j->disk_bytes + j->header.len + need > j->bytes_max)
        rc = disk_full(j, err);
    if (!rc)
        rc = reserve_segment(j, err);
    if (rc)
        return rc;
    close_tail(j);
    int fd = make_file(j, err);
    if (fd < 0)
        return fd;
    start_segment(j, fd, decls, &header);
    return TM_OK;
}

int tm_journal_roll(struct tm_journal *j, struct tm_error *err)
{
    return roll(j, 0, err);
}

static int cut_back(struct tm_journal *j, struct tm_error *err)
{
    struct tm_tail *t = &j->tail;
    if (!t->cut_needed)
        return TM_OK;
    if (tm_fs_truncate(&j->fs, t->fd, t->offset))
        return write_error(j, err, "cut back a failed write");
    t->cut_needed = false;
    t->dirty = true;
    return TM_OK;
}

/* ---- frames ---- */

static size_t frame_bytes(const struct tm_block *b, size_t at)
{
    return TM_FRAME_HEAD_BYTES + tm_get_be32(b->bytes.data + at);
}

static bool fits_segment(const struct tm_journal *j, size_t bytes)
{
    /* room is kept for the mark of a clean close */
    return j->tail.offset + bytes + TM_FRAME_HEAD_BYTES <= j->segment_bytes;
}

static bool fits_disk(const struct tm_journal *j, size_t bytes)
{
    return j->disk_bytes + bytes + TM_FRAME_HEAD_BYTES <= j->bytes_max;
}

/* Have a segment that takes `need` more bytes and whose header knows all streams. */
static int make_room(struct tm_journal *j, size_t need, struct tm_error *err)
{
    int rc = cut_back(j, err);
    if (rc)
        return rc;
    if (j->tail.fd < 0 || j->tail.decls != atomic_load(&j->decl_count) || !fits_segment(j, need))
        return roll(j, need + TM_FRAME_HEAD_BYTES, err);
    return fits_disk(j, need) ? TM_OK : disk_full(j, err);
}

/* Seal as many frames from `first` on as fit behind the tail; the end of the last. */
static size_t seal_run(struct tm_journal *j, struct tm_block *b, size_t first)
{
    size_t end = first;
    while (end < b->bytes.len) {
        size_t bytes = frame_bytes(b, end);
        if (end > first && !(fits_segment(j, end + bytes - first) && fits_disk(j, end + bytes - first)))
            break;
        uint8_t *head = b->bytes.data + end;
        struct tm_frame f = {
            .offset = j->tail.offset + (end - first),
            .length = tm_get_be32(head),
            .count = tm_get_be32(head + 4),
            .synced = (uint32_t)j->tail.synced,
        };
        tm_frame_seal(head, &f, j->tail.key);
        end += bytes;
    }
    return end;
}

static void note_written(struct tm_journal *j, const struct tm_block *b, size_t first, size_t end)
{
    struct tm_tail *t = &j->tail;
    struct tm_item item;
    t->oldest_us = t->oldest_us ? t->oldest_us : b->oldest_us;
    for (size_t at = first; at < end; at += frame_bytes(b, at)) {
        const uint8_t *head = b->bytes.data + at;
        uint32_t length = tm_get_be32(head), in = 0;
        while (tm_item_next(head + TM_FRAME_HEAD_BYTES, length, &in, &item))
            j->filed_seq[j->decls[item.stream].family] = item.seq + 1;
        t->records += tm_get_be32(head + 4);
        t->payload_bytes += length;
    }
    t->offset += end - first;
    j->disk_bytes += end - first;
    t->dirty = true;
}

static int write_block(struct tm_journal *j, struct tm_block *b, struct tm_error *err)
{
    while (b->written < b->bytes.len) {
        int rc = make_room(j, frame_bytes(b, b->written), err);
        if (rc)
            return rc;
        size_t end = seal_run(j, b, b->written);
        if (tm_fs_write(&j->fs, j->tail.fd, b->bytes.data + b->written, end - b->written, j->tail.offset)) {
            rc = write_error(j, err, "write");
            j->tail.cut_needed = true;
            (void)cut_back(j, NULL); /* give the space back now; if that fails it is tried before the next write */
            return rc;
        }
        note_written(j, b, b->written, end);
        b->written = end;
    }
    return TM_OK;
}

static void put_written(struct tm_journal *j)
{
    pthread_mutex_lock(&j->lock);
    while (j->group && j->group->written == j->group->bytes.len) {
        struct tm_block *b = j->group;
        j->group = b->next;
        tm_block_put(j, b);
    }
    pthread_mutex_unlock(&j->lock);
}

/* Write all that was taken, as far as it goes, and make durable what was written. */
static int write_group(struct tm_journal *j, struct tm_error *err)
{
    int rc = TM_OK;
    for (struct tm_block *b = j->group; b && !rc; b = b->next)
        rc = write_block(j, b, err);
    sync_tail(j);
    put_written(j);
    pthread_mutex_lock(&j->lock);
    j->stats.stalled = rc != TM_OK;
    pthread_mutex_unlock(&j->lock);
    return rc;
}

/* ---- trimming ---- */

static bool oldest_released(const struct tm_journal *j)
{
    return j->segment_count && j->segments[0].number < j->released.segment;
}

static void forget_oldest(struct tm_journal *j)
{
    j->disk_bytes -= j->segments[0].end;
    j->segment_count--;
    memmove(j->segments, j->segments + 1, j->segment_count * sizeof *j->segments);
    j->stats.disk_bytes = j->disk_bytes;
}

/* Delete what was released. A file that cannot be deleted now is tried again with the next release. */
static void trim(struct tm_journal *j)
{
    char name[TM_SEGMENT_NAME_BYTES];
    bool any = false;
    pthread_mutex_lock(&j->lock);
    j->trimmed = j->released.segment;
    while (oldest_released(j)) {
        tm_segment_name(j->segments[0].number, name);
        pthread_mutex_unlock(&j->lock);
        int rc = j->fs.unlink(j->fs.arg, j->dir, name);
        if (rc && errno != ENOENT)
            (void)write_error(j, NULL, "delete a released segment");
        pthread_mutex_lock(&j->lock);
        if (rc && errno != ENOENT)
            break;
        forget_oldest(j);
        any = true;
    }
    pthread_mutex_unlock(&j->lock);
    if (any && tm_fs_sync(&j->fs, j->dir))
        die(j, "fsync of the directory");
}

/* ---- the thread ---- */

static bool must_trim(const struct tm_journal *j)
{
    return j->released.segment > j->trimmed && oldest_released(j);
}

/* Let a group grow until it is due. With the lock held. */
static void rest(struct tm_journal *j)
{
    int64_t until_us = j->taken_us + j->group_us;
    struct timespec until = {.tv_sec = until_us / TM_US_PER_S, .tv_nsec = until_us % TM_US_PER_S * 1000};
    j->resting = true;
    int rc = j->group_us && j->taken_us ? 0 : ETIMEDOUT;
    while (rc != ETIMEDOUT && !j->stopping && !j->urgent && !must_trim(j) && !tm_journal_memory_is_short(j))
        rc = pthread_cond_timedwait(&j->work, &j->lock, &until);
    j->resting = j->urgent = false;
    j->taken_us = tm_clock_mono_us();
}

/* Wait until there is something to do and take it; true when this is the end. */
static bool take_work(struct tm_journal *j)
{
    pthread_mutex_lock(&j->lock);
    while (!j->queue && !j->group && !j->stopping && !must_trim(j))
        pthread_cond_wait(&j->work, &j->lock);
    rest(j);
    struct tm_block **end = &j->group;
    while (*end)
        end = &(*end)->next;
    *end = j->queue;
    j->queue = j->queue_last = NULL;
    bool stopping = j->stopping;
    pthread_mutex_unlock(&j->lock);
    return stopping;
}

static void wait_before_retry(struct tm_journal *j, unsigned attempt)
{
    int64_t delay_ms = attempt > 5 ? RETRY_MAX_MS : RETRY_FIRST_MS << attempt;
    int64_t until_us = tm_clock_mono_us() + delay_ms * TM_US_PER_MS;
    struct timespec until = {.tv_sec = until_us / TM_US_PER_S, .tv_nsec = until_us % TM_US_PER_S * 1000};
    pthread_mutex_lock(&j->lock);
    int rc = 0;
    while (!j->stopping && !must_trim(j) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&j->work, &j->lock, &until);
    pthread_mutex_unlock(&j->lock);
}

/* The mark that everything before it is durable, so that damage found later is not taken for a torn tail. All records
 * are safe already: when the mark cannot be written there is nothing to do about it. */
static void write_closing_mark(struct tm_journal *j)
{
    struct tm_tail *t = &j->tail;
    if (t->fd < 0 || t->cut_needed)
        return;
    uint8_t head[TM_FRAME_HEAD_BYTES];
    struct tm_frame f = {.offset = t->offset, .synced = (uint32_t)t->synced};
    tm_frame_seal(head, &f, t->key);
    if (!tm_fs_write(&j->fs, t->fd, head, sizeof head, t->offset))
        (void)tm_fs_datasync(&j->fs, t->fd);
}

void *tm_journal_run(void *journal)
{
    struct tm_journal *j = journal;
    unsigned attempt = 0;
    for (;;) {
        bool stopping = take_work(j);
        trim(j);
        int rc = write_group(j, &j->close_error);
        if (stopping) {
            j->close_code = rc;
            break;
        }
        if (rc)
            wait_before_retry(j, attempt++);
        else
            attempt = 0;
    }
    write_closing_mark(j);
    close_tail(j);
    return NULL;
}
