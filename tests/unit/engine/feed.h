/*
 * A gatherer under way: an exchange of connections that all send every record, and a real PostgreSQL. The gatherer's table
 * has no unique key, so a seen-set that was lost shows as a row too many, and a row that was lost as one too few.
 */
#ifndef TESTS_ENGINE_FEED_H
#define TESTS_ENGINE_FEED_H

#include "../net/peer.h"
#include "cluster.h"

#include "engine/gatherer.h"
#include "record/row.h"

#define S TM_US_PER_S
#define WAIT_US (60 * S)
#define COLUMNS(c) .columns = (c), .column_count = sizeof(c) / sizeof *(c)
#define SOURCES(s) .sources = (s), .source_count = sizeof(s) / sizeof *(s)
#define FROM(name, json)                                                                                               \
    {                                                                                                                  \
        .column = (name), .from = TM_FROM_PATHS, .paths = {{.path = (json)}}, .path_count = 1                          \
    }
#define RECEIVED_AT                                                                                                    \
    {                                                                                                                  \
        .column = "received_at", .from = TM_FROM_RECEIVED_AT                                                           \
    }

static struct cluster cluster;

/* ---- plans: what a frame {"type":"fact","n":7,"m":-7,"x":"x7"} becomes ---- */

static const struct tm_column_def fact_columns[] = {
    {.name = "n", .type = TM_TYPE_INT8, .not_null = true},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
/* m in front: the key stands elsewhere in the tuple, and is the same all the same; x is new at the end */
static const struct tm_column_def wide_columns[] = {
    {.name = "m", .type = TM_TYPE_INT8},
    {.name = "n", .type = TM_TYPE_INT8, .not_null = true},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "x", .type = TM_TYPE_TEXT},
};
static const struct tm_source_def fact_sources[] = {FROM("n", "n"), RECEIVED_AT};
static const struct tm_source_def wide_sources[] = {FROM("m", "m"), FROM("n", "n"), RECEIVED_AT, FROM("x", "x")};
static const char *const n_key[] = {"n", NULL};

#define FACTS(...)                                                                                                     \
    {                                                                                                                  \
        .name = "facts", .key = n_key, .window_us = 3600 * S, __VA_ARGS__                                              \
    }
#define EXTRAS                                                                                                         \
    {                                                                                                                  \
        .name = "extras", .key = n_key, .window_us = 3600 * S, COLUMNS(fact_columns)                                   \
    }
#define FACT_KIND(s)                                                                                                   \
    {                                                                                                                  \
        .tag = "fact", .stream = "facts", SOURCES(s)                                                                   \
    }
#define EXTRA_KIND                                                                                                     \
    {                                                                                                                  \
        .tag = "extra", .stream = "extras", SOURCES(fact_sources), .forward = true                                     \
    }
#define PLAN(s, k)                                                                                                     \
    {                                                                                                                  \
        .protocol = {.tag_path = "type"}, .streams = (s), .stream_count = sizeof(s) / sizeof *(s), .kinds = (k),       \
        .kind_count = sizeof(k) / sizeof *(k)                                                                          \
    }

static const struct tm_kind_def plain_kinds[] = {FACT_KIND(fact_sources)};
static const struct tm_kind_def wide_kinds[] = {FACT_KIND(wide_sources)};
static const struct tm_kind_def both_kinds[] = {EXTRA_KIND, FACT_KIND(fact_sources)};
static const struct tm_stream_def plain_streams[] = {FACTS(COLUMNS(fact_columns))};
static const struct tm_stream_def long_streams[] = {
    {.name = "facts", .key = n_key, .window_us = 7200 * S, .memory_bytes_max = 8 << 20, COLUMNS(fact_columns)}};
static const struct tm_stream_def wide_streams[] = {FACTS(COLUMNS(wide_columns))};
static const struct tm_stream_def both_streams[] = {EXTRAS,
                                                    FACTS(COLUMNS(fact_columns))}; /* facts have another index */

static UNUSED const struct tm_plan_def plain = PLAN(plain_streams, plain_kinds),
                                       longer = PLAN(long_streams, plain_kinds), wide = PLAN(wide_streams, wide_kinds),
                                       both = PLAN(both_streams, both_kinds);

/* ---- the exchange ---- */

static _Atomic int64_t facts_due, extras_due; /* numbers up to here may be sent */
static atomic_bool over;

static UNUSED bool send_text(struct peer_conn *c, const char *type, int64_t n)
{
    char text[128];
    int len = snprintf(text, sizeof text, "{\"type\":\"%s\",\"n\":%lld,\"m\":%lld,\"x\":\"x%lld\"}", type, (long long)n,
                       -(long long)n, (long long)n);
    return peer_frame(c, 0x81, text, (size_t)len);
}

/* Every connection sends all that is due from the first number on, whenever it begins. */
static UNUSED void play(struct peer_conn *c)
{
    int64_t facts = 0, extras = 0;
    if (!peer_upgrade(c))
        return;
    while (!atomic_load(&over)) {
        bool sent = false;
        for (int i = 0; i < 50 && facts < atomic_load(&facts_due); i++, sent = true)
            if (!send_text(c, "fact", ++facts))
                return;
        for (int i = 0; i < 50 && extras < atomic_load(&extras_due); i++, sent = true)
            if (!send_text(c, "extra", ++extras))
                return;
        char ignored;
        if (!sent && recv(c->fd, &ignored, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
            return;
        usleep(sent ? 200 : 1000);
    }
}

/* ---- the gatherer ---- */

struct fixture {
    char database[32], info[160], dir[64], url[64];
    PGconn *db;
    struct peer *peer;
    struct tm_metrics *metrics;
    struct tm_gatherer_options options;
    struct tm_gatherer *g;
    int links[2];
    struct tm_error err;
};

static UNUSED int group_setup(void **state)
{
    (void)state;
    cluster_create(&cluster);
    return 0;
}

static UNUSED int group_teardown(void **state)
{
    (void)state;
    cluster_destroy(&cluster);
    return 0;
}

static UNUSED void make_database(const char *name)
{
    PGconn *conn = db_open(&cluster, "postgres");
    db_execf(conn, "CREATE DATABASE %s", name);
    PQfinish(conn);
}

static UNUSED struct tm_gatherer_link link_def(struct fixture *f, const char *name)
{
    return (struct tm_gatherer_link){.name = name, .ws = {.url = f->url}};
}

static UNUSED void start(struct fixture *f, const struct tm_plan_def *plan)
{
    f->options.plan = *plan;
    if (tm_gatherer_start(&f->options, &f->g, &f->err))
        fail_msg("%s", f->err.message);
    for (int i = 0; i < 2; i++) {
        struct tm_gatherer_link link = link_def(f, i ? "b" : "a");
        f->links[i] = tm_gatherer_link_add(f->g, &link, &f->err);
        assert_int_equal(f->links[i], i);
    }
}

static UNUSED int setup(void **state)
{
    static int number;
    struct fixture *f = calloc(1, sizeof *f);
    cluster_start(&cluster);
    (void)snprintf(f->database, sizeof f->database, "g%d", ++number);
    make_database(f->database);
    cluster_conninfo(&cluster, f->database, f->info, sizeof f->info);
    f->db = db_open(&cluster, f->database);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/tm_reload_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    atomic_store(&facts_due, 0);
    atomic_store(&extras_due, 0);
    atomic_store(&over, false);
    f->peer = peer_start(play, NULL, NULL);
    (void)snprintf(f->url, sizeof f->url, "ws://127.0.0.1:%d/feed", f->peer->port);
    f->metrics = tm_metrics_create();
    f->options = (struct tm_gatherer_options){.id = "g1",
                                              .store = f->info,
                                              .journal = {.dir = f->dir, .segment_bytes = 1 << 20},
                                              .metrics = f->metrics,
                                              .migrate = true};
    *state = f;
    return 0;
}

static UNUSED int teardown(void **state)
{
    struct fixture *f = *state;
    char command[96];
    atomic_store(&over, true);
    if (f->g)
        tm_gatherer_stop(f->g);
    peer_stop(f->peer);
    tm_metrics_destroy(f->metrics);
    PQfinish(f->db);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static UNUSED void reload(struct fixture *f, const struct tm_plan_def *plan)
{
    f->options.plan = *plan;
    if (tm_gatherer_check_reload(f->g, &f->options, &f->err) || tm_gatherer_reload(f->g, &f->options, &f->err))
        fail_msg("%s", f->err.message);
}

static UNUSED struct tm_gatherer_link_stats link_stats(struct fixture *f, int link)
{
    struct tm_gatherer_link_stats s;
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_gatherer_link_stats(f->g, link, &s))
        assert_true(keep_waiting(until_us));
    return s;
}

/* Both connections have brought so many messages more than they had. */
static UNUSED void wait_messages(struct fixture *f, uint64_t least)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    for (int i = 0; i < 2; i++)
        while (link_stats(f, f->links[i]).link.messages < least)
            if (!keep_waiting(until_us))
                fail_msg("connection %d brought %llu messages, waited for %llu", i,
                         (unsigned long long)link_stats(f, f->links[i]).link.messages, (unsigned long long)least);
}

static UNUSED void due(int64_t facts, int64_t extras)
{
    atomic_fetch_add(&facts_due, facts);
    atomic_fetch_add(&extras_due, extras);
}

static UNUSED void wait_table(struct fixture *f, const char *table, int64_t rows)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql, "SELECT count(to_regclass('%s'))", table);
    db_wait(f->db, sql, 1, WAIT_US);
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    db_wait(f->db, sql, rows, WAIT_US);
}

/* All that was sent has come and is stored, each number once, in one piece of numbers of the store's own. */
static UNUSED void expect_facts(struct fixture *f)
{
    int64_t facts = atomic_load(&facts_due);
    char wanted[128];
    wait_messages(f, (uint64_t)(facts + atomic_load(&extras_due)));
    (void)snprintf(wanted, sizeof wanted, "SELECT g::int8 FROM generate_series(1, %lld) g", (long long)facts);
    wait_table(f, "facts", facts);
    db_same(f->db, "SELECT n FROM facts", wanted);
    db_same(f->db, "SELECT seq FROM facts", wanted);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.quarantine"), 0);
}

/* No connection was made but the two at the start. */
static UNUSED void expect_same_sockets(struct fixture *f)
{
    for (int i = 0; i < 2; i++)
        assert_int_equal(link_stats(f, f->links[i]).link.tries, 1);
    assert_int_equal(atomic_load(&f->peer->accepted), 2);
}

#endif
