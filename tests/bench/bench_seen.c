/*
 * The seen-set: insert-or-exists with 128-bit keys, beside absl::flat_hash_set (with -DTM_BENCH=ON) and a plain
 * open-addressing table in the same run.
 *
 *     bench_seen [MILLION_KEYS] [--quick] [--json]     default 10; each key is offered three times in random order
 *
 * Two thirds are duplicates. The plain table is made at its final size, 50 to 75 % full, no growth, no window, no expiry:
 * the floor of what memory allows. All are measured one key at a time and with a prefetch over a batch of 64, by the
 * thread's processor time; that of making the keys (splitmix64), measured alone, is taken off. They take turns, and the best
 * of three rounds counts: memory is as fast as the other machines on the host leave it, from second to second. What the kernel has of it
 * is noted beside: new pages cost a third of a microsecond each on one machine, and twenty where a hypervisor has to find
 * them. Pauses are by processor time too, of a run in which each insertion is timed while the set grows from nothing and
 * its keys expire. It is made twice, and of each insertion the shorter time counts: a pause of the set comes again at the
 * same key, an interrupt or a processor that the hypervisor takes away does not. Bytes a key are the most at any size from
 * 100,000 keys on, old and new table together where one is copied to grow.
 */
#include "floors/floors.h"
#include "report.h"

#include "base/clock.h"
#include "dedup/seen.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

/* One of the sets that are compared; what is not there is NULL. */
struct contender {
    const char *name;
    void *(*create)(void);
    void (*destroy)(void *set);
    bool (*add)(void *set, struct tm_fp fp, int64_t now_us);
    void (*prefetch)(const void *set, struct tm_fp fp);
    size_t (*bytes)(void *set); /* at the most since it was asked last */
    double best[2];             /* operations a second: one at a time, prefetching */
};

static void *plain_create(void)
{
    struct plain *p = malloc(sizeof *p);
    uint64_t cap = 1;
    while (cap * 3 < unique * 4)
        cap *= 2;
    TM_FATAL_UNLESS(p);
    *p = (struct plain){.slots = calloc(cap, sizeof *p->slots), .mask = cap - 1};
    TM_FATAL_UNLESS(p->slots);
    for (uint64_t i = 0; i < cap; i += 4096 / sizeof *p->slots)
        *(volatile uint64_t *)&p->slots[i].lo = 0; /* touched: its pages are there */
    return p;
}

static void plain_destroy(void *set)
{
    struct plain *p = set;
    free(p->slots);
    free(p);
}

static bool plain_insert(void *set, struct tm_fp fp, int64_t now_us)
{
    (void)now_us;
    return plain_add(set, fp);
}

static void plain_prefetch(const void *set, struct tm_fp fp)
{
    const struct plain *p = set;
    __builtin_prefetch(&p->slots[fp.hi & p->mask], 1);
}

static void *seen_create(void)
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

static void seen_destroy(void *set)
{
    tm_seen_destroy(set);
}

static bool seen_add(void *set, struct tm_fp fp, int64_t now_us)
{
    return tm_seen_add(set, fp, now_us);
}

static void seen_prefetch(const void *set, struct tm_fp fp)
{
    tm_seen_prefetch(set, fp);
}

static size_t seen_bytes(void *set)
{
    return tm_seen_stats(set).memory_bytes;
}

#ifdef TM_BENCH
static void *absl_create(void)
{
    return floor_absl_create();
}

static void absl_destroy(void *set)
{
    floor_absl_destroy(set);
}

static bool absl_add(void *set, struct tm_fp fp, int64_t now_us)
{
    (void)now_us;
    return floor_absl_add(set, fp);
}

static void absl_prefetch(const void *set, struct tm_fp fp)
{
    floor_absl_prefetch(set, fp);
}

static size_t absl_bytes(void *set)
{
    return floor_absl_bytes(set);
}
#endif

static struct contender plain = {"plain table", plain_create, plain_destroy, plain_insert, plain_prefetch, NULL, {0}};
static struct contender seen = {"seen-set", seen_create, seen_destroy, seen_add, seen_prefetch, seen_bytes, {0}};
#ifdef TM_BENCH
static struct contender abseil = {"absl::flat_hash_set", absl_create, absl_destroy, absl_add,
                                  absl_prefetch,         absl_bytes,  {0}};
#endif
static struct contender *const contenders[] = {&plain, &seen,
#ifdef TM_BENCH
                                               &abseil
#endif
};
#define CONTENDERS (sizeof contenders / sizeof *contenders)
#define ROUNDS 3

static double keys_ns; /* of making one key */

static double ns_an_op(int64_t us)
{
    return 1e3 * (double)us / (double)ops;
}

/* What the kernel had of this thread's processor time. */
static int64_t kernel_us(void)
{
    struct rusage r;
    TM_FATAL_UNLESS(getrusage(RUSAGE_THREAD, &r) == 0);
    return r.ru_stime.tv_sec * TM_US_PER_S + r.ru_stime.tv_usec;
}

static void run_keys(void)
{
    int64_t started_us = tm_clock_thread_us();
    uint64_t sum = 0;
    for (uint64_t i = 0; i < ops; i++) {
        struct tm_fp fp = key(order[i]);
        sum += (fp.lo ^ fp.hi) >> 63;
    }
    keys_ns = ns_an_op(tm_clock_thread_us() - started_us);
    tm_bench_note("%-34s %7.1f ns/op (%" PRIu64 ")\n", "making the keys alone", keys_ns, sum);
}

static void run(struct contender *c, bool prefetch)
{
    void *set = c->create();
    uint64_t added = 0;
    int64_t started_us = tm_clock_thread_us(), started_kernel_us = kernel_us();
    for (uint64_t i = 0; i < ops; i += BATCH) {
        struct tm_fp fps[BATCH];
        for (int k = 0; k < BATCH; k++) {
            fps[k] = key(order[i + (uint64_t)k]);
            if (prefetch)
                c->prefetch(set, fps[k]);
        }
        for (int k = 0; k < BATCH; k++)
            added += c->add(set, fps[k], (int64_t)(i / 1000));
    }
    double ns = ns_an_op(tm_clock_thread_us() - started_us) - keys_ns;
    tm_bench_note("%-24s%-10s %7.1f ns/op  %6.1f M/s; kernel's part %.1f ns/op\n", c->name,
                  prefetch ? ", prefetch" : "", ns, 1e3 / ns, ns_an_op(kernel_us() - started_kernel_us));
    TM_FATAL_UNLESS(added == unique);
    c->destroy(set);
    c->best[prefetch] = 1e9 / ns > c->best[prefetch] ? 1e9 / ns : c->best[prefetch];
}

/* Not the thread's own processor time, which is a system call each time: interruptions are told by a second run. */
static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

#define BYTES_EVERY 64 /* insertions: a table grows in steps of more */

struct pauses {
    int64_t *ns; /* of each insertion, the shorter of two */
    double bytes_a_key;
};

static void note_bytes(const struct contender *c, void *set, uint64_t added, struct pauses *p)
{
    uint64_t keys = c == &seen ? tm_seen_stats(set).keys : added;
    double bytes = (double)c->bytes(set) / (double)keys;
    if (keys > 100000 && bytes > p->bytes_a_key)
        p->bytes_a_key = bytes;
}

/* Every insertion timed while the set grows; then, in the seen-set, keys expire. */
static void time_all(const struct contender *c, struct pauses *p)
{
    void *set = c->create();
    uint64_t added = 0;
    for (uint64_t i = 0; i < ops; i++) {
        struct tm_fp fp = key(order[i]);
        int64_t now_us = (int64_t)i * WINDOW_US / (int64_t)unique;
        int64_t ns = now_ns();
        added += c->add(set, fp, now_us);
        ns = now_ns() - ns;
        p->ns[i] = p->ns[i] && p->ns[i] < ns ? p->ns[i] : ns;
        if (i % BYTES_EVERY == 0)
            note_bytes(c, set, added, p);
    }
    c->destroy(set);
}

static int64_t longest(const int64_t *ns)
{
    int64_t most = 0;
    for (uint64_t i = 0; i < ops; i++)
        most = ns[i] > most ? ns[i] : most;
    return most;
}

/* The longest pause in microseconds. */
static double run_pauses(const struct contender *c, double *bytes_a_key)
{
    struct pauses p = {.ns = calloc(ops, sizeof *p.ns)};
    TM_FATAL_UNLESS(p.ns);
    time_all(c, &p);
    double once_us = (double)longest(p.ns) / 1e3;
    time_all(c, &p);
    double us = (double)longest(p.ns) / 1e3;
    tm_bench_note("%-24s longest insertion %.1f us, %.1f us if interruptions counted; most memory %.1f bytes/key\n",
                  c->name, us, once_us, p.bytes_a_key);
    free(p.ns);
    *bytes_a_key = p.bytes_a_key;
    return us;
}

static void report(const char *name, double figure, const char *unit, double floor, const char *floor_is)
{
    tm_bench_report(&(struct tm_bench_result){name, figure, unit, floor, floor_is});
}

int main(int argc, char **argv)
{
    tm_bench_begin(&argc, argv);
    unique = (argc > 1 ? strtoull(argv[1], NULL, 10) : tm_bench_quick ? 1 : 10) * 1000000;
    if (unique == 0 || unique > 1000000000) {
        fprintf(stderr, "usage: bench_seen [MILLION_KEYS], 1 to 1000\n");
        return 2;
    }
    ops = unique * 3 / BATCH * BATCH;
    make_order();
    run_keys();
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < CONTENDERS; i++) {
            run(contenders[i], false);
            run(contenders[i], true);
        }
    double bytes, pause_us = run_pauses(&seen, &bytes);
#ifdef TM_BENCH
    double their_bytes, their_pause_us = run_pauses(&abseil, &their_bytes);
    report("seen/single", seen.best[0], "keys/s", abseil.best[0], abseil.name);
    report("seen/batch", seen.best[1], "keys/s", abseil.best[1], "absl::flat_hash_set, prefetching");
    report("seen/bytes", bytes, "bytes/key", their_bytes, abseil.name);
    report("seen/pause", pause_us, "us", their_pause_us, abseil.name);
#else
    report("seen/bytes", bytes, "bytes/key", 0, NULL);
    report("seen/pause", pause_us, "us", 0, NULL);
#endif
    report("seen/plain", seen.best[1], "keys/s", plain.best[1], "plain table, prefetching");
    free(order);
    return 0;
}
