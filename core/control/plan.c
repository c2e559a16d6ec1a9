#include "control/plan.h"
#include "control/daemon.h"
#include "control/offline.h"
#include "control/plan_private.h"

#include "dedup/seen.h"
#include "engine/intake.h"
#include "engine/retain.h"
#include "record/row.h"
#include "script/vm.h"
#include "store/size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGISTRY_SAMPLE 20000 /* rows kept for the estimate, then scaled */
#define FOREVER (-1.0)

const struct tm_cli_option tm_plan_options[] = {
    {"--json", NULL, "one line of JSON"},
    {"--rate", "N|STREAM=N,...", "records a second; of all streams that frames feed, evenly, or of each named"},
    {"--disk", "SIZE", "room for the gatherer's local store, like 500GiB"},
    {0},
};

/* ---- a typical row ---- */

static const char *longest(const char *const *texts)
{
    const char *best = *texts;
    for (; *texts; texts++)
        if (strlen(*texts) > strlen(best))
            best = *texts;
    return best;
}

static int put_text(struct tm_row_writer *w, const struct tm_stream *stream, uint16_t i, uint32_t number)
{
    const struct tm_column *c = &stream->columns[i];
    bool ticker = (int)i == stream->ticker_column || (stream->mode == TM_STREAM_UPSERT && c->in_key);
    char text[64];
    if (c->one_of) {
        const char *word = longest(c->one_of);
        return tm_row_put_text(w, word, strlen(word));
    }
    (void)snprintf(text, sizeof text, "%0*u", ticker ? TM_PLAN_TICKER_BYTES : TM_PLAN_TEXT_BYTES, number);
    return tm_row_put_text(w, text, strlen(text));
}

static int put_json(struct tm_row_writer *w)
{
    char text[TM_PLAN_JSON_BYTES];
    memset(text, 'x', sizeof text);
    text[0] = text[sizeof text - 1] = '"';
    return tm_row_put_text(w, text, sizeof text);
}

static int put_value(struct tm_row_writer *w, const struct tm_stream *stream, uint16_t i, uint32_t number)
{
    static const uint8_t uuid[16] = {1};
    switch (stream->columns[i].type) {
    case TM_TYPE_BOOL:
        return tm_row_put_bool(w, true);
    case TM_TYPE_INT2:
    case TM_TYPE_INT4:
    case TM_TYPE_INT8:
        return tm_row_put_int(w, 1);
    case TM_TYPE_FLOAT8:
        return tm_row_put_float(w, 1);
    case TM_TYPE_TIMESTAMPTZ:
        return tm_row_put_time(w, 1);
    case TM_TYPE_UUID:
        return tm_row_put_uuid(w, uuid);
    case TM_TYPE_TEXT:
        return put_text(w, stream, i, number);
    case TM_TYPE_JSONB:
    case TM_TYPE_BYTEA:
        return put_json(w);
    }
    return TM_EINVAL;
}

/* Every column has a value, so this is a large row rather than a small one. */
static void typical_row(const struct tm_plan *plan, const struct tm_stream *stream, uint32_t number, struct tm_buf *buf,
                        struct tm_row *row)
{
    struct tm_row_writer w;
    tm_buf_clear(buf);
    int rc = tm_row_begin(&w, stream, buf);
    for (uint16_t i = 0; !rc && i < stream->column_count && !stream->columns[i].local_only; i++) {
        bool added = stream->observer && i + 2 >= stream->production_count; /* gatherer, epoch */
        if (!added)
            rc = put_value(&w, stream, i, number);
    }
    if (!rc)
        rc = tm_row_end(&w, plan, row);
    TM_FATAL_UNLESS(rc == TM_OK);
}

/* ---- streams ---- */

static bool is_fed(const struct tm_config *config, const char *name)
{
    for (size_t i = 0; i < config->plan_def.kind_count; i++) {
        const struct tm_kind_def *k = &config->plan_def.kinds[i];
        if (!k->document && k->stream && strcmp(k->stream, name) == 0)
            return true;
    }
    return false;
}

static void measure(struct tm_plan_view *v, struct tm_plan_stream *s, struct tm_buf *buf)
{
    struct tm_row row;
    typical_row(v->config->plan, s->stream, 1, buf, &row);
    s->journal_bytes = (double)tm_journal_record_bytes(row.len);
    s->store_bytes = tm_store_local_row_bytes(s->stream, row.tuple, row.len);
    if (tm_stream_has_seen(s->stream))
        s->seen_bytes = s->stream->memory_bytes_max ? s->stream->memory_bytes_max : TM_SEEN_BYTES;
}

static void set_streams(struct tm_plan_view *v)
{
    const struct tm_config *config = v->config;
    struct tm_buf buf = {0};
    v->stream_count = tm_plan_stream_count(config->plan);
    for (size_t i = 0; i < v->stream_count; i++) {
        struct tm_plan_stream *s = &v->streams[i];
        s->stream = tm_plan_stream(config->plan, i);
        s->def = i < config->plan_def.stream_count ? &config->plan_def.streams[i] : NULL;
        s->fed = s->def && s->stream->mode == TM_STREAM_APPEND && is_fed(config, s->stream->name);
        measure(v, s, &buf);
    }
    tm_buf_fini(&buf);
}

static void spread_rate(struct tm_plan_view *v)
{
    size_t fed = 0;
    for (size_t i = 0; i < v->stream_count; i++)
        fed += v->streams[i].fed;
    for (size_t i = 0; i < v->stream_count; i++)
        v->streams[i].rate = v->streams[i].fed ? v->rate / (double)fed : 0;
}

/* "orderbook_deltas=1800,trades=20" */
static int name_rates(struct tm_plan_view *v, const struct tm_cli *cli, char *text)
{
    v->rate = 0;
    for (char *save = NULL, *item = strtok_r(text, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(item, '=');
        long long n;
        if (!equals || !tm_cli_number(equals + 1, 0, 1000000000, &n))
            return tm_cli_usage(cli->command, "--rate: expected STREAM=N, got %s", item);
        *equals = '\0';
        size_t i = 0;
        while (i < v->stream_count && strcmp(v->streams[i].stream->name, item) != 0)
            i++;
        if (i == v->stream_count)
            return tm_cli_usage(cli->command, "--rate: the script declares no stream %s", item);
        v->streams[i].rate = (double)n;
        v->rate += (double)n;
    }
    return TM_EXIT_OK;
}

static int set_rates(struct tm_plan_view *v, const struct tm_cli *cli)
{
    const char *given = tm_cli_value(cli, "--rate");
    long long n = TM_PLAN_RATE;
    v->rate_given = given != NULL;
    if (given && strchr(given, '=')) {
        char *copy = strdup(given);
        TM_FATAL_UNLESS(copy);
        int rc = name_rates(v, cli, copy);
        free(copy);
        return rc;
    }
    if (given && !tm_cli_number(given, 0, 1000000000, &n))
        return tm_cli_usage(cli->command, "--rate: expected a number or STREAM=N,..., got %s", given);
    v->rate = (double)n;
    spread_rate(v);
    return TM_EXIT_OK;
}

static void set_totals(struct tm_plan_view *v)
{
    for (size_t i = 0; i < v->stream_count; i++) {
        struct tm_plan_stream *s = &v->streams[i];
        v->journal_rate += s->rate * s->journal_bytes;
        v->store_rate += s->rate * s->store_bytes;
        if (s->seen_bytes && s->rate > 0)
            s->seen_us = (double)s->seen_bytes / TM_SEEN_KEY_BYTES / s->rate * 1e6;
    }
    for (size_t i = 0; i < v->config->connections_count; i++)
        v->link_count += v->config->connections[i].count;
    v->links_known = v->config->connections_count > 0;
    uint64_t journal = v->config->gatherer.journal.bytes_max;
    v->journal_bytes = (double)(journal ? journal : TM_JOURNAL_BYTES);
    const struct tm_gatherer_options *g = &v->config->gatherer;
    double limit = (double)g->store_bytes_max;
    v->store_room = v->disk > v->journal_bytes ? v->disk - v->journal_bytes : 0;
    if (limit > 0 && limit < v->store_room)
        v->store_room = limit;
    v->keep_seconds = (double)(g->keep_us ? g->keep_us : TM_RETAIN_KEEP_US) / 1e6;
    v->kept_bytes = v->store_rate * v->keep_seconds;
}

/* ---- memory ---- */

static void add_memory(struct tm_plan_view *v, const char *name, double bytes, const char *why)
{
    if (bytes <= 0 || v->memory_count == TM_PLAN_LINES_MAX)
        return;
    v->memory[v->memory_count++] = (struct tm_plan_line){.name = name, .why = why, .value = bytes};
    v->memory_total += bytes;
}

static const char *name_line(struct tm_plan_view *v, const char *prefix, const char *name)
{
    if (v->name_count == TM_PLAN_LINES_MAX)
        return prefix;
    (void)snprintf(v->names[v->name_count], sizeof *v->names, "%s %s", prefix, name);
    return v->names[v->name_count++];
}

static const char *const *registry_columns(const struct tm_config_registry *r)
{
    static const char *const none[] = {NULL};
    return r->columns ? r->columns : none;
}

/* Kept by the engine's own registry, for fewer rows. */
static double registry_bytes(const struct tm_plan *plan, const struct tm_config_registry *r)
{
    const struct tm_stream *stream = tm_plan_stream_by_name(plan, r->stream);
    struct tm_registry *registry = NULL;
    struct tm_buf buf = {0};
    struct tm_row row;
    struct tm_error err;
    uint32_t entry;
    if (!stream || tm_registry_create(stream, registry_columns(r), &registry, &err) < 0)
        return 0;
    for (uint32_t i = 0; i < REGISTRY_SAMPLE; i++) {
        typical_row(plan, stream, i, &buf, &row);
        if (tm_registry_put(registry, row.tuple, row.len, &entry) < 0)
            break;
    }
    double each = (double)tm_registry_memory(registry) / REGISTRY_SAMPLE;
    tm_registry_destroy(registry);
    tm_buf_fini(&buf);
    return each * TM_PLAN_REGISTRY_ROWS;
}

static double link_bytes(const struct tm_plan_view *v, bool sending)
{
    double total = 0;
    for (size_t i = 0; i < v->config->connections_count; i++) {
        const struct tm_config_connections *c = &v->config->connections[i];
        const struct tm_ws_options *ws = c->feed < v->config->feed_count ? &v->config->feeds[c->feed].ws : NULL;
        size_t message = ws && ws->message_bytes_max ? ws->message_bytes_max : TM_WS_MESSAGE_BYTES;
        total += (double)c->count * (double)(sending ? TM_WS_SEND_BYTES : message);
    }
    return total;
}

static void gatherer_memory(struct tm_plan_view *v)
{
    size_t buffer = v->config->gatherer.journal.buffer_bytes_max, counted = 0;
    for (size_t i = 0; i < v->stream_count; i++)
        counted += v->streams[i].stream->occurrence_column >= 0;
    add_memory(v, "occurrence counters", (double)(v->link_count * counted) * TM_INTAKE_COUNTER_BYTES,
               "a link and counted stream; used: the keys of its last seconds");
    add_memory(v, "journal buffer", (double)(buffer ? buffer : TM_JOURNAL_BUFFER_BYTES),
               "records that are not yet durable");
    add_memory(v, "writer batch", (double)TM_WRITER_BATCH_BYTES, "rows of one transaction");
    add_memory(v, "command queue", (double)TM_GATHERER_COMMAND_BYTES, "policy to io: frames to send, rows of REST");
    add_memory(v, "event queue", (double)TM_GATHERER_EVENT_BYTES, "io to policy");
    add_memory(v, "messages", link_bytes(v, false), "the largest message, a link");
    add_memory(v, "frames to send", link_bytes(v, true), "a link whose peer does not read");
}

static void set_memory(struct tm_plan_view *v)
{
    const struct tm_config *config = v->config;
    for (size_t i = 0; i < v->stream_count; i++)
        if (v->streams[i].seen_bytes)
            add_memory(v, name_line(v, "seen-set", v->streams[i].stream->name), (double)v->streams[i].seen_bytes,
                       "its bound; the oldest keys go first, the store's unique index catches what was forgotten");
    if (config->role == TM_CONFIG_GATHERER) {
        gatherer_memory(v);
    } else {
        size_t queue = config->deduplicator.queue_bytes_max;
        double bytes = (double)(queue ? queue : TM_DEDUPLICATOR_QUEUE_BYTES);
        add_memory(v, "poll queue", bytes, "rows polled and not yet merged, all gatherers");
        add_memory(v, "merge batch", bytes, "rows of one transaction, from that queue");
    }
    for (size_t i = 0; i < config->registry_count; i++)
        add_memory(v, name_line(v, "registry", config->registries[i].stream),
                   registry_bytes(config->plan, &config->registries[i]), "a million entries, measured");
    add_memory(v, "policy VM", (double)TM_VM_BYTES, "its cap; twice that during a reload");
    add_memory(v, "HTTP answers", (double)TM_DAEMON_HTTP_PARALLEL * (double)TM_HTTP_RESPONSE_BYTES,
               "requests of policy at once, the largest answer each");
}

/* ---- outages ---- */

static void add_outage(struct tm_plan_view *v, const char *name, double seconds, const char *why)
{
    v->outages[v->outage_count++] = (struct tm_plan_line){.name = name, .why = why, .value = seconds};
}

static double until(double bytes, double per_second)
{
    return per_second > 0 ? bytes / per_second : FOREVER;
}

static void set_outages(struct tm_plan_view *v)
{
    if (v->config->role == TM_CONFIG_DEDUPLICATOR) {
        add_outage(v, "production away", FOREVER,
                   "the poll stops at the queue's bound; the gatherers keep the rows: see their plan");
        add_outage(v, "a gatherer away", FOREVER, "its rows wait in its journal and local store");
        return;
    }
    bool limited = v->config->gatherer.store_bytes_max > 0;
    add_outage(v, "local store away", until(v->journal_bytes, v->journal_rate),
               "the journal fills to its bound; then records are discarded under a gap row");
    add_outage(
        v, "deduplicator away", until(v->store_room, v->store_rate),
        limited
            ? "nothing is acknowledged; at its limit the local store lets the streams in `expire` go, under a gap row"
            : "nothing is acknowledged, the local store grows until its disk (less the journal) is full");
    add_outage(v, "production away", until(v->store_room, v->store_rate), "likewise");
    add_outage(v, "exchange away", FOREVER, "nothing comes; the gap is written down");
}

/* ---- the whole ---- */

static bool parse_size(const char *text, double *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    char *end;
    double n = strtod(text, &end), factor = 1;
    for (size_t i = 0; end != text && n >= 0 && i < sizeof units / sizeof *units; i++, factor *= 1024)
        if (strcmp(end, units[i]) == 0) {
            *out = n * factor;
            return true;
        }
    return false;
}

static int print(const struct tm_plan_view *v, bool json)
{
    struct tm_buf out = {0};
    int rc = json ? tm_plan_report_json(v, &out) : tm_plan_report_text(v, &out);
    rc = tm_offline_print(&out, rc);
    tm_buf_fini(&out);
    return rc ? TM_EXIT_FAILED : TM_EXIT_OK;
}

static int plan(struct tm_plan_view *v, const struct tm_cli *cli)
{
    const char *disk = tm_cli_value(cli, "--disk");
    v->disk_given = disk != NULL;
    v->disk = (double)TM_PLAN_DISK;
    if (disk && !parse_size(disk, &v->disk))
        return tm_cli_usage(cli->command, "--disk: expected a size like 500GiB, got %s", disk);
    set_streams(v);
    int rc = set_rates(v, cli);
    if (rc)
        return rc;
    set_totals(v);
    set_memory(v);
    set_outages(v);
    return print(v, tm_cli_given(cli, "--json"));
}

int tm_plan_command(const struct tm_cli *cli)
{
    struct tm_script *script = tm_offline_load(cli->files[0]);
    if (!script)
        return TM_EXIT_CONFIG;
    struct tm_plan_view *v = calloc(1, sizeof *v);
    TM_FATAL_UNLESS(v);
    v->path = cli->files[0];
    v->config = tm_script_config(script);
    int rc = plan(v, cli);
    free(v);
    tm_script_destroy(script);
    return rc;
}
