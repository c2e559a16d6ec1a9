/*
 * Threads: a reader follows a writer over many segments, releasing as it goes, while others look at the figures. To be
 * run under the thread sanitizer too.
 */
#include "records.h"

#include "base/clock.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RECORDS 60000
#define STREAMS 2

struct fixture {
    char dir[64];
    struct tm_journal *j;
    _Atomic bool over;
    int64_t last[STREAMS];
    const char *wrong; /* what a thread found */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/tm_journal_XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    struct tm_journal_options o = {
        .dir = f->dir, .segment_bytes = 32768, .bytes_max = 1 << 20, .buffer_bytes_max = 1 << 19};
    *state = f;
    return tm_journal_open(&o, &f->j, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[600];
    int rc = tm_journal_close(f->j, NULL);
    DIR *d = opendir(f->dir);
    for (const struct dirent *e; d && (e = readdir(d));) {
        (void)snprintf(path, sizeof path, "%s/%s", f->dir, e->d_name);
        (void)unlink(path);
    }
    closedir(d);
    rc |= rmdir(f->dir);
    free(f);
    return rc;
}

static void take(struct fixture *f, const struct tm_journal_record *record)
{
    int s = record->stream[0] == 't' ? 0 : 1;
    if (record->seq != f->last[s] + 1)
        f->wrong = "a hole in the sequence";
    if (!record_ok(record, s))
        f->wrong = "a record with other bytes";
    f->last[s] = record->seq;
}

/* Reads on over restarts of the reader, as a store does, which knows only the position. */
static void *follow(void *arg)
{
    struct fixture *f = arg;
    struct tm_journal_position at = {0, 0};
    struct tm_error err;
    int64_t until_us = tm_clock_mono_us() + 4 * WAIT_US;
    while (f->last[0] + f->last[1] < RECORDS && !f->wrong && tm_clock_mono_us() < until_us) {
        struct tm_journal_reader *r;
        struct tm_journal_record record;
        if (tm_journal_reader_open(f->j, at, &r, &err)) {
            f->wrong = "the reader did not open";
            break;
        }
        int rc = 1;
        for (int i = 0; rc == 1 && (i < 5000 || !tm_journal_reader_at_frame_end(r)); i++)
            if ((rc = tm_journal_reader_next(r, &record, &err)) == 1)
                take(f, &record);
        if (rc < 0)
            f->wrong = "a read failed";
        at = tm_journal_reader_position(r);
        tm_journal_reader_close(r);
        tm_journal_release(f->j, at);
        if (rc == 0)
            sched_yield();
    }
    return NULL;
}

static void *watch(void *arg)
{
    struct fixture *f = arg;
    while (!atomic_load(&f->over)) {
        struct tm_journal_stats s = tm_journal_stats(f->j);
        struct tm_journal_position oldest = tm_journal_oldest(f->j), durable = tm_journal_durable(f->j);
        if (s.durable > s.appended || s.disk_bytes > s.disk_bytes_max)
            f->wrong = "figures that cannot be";
        if (oldest.segment > durable.segment)
            f->wrong = "the oldest is behind the end";
        sched_yield();
    }
    return NULL;
}

/* The io thread: turns of records, never waiting but when a bound says so. */
static void write_all(struct fixture *f)
{
    struct tm_error err;
    static const char *const names[STREAMS] = {"trades", "deltas"};
    int ids[STREAMS];
    int64_t seqs[STREAMS] = {0};
    for (int s = 0; s < STREAMS; s++)
        assert_true((ids[s] = tm_journal_stream(f->j, names[s], "a,seq", &err)) >= 0);
    for (int i = 0; i < RECORDS && !f->wrong; i++) {
        int s = i % 3 == 0;
        int64_t seq;
        while ((seq = append_record(f->j, ids[s], s, seqs[s] + 1)) == TM_EFULL && !f->wrong) {
            tm_journal_flush(f->j);
            sched_yield();
        }
        assert_int_equal(seq, ++seqs[s]);
        if (i % 100 == 99)
            tm_journal_flush(f->j);
        if (i == RECORDS / 2) /* the columns change in the middle of it */
            assert_true((ids[0] = tm_journal_stream(f->j, names[0], "a,b,seq", &err)) >= 0);
    }
    tm_journal_flush(f->j);
}

static void test_reader_follows_writer(void **state)
{
    struct fixture *f = *state;
    pthread_t reader, watcher;
    assert_int_equal(pthread_create(&reader, NULL, follow, f), 0);
    assert_int_equal(pthread_create(&watcher, NULL, watch, f), 0);
    write_all(f);
    pthread_join(reader, NULL);
    atomic_store(&f->over, true);
    pthread_join(watcher, NULL);
    if (f->wrong)
        fail_msg("%s", f->wrong);
    assert_int_equal(f->last[0], RECORDS - RECORDS / 3);
    assert_int_equal(f->last[1], RECORDS / 3);
    struct tm_journal_stats s = tm_journal_stats(f->j);
    assert_true(s.damaged_bytes == 0 && s.write_errors == 0 && s.durable == RECORDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reader_follows_writer, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
