#include "control/replay_private.h"

#include "record/row_json.h"

#include <inttypes.h>
#include <string.h>

/* Text of a report cannot fail for another reason than memory. */
#define PUT(...) TM_FATAL_UNLESS(tm_buf_printf(out, __VA_ARGS__) == TM_OK)

static uint64_t received(const struct tm_replay_run *run)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < run->stream_count; i++)
        rows += run->streams[i].rows;
    return rows;
}

static double recorded_seconds(const struct tm_replay_run *run)
{
    return (double)(run->last_us - run->first_us) / 1e6;
}

static double per_second(uint64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

static size_t occurrences_end(const struct tm_replay_stream *s)
{
    size_t end = TM_REPLAY_OCCURRENCES;
    while (end > 0 && s->occurrences[end - 1] == 0)
        end--;
    return end;
}

/* The stream has had something to do with the recording. Gap rows are the replay's own. */
static bool is_used(const struct tm_replay_stream *s)
{
    return s->rows > 0;
}

/* ---- text ---- */

static void put_streams(const struct tm_replay_run *run, struct tm_buf *out)
{
    PUT("\n%-22s %12s %12s %12s %12s %12s\n", "stream", "frames", "rows", "kept", "duplicate", "collisions");
    for (size_t i = 0; i < run->stream_count; i++) {
        const struct tm_replay_stream *s = &run->streams[i];
        if (is_used(s))
            PUT("%-22s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n", s->stream->name,
                s->frames, s->rows, s->taken, s->rows - s->taken, s->collisions);
    }
    for (size_t i = 0; i < run->stream_count; i++) {
        const struct tm_replay_stream *s = &run->streams[i];
        if (s->collisions)
            PUT("  %s: %" PRIu64 " rows have a key that came before with other content, first on line %" PRIu64
                " (key of line %" PRIu64 ")\n",
                s->stream->name, s->collisions, s->collision_line, s->collision_with);
    }
}

static void put_occurrences(const struct tm_replay_run *run, struct tm_buf *out)
{
    for (size_t i = 0; i < run->stream_count; i++) {
        const struct tm_replay_stream *s = &run->streams[i];
        size_t end = occurrences_end(s);
        if (!end)
            continue;
        PUT("\noccurrences of %s:", s->stream->name);
        for (size_t n = 0; n < end; n++)
            if (s->occurrences[n])
                PUT("  %zu%s: %" PRIu64, n, n + 1 == TM_REPLAY_OCCURRENCES ? "+" : "", s->occurrences[n]);
        PUT("\n");
    }
}

static void put_gaps(const struct tm_replay_run *run, struct tm_buf *out)
{
    bool any = false;
    for (size_t i = 0; i < run->gap_count; i++) {
        const struct tm_replay_gaps *g = &run->gaps[i];
        if (!g->gaps && !g->repeated && !g->late && !g->back)
            continue;
        if (!any)
            PUT("\n%-22s %8s %12s %8s %12s %8s %9s %6s\n", "connection", "sid", "frames", "gaps", "missing", "late",
                "repeated", "back");
        any = true;
        PUT("%-22s %8" PRId64 " %12" PRIu64 " %8" PRIu64 " %12" PRIu64 " %8" PRIu64 " %9" PRIu64 " %6" PRIu64 "\n",
            run->conns[g->conn].name[0] ? run->conns[g->conn].name : "-", g->sid, g->frames, g->gaps, g->missing,
            g->late, g->repeated, g->back);
    }
    if (!any && run->gap_count)
        PUT("\nno gaps in %zu subscriptions\n", run->gap_count);
}

static void put_reasons(const struct tm_replay_run *run, struct tm_buf *out)
{
    for (size_t i = 0; i < run->reason_count; i++) {
        const struct tm_replay_reason *r = &run->reasons[i];
        PUT("%s%-9s %10" PRIu64 "  %s (line %" PRIu64 ": %s)\n", i ? "" : "\n", r->malformed ? "malformed" : "unknown",
            r->count, r->reason, r->line, r->example);
    }
}

int tm_replay_report_text(const struct tm_replay_run *run, struct tm_buf *out)
{
    struct tm_intake_stats stats = tm_intake_stats(run->intake);
    double seconds = recorded_seconds(run), took = (double)run->elapsed_us / 1e6;
    PUT("%s through %s\n\n", run->path, run->script_path);
    PUT("frames %" PRIu64 " over %zu connection%s: control %" PRIu64 ", unknown %" PRIu64 ", malformed %" PRIu64
        ", repeated %" PRIu64 "\n",
        run->frames, run->conn_count, run->conn_count == 1 ? "" : "s", run->control, stats.unknown, stats.malformed,
        stats.repeated_frames);
    PUT("recorded from ");
    TM_FATAL_UNLESS(!tm_json_put_time(out, run->first_us));
    PUT(" to ");
    TM_FATAL_UNLESS(!tm_json_put_time(out, run->last_us));
    PUT(": %.3f s, %.0f rows a second\n", seconds, per_second(received(run), seconds));
    PUT("replayed in %.3f s, %.0f rows a second\n", took, per_second(received(run), took));
    put_streams(run, out);
    put_occurrences(run, out);
    put_gaps(run, out);
    put_reasons(run, out);
    return TM_OK;
}

/* ---- JSON ---- */

static void put_json_streams(const struct tm_replay_run *run, struct tm_buf *out)
{
    bool first = true;
    PUT(",\"streams\":{");
    for (size_t i = 0; i < run->stream_count; i++) {
        const struct tm_replay_stream *s = &run->streams[i];
        if (!is_used(s))
            continue;
        PUT("%s\"%s\":{\"frames\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"kept\":%" PRIu64 ",\"duplicates\":%" PRIu64
            ",\"collisions\":%" PRIu64,
            first ? "" : ",", s->stream->name, s->frames, s->rows, s->taken, s->rows - s->taken, s->collisions);
        size_t end = occurrences_end(s);
        for (size_t n = 0; n < end; n++)
            PUT("%s%" PRIu64, n ? "," : ",\"occurrences\":[", s->occurrences[n]);
        PUT(end ? "]}" : "}");
        first = false;
    }
    PUT("}");
}

static void put_json_kinds(const struct tm_replay_run *run, struct tm_buf *out)
{
    bool first = true;
    PUT(",\"kinds\":{");
    for (size_t i = 0; i < run->config->plan_def.kind_count; i++) {
        if (!run->kinds[i])
            continue;
        const char *tag = run->config->plan_def.kinds[i].tag;
        PUT("%s", first ? "" : ",");
        TM_FATAL_UNLESS(!tm_json_put_text(out, tag, strlen(tag)));
        PUT(":%" PRIu64, run->kinds[i]);
        first = false;
    }
    PUT("}");
}

static void put_json_gaps(const struct tm_replay_run *run, struct tm_buf *out)
{
    PUT(",\"subscriptions\":[");
    for (size_t i = 0; i < run->gap_count; i++) {
        const struct tm_replay_gaps *g = &run->gaps[i];
        const char *name = run->conns[g->conn].name;
        PUT("%s{\"conn\":", i ? "," : "");
        TM_FATAL_UNLESS(!tm_json_put_text(out, name, strlen(name)));
        PUT(",\"sid\":%" PRId64 ",\"frames\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"missing\":%" PRIu64 ",\"late\":%" PRIu64
            ",\"repeated\":%" PRIu64 ",\"back\":%" PRIu64 "}",
            g->sid, g->frames, g->gaps, g->missing, g->late, g->repeated, g->back);
    }
    PUT("]");
}

static void put_json_reasons(const struct tm_replay_run *run, struct tm_buf *out)
{
    PUT(",\"reasons\":[");
    for (size_t i = 0; i < run->reason_count; i++) {
        const struct tm_replay_reason *r = &run->reasons[i];
        PUT("%s{\"verdict\":\"%s\",\"count\":%" PRIu64 ",\"line\":%" PRIu64 ",\"reason\":", i ? "," : "",
            r->malformed ? "malformed" : "unknown", r->count, r->line);
        TM_FATAL_UNLESS(!tm_json_put_text(out, r->reason, strlen(r->reason)));
        PUT(",\"example\":");
        TM_FATAL_UNLESS(!tm_json_put_text(out, r->example, strlen(r->example)));
        PUT("}");
    }
    PUT("]");
}

int tm_replay_report_json(const struct tm_replay_run *run, struct tm_buf *out)
{
    struct tm_intake_stats stats = tm_intake_stats(run->intake);
    PUT("{\"file\":");
    TM_FATAL_UNLESS(!tm_json_put_text(out, run->path, strlen(run->path)));
    PUT(",\"script\":");
    TM_FATAL_UNLESS(!tm_json_put_text(out, run->script_path, strlen(run->script_path)));
    PUT(",\"frames\":%" PRIu64 ",\"connections\":%zu,\"control\":%" PRIu64 ",\"unknown\":%" PRIu64
        ",\"malformed\":%" PRIu64 ",\"repeated\":%" PRIu64 ",\"rows\":%" PRIu64,
        run->frames, run->conn_count, run->control, stats.unknown, stats.malformed, stats.repeated_frames,
        received(run));
    PUT(",\"first\":");
    TM_FATAL_UNLESS(!tm_json_put_time(out, run->first_us));
    PUT(",\"last\":");
    TM_FATAL_UNLESS(!tm_json_put_time(out, run->last_us));
    PUT(",\"recorded_seconds\":%.6f,\"replay_seconds\":%.6f", recorded_seconds(run), (double)run->elapsed_us / 1e6);
    put_json_streams(run, out);
    put_json_kinds(run, out);
    put_json_gaps(run, out);
    put_json_reasons(run, out);
    PUT("}\n");
    return TM_OK;
}
