/*
 * The journal: records appended through to durable, beside the floor, a bare write and fdatasync, in the same run.
 *
 *     bench_journal [DIR [SECONDS]] [--quick] [--json]     default: a directory under the working directory, 5 seconds
 *
 * Tuples of 150 bytes; a reader follows and releases, as the store does. First 20,000 records a second in turns of 1 ms:
 * how long does a record wait until it is durable? Then turns of 100 records, as fast as they are taken; the floor of that
 * writes as many bytes a sync as the journal did.
 */
#include "report.h"

#include "base/clock.h"
#include "journal/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TUPLE_BYTES 150
#define TURN_RECORDS 100
#define FLOOR_ROUNDS 200
#define WAITS_MAX 200000

static struct tm_journal *journal;
static _Atomic bool over;
static uint64_t read_records;

static void check(int rc, const struct tm_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "bench_journal: %s\n", err->message);
        exit(1);
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The median, in ms. */
static double print_times(const char *what, int64_t *us, size_t n)
{
    qsort(us, n, sizeof *us, compare);
    tm_bench_note("%-40s p50 %.2f ms  p99 %.2f ms  worst %.2f ms  (%zu)\n", what, (double)us[n / 2] / 1e3,
                  (double)us[n * 99 / 100] / 1e3, (double)us[n - 1] / 1e3, n);
    return (double)us[n / 2] / 1e3;
}

/* So many bytes appended and synced, over and over: no group commit of as many can be faster. The median, in ms. */
static double run_floor(const char *dir, size_t bytes)
{
    char path[4096], *data = malloc(bytes);
    static int64_t us[FLOOR_ROUNDS];
    int rounds = tm_bench_quick ? FLOOR_ROUNDS / 4 : FLOOR_ROUNDS;
    (void)snprintf(path, sizeof path, "%s/floor", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    TM_FATAL_UNLESS(data);
    memset(data, 'x', bytes);
    for (int i = 0; i < rounds; i++) {
        int64_t started_us = tm_clock_mono_us();
        if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes || fdatasync(fd)) {
            fprintf(stderr, "bench_journal: cannot write %s: %s\n", path, strerror(errno));
            exit(1);
        }
        us[i] = tm_clock_mono_us() - started_us;
    }
    close(fd);
    (void)unlink(path);
    free(data);
    char what[64];
    (void)snprintf(what, sizeof what, "floor: write %zu kB + fdatasync", bytes / 1000);
    return print_times(what, us, (size_t)rounds);
}

static void report(const char *name, double figure, const char *unit, double floor, const char *floor_is)
{
    tm_bench_report(&(struct tm_bench_result){name, figure, unit, floor, floor_is});
}

static void *follow(void *arg)
{
    struct tm_journal_reader *r = arg;
    struct tm_journal_record record;
    struct tm_error err;
    for (;;) {
        bool last = atomic_load(&over);
        int rc = tm_journal_reader_next(r, &record, &err);
        check(rc, &err);
        read_records += rc == 1;
        if (rc == 0 && last)
            return NULL;
        if (rc == 0 || read_records % 100000 == 0)
            tm_journal_release(journal, tm_journal_reader_position(r));
        if (rc == 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void append_turn(int stream, int records)
{
    uint8_t tuple[TUPLE_BYTES];
    memset(tuple, 'r', sizeof tuple);
    for (int i = 0; i < records; i++)
        while (tm_journal_append(journal, stream, tuple, sizeof tuple) == TM_EFULL) {
            tm_journal_flush(journal);
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        }
    tm_journal_flush(journal);
}

static void run_flat_out(const char *dir, int stream, int64_t seconds)
{
    struct tm_journal_stats before = tm_journal_stats(journal);
    int64_t started_us = tm_clock_mono_us(), cpu_us = clock() / (CLOCKS_PER_SEC / 1000000);
    while (tm_clock_mono_us() - started_us < seconds * TM_US_PER_S)
        append_turn(stream, TURN_RECORDS);
    while (tm_journal_wait(journal, 1000000) != TM_OK)
        ;
    double us = (double)(tm_clock_mono_us() - started_us);
    cpu_us = clock() / (CLOCKS_PER_SEC / 1000000) - cpu_us;
    struct tm_journal_stats s = tm_journal_stats(journal);
    double records = (double)(s.durable - before.durable), syncs = (double)(s.syncs - before.syncs);
    double bytes = (double)(s.appended_bytes - before.appended_bytes);
    tm_bench_note("%-40s %.0f records/s, %.1f MB/s, %.0f syncs, %.0f records a sync\n", "flat out, through to durable",
                  records / us * 1e6, bytes / us, syncs, records / syncs);
    tm_bench_note("%-40s %.0f ns processor time a record, reader included\n", "", 1e3 * (double)cpu_us / records);
    double floor_ms = run_floor(dir, (size_t)(bytes / syncs));
    report("journal/rate", records / us * 1e6, "records/s", 1e3 * records / syncs / floor_ms,
           "write and fdatasync of as many");
}

static void run_append_alone(int stream)
{
    enum { RECORDS = 200000 }; /* within the buffer: nothing waits */
    struct tm_journal_stats before = tm_journal_stats(journal);
    int64_t started_us = tm_clock_mono_us();
    for (int i = 0; i < RECORDS; i += TURN_RECORDS)
        append_turn(stream, TURN_RECORDS);
    int64_t us = tm_clock_mono_us() - started_us;
    report("journal/append", 1e3 * (double)us / RECORDS, "ns", 0, NULL);
    while (tm_journal_stats(journal).durable < before.durable + RECORDS)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* A turn each millisecond; how long until the turn is durable, seen from a loop that never waits for it. */
static double run_paced(int stream, int64_t seconds)
{
    static int64_t waits[WAITS_MAX], sent_us[WAITS_MAX];
    size_t sent = 0, done = 0;
    uint64_t base = tm_journal_stats(journal).durable;
    int64_t started_us = tm_clock_mono_us();
    size_t turns = (size_t)seconds * 1000 < WAITS_MAX ? (size_t)seconds * 1000 : WAITS_MAX;
    while (done < turns) {
        int64_t now_us = tm_clock_mono_us();
        for (; sent < turns && now_us >= started_us + (int64_t)sent * 1000; sent++) {
            sent_us[sent] = now_us;
            append_turn(stream, 20);
        }
        for (uint64_t durable = tm_journal_stats(journal).durable; done < sent && base + (done + 1) * 20 <= durable;
             done++)
            waits[done] = now_us - sent_us[done];
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return print_times("20,000 records/s: append to durable", waits, turns);
}

static void clean(const char *dir)
{
    char command[4200];
    (void)snprintf(command, sizeof command, "rm -f '%s'/*.seg '%s'/epoch && rmdir '%s'", dir, dir, dir);
    if (strchr(dir, '\'') || system(command))
        fprintf(stderr, "bench_journal: %s is left behind\n", dir);
}

int main(int argc, char **argv)
{
    tm_bench_begin(&argc, argv);
    const char *dir = argc > 1 ? argv[1] : "bench_journal.tmp";
    int64_t seconds = argc > 2 ? atoll(argv[2]) : tm_bench_quick ? 1 : 5;
    struct tm_error err;
    struct tm_journal_reader *r;
    pthread_t reader;
    if (seconds < 1 || (mkdir(dir, 0700) && errno != EEXIST)) {
        fprintf(stderr, "usage: bench_journal [DIR [SECONDS]]\n");
        return 2;
    }
    double floor_ms = run_floor(dir, (size_t)TUPLE_BYTES * TURN_RECORDS);
    struct tm_journal_options o = {.dir = dir, .bytes_max = UINT64_C(2) << 30};
    check(tm_journal_open(&o, &journal, &err), &err);
    int stream = tm_journal_stream(journal, "orderbook_deltas", "ticker,exchange_ts,side,price,delta,seq", &err);
    check(stream, &err);
    check(tm_journal_reader_open(journal, (struct tm_journal_position){0, 0}, &r, &err), &err);
    pthread_create(&reader, NULL, follow, r);
    report("journal/durable", run_paced(stream, seconds), "ms", floor_ms, "write and fdatasync");
    run_append_alone(stream);
    run_flat_out(dir, stream, seconds);
    atomic_store(&over, true);
    pthread_join(reader, NULL);
    tm_bench_note("%-40s %" PRIu64 " of %" PRIu64 "\n", "records read back", read_records,
                  tm_journal_stats(journal).durable);
    tm_journal_reader_close(r);
    check(tm_journal_close(journal, &err), &err);
    clean(dir);
    return 0;
}
