/* What a user of the journal relies on, on the real file system and on one that fails when told to. */
#include "records.h"

#include "base/clock.h"
#include "journal/segment.h"
#include "memdisk.h"

#include <dirent.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define COLUMNS "ticker,price,seq"

/* Poll until it holds; the test fails when it does not within WAIT_US. */
#define WAIT_UNTIL(condition)                                                                                          \
    do {                                                                                                               \
        int64_t until_us = tm_clock_mono_us() + WAIT_US;                                                               \
        while (!(condition) && tm_clock_mono_us() < until_us)                                                          \
            usleep(200);                                                                                               \
        assert_true(condition);                                                                                        \
    } while (0)

struct fixture {
    char dir[64];
    struct memdisk *disk;
    struct tm_fs fs;
    struct tm_journal_options mem; /* a journal on the memory disk with 4 KiB segments */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/tm_journal_XXXXXX");
    if (!f || !mkdtemp(f->dir))
        return -1;
    f->disk = memdisk_create(256 * 1024);
    f->fs = memdisk_fs(f->disk);
    f->mem = (struct tm_journal_options){.dir = "mem", .segment_bytes = 4096, .bytes_max = 40960, .fs = &f->fs};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[600];
    DIR *d = opendir(f->dir);
    for (const struct dirent *e; d && (e = readdir(d));) {
        (void)snprintf(path, sizeof path, "%s/%s", f->dir, e->d_name);
        (void)unlink(path);
    }
    closedir(d);
    int rc = rmdir(f->dir);
    rc |= memdisk_open_handles(f->disk);
    memdisk_destroy(f->disk);
    free(f);
    return rc;
}

static struct tm_journal *open_ok(const struct tm_journal_options *o)
{
    struct tm_journal *j = NULL;
    struct tm_error err = {0};
    if (tm_journal_open(o, &j, &err))
        fail_msg("%s", err.message);
    return j;
}

static void close_ok(struct tm_journal *j)
{
    struct tm_error err = {0};
    if (tm_journal_close(j, &err))
        fail_msg("%s", err.message);
}

static int stream_ok(struct tm_journal *j, const char *name, const char *columns)
{
    struct tm_error err = {0};
    int id = tm_journal_stream(j, name, columns, &err);
    if (id < 0)
        fail_msg("%s", err.message);
    return id;
}

static struct tm_journal_reader *reader_ok(struct tm_journal *j, struct tm_journal_position from)
{
    struct tm_journal_reader *r = NULL;
    struct tm_error err = {0};
    if (tm_journal_reader_open(j, from, &r, &err))
        fail_msg("%s", err.message);
    return r;
}

static bool next_ok(struct tm_journal_reader *r, struct tm_journal_record *record)
{
    struct tm_error err = {0};
    int rc = tm_journal_reader_next(r, record, &err);
    if (rc < 0)
        fail_msg("%s", err.message);
    return rc == 1;
}

/* Append records [first, last] of stream 0 and make them durable. */
static void append_range(struct tm_journal *j, int id, int64_t first, int64_t last)
{
    for (int64_t seq = first; seq <= last; seq++) {
        assert_int_equal(append_record(j, id, 0, seq), seq);
        if (seq % 7 == 0)
            tm_journal_flush(j);
    }
    tm_journal_flush(j);
    assert_int_equal(tm_journal_wait(j, WAIT_US), TM_OK);
}

/* Read from a position to the end: records [first, last] of stream 0, each once. The position after them. */
static struct tm_journal_position expect_range(struct tm_journal *j, struct tm_journal_position from, int64_t first,
                                               int64_t last)
{
    struct tm_journal_reader *r = reader_ok(j, from);
    struct tm_journal_record record;
    for (int64_t seq = first; seq <= last; seq++) {
        assert_true(next_ok(r, &record));
        assert_int_equal(record.seq, seq);
        assert_true(record_ok(&record, 0));
    }
    assert_false(next_ok(r, &record));
    assert_true(tm_journal_reader_at_frame_end(r));
    struct tm_journal_position p = tm_journal_reader_position(r);
    tm_journal_reader_close(r);
    return p;
}

static const struct tm_journal_position start = {0, 0};

static void test_append_read_reopen(void **state)
{
    struct fixture *f = *state;
    struct tm_journal_options o = {.dir = f->dir, .segment_bytes = 16384, .bytes_max = 1 << 24};
    uint8_t epoch[16];
    for (int round = 0; round < 3; round++) {
        struct tm_journal *j = open_ok(&o);
        if (round)
            assert_memory_equal(epoch, tm_journal_epoch(j), 16);
        memcpy(epoch, tm_journal_epoch(j), 16);
        assert_int_equal(tm_journal_last_seq(j, "trades"), 1000 * round);
        int id = stream_ok(j, "trades", COLUMNS);
        append_range(j, id, 1000 * round + 1, 1000 * round + 1000);
        expect_range(j, start, 1, 1000 * round + 1000);
        struct tm_journal_stats s = tm_journal_stats(j);
        assert_true(s.appended == 1000 && s.durable == 1000 && s.buffered_bytes == 0 && s.syncs > 0);
        assert_true(s.damaged_frames == 0 && s.torn_bytes == 0 && !s.stalled && s.last_sync_us > 0);
        close_ok(j);
    }
}

/* Groups that are an hour apart: nothing but the first is written, until somebody waits or memory is short. */
static void test_groups(void **state)
{
    struct fixture *f = *state;
    struct tm_journal_options o = {.dir = f->dir, .group_us = 3600 * INT64_C(1000000), .buffer_bytes_max = 1 << 16};
    struct tm_journal *j = open_ok(&o);
    int id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, 1, 1); /* the first is due at once */
    for (int64_t seq = 2; seq <= 100; seq++) {
        assert_int_equal(append_record(j, id, 0, seq), seq);
        tm_journal_flush(j);
    }
    (void)usleep(30000);
    struct tm_journal_stats s = tm_journal_stats(j);
    assert_int_equal(s.durable, 1);
    assert_int_equal(s.syncs, 1);
    assert_int_equal(tm_journal_wait(j, WAIT_US), TM_OK);
    s = tm_journal_stats(j);
    assert_int_equal(s.durable, 100);
    assert_int_equal(s.syncs, 2);
    int64_t seq = 101;
    while (tm_journal_stats(j).durable == 100 && seq < 100000) { /* half of 64 KiB */
        int64_t got = append_record(j, id, 0, seq);
        assert_true(got == seq || got == TM_EFULL);
        seq += got == seq;
        tm_journal_flush(j);
    }
    assert_true(tm_journal_stats(j).durable > 100);
    close_ok(j); /* and the end does not wait for the next */
    j = open_ok(&o);
    (void)expect_range(j, (struct tm_journal_position){0, 0}, 1, seq - 1);
    close_ok(j);
}

static void test_files_are_private(void **state)
{
    struct fixture *f = *state;
    char dir[80], path[200];
    (void)snprintf(dir, sizeof dir, "%s/sub", f->dir);
    mode_t mask = umask(0);
    struct tm_journal *j = open_ok(&(struct tm_journal_options){.dir = dir});
    append_range(j, stream_ok(j, "trades", COLUMNS), 1, 1);
    umask(mask);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    static const char *const files[] = {"epoch", "0000000000000001.seg"};
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        close_ok(i ? j : NULL);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void test_one_owner(void **state)
{
    struct fixture *f = *state;
    struct tm_journal_options o = {.dir = f->dir};
    struct tm_journal *j = open_ok(&o), *second;
    struct tm_error err;
    assert_int_equal(tm_journal_open(&o, &second, &err), TM_ECONFLICT);
    assert_non_null(strstr(err.message, f->dir));
    close_ok(j);
    close_ok(open_ok(&o));
}

static void test_options_are_checked(void **state)
{
    (void)state;
    struct tm_journal *j;
    struct tm_error err;
    assert_int_equal(tm_journal_open(&(struct tm_journal_options){.dir = ""}, &j, &err), TM_EINVAL);
    struct tm_journal_options small = {.dir = "/tmp", .segment_bytes = 100};
    assert_int_equal(tm_journal_open(&small, &j, &err), TM_EINVAL);
    struct tm_journal_options tight = {.dir = "/tmp", .segment_bytes = 1 << 20, .bytes_max = 1 << 20};
    assert_int_equal(tm_journal_open(&tight, &j, &err), TM_EINVAL);
    struct tm_journal_options nowhere = {.dir = "/nonexistent/journal"};
    assert_int_equal(tm_journal_open(&nowhere, &j, &err), TM_EIO);
    assert_non_null(strstr(err.message, "/nonexistent/journal"));
}

/* Two streams and a change of columns: one counter a name, and each record keeps the list it was written with. */
static void test_streams_and_columns(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    int trades = stream_ok(j, "trades", "a,b"), deltas = stream_ok(j, "deltas", "x");
    assert_int_equal(stream_ok(j, "trades", "a,b"), trades);
    for (int64_t seq = 1; seq <= 10; seq++) {
        assert_int_equal(append_record(j, trades, 0, seq), seq);
        assert_int_equal(append_record(j, deltas, 1, seq), seq);
    }
    int wider = stream_ok(j, "trades", "a,b,c");
    assert_true(wider != trades);
    assert_int_equal(append_record(j, wider, 0, 11), 11);
    assert_int_equal(append_record(j, trades, 0, 12), 12);
    close_ok(j);

    j = open_ok(&f->mem);
    assert_int_equal(tm_journal_last_seq(j, "trades"), 12);
    assert_int_equal(tm_journal_last_seq(j, "deltas"), 10);
    assert_int_equal(tm_journal_last_seq(j, "tickers"), 0);
    int tickers = stream_ok(j, "tickers", "t"); /* a stream that was not there before */
    assert_int_equal(stream_ok(j, "trades", "a,b,c"), wider);
    append_range(j, tickers, 1, 1);
    struct tm_journal_reader *r = reader_ok(j, start);
    struct tm_journal_record record;
    int64_t trade = 0, delta = 0;
    while (next_ok(r, &record)) {
        if (strcmp(record.stream, "trades") == 0) {
            assert_int_equal(record.seq, ++trade);
            assert_string_equal(record.columns, record.seq == 11 ? "a,b,c" : "a,b");
        } else if (strcmp(record.stream, "deltas") == 0) {
            assert_int_equal(record.seq, ++delta);
            assert_string_equal(record.columns, "x");
            assert_true(record_ok(&record, 1));
        } else {
            assert_string_equal(record.stream, "tickers");
            assert_int_equal(record.stream_id, tickers);
        }
    }
    assert_true(trade == 12 && delta == 10);
    tm_journal_reader_close(r);
    close_ok(j);
}

static void test_bad_records_are_refused(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    static uint8_t tuple[17 << 20];
    int id = stream_ok(j, "trades", COLUMNS);
    assert_int_equal(tm_journal_append(j, id, tuple, 7), TM_EINVAL);
    assert_int_equal(tm_journal_append(j, id + 1, tuple, 8), TM_EINVAL);
    assert_int_equal(tm_journal_append(j, -1, tuple, 8), TM_EINVAL);
    assert_int_equal(tm_journal_append(j, id, tuple, 2049), TM_EPOISON); /* half a segment is 2048 */
    assert_int_equal(tm_journal_append(j, id, tuple, 2048), 1);
    assert_int_equal(tm_journal_append(j, id, tuple, 8), 2);
    close_ok(j);
    j = open_ok(&f->mem);
    assert_int_equal(tm_journal_last_seq(j, "trades"), 2);
    close_ok(j);
    struct tm_journal_options large = {.dir = f->dir};
    j = open_ok(&large);
    id = stream_ok(j, "trades", COLUMNS);
    assert_int_equal(tm_journal_append(j, id, tuple, (16 << 20) + 1), TM_EPOISON);
    assert_int_equal(tm_journal_append(j, id, tuple, 16 << 20), 1);
    tm_journal_flush(j);
    assert_int_equal(tm_journal_wait(j, WAIT_US), TM_OK);
    struct tm_journal_reader *r = reader_ok(j, start);
    struct tm_journal_record record;
    assert_true(next_ok(r, &record));
    assert_int_equal(record.len, 16 << 20);
    tm_journal_reader_close(r);
    close_ok(j);
}

static void test_too_many_streams(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem); /* header of at most 512 bytes */
    struct tm_error err;
    char name[16];
    int id = 0, declared = 0;
    for (; id >= 0 && declared < 100; declared++) {
        (void)snprintf(name, sizeof name, "stream%d", declared);
        id = tm_journal_stream(j, name, "some,columns", &err);
    }
    assert_int_equal(id, TM_EFULL);
    /* asking first says the same, and declares nothing */
    struct tm_journal_stream_def known = {"stream0", "some,columns"}, more = {name, "some,columns"};
    assert_int_equal(tm_journal_check_streams(j, &known, 1, &err), TM_OK);
    assert_int_equal(tm_journal_check_streams(j, &more, 1, &err), TM_EFULL);
    assert_true(declared > 5 && declared < 30);
    append_range(j, 0, 1, 10);
    close_ok(j);
}

/* Positions are kept by the store; reading goes on from them after a restart. */
static void test_positions(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, 1, 50);
    struct tm_journal_position p = expect_range(j, start, 1, 50);
    append_range(j, id, 51, 120);
    p = expect_range(j, p, 51, 120);
    close_ok(j);
    j = open_ok(&f->mem);
    p = expect_range(j, p, 1, 0); /* nothing */
    id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, 121, 130);
    p = expect_range(j, p, 121, 130);
    struct tm_journal_position durable = tm_journal_durable(j);
    assert_true(p.segment == durable.segment && p.offset == durable.offset);

    /* a position inside a frame is where that frame begins */
    struct tm_journal_reader *r = reader_ok(j, p);
    struct tm_journal_record record;
    for (int64_t seq = 131; seq <= 133; seq++)
        assert_int_equal(append_record(j, id, 0, seq), seq);
    tm_journal_flush(j);
    assert_int_equal(tm_journal_wait(j, WAIT_US), TM_OK);
    assert_true(next_ok(r, &record));
    assert_false(tm_journal_reader_at_frame_end(r));
    expect_range(j, tm_journal_reader_position(r), 131, 133);
    tm_journal_reader_close(r);

    /* ahead of the journal: it has lost what was taken from it */
    struct tm_journal_reader *none;
    struct tm_error err;
    durable = tm_journal_durable(j);
    struct tm_journal_position further = {durable.segment, durable.offset + 1}, later = {durable.segment + 1, 0};
    assert_int_equal(tm_journal_reader_open(j, further, &none, &err), TM_ECORRUPT);
    assert_int_equal(tm_journal_reader_open(j, later, &none, &err), TM_ECORRUPT);
    close_ok(j);
}

static void test_release_deletes(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, 1, 200);
    uint64_t used = tm_journal_stats(j).disk_bytes;
    assert_true(used > 3 * 4096 && used <= 40960);
    struct tm_journal_position p = expect_range(j, start, 1, 200);
    tm_journal_release(j, p);
    WAIT_UNTIL(tm_journal_oldest(j).segment == p.segment);
    assert_true(tm_journal_stats(j).disk_bytes <= 4096);
    struct tm_journal_reader *r;
    struct tm_error err;
    assert_int_equal(tm_journal_reader_open(j, (struct tm_journal_position){1, 0}, &r, &err), TM_ENOENT);
    append_range(j, id, 201, 210);
    expect_range(j, p, 201, 210);
    close_ok(j);
    j = open_ok(&f->mem);
    assert_int_equal(tm_journal_last_seq(j, "trades"), 210);
    close_ok(j);
}

/* At bytes_max writing stops, then memory fills, then append refuses; a release sets all free, and nothing is missing. */
static void test_bounds(void **state)
{
    struct fixture *f = *state;
    f->mem.buffer_bytes_max = 8192;
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    int64_t seq = 1, rc = 0;
    while (rc != TM_EFULL || !tm_journal_stats(j).stalled) {
        rc = append_record(j, id, 0, seq);
        seq += rc > 0;
        tm_journal_flush(j);
    }
    struct tm_journal_stats s = tm_journal_stats(j);
    assert_true(s.stalled && s.disk_bytes <= 40960 && s.disk_bytes > 8 * 4096 && s.buffered_bytes <= 8192);
    assert_int_equal(tm_journal_wait(j, 1000), TM_ETIMEOUT);
    struct tm_journal_reader *r = reader_ok(j, start);
    struct tm_journal_record record;
    for (int64_t expected = 1; expected < seq; tm_journal_release(j, tm_journal_reader_position(r)))
        while (next_ok(r, &record)) {
            assert_int_equal(record.seq, expected++);
            assert_true(record_ok(&record, 0));
        }
    assert_int_equal(tm_journal_wait(j, WAIT_US), TM_OK);
    WAIT_UNTIL(!tm_journal_stats(j).stalled); /* said once the whole group was gone through */
    assert_true(tm_journal_stats(j).disk_bytes <= 40960);
    tm_journal_reader_close(r);
    close_ok(j);
}

/* The disk is full for a while: everything waits in memory and is written once when there is room. */
static void test_disk_full_for_a_while(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, 1, 20);
    f->disk->fault = MEM_ENOSPC;
    f->disk->fault_ops = 1u << MEM_PWRITE;
    f->disk->fault_calls = UINT64_MAX / 2;
    for (int64_t seq = 21; seq <= 100; seq++)
        assert_int_equal(append_record(j, id, 0, seq), seq);
    tm_journal_flush(j);
    WAIT_UNTIL(tm_journal_stats(j).stalled);
    expect_range(j, start, 1, 20);
    pthread_mutex_lock(&mem_lock);
    memdisk_no_faults(f->disk);
    pthread_mutex_unlock(&mem_lock);
    assert_int_equal(tm_journal_wait(j, WAIT_US), TM_OK);
    expect_range(j, start, 1, 100);
    assert_true(tm_journal_stats(j).write_errors > 0);
    close_ok(j);
    j = open_ok(&f->mem);
    expect_range(j, start, 1, 100);
    assert_int_equal(tm_journal_stats(j).damaged_bytes, 0);
    close_ok(j);
}

static size_t size_now(const struct mem_file *file)
{
    pthread_mutex_lock(&mem_lock);
    size_t size = file->size;
    pthread_mutex_unlock(&mem_lock);
    return size;
}

/* A write stops half-way, and before it can go on the segment is changed: nothing of the half stays behind. */
static void test_half_a_write_is_cut_back(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, 1, 20);
    const struct mem_file *file = mem_find(f->disk, "0000000000000001.seg");
    size_t size = size_now(file);
    f->disk->fault = MEM_ENOSPC;
    f->disk->fault_ops = 1u << MEM_PWRITE;
    f->disk->fault_calls = UINT64_MAX / 2;
    f->disk->calls |= 1; /* the next but one writes half: see mem_fails */
    assert_int_equal(append_record(j, id, 0, 21), 21);
    tm_journal_flush(j);
    WAIT_UNTIL(tm_journal_stats(j).write_errors >= 3);
    WAIT_UNTIL(size_now(file) == size); /* the space is given back while it waits */
    stream_ok(j, "deltas", COLUMNS);
    pthread_mutex_lock(&mem_lock);
    memdisk_no_faults(f->disk);
    pthread_mutex_unlock(&mem_lock);
    assert_int_equal(tm_journal_wait(j, WAIT_US), TM_OK);
    assert_int_equal(size_now(file), size);
    assert_int_equal(tm_journal_durable(j).segment, 2);
    expect_range(j, start, 1, 21);
    close_ok(j);
    j = open_ok(&f->mem);
    expect_range(j, start, 1, 21);
    assert_int_equal(tm_journal_stats(j).damaged_bytes, 0);
    close_ok(j);
}

static void test_interruptions_are_no_errors(void **state)
{
    struct fixture *f = *state;
    static const enum mem_op ops[] = {MEM_OPEN, MEM_PWRITE, MEM_FDATASYNC, MEM_FSYNC};
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    for (int i = 0; i < 4; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "other%d", i);
        stream_ok(j, name, COLUMNS); /* asks for a new segment, so that all of these calls happen */
        f->disk->fault = MEM_EINTR;
        f->disk->fault_ops = 1u << ops[i];
        f->disk->fault_at = f->disk->calls + 1;
        f->disk->fault_calls = 12;
        append_range(j, id, 20 * i + 1, 20 * i + 20);
        assert_int_equal(f->disk->last_op, ops[i]);
        memdisk_no_faults(f->disk);
    }
    assert_int_equal(tm_journal_stats(j).write_errors, 0);
    expect_range(j, start, 1, 80);
    close_ok(j);
}

static void test_release_ahead_of_the_end(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, 1, 10);
    tm_journal_release(j, (struct tm_journal_position){UINT64_MAX, 0});
    append_range(j, id, 11, 20);
    expect_range(j, start, 1, 20);
    close_ok(j);
}

static void test_close_tells_what_was_not_written(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, 1, 20);
    f->disk->fault = MEM_EIO;
    f->disk->fault_ops = 1u << MEM_PWRITE;
    f->disk->fault_calls = UINT64_MAX / 2;
    assert_int_equal(append_record(j, id, 0, 21), 21);
    struct tm_error err = {0};
    assert_int_equal(tm_journal_close(j, &err), TM_EIO);
    assert_non_null(strstr(err.message, "write"));
    memdisk_no_faults(f->disk);
    j = open_ok(&f->mem);
    assert_int_equal(tm_journal_last_seq(j, "trades"), 20);
    close_ok(j);
}

static _Atomic int woken;

static _Atomic int64_t oldest_us;

static void on_wake(void *arg, int64_t of_group_us)
{
    if (!atomic_load(&oldest_us))
        atomic_store(&oldest_us, of_group_us);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void test_wake(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j = open_ok(&f->mem);
    tm_journal_set_wake(j, on_wake, &woken);
    int id = stream_ok(j, "trades", COLUMNS);
    int64_t before_us = tm_clock_mono_us();
    append_range(j, id, 1, 3);
    int64_t after_us = tm_clock_mono_us();
    WAIT_UNTIL(atomic_load(&woken) > 0);
    assert_in_range(atomic_load(&oldest_us), before_us, after_us);
    close_ok(j);
}

/* Segment and sequence numbers at the end of their range (FAILURES X7). */
static void test_numbers_near_their_end(void **state)
{
    struct fixture *f = *state;
    struct tm_buf out = {0};
    struct tm_segment_header h = {.number = UINT64_MAX - 2, .salt = 1, .streams = 1};
    struct tm_segment_stream s = {.id = 0,
                                  .next_seq = INT64_MAX - 3,
                                  .name = "trades",
                                  .name_len = 6,
                                  .columns = COLUMNS,
                                  .columns_len = sizeof COLUMNS - 1};
    assert_int_equal(tm_segment_header_begin(&out, &h), TM_OK);
    assert_int_equal(tm_segment_header_stream(&out, &s), TM_OK);
    assert_int_equal(tm_segment_header_end(&out, &h), TM_OK);
    memdisk_put(f->disk, "fffffffffffffffd.seg", out.data, out.len);
    tm_buf_fini(&out);
    struct tm_journal *j = open_ok(&f->mem);
    int id = stream_ok(j, "trades", COLUMNS);
    append_range(j, id, INT64_MAX - 3, INT64_MAX - 1);
    assert_int_equal(append_record(j, id, 0, INT64_MAX), TM_EFULL);
    expect_range(j, start, INT64_MAX - 3, INT64_MAX - 1);
    assert_true(tm_journal_durable(j).segment == UINT64_MAX - 1);
    close_ok(j);
    j = open_ok(&f->mem); /* UINT64_MAX is never used: there is no position behind it */
    id = stream_ok(j, "others", COLUMNS);
    assert_int_equal(append_record(j, id, 0, 1), 1);
    struct tm_error err = {0};
    assert_int_equal(tm_journal_close(j, &err), TM_EFULL);
    assert_non_null(strstr(err.message, "segment number"));
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_append_read_reopen),
        TEST(test_groups),
        TEST(test_files_are_private),
        TEST(test_one_owner),
        TEST(test_options_are_checked),
        TEST(test_streams_and_columns),
        TEST(test_bad_records_are_refused),
        TEST(test_too_many_streams),
        TEST(test_positions),
        TEST(test_release_deletes),
        TEST(test_bounds),
        TEST(test_disk_full_for_a_while),
        TEST(test_half_a_write_is_cut_back),
        TEST(test_interruptions_are_no_errors),
        TEST(test_release_ahead_of_the_end),
        TEST(test_close_tells_what_was_not_written),
        TEST(test_wake),
        TEST(test_numbers_near_their_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
