#include "control/plan_private.h"

#include "record/row_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PUT(...) TM_FATAL_UNLESS(tm_buf_printf(out, __VA_ARGS__) == TM_OK)

static const char *const partitions[] = {"-", "day", "hash"};

static void format_bytes(double bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    for (; bytes >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++)
        bytes /= 1024;
    (void)snprintf(out, 32, bytes < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

static void format_time(double seconds, char out[32])
{
    if (seconds < 0)
        (void)snprintf(out, 32, "never");
    else if (seconds < 120)
        (void)snprintf(out, 32, "%.0f s", seconds);
    else if (seconds < 7200)
        (void)snprintf(out, 32, "%.1f min", seconds / 60);
    else if (seconds < 1e6 * 3600)
        (void)snprintf(out, 32, "%.1f h", seconds / 3600);
    else
        (void)snprintf(out, 32, "years");
}

static const char *role_of(const struct tm_plan_view *v)
{
    return v->config->role == TM_CONFIG_GATHERER ? "gatherer" : "deduplicator";
}

/* ---- text ---- */

static void put_process(const struct tm_plan_view *v, struct tm_buf *out)
{
    const struct tm_config *c = v->config;
    PUT("%s: %s %s\n", v->path, role_of(v), c->id);
    PUT("  health %s, metrics %s, control socket %s\n", c->health, c->metrics, c->socket ? c->socket : "none");
    if (c->role == TM_CONFIG_GATHERER)
        PUT("  journal in %s\n", c->gatherer.journal.dir);
    for (size_t i = 0; i < c->deduplicator.gatherer_count; i++)
        PUT("%s%s%s", i ? ", " : "  polls ", c->deduplicator.gatherers[i].id,
            i + 1 == c->deduplicator.gatherer_count ? "\n" : "");
    for (size_t i = 0; i < c->feed_count; i++)
        PUT("  feed %s%s\n", c->feeds[i].ws.url, c->feeds[i].signer >= 0 ? " (signed)" : " (unsigned)");
    for (size_t i = 0; i < c->rest_count; i++)
        PUT("  REST %s\n", c->rests[i].url);
}

static void put_connections(const struct tm_plan_view *v, struct tm_buf *out)
{
    const struct tm_config *c = v->config;
    if (c->role != TM_CONFIG_GATHERER)
        return;
    if (!v->links_known) {
        PUT("\nconnections: the script does not say (feed:expect)\n");
        return;
    }
    PUT("\n%-34s %6s  %s\n", "connections", "count", "markets");
    for (size_t i = 0; i < c->connections_count; i++)
        PUT("  %-32s %6zu  %s\n", c->connections[i].name, c->connections[i].count,
            c->connections[i].markets ? c->connections[i].markets : "all that the exchange sends");
    PUT("  %-32s %6zu\n", "total", v->link_count);
}

static void put_key(const struct tm_plan_stream *s, struct tm_buf *out)
{
    const struct tm_stream *stream = s->stream;
    if (stream->observer)
        PUT("each gatherer's own");
    for (size_t i = 0; !stream->observer && i < stream->key_count; i++)
        PUT("%s%s", i ? ", " : "", stream->columns[stream->key[i]].name);
}

static void put_stream(const struct tm_plan_stream *s, struct tm_buf *out)
{
    const struct tm_stream *stream = s->stream;
    char window[32], within[32];
    double window_us = stream->window_us ? (double)stream->window_us : 3600e6;
    format_time(window_us / 1e6, window);
    format_time((double)stream->within_us / 1e6, within);
    PUT("  %-22s %7u  %-7s %-9s %-9s ", stream->name, stream->column_count,
        stream->mode == TM_STREAM_UPSERT ? "upsert" : "append", partitions[stream->partition],
        s->seen_bytes ? window : "-");
    put_key(s, out);
    if (stream->occurrence_column >= 0)
        PUT(" (counted)");
    if (stream->within_us)
        PUT(" (within %s)", within);
    PUT("\n");
}

static void put_streams(const struct tm_plan_view *v, struct tm_buf *out)
{
    PUT("\n%-24s %7s  %-7s %-9s %-9s %s\n", "streams", "columns", "mode", "partition", "window", "key");
    for (size_t i = 0; i < v->stream_count; i++)
        put_stream(&v->streams[i], out);
}

static void put_memory(const struct tm_plan_view *v, struct tm_buf *out)
{
    char bytes[32];
    PUT("\n%-36s %10s\n", "memory, at most", "bytes");
    for (size_t i = 0; i < v->memory_count; i++) {
        format_bytes(v->memory[i].value, bytes);
        PUT("  %-34s %10s  %s\n", v->memory[i].name, bytes, v->memory[i].why);
    }
    format_bytes(v->memory_total, bytes);
    PUT("  %-34s %10s  all bounds at once; what is not used takes none\n", "total", bytes);
}

static void put_rates(const struct tm_plan_view *v, struct tm_buf *out)
{
    char journal[32], store[32];
    PUT("\n%-24s %10s %13s %13s %16s\n", "growth", "records/s", "journal/row", "store/row", "seen-set covers");
    for (size_t i = 0; i < v->stream_count; i++) {
        const struct tm_plan_stream *s = &v->streams[i];
        char covers[32] = "-";
        if (s->seen_us > 0)
            format_time(s->seen_us / 1e6, covers);
        if (s->rate > 0 || s->def)
            PUT("  %-22s %10.0f %11.0f B %11.0f B %16s\n", s->stream->name, s->rate, s->journal_bytes, s->store_bytes,
                covers);
    }
    format_bytes(v->journal_rate * 3600, journal);
    format_bytes(v->store_rate * 3600, store);
    PUT("  %-22s %10.0f %11s/h %11s/h\n", "total", v->rate, journal, store);
}

static void put_disk(const struct tm_plan_view *v, struct tm_buf *out)
{
    char journal[32], disk[32], room[32], keep[32], kept[32];
    format_bytes(v->journal_bytes, journal);
    format_bytes(v->disk, disk);
    format_bytes(v->store_room, room);
    format_time(v->keep_seconds, keep);
    format_bytes(v->kept_bytes, kept);
    PUT("\ndisk: %s%s; the journal takes at most %s of it, the local store %s\n", disk,
        v->disk_given ? "" : " (assumed: --disk)", journal, room);
    PUT("      rows stay for %s after production has acknowledged them: %s%s\n", keep, kept,
        v->kept_bytes > v->store_room ? ", more than there is room: they go sooner" : "");
}

static void put_outages(const struct tm_plan_view *v, struct tm_buf *out)
{
    char time[32];
    if (v->config->role == TM_CONFIG_GATHERER)
        put_disk(v, out);
    PUT("\n%-24s %10s\n", "outage", "full after");
    for (size_t i = 0; i < v->outage_count; i++) {
        format_time(v->outages[i].value, time);
        PUT("  %-22s %10s  %s\n", v->outages[i].name, time, v->outages[i].why);
    }
}

static const struct tm_archive_settings *archive_of(const struct tm_plan_view *v)
{
    const struct tm_config *c = v->config;
    return c->role == TM_CONFIG_GATHERER ? &c->gatherer.archive : &c->deduplicator.archive;
}

/* The URL up to its query, which may say more than others need to see. */
static void put_archive(const struct tm_plan_view *v, struct tm_buf *out)
{
    const struct tm_archive_settings *a = archive_of(v);
    char lag[32];
    if (!a->to)
        return;
    PUT("\narchive  %.*s\n", (int)strcspn(a->to, "?"), a->to);
    if (v->config->role == TM_CONFIG_GATHERER) {
        PUT("  what a full store has to let go before production has it goes there first\n");
        return;
    }
    format_time((double)a->lag_us / 1e6, lag);
    for (size_t i = 0; i < tm_plan_stream_count(v->config->plan); i++) {
        const struct tm_stream *s = tm_plan_stream(v->config->plan, i);
        int64_t length_us = tm_archive_length_us(a, s);
        if (length_us)
            PUT("  %-22s each %s, by %s, %s after its end\n", s->name, length_us == TM_PERIOD_DAY_US ? "day" : "hour",
                s->columns[tm_archive_column(s)].name, lag);
    }
}

static void put_assumptions(const struct tm_plan_view *v, struct tm_buf *out)
{
    PUT("\nassumed:\n");
    if (!v->rate_given)
        PUT("  %d records a second, evenly over the streams that frames feed (--rate)\n", TM_PLAN_RATE);
    PUT("  every column has a value: tickers of %d bytes, other texts of %d, documents of %d\n", TM_PLAN_TICKER_BYTES,
        TM_PLAN_TEXT_BYTES, TM_PLAN_JSON_BYTES);
    PUT("  PostgreSQL without compression and without its WAL; no bytes for duplicates, which are not kept\n");
}

int tm_plan_report_text(const struct tm_plan_view *v, struct tm_buf *out)
{
    put_process(v, out);
    put_connections(v, out);
    put_streams(v, out);
    put_memory(v, out);
    if (v->config->role == TM_CONFIG_GATHERER)
        put_rates(v, out);
    put_outages(v, out);
    put_archive(v, out);
    put_assumptions(v, out);
    return TM_OK;
}

/* ---- JSON ---- */

static void put_text(struct tm_buf *out, const char *text)
{
    int rc = text ? tm_json_put_text(out, text, strlen(text)) : tm_buf_printf(out, "null");
    TM_FATAL_UNLESS(rc == TM_OK);
}

static void put_field(struct tm_buf *out, const char *name, const char *text)
{
    PUT(",\"%s\":", name);
    put_text(out, text);
}

static void put_json_process(const struct tm_plan_view *v, struct tm_buf *out)
{
    const struct tm_config *c = v->config;
    PUT("{\"file\":");
    put_text(out, v->path);
    put_field(out, "role", role_of(v));
    put_field(out, "id", c->id);
    put_field(out, "health", c->health);
    put_field(out, "metrics", c->metrics);
    put_field(out, "socket", c->socket);
    PUT(",\"feeds\":[");
    for (size_t i = 0; i < c->feed_count; i++) {
        PUT("%s{\"signed\":%s", i ? "," : "", c->feeds[i].signer >= 0 ? "true" : "false");
        put_field(out, "url", c->feeds[i].ws.url);
        PUT("}");
    }
    PUT("],\"rest\":[");
    for (size_t i = 0; i < c->rest_count; i++) {
        PUT("%s", i ? "," : "");
        put_text(out, c->rests[i].url);
    }
    PUT("],\"connections\":[");
    for (size_t i = 0; i < c->connections_count; i++) {
        PUT("%s{\"count\":%zu", i ? "," : "", c->connections[i].count);
        put_field(out, "name", c->connections[i].name);
        put_field(out, "markets", c->connections[i].markets);
        PUT("}");
    }
    PUT("]");
}

static void put_json_stream(const struct tm_plan_stream *s, struct tm_buf *out)
{
    const struct tm_stream *stream = s->stream;
    PUT("{\"name\":\"%s\",\"table\":\"%s\",\"mode\":\"%s\",\"partition\":\"%s\",\"observer\":%s,\"counted\":%s",
        stream->name, stream->name, stream->mode == TM_STREAM_UPSERT ? "upsert" : "append",
        partitions[stream->partition], stream->observer ? "true" : "false",
        stream->occurrence_column >= 0 ? "true" : "false");
    PUT(",\"window_seconds\":%.6f,\"within_seconds\":%.6f,\"seen_bytes\":%zu", (double)stream->window_us / 1e6,
        (double)stream->within_us / 1e6, s->seen_bytes);
    PUT(",\"rate\":%.6g,\"journal_row_bytes\":%.0f,\"store_row_bytes\":%.3f,\"columns\":[", s->rate, s->journal_bytes,
        s->store_bytes);
    for (size_t i = 0; i < stream->column_count; i++)
        PUT("%s\"%s\"", i ? "," : "", stream->columns[i].name);
    PUT("],\"key\":[");
    for (size_t i = 0; !stream->observer && i < stream->key_count; i++)
        PUT("%s\"%s\"", i ? "," : "", stream->columns[stream->key[i]].name);
    PUT("]}");
}

static void put_json_lines(const struct tm_plan_line *lines, size_t count, const char *unit, struct tm_buf *out)
{
    for (size_t i = 0; i < count; i++) {
        PUT("%s{\"name\":", i ? "," : "");
        put_text(out, lines[i].name);
        if (lines[i].value < 0)
            PUT(",\"%s\":null", unit);
        else
            PUT(",\"%s\":%.3f", unit, lines[i].value);
        put_field(out, "why", lines[i].why);
        PUT("}");
    }
}

int tm_plan_report_json(const struct tm_plan_view *v, struct tm_buf *out)
{
    put_json_process(v, out);
    PUT(",\"streams\":[");
    for (size_t i = 0; i < v->stream_count; i++) {
        PUT("%s", i ? "," : "");
        put_json_stream(&v->streams[i], out);
    }
    PUT("],\"memory\":[");
    put_json_lines(v->memory, v->memory_count, "bytes", out);
    PUT("],\"memory_bytes\":%.0f,\"rate\":%.6g", v->memory_total, v->rate);
    PUT(",\"journal_bytes\":%.0f,\"journal_bytes_per_second\":%.3f,\"store_bytes_per_second\":%.3f,\"disk_bytes\":%.0f",
        v->journal_bytes, v->journal_rate, v->store_rate, v->disk);
    if (v->config->role == TM_CONFIG_GATHERER)
        PUT(",\"store_room_bytes\":%.0f,\"keep_seconds\":%.6g,\"kept_bytes\":%.0f", v->store_room, v->keep_seconds,
            v->kept_bytes);
    PUT(",\"outages\":[");
    put_json_lines(v->outages, v->outage_count, "seconds", out);
    PUT("],\"assumed\":{\"ticker_bytes\":%d,\"text_bytes\":%d,\"document_bytes\":%d,\"registry_rows\":%d}}\n",
        TM_PLAN_TICKER_BYTES, TM_PLAN_TEXT_BYTES, TM_PLAN_JSON_BYTES, TM_PLAN_REGISTRY_ROWS);
    return TM_OK;
}
