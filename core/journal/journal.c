#include "journal/internal.h"
#include "base/endian.h"
#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEGMENT_BYTES_MIN 4096
#define SEGMENT_BYTES_MAX (1u << 30) /* offsets within a segment fit 32 bits */
#define FRAME_BYTES (256u << 10)     /* a frame is closed when it has grown to this */
#define SPARE_BLOCKS_MAX 2
#define SPARE_BYTES_MAX (2 * TM_BLOCK_BYTES)

/* ---- blocks ---- */

void tm_block_destroy(struct tm_block *b)
{
    while (b) {
        struct tm_block *next = b->next;
        tm_buf_fini(&b->bytes);
        free(b);
        b = next;
    }
}

struct tm_block *tm_block_get(struct tm_journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct tm_block *b = j->spare;
    if (b) {
        j->spare = b->next;
        j->spares--;
    }
    pthread_mutex_unlock(&j->lock);
    if (!b && !(b = calloc(1, sizeof *b)))
        return NULL;
    *b = (struct tm_block){.bytes = b->bytes, .oldest_us = tm_clock_mono_us()};
    tm_buf_clear(&b->bytes);
    return b;
}

void tm_block_put(struct tm_journal *j, struct tm_block *b)
{
    b->next = NULL;
    if (j->spares == SPARE_BLOCKS_MAX || b->bytes.cap > SPARE_BYTES_MAX) {
        tm_block_destroy(b);
        return;
    }
    b->next = j->spare;
    j->spare = b;
    j->spares++;
}

/* ---- segments ---- */

int tm_journal_segment_reserve(struct tm_journal *j)
{
    if (j->segment_count < j->segment_cap)
        return TM_OK;
    size_t cap = j->segment_cap ? j->segment_cap * 2 : 64;
    struct tm_segment_file *segments = realloc(j->segments, cap * sizeof *segments);
    if (!segments)
        return TM_ENOMEM;
    j->segments = segments;
    j->segment_cap = cap;
    return TM_OK;
}

void tm_journal_segment_add(struct tm_journal *j, uint64_t number, uint64_t end)
{
    j->segments[j->segment_count++] = (struct tm_segment_file){.number = number, .end = end};
}

void tm_journal_count_damage(struct tm_journal *j, uint64_t frames, uint64_t bytes)
{
    pthread_mutex_lock(&j->lock);
    j->stats.damaged_frames += frames;
    j->stats.damaged_bytes += bytes;
    pthread_mutex_unlock(&j->lock);
}

/* ---- open and close ---- */

static int set_options(struct tm_journal *j, const struct tm_journal_options *o, struct tm_error *err)
{
    j->fs = o->fs ? *o->fs : tm_fs_posix;
    j->segment_bytes = o->segment_bytes ? o->segment_bytes : TM_JOURNAL_SEGMENT_BYTES;
    j->bytes_max = o->bytes_max ? o->bytes_max : TM_JOURNAL_BYTES;
    j->buffer_bytes_max = o->buffer_bytes_max ? o->buffer_bytes_max : TM_JOURNAL_BUFFER_BYTES;
    j->group_us = o->group_us;
    if (j->segment_bytes < SEGMENT_BYTES_MIN || j->segment_bytes > SEGMENT_BYTES_MAX)
        return tm_error_set(err, TM_EINVAL, "journal: segment_bytes is %zu, expected %d to %u", j->segment_bytes,
                            SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    if (j->bytes_max < 2 * (uint64_t)j->segment_bytes)
        return tm_error_set(err, TM_EINVAL, "journal: bytes_max is %llu, expected at least two segments of %zu bytes",
                            (unsigned long long)j->bytes_max, j->segment_bytes);
    if (!o->dir || !o->dir[0])
        return tm_error_set(err, TM_EINVAL, "journal: no directory was given");
    /* a header takes at most a quarter of a segment (two copies) and a record half, so that one always fits */
    j->header_bytes_max = j->segment_bytes / 8 < TM_SEGMENT_HEADER_MAX ? j->segment_bytes / 8 : TM_SEGMENT_HEADER_MAX;
    j->frame_bytes = j->segment_bytes / 2 < FRAME_BYTES ? j->segment_bytes / 2 : FRAME_BYTES;
    j->record_bytes_max = j->segment_bytes / 2 < TM_RECORD_BYTES_MAX ? j->segment_bytes / 2 : TM_RECORD_BYTES_MAX;
    if (j->record_bytes_max > j->buffer_bytes_max / 2)
        j->record_bytes_max = j->buffer_bytes_max / 2;
    j->stats.disk_bytes_max = j->bytes_max;
    return TM_OK;
}

int tm_journal_check(const struct tm_journal_options *options, const struct tm_journal_declaration *streams,
                     size_t count, struct tm_error *err)
{
    struct tm_journal *j = calloc(1, sizeof *j); /* too large for a stack */
    if (!j)
        return tm_error_set(err, TM_ENOMEM, "journal: no memory to check it");
    int rc = set_options(j, options, err);
    size_t table = 0;
    for (size_t i = 0; i < count; i++) {
        struct tm_segment_stream s = {.name_len = (uint32_t)strlen(streams[i].name),
                                      .columns_len = (uint32_t)strlen(streams[i].columns)};
        table += tm_segment_stream_bytes(&s);
    }
    if (!rc && tm_segment_header_bytes((uint32_t)table) > j->header_bytes_max)
        rc = tm_error_set(err, TM_EINVAL,
                          "journal: the header of a segment of %zu bytes has %zu bytes for the names of streams and "
                          "columns, %u are needed: use larger segments",
                          j->segment_bytes, j->header_bytes_max, tm_segment_header_bytes((uint32_t)table));
    free(j);
    return rc;
}

size_t tm_journal_record_bytes(size_t tuple_len)
{
    return TM_ITEM_HEAD_BYTES + tuple_len;
}

static void init_sync(struct tm_journal *j)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->wake_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->work, &attr);
    pthread_cond_init(&j->synced, &attr);
    pthread_condattr_destroy(&attr);
}

void tm_journal_unload(struct tm_journal *j)
{
    tm_block_destroy(j->block);
    tm_block_destroy(j->queue);
    tm_block_destroy(j->group);
    tm_block_destroy(j->spare);
    for (int i = 0; i < j->decl_count; i++) {
        free(j->decls[i].name);
        free(j->decls[i].columns);
    }
    if (j->dir >= 0)
        j->fs.close(j->fs.arg, j->dir); /* gives the lock back */
    tm_buf_fini(&j->header);
    free(j->segments);
    free(j->dir_name);
    pthread_cond_destroy(&j->work);
    pthread_cond_destroy(&j->synced);
    pthread_mutex_destroy(&j->lock);
    pthread_mutex_destroy(&j->wake_lock);
    free(j);
}

/* Signals are for other threads. */
static int start_thread(struct tm_journal *j)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&j->thread, NULL, tm_journal_run, j);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!rc)
        pthread_setname_np(j->thread, "journal");
    return rc;
}

static int recover(struct tm_journal *j, const struct tm_journal_options *o, struct tm_error *err)
{
    int rc = set_options(j, o, err);
    if (rc)
        return rc;
    j->dir_name = strdup(o->dir);
    if (!j->dir_name)
        return tm_error_set(err, TM_ENOMEM, "journal: no memory");
    j->dir = j->fs.open_dir(j->fs.arg, o->dir);
    if (j->dir < 0)
        return tm_error_errno(err, TM_EIO, errno, "journal: cannot open the directory %s", o->dir);
    rc = tm_journal_recover(j, err);
    j->stats.disk_bytes = j->disk_bytes;
    return rc;
}

int tm_journal_load(const struct tm_journal_options *options, struct tm_journal **out, struct tm_error *err)
{
    struct tm_error unwanted;
    err = err ? err : &unwanted;
    struct tm_journal *j = calloc(1, sizeof *j);
    if (!j)
        return tm_error_set(err, TM_ENOMEM, "journal: no memory");
    init_sync(j);
    j->dir = j->tail.fd = -1;
    for (int i = 0; i < TM_JOURNAL_STREAMS_MAX; i++)
        j->next_seq[i] = j->filed_seq[i] = 1;
    int rc = recover(j, options, err);
    if (rc) {
        tm_journal_unload(j);
        return rc;
    }
    *out = j;
    return TM_OK;
}

int tm_journal_open(const struct tm_journal_options *options, struct tm_journal **out, struct tm_error *err)
{
    struct tm_journal *j;
    int rc = tm_journal_load(options, &j, err);
    if (rc)
        return rc;
    rc = start_thread(j);
    if (rc) {
        tm_journal_unload(j);
        return tm_error_errno(err, TM_ENOMEM, rc, "journal: cannot start its thread");
    }
    *out = j;
    return TM_OK;
}

int tm_journal_close(struct tm_journal *j, struct tm_error *err)
{
    if (!j)
        return TM_OK;
    tm_journal_flush(j);
    pthread_mutex_lock(&j->lock);
    j->stopping = true;
    pthread_cond_signal(&j->work);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    int rc = j->close_code;
    if (rc && err)
        *err = j->close_error;
    tm_journal_unload(j);
    return rc;
}

const uint8_t *tm_journal_epoch(const struct tm_journal *j)
{
    return j->epoch;
}

/* ---- streams ---- */

static bool same(const char *text, const char *bytes, size_t len)
{
    return strlen(text) == len && memcmp(text, bytes, len) == 0;
}

static int family_of(const struct tm_journal *j, const char *name, size_t len)
{
    for (int i = 0; i < j->decl_count; i++)
        if (same(j->decls[i].name, name, len))
            return j->decls[i].family;
    return -1;
}

static int find_declaration(const struct tm_journal *j, const struct tm_segment_stream *s)
{
    for (int i = 0; i < j->decl_count; i++)
        if (same(j->decls[i].name, s->name, s->name_len) && same(j->decls[i].columns, s->columns, s->columns_len))
            return i;
    return -1;
}

/* One more declaration, when there are `count` that take `table_bytes` of a header. */
static int check_stream(const struct tm_journal *j, const struct tm_segment_stream *s, int count, size_t table_bytes,
                        struct tm_error *err)
{
    if (s->name_len == 0 || s->name_len > UINT16_MAX)
        return tm_error_set(err, TM_EINVAL, "journal: a stream's name has %u bytes, expected 1 to %d", s->name_len,
                            UINT16_MAX);
    size_t table = table_bytes + tm_segment_stream_bytes(s);
    if (count == TM_JOURNAL_STREAMS_MAX || tm_segment_header_bytes((uint32_t)table) > j->header_bytes_max)
        return tm_error_set(err, TM_EFULL,
                            "journal: %s: no room to declare stream %.*s: %d declarations of at most %d, a header of "
                            "%zu bytes of at most %zu. Every change of columns is a declaration for the life of the "
                            "directory",
                            j->dir_name, (int)s->name_len, s->name, count, TM_JOURNAL_STREAMS_MAX, table,
                            j->header_bytes_max);
    return TM_OK;
}

int tm_journal_declare(struct tm_journal *j, const struct tm_segment_stream *s, struct tm_error *err)
{
    int found = find_declaration(j, s);
    if (found >= 0)
        return found;
    int rc = check_stream(j, s, j->decl_count, j->table_bytes, err);
    if (rc)
        return rc;
    int id = j->decl_count, family = family_of(j, s->name, s->name_len);
    struct tm_decl d = {.name = strndup(s->name, s->name_len),
                        .columns = strndup(s->columns, s->columns_len),
                        .family = family < 0 ? id : family};
    if (!d.name || !d.columns) {
        free(d.name);
        free(d.columns);
        return tm_error_set(err, TM_ENOMEM, "journal: no memory to declare a stream");
    }
    j->decls[id] = d;
    j->table_bytes += tm_segment_stream_bytes(s);
    atomic_store(&j->decl_count, id + 1); /* publishes the entry to the journal thread */
    return id;
}

static int segment_stream(const char *name, const char *columns, struct tm_segment_stream *out, struct tm_error *err)
{
    size_t name_len = strlen(name), columns_len = strlen(columns);
    if (name_len > UINT16_MAX || columns_len > TM_SEGMENT_HEADER_MAX)
        return tm_error_set(err, TM_EINVAL,
                            "journal: a stream's name and columns have %zu and %zu bytes, expected at "
                            "most %d and %d",
                            name_len, columns_len, UINT16_MAX, TM_SEGMENT_HEADER_MAX);
    *out = (struct tm_segment_stream){
        .name = name, .columns = columns, .name_len = (uint32_t)name_len, .columns_len = (uint32_t)columns_len};
    return TM_OK;
}

int tm_journal_stream(struct tm_journal *j, const char *name, const char *columns, struct tm_error *err)
{
    struct tm_segment_stream s;
    int rc = segment_stream(name, columns, &s, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&j->lock);
    rc = tm_journal_declare(j, &s, err);
    pthread_mutex_unlock(&j->lock);
    return rc;
}

int tm_journal_check_streams(struct tm_journal *j, const struct tm_journal_stream_def *streams, size_t count,
                             struct tm_error *err)
{
    int rc = TM_OK;
    pthread_mutex_lock(&j->lock);
    int declared = j->decl_count;
    size_t table_bytes = j->table_bytes;
    for (size_t i = 0; !rc && i < count; i++) {
        struct tm_segment_stream s;
        rc = segment_stream(streams[i].name, streams[i].columns, &s, err);
        if (rc || find_declaration(j, &s) >= 0)
            continue;
        rc = check_stream(j, &s, declared++, table_bytes, err);
        table_bytes += tm_segment_stream_bytes(&s);
    }
    pthread_mutex_unlock(&j->lock);
    return rc;
}

int64_t tm_journal_last_seq(const struct tm_journal *j, const char *name)
{
    int family = family_of(j, name, strlen(name));
    return family < 0 ? 0 : j->next_seq[family] - 1;
}

/* ---- append ---- */

static void close_frame(struct tm_block *b)
{
    if (!b || !b->count)
        return;
    uint8_t *head = b->bytes.data + b->frame;
    tm_put_be32(head, (uint32_t)(b->bytes.len - b->frame - TM_FRAME_HEAD_BYTES));
    tm_put_be32(head + 4, b->count);
    b->count = 0;
}

bool tm_journal_memory_is_short(struct tm_journal *j)
{
    return atomic_load_explicit(&j->buffered_bytes, memory_order_relaxed) > j->buffer_bytes_max / 2;
}

/* Frames of several turns wait together: their memory is used again, and they are one write. */
static bool join(struct tm_journal *j, struct tm_block *b)
{
    struct tm_block *last = j->queue_last;
    if (!j->resting || !last || last->bytes.len + b->bytes.len > TM_BLOCK_JOINED_BYTES ||
        tm_buf_append(&last->bytes, b->bytes.data, b->bytes.len))
        return false;
    tm_block_put(j, b);
    return true;
}

static void enqueue(struct tm_journal *j, struct tm_block *b)
{
    if (j->queue_last)
        j->queue_last->next = b;
    else
        j->queue = b;
    j->queue_last = b;
}

static void hand_over(struct tm_journal *j)
{
    struct tm_block *b = j->block;
    if (!b || !b->bytes.len)
        return;
    close_frame(b);
    j->block = NULL;
    pthread_mutex_lock(&j->lock);
    if (!join(j, b))
        enqueue(j, b);
    j->queued_records = atomic_load_explicit(&j->appended, memory_order_relaxed);
    if (!j->resting || tm_journal_memory_is_short(j))
        pthread_cond_signal(&j->work);
    pthread_mutex_unlock(&j->lock);
}

/* A block with room for `need` bytes in its open frame, which is opened if there is none. */
static int open_frame(struct tm_journal *j, size_t need)
{
    if (j->block && j->block->count &&
        j->block->bytes.len - j->block->frame + need > TM_FRAME_HEAD_BYTES + j->frame_bytes)
        close_frame(j->block);
    if (j->block && !j->block->count && j->block->bytes.len >= TM_BLOCK_BYTES)
        hand_over(j);
    if (!j->block && !(j->block = tm_block_get(j)))
        return TM_ENOMEM;
    struct tm_block *b = j->block;
    int rc = tm_buf_reserve(&b->bytes, TM_FRAME_HEAD_BYTES + need);
    if (rc || b->count)
        return rc;
    b->frame = b->bytes.len;
    b->bytes.len += TM_FRAME_HEAD_BYTES;
    return TM_OK;
}

static int may_append(struct tm_journal *j, int stream, size_t len)
{
    if (stream < 0 || stream >= atomic_load_explicit(&j->decl_count, memory_order_relaxed) || len < 8)
        return TM_EINVAL;
    if (len > j->record_bytes_max)
        return TM_EPOISON;
    if (atomic_load(&j->buffered_bytes) + TM_ITEM_HEAD_BYTES + len > j->buffer_bytes_max)
        return TM_EFULL;
    return j->next_seq[j->decls[stream].family] == INT64_MAX ? TM_EFULL : TM_OK;
}

int64_t tm_journal_append(struct tm_journal *j, int stream, uint8_t *tuple, size_t len)
{
    int rc = may_append(j, stream, len);
    if (!rc)
        rc = open_frame(j, TM_ITEM_HEAD_BYTES + len);
    if (rc)
        return rc;
    int64_t seq = j->next_seq[j->decls[stream].family]++;
    tm_put_be64(tuple + len - 8, (uint64_t)seq);
    struct tm_block *b = j->block;
    uint8_t *item = b->bytes.data + b->bytes.len;
    tm_put_be16(item, (uint16_t)stream);
    tm_put_be32(item + 2, (uint32_t)len);
    memcpy(item + TM_ITEM_HEAD_BYTES, tuple, len);
    b->bytes.len += TM_ITEM_HEAD_BYTES + len;
    b->count++;
    atomic_fetch_add_explicit(&j->buffered_bytes, TM_ITEM_HEAD_BYTES + len, memory_order_relaxed);
    atomic_store_explicit(&j->appended, atomic_load_explicit(&j->appended, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&j->appended_bytes, atomic_load_explicit(&j->appended_bytes, memory_order_relaxed) + len,
                          memory_order_relaxed);
    return seq;
}

bool tm_journal_has_room(const struct tm_journal *j)
{
    return atomic_load(&j->buffered_bytes) <= j->buffer_bytes_max - j->buffer_bytes_max / 8;
}

void tm_journal_flush(struct tm_journal *j)
{
    hand_over(j);
}

int tm_journal_wait(struct tm_journal *j, int64_t timeout_us)
{
    int64_t until_us = tm_clock_mono_us() + timeout_us;
    struct timespec until = {.tv_sec = until_us / TM_US_PER_S, .tv_nsec = until_us % TM_US_PER_S * 1000};
    int rc = 0;
    pthread_mutex_lock(&j->lock);
    uint64_t target = j->queued_records;
    if (j->queue) { /* what was taken already needs no hurry, and must not leave it to the group after it */
        j->urgent = true;
        pthread_cond_signal(&j->work);
    }
    while (j->stats.durable < target && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&j->synced, &j->lock, &until);
    rc = j->stats.durable < target ? TM_ETIMEOUT : TM_OK;
    pthread_mutex_unlock(&j->lock);
    return rc;
}

/* ---- positions and figures ---- */

void tm_journal_set_wake(struct tm_journal *j, tm_journal_wake_fn *wake, void *arg)
{
    pthread_mutex_lock(&j->wake_lock);
    j->wake = wake;
    j->wake_arg = arg;
    pthread_mutex_unlock(&j->wake_lock);
}

static bool before(struct tm_journal_position a, struct tm_journal_position b)
{
    return a.segment < b.segment || (a.segment == b.segment && a.offset < b.offset);
}

void tm_journal_release(struct tm_journal *j, struct tm_journal_position position)
{
    pthread_mutex_lock(&j->lock);
    if (before(j->durable, position))
        position = j->durable;
    if (before(j->released, position)) {
        j->released = position;
        pthread_cond_signal(&j->work);
    }
    pthread_mutex_unlock(&j->lock);
}

struct tm_journal_position tm_journal_oldest(struct tm_journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct tm_journal_position p = {.segment = j->segment_count ? j->segments[0].number : j->durable.segment};
    pthread_mutex_unlock(&j->lock);
    return p;
}

struct tm_journal_position tm_journal_durable(struct tm_journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct tm_journal_position p = j->durable;
    pthread_mutex_unlock(&j->lock);
    return p;
}

struct tm_journal_stats tm_journal_stats(struct tm_journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct tm_journal_stats s = j->stats;
    pthread_mutex_unlock(&j->lock);
    s.appended = atomic_load(&j->appended);
    s.appended_bytes = atomic_load(&j->appended_bytes);
    s.buffered_bytes = atomic_load(&j->buffered_bytes);
    return s;
}
