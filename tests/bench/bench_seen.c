/*
 * The seen-set: insert-or-exists with 128-bit keys, beside a plain open-addressing table in the same run.
 *
 *     bench_seen [MILLION_KEYS]        default 10; each key is offered three times in random order (67 % duplicates)
 *
 * The plain table is the floor: made at its final size, 50 to 75 % full, no growth, no window, no expiry. Both are
 * measured one key at a time and with a prefetch over a batch of 64. The time includes making the keys (splitmix64),
 * which is measured alone too. `pause` is the longest single insertion of a run in which each one is timed, by the wall
 * clock and by the thread's processor time: the difference is what the scheduler gave to others.
 */
#include "base/clock.h"
#include "dedup/seen.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 64
#define WINDOW_US (INT64_C(3600) * TM_US_PER_S)

struct plain {
    struct tm_fp *slots;
    uint64_t mask;
};

static uint32_t *order;
static uint64_t ops, unique;

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static struct tm_fp key(uint64_t i)
{
    return (struct tm_fp){.lo = mix(i), .hi = mix(i ^ UINT64_C(0x5555555500000000))};
}

static void make_order(void)
{
    order = malloc(ops * sizeof *order);
    TM_FATAL_UNLESS(order);
    for (uint64_t i = 0; i < ops; i++)
        order[i] = (uint32_t)(i % unique);
    uint64_t state = 1;
    for (uint64_t i = ops - 1; i > 0; i--) {
        uint64_t other = mix(state++) % (i + 1);
        uint32_t swap = order[i];
        order[i] = order[other];
        order[other] = swap;
    }
}

static bool plain_add(struct plain *p, struct tm_fp fp)
{
    uint64_t i = fp.hi & p->mask;
    for (; p->slots[i].lo | p->slots[i].hi; i = (i + 1) & p->mask)
        if (p->slots[i].lo == fp.lo && p->slots[i].hi == fp.hi)
            return false;
    p->slots[i] = fp;
    return true;
}

static void report(const char *what, int64_t started_us, uint64_t added)
{
    int64_t us = tm_clock_mono_us() - started_us;
    printf("%-34s %7.1f ns/op  %6.1f M/s  %" PRIu64 " added\n", what, 1e3 * (double)us / (double)ops,
           (double)ops / (double)us, added);
}

static void run_keys(void)
{
    int64_t started_us = tm_clock_mono_us();
    uint64_t sum = 0;
    for (uint64_t i = 0; i < ops; i++) {
        struct tm_fp fp = key(order[i]);
        sum += (fp.lo ^ fp.hi) >> 63;
    }
    report("making the keys alone", started_us, sum);
}

static void run_plain(bool prefetch)
{
    uint64_t cap = 1;
    while (cap * 3 < unique * 4)
        cap *= 2;
    struct plain p = {.slots = calloc(cap, sizeof *p.slots), .mask = cap - 1};
    TM_FATAL_UNLESS(p.slots);
    memset(p.slots, 0, cap * sizeof *p.slots);
    uint64_t added = 0;
    int64_t started_us = tm_clock_mono_us();
    for (uint64_t i = 0; i < ops; i += BATCH) {
        struct tm_fp fps[BATCH];
        for (int k = 0; k < BATCH; k++) {
            fps[k] = key(order[i + (uint64_t)k]);
            if (prefetch)
                __builtin_prefetch(&p.slots[fps[k].hi & p.mask], 1);
        }
        for (int k = 0; k < BATCH; k++)
            added += plain_add(&p, fps[k]);
    }
    report(prefetch ? "plain table, prefetched" : "plain table", started_us, added);
    printf("%-34s %7.1f bytes/key\n", "", (double)(cap * sizeof *p.slots) / (double)unique);
    free(p.slots);
}

static struct tm_seen *make_seen(void)
{
    struct tm_seen *s;
    struct tm_error err;
    struct tm_seen_options o = {.window_us = WINDOW_US, .memory_bytes_max = (size_t)unique * 40 + (1u << 20)};
    if (tm_seen_create(&o, &s, &err)) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return s;
}

static void run_seen(bool prefetch)
{
    struct tm_seen *s = make_seen();
    uint64_t added = 0;
    int64_t started_us = tm_clock_mono_us();
    for (uint64_t i = 0; i < ops; i += BATCH) {
        struct tm_fp fps[BATCH];
        for (int k = 0; k < BATCH; k++) {
            fps[k] = key(order[i + (uint64_t)k]);
            if (prefetch)
                tm_seen_prefetch(s, fps[k]);
        }
        for (int k = 0; k < BATCH; k++)
            added += tm_seen_add(s, fps[k], (int64_t)(i / 1000));
    }
    report(prefetch ? "seen-set, prefetched" : "seen-set", started_us, added);
    struct tm_seen_stats stats = tm_seen_stats(s);
    printf("%-34s %7.1f bytes/key, %" PRIu64 " keys\n", "", (double)stats.memory_bytes / (double)stats.keys,
           stats.keys);
    tm_seen_destroy(s);
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct pauses {
    int64_t wall_ns, cpu_ns;
    double bytes_a_key;
};

static void timed_add(struct tm_seen *s, struct tm_fp fp, int64_t now_us, struct pauses *p)
{
    int64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID), wall = now_ns(CLOCK_MONOTONIC);
    tm_seen_add(s, fp, now_us);
    wall = now_ns(CLOCK_MONOTONIC) - wall;
    cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    p->wall_ns = wall > p->wall_ns ? wall : p->wall_ns;
    p->cpu_ns = cpu > p->cpu_ns ? cpu : p->cpu_ns;
}

/* Every insertion timed, the set growing, then keys expiring. */
static void run_pauses(void)
{
    struct tm_seen *s = make_seen();
    struct pauses p = {0};
    for (uint64_t i = 0; i < ops; i++) {
        timed_add(s, key(order[i]), (int64_t)i * WINDOW_US / (int64_t)unique, &p);
        struct tm_seen_stats stats = tm_seen_stats(s);
        double bytes = (double)stats.memory_bytes / (double)stats.keys;
        if (stats.keys > 100000 && bytes > p.bytes_a_key)
            p.bytes_a_key = bytes;
    }
    printf("longest insertion of %" PRIu64 ": %.1f us wall, %.1f us processor; most memory %.1f bytes/key\n", ops,
           (double)p.wall_ns / 1e3, (double)p.cpu_ns / 1e3, p.bytes_a_key);
    tm_seen_destroy(s);
}

int main(int argc, char **argv)
{
    unique = (argc > 1 ? strtoull(argv[1], NULL, 10) : 10) * 1000000;
    if (unique == 0 || unique > 1000000000) {
        fprintf(stderr, "usage: bench_seen [MILLION_KEYS], 1 to 1000\n");
        return 2;
    }
    ops = unique * 3 / BATCH * BATCH;
    make_order();
    run_keys();
    for (int prefetch = 0; prefetch < 2; prefetch++) {
        run_plain(prefetch);
        run_seen(prefetch);
    }
    run_pauses();
    free(order);
    return 0;
}
