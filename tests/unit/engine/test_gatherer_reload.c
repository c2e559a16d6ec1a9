/*
 * A gatherer that is reloaded while rows flow: an exchange of two connections that both send every record, a real
 * PostgreSQL. The gatherer's table has no unique key, so a seen-set that was lost shows as a row too many, and a row that
 * was lost as one too few.
 */
#include "../net/peer.h"
#include "cluster.h"

#include "engine/gatherer.h"
#include "record/row.h"

#define S TM_US_PER_S
#define WAIT_US (60 * S)
#define COLUMNS(c) .columns = (c), .column_count = sizeof(c) / sizeof *(c)
#define SOURCES(s) .sources = (s), .source_count = sizeof(s) / sizeof *(s)
#define FROM(name, json) {.column = (name), .from = TM_FROM_PATHS, .paths = {{.path = (json)}}, .path_count = 1}
#define RECEIVED_AT {.column = "received_at", .from = TM_FROM_RECEIVED_AT}

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

#define FACTS(...) {.name = "facts", .key = n_key, .window_us = 3600 * S, __VA_ARGS__}
#define EXTRAS {.name = "extras", .key = n_key, .window_us = 3600 * S, COLUMNS(fact_columns)}
#define FACT_KIND(s) {.tag = "fact", .stream = "facts", SOURCES(s)}
#define EXTRA_KIND {.tag = "extra", .stream = "extras", SOURCES(fact_sources), .forward = true}
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
static const struct tm_stream_def both_streams[] = {EXTRAS, FACTS(COLUMNS(fact_columns))}; /* facts have another index */

static const struct tm_plan_def plain = PLAN(plain_streams, plain_kinds), longer = PLAN(long_streams, plain_kinds),
                                wide = PLAN(wide_streams, wide_kinds), both = PLAN(both_streams, both_kinds);

/* ---- the exchange ---- */

static _Atomic int64_t facts_due, extras_due; /* numbers up to here may be sent */
static atomic_bool over;

static bool send_text(struct peer_conn *c, const char *type, int64_t n)
{
    char text[128];
    int len = snprintf(text, sizeof text, "{\"type\":\"%s\",\"n\":%lld,\"m\":%lld,\"x\":\"x%lld\"}", type, (long long)n,
                       -(long long)n, (long long)n);
    return peer_frame(c, 0x81, text, (size_t)len);
}

/* Every connection sends all that is due from the first number on, whenever it begins. */
static void play(struct peer_conn *c)
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

static int group_setup(void **state)
{
    (void)state;
    cluster_create(&cluster);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    cluster_destroy(&cluster);
    return 0;
}

static void make_database(const char *name)
{
    PGconn *conn = db_open(&cluster, "postgres");
    db_execf(conn, "CREATE DATABASE %s", name);
    PQfinish(conn);
}

static struct tm_gatherer_link link_def(struct fixture *f, const char *name)
{
    return (struct tm_gatherer_link){.name = name, .ws = {.url = f->url}};
}

static void start(struct fixture *f, const struct tm_plan_def *plan)
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

static int setup(void **state)
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

static int teardown(void **state)
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

static void reload(struct fixture *f, const struct tm_plan_def *plan)
{
    f->options.plan = *plan;
    if (tm_gatherer_check_reload(f->g, &f->options, &f->err) || tm_gatherer_reload(f->g, &f->options, &f->err))
        fail_msg("%s", f->err.message);
}

static struct tm_gatherer_link_stats link_stats(struct fixture *f, int link)
{
    struct tm_gatherer_link_stats s;
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_gatherer_link_stats(f->g, link, &s))
        assert_true(keep_waiting(until_us));
    return s;
}

/* Both connections have brought so many messages more than they had. */
static void wait_messages(struct fixture *f, uint64_t least)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    for (int i = 0; i < 2; i++)
        while (link_stats(f, f->links[i]).link.messages < least)
            if (!keep_waiting(until_us))
                fail_msg("connection %d brought %llu messages, waited for %llu", i,
                         (unsigned long long)link_stats(f, f->links[i]).link.messages, (unsigned long long)least);
}

static void due(int64_t facts, int64_t extras)
{
    atomic_fetch_add(&facts_due, facts);
    atomic_fetch_add(&extras_due, extras);
}

static void wait_table(struct fixture *f, const char *table, int64_t rows)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql, "SELECT count(to_regclass('%s'))", table);
    db_wait(f->db, sql, 1, WAIT_US);
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    db_wait(f->db, sql, rows, WAIT_US);
}

/* All that was sent has come and is stored, each number once, in one piece of numbers of the store's own. */
static void expect_facts(struct fixture *f)
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
static void expect_same_sockets(struct fixture *f)
{
    for (int i = 0; i < 2; i++)
        assert_int_equal(link_stats(f, f->links[i]).link.tries, 1);
    assert_int_equal(atomic_load(&f->peer->accepted), 2);
}

static double counter_of(struct fixture *f, const char *name, const char *stream)
{
    char labels[64];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream);
    return tm_metric_get(tm_metrics_counter(f->metrics, name, "", labels));
}

/* ---- (a), (b): the same, another window ---- */

static void an_identical_plan_is_the_same_plan(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    const struct tm_plan *plan = tm_gatherer_plan(f->g);
    for (int i = 0; i < 20; i++) {
        due(100, 0);
        reload(f, &plain);
        assert_ptr_equal(tm_gatherer_plan(f->g), plan);
    }
    expect_facts(f);
    expect_same_sockets(f);
}

/* What was seen stays seen: the second connection sends all of it again only after the windows have changed. */
static void another_window_keeps_what_was_seen(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    due(2000, 0);
    expect_facts(f);
    for (int i = 0; i < 6; i++)
        reload(f, i % 2 ? &plain : &longer);
    struct tm_gatherer_link third = link_def(f, "c");
    assert_int_equal(tm_gatherer_link_add(f->g, &third, &f->err), 2);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, 2).link.messages < 2000)
        assert_true(keep_waiting(until_us));
    due(100, 0);
    expect_facts(f);
    assert_true(counter_of(f, "tidemill_rows_received_total", "facts") ==
                counter_of(f, "tidemill_rows_journaled_total", "facts") +
                    counter_of(f, "tidemill_rows_duplicate_total", "facts"));
}

/* ---- (c): a stream with a new table ---- */

/* What came before io had the new plan is in unknown_frames, from both connections; nothing is nowhere. */
static void a_stream_is_added(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    due(500, 100);
    wait_messages(f, 600);
    wait_table(f, "unknown_frames", 200);
    assert_int_equal(db_int(f->db, "SELECT count(to_regclass('extras'))"), 0);
    reload(f, &both);
    for (int i = 0; i < 20; i++)
        due(100, 100);
    expect_facts(f);
    db_wait(f->db, "SELECT count(to_regclass('extras'))", 1, WAIT_US);
    db_wait(f->db,
            "SELECT count(DISTINCT n) FROM (SELECT n FROM extras UNION ALL"
            " SELECT (convert_from(raw, 'UTF8')::jsonb ->> 'n')::int8 FROM unknown_frames) x",
            atomic_load(&extras_due), WAIT_US);
    assert_int_equal(db_int(f->db, "SELECT count(*) - count(DISTINCT n) FROM extras"), 0);
    assert_true(db_int(f->db, "SELECT count(*) FROM extras") > 0);
    db_same(f->db, "SELECT seq FROM extras", "SELECT g FROM generate_series(1, (SELECT count(*) FROM extras)) g");
    expect_same_sockets(f);
}

/* ---- (d): columns ---- */

static void columns_are_added(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    due(1000, 0);
    wait_messages(f, 500);
    reload(f, &wide);
    due(2000, 0);
    expect_facts(f);
    db_same(f->db, "SELECT n, m, x FROM facts WHERE x IS NOT NULL",
            "SELECT n, -n, 'x' || n FROM facts WHERE seq >= (SELECT min(seq) FROM facts WHERE x IS NOT NULL)");
    due(1, 0);
    expect_facts(f);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM facts WHERE n = 3001 AND x = 'x3001' AND m = -3001"), 1);
    reload(f, &plain); /* and back: the table keeps its columns, the view has what is declared */
    due(100, 0);
    expect_facts(f);
    expect_same_sockets(f);
}

/* ---- (e): a stream is removed while its rows wait in the journal ---- */

static void a_removed_stream_is_stored_to_its_end(void **state)
{
    struct fixture *f = *state;
    start(f, &both);
    due(100, 100);
    expect_facts(f);
    wait_table(f, "extras", 100);
    cluster_end(&cluster, SIGKILL);
    due(500, 500);
    wait_messages(f, 1200);
    reload(f, &plain);
    reload(f, &longer);
    due(500, 0);
    wait_messages(f, 1700);
    cluster_start(&cluster);
    PQfinish(f->db);
    f->db = db_open(&cluster, f->database);
    expect_facts(f);
    wait_table(f, "extras", 600);
    db_same(f->db, "SELECT n FROM extras", "SELECT g::int8 FROM generate_series(1, 600) g");
    expect_same_sockets(f);
}

/* ---- rows that policy had under way ---- */

static void make_rows(const struct tm_plan *plan, const struct tm_stream *s, int64_t from, int64_t to,
                      struct tm_buf *bytes)
{
    for (int64_t n = from; n <= to; n++) {
        struct tm_row_writer w;
        struct tm_row row;
        int rc = tm_row_begin(&w, s, bytes);
        rc = rc ? rc : tm_row_put_int(&w, n);
        rc = rc ? rc : tm_row_put_time(&w, tm_clock_wall_us());
        rc = rc ? rc : tm_row_end(&w, plan, &row);
        assert_int_equal(rc, TM_OK);
    }
}

/* Rows of the old plan's tuples come after the plan has gone: as they were meant, and what was seen is seen. */
static void rows_of_the_plan_before_are_taken(void **state)
{
    struct fixture *f = *state;
    struct tm_buf facts = {0}, extras = {0};
    start(f, &both);
    due(300, 0);
    expect_facts(f);
    struct tm_plan *old = tm_plan_take(tm_gatherer_plan(f->g));
    make_rows(old, tm_plan_stream_by_name(old, "facts"), 201, 400, &facts);
    make_rows(old, tm_plan_stream_by_name(old, "extras"), 1, 50, &extras);
    reload(f, &wide);
    assert_int_equal(tm_gatherer_submit(f->g, tm_plan_stream_by_name(old, "facts"), &facts), TM_OK);
    assert_int_equal(tm_gatherer_submit(f->g, tm_plan_stream_by_name(old, "extras"), &extras), TM_OK);
    tm_plan_put(old);
    wait_table(f, "extras", 50);
    wait_table(f, "facts", 400);
    due(200, 0); /* the same numbers once more, decoded by the new plan */
    expect_facts(f);
    assert_int_equal(db_int(f->db, "SELECT count(x) FROM facts WHERE n BETWEEN 301 AND 400"), 0);
    assert_int_equal(db_int(f->db, "SELECT count(x) FROM facts WHERE n > 400"), 100);
}

/* A frame that was forwarded says its kind though the plan has gone. */
static void events_outlive_their_plan(void **state)
{
    struct fixture *f = *state;
    start(f, &both);
    due(0, 3);
    wait_messages(f, 3);
    for (int i = 0; i < 3; i++)
        reload(f, i % 2 ? &longer : &plain);
    due(10, 0);
    expect_facts(f);
    (void)tm_gatherer_stats(f->g);
    int frames = 0;
    for (struct tm_event *e; (e = tm_gatherer_next_event(f->g)); free(e))
        if (e->type == TM_EVENT_FRAME) {
            assert_string_equal(e->kind, "extra");
            frames++;
        }
    assert_int_equal(frames, 6);
}

/* ---- the store's address ---- */

static void the_store_moves(void **state)
{
    struct fixture *f = *state;
    char name[40], info[160];
    start(f, &plain);
    due(500, 0);
    expect_facts(f);
    (void)snprintf(name, sizeof name, "%s_other", f->database);
    make_database(name);
    cluster_conninfo(&cluster, name, info, sizeof info);
    f->options.store = info;
    reload(f, &plain);
    PQfinish(f->db);
    f->db = db_open(&cluster, name);
    due(500, 0);
    expect_facts(f); /* what the journal still holds is all of it */
    expect_same_sockets(f);
    assert_int_equal(tm_gatherer_stats(f->g).store.errors, 0);
}

/* ---- (g) ---- */

static void two_hundred_reloads(void **state)
{
    static const struct tm_plan_def *const plans[] = {&plain, &wide, &longer, &both, &plain, &both};
    struct fixture *f = *state;
    start(f, &plain);
    for (int i = 0; i < 200; i++) {
        due(20, 0);
        reload(f, plans[i % 6]);
        if (i % 10 == 0)
            wait_messages(f, (uint64_t)i * 20);
        if (i == 100) {
            cluster_end(&cluster, SIGKILL);
            cluster_start(&cluster);
            PQfinish(f->db);
            f->db = db_open(&cluster, f->database);
        }
    }
    expect_facts(f);
    expect_same_sockets(f);
}

/* ---- what cannot change ---- */

static void expect_refused(struct fixture *f, const struct tm_gatherer_options *options, const char *words)
{
    const struct tm_plan *plan = tm_gatherer_plan(f->g);
    assert_int_equal(tm_gatherer_check_reload(f->g, options, &f->err), TM_EINVAL);
    if (!strstr(f->err.message, words))
        fail_msg("expected \"%s\" in: %s", words, f->err.message);
    assert_int_equal(tm_gatherer_reload(f->g, options, &f->err), TM_EINVAL);
    assert_ptr_equal(tm_gatherer_plan(f->g), plan);
}

static void what_cannot_change_is_refused(void **state)
{
    static const struct tm_column_def narrow_columns[] = {
        {.name = "n", .type = TM_TYPE_INT4, .not_null = true},
        {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    };
    static const struct tm_stream_def narrow_streams[] = {FACTS(COLUMNS(narrow_columns))};
    static const struct tm_stream_def upsert_streams[] = {
        {.name = "facts", .mode = TM_STREAM_UPSERT, .key = n_key, COLUMNS(fact_columns)}};
    static const struct tm_stream_def tiny_streams[] = {
        {.name = "facts", .key = n_key, .window_us = S, .memory_bytes_max = 1000, COLUMNS(fact_columns)}};
    struct fixture *f = *state;
    start(f, &plain);
    struct tm_gatherer_options o = f->options;
    o.id = "g2";
    expect_refused(f, &o, "id cannot change while the process runs (it is \"g1\", wanted is \"g2\"): restart");
    o = f->options;
    o.journal.dir = "/tmp";
    expect_refused(f, &o, "the data directory cannot change while the process runs");
    o = f->options;
    o.journal.segment_bytes = 2 << 20;
    expect_refused(f, &o, "segments cannot change while the process runs (it is 1048576 bytes, wanted are 2097152)");
    o = f->options;
    o.journal.bytes_max = 1 << 30;
    expect_refused(f, &o, "restart");
    o = f->options;
    o.plan = (struct tm_plan_def)PLAN(narrow_streams, plain_kinds);
    expect_refused(f, &o, "column \"n\" cannot change its type");
    o.plan = (struct tm_plan_def)PLAN(upsert_streams, plain_kinds);
    expect_refused(f, &o, "stream \"facts\" cannot become an upsert stream");
    o.plan = (struct tm_plan_def)PLAN(tiny_streams, plain_kinds);
    expect_refused(f, &o, "facts: seen-set: memory is bounded to 1000 bytes");
    char relative[96];
    (void)snprintf(relative, sizeof relative, "/tmp/../%s", f->dir); /* the same by another name, and said sizes */
    o = f->options;
    o.journal.dir = relative;
    o.journal.bytes_max = TM_JOURNAL_BYTES_MAX;
    assert_int_equal(tm_gatherer_check_reload(f->g, &o, &f->err), TM_OK);
    due(100, 0);
    expect_facts(f);
}

/* ---- links ---- */

static void wait_tries(struct fixture *f, int link, uint64_t tries)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, link).link.tries < tries || link_stats(f, link).link.state != TM_LINK_UP)
        assert_true(keep_waiting(until_us));
    assert_int_equal(link_stats(f, link).link.tries, tries);
}

static struct tm_auth *make_auth(const char *value)
{
    struct tm_error err;
    struct tm_auth *auth = NULL;
    struct tm_auth_header_def header = {.name = "x-key", .value = value};
    assert_int_equal(tm_auth_create(&(struct tm_auth_def){.headers = &header, .header_count = 1}, &auth, &err), TM_OK);
    return auth;
}

/* The signature goes with the generation of the script that made it, right after the call. */
static void update(struct fixture *f, struct tm_gatherer_link *def, const char *value)
{
    struct tm_auth *auth = value ? make_auth(value) : NULL;
    def->ws.auth = auth;
    assert_int_equal(tm_gatherer_link_update(f->g, f->links[0], def), TM_OK);
    tm_auth_put(auth);
    def->ws.auth = NULL;
}

static void a_link_reconnects_only_for_what_matters(void **state)
{
    struct fixture *f = *state;
    char got[64];
    start(f, &plain);
    wait_tries(f, f->links[0], 1);
    wait_tries(f, f->links[1], 1);
    struct tm_gatherer_link def = link_def(f, "a");
    update(f, &def, "first");
    wait_tries(f, f->links[0], 2);
    assert_string_equal(peer_header(&f->peer->conns[2], "x-key", got, sizeof got), "first");
    def.quiet_us = 600 * S;
    def.ws.silence_us = 20 * S;
    def.ws.ping_idle_us = 7 * S;
    update(f, &def, "first"); /* another object that says the same */
    update(f, &def, "second");
    wait_tries(f, f->links[0], 3);
    assert_string_equal(peer_header(&f->peer->conns[3], "x-key", got, sizeof got), "second");
    char other[80];
    (void)snprintf(other, sizeof other, "%s?other", f->url);
    def.ws.url = other;
    update(f, &def, "second");
    wait_tries(f, f->links[0], 4);
    assert_non_null(strstr(f->peer->conns[4].request, "GET /feed?other "));
    def.ws.url = "http://nowhere";
    assert_int_equal(tm_gatherer_link_update(f->g, f->links[0], &def), TM_EINVAL);
    assert_int_equal(tm_gatherer_link_update(f->g, 7, &def), TM_ENOENT);
    due(200, 0);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, 0).rows + link_stats(f, 1).rows < 200)
        assert_true(keep_waiting(until_us));
    wait_table(f, "facts", 200);
    assert_int_equal(link_stats(f, f->links[1]).link.tries, 1);
}

/* Quiet is measured anew at once, by the definition of now. */
static void quiet_is_applied_without_reconnect(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    wait_tries(f, f->links[0], 1);
    struct tm_gatherer_link def = link_def(f, "a");
    def.quiet_us = 300 * TM_US_PER_MS;
    update(f, &def, NULL);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, f->links[0]).link.tries < 2)
        assert_true(keep_waiting(until_us));
}

static int add_link(struct fixture *f, const char *name, const char *url)
{
    struct tm_gatherer_link def = {.name = name, .ws = {.url = url}};
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    int link;
    while ((link = tm_gatherer_link_add(f->g, &def, &f->err)) == TM_EFULL)
        assert_true(keep_waiting(until_us));
    return link;
}

static void numbers_of_links_are_used_again(void **state)
{
    struct fixture *f = *state;
    int given = 0;
    start(f, &plain);
    for (int round = 0; round < 8; round++) {
        int links[300];
        for (int i = 0; i < 300; i++, given++) {
            links[i] = add_link(f, "x", "ws://127.0.0.1:1/");
            assert_in_range(links[i], 0, 999);
        }
        for (int i = 0; i < 300; i++) {
            struct tm_gatherer_link_stats s;
            tm_gatherer_link_remove(f->g, links[i]);
            assert_int_equal(tm_gatherer_link_stats(f->g, links[i], &s), TM_ENOENT);
            assert_int_equal(tm_gatherer_link_send(f->g, links[i], "x", 1), TM_ENOENT);
        }
    }
    assert_true(given > 2000);
    due(100, 0);
    expect_facts(f);
    expect_same_sockets(f);
}

/* Events of a link that is gone are not taken for those of the link that has its number now. */
static void late_events_are_not_the_new_links(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    wait_tries(f, f->links[0], 1);
    int old = add_link(f, "old", "ws://127.0.0.1:1/");
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, old).link.tries < 1)
        assert_true(keep_waiting(until_us));
    tm_gatherer_link_remove(f->g, old);
    int link = -1;
    while (link != old) { /* others take the numbers above until it is let go of */
        link = add_link(f, "new", f->url);
        assert_true(keep_waiting(until_us));
    }
    wait_tries(f, link, 1);
    for (struct tm_event *e; (e = tm_gatherer_next_event(f->g)); free(e))
        if (e->link == link)
            assert_int_equal(e->type, TM_EVENT_LINK_UP);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_identical_plan_is_the_same_plan),
        TEST(another_window_keeps_what_was_seen),
        TEST(a_stream_is_added),
        TEST(columns_are_added),
        TEST(a_removed_stream_is_stored_to_its_end),
        TEST(rows_of_the_plan_before_are_taken),
        TEST(events_outlive_their_plan),
        TEST(the_store_moves),
        TEST(two_hundred_reloads),
        TEST(what_cannot_change_is_refused),
        TEST(a_link_reconnects_only_for_what_matters),
        TEST(quiet_is_applied_without_reconnect),
        TEST(numbers_of_links_are_used_again),
        TEST(late_events_are_not_the_new_links),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
