#include "control/view.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define GAPS_SHOWN 6
#define LINKS_SHOWN 8
#define RUNS_SHOWN 6

typedef char figure[16];

/* ---- lights ---- */

static enum tm_style style_of(const char *light)
{
    return strcmp(light, "green") == 0   ? TM_STYLE_GREEN
           : strcmp(light, "amber") == 0 ? TM_STYLE_AMBER
           : strcmp(light, "red") == 0   ? TM_STYLE_RED
                                         : TM_STYLE_DIM;
}

/* Told by its shape, too: colour may be off, or not seen. */
static void put_light(struct tm_sheet *s, const char *light)
{
    enum tm_style style = style_of(light);
    const char *utf8 = style == TM_STYLE_GREEN   ? "✓"
                       : style == TM_STYLE_AMBER ? "!"
                       : style == TM_STYLE_RED   ? "✗"
                                                 : "·";
    const char *ascii = style == TM_STYLE_GREEN   ? "+"
                        : style == TM_STYLE_AMBER ? "!"
                        : style == TM_STYLE_RED   ? "X"
                                                  : "-";
    tm_sheet_put(s, style, "%s ", s->utf8 ? utf8 : ascii);
}

static void put_light_of(struct tm_sheet *s, struct tm_span d, const char *path)
{
    char light[16];
    put_light(s, tm_view_string(d, path, light, sizeof light));
}

static const char *light_of_health(struct tm_span d)
{
    return tm_view_is(d, "health.status", "healthy")    ? "green"
           : tm_view_is(d, "health.status", "degraded") ? "amber"
                                                        : "red";
}

/* ---- pieces ---- */

static void title(struct tm_sheet *s, const char *name, const char *value)
{
    tm_sheet_end_line(s);
    tm_sheet_put(s, TM_STYLE_BOLD, "%s", name);
    tm_sheet_put(s, TM_STYLE_DIM, "  %s", value);
    tm_sheet_end_line(s);
}

static void fact(struct tm_sheet *s, const char *name, const char *value)
{
    tm_sheet_put(s, TM_STYLE_DIM, s->column ? "   %s " : "%s ", name);
    tm_sheet_put(s, TM_STYLE_PLAIN, "%s", value);
}

static void amount_fact(struct tm_sheet *s, const char *name, struct tm_span d, const char *path, const char *unit)
{
    figure f;
    char text[40];
    (void)snprintf(text, sizeof text, "%s%s", tm_view_amount(tm_view_number(d, path), f), unit);
    fact(s, name, text);
}

static void span_fact(struct tm_sheet *s, const char *name, struct tm_span d, const char *path)
{
    figure f;
    fact(s, name, tm_view_span_ms(tm_view_number(d, path), f));
}

static void right_cell(struct tm_sheet *s, size_t column, const char *text)
{
    size_t width = tm_text_width(text);
    tm_sheet_to(s, column > width ? column - width : 0);
    tm_sheet_put(s, TM_STYLE_PLAIN, "%s", text);
}

/* A line of blocks, each as high as its figure. */
static void put_spark(struct tm_sheet *s, const char *name, const float *values, size_t count)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char ascii[] = "_.-=+*#%";
    size_t room = s->width > 14 ? s->width - 12 : 0, from = count > room ? count - room : 0;
    float top = 0;
    for (size_t i = from; i < count; i++)
        top = values[i] > top ? values[i] : top;
    tm_sheet_put(s, TM_STYLE_DIM, "%-10s", name);
    for (size_t i = from; i < count; i++) {
        size_t level = top > 0 ? (size_t)(values[i] / top * 7.0F + 0.5F) : 0;
        if (s->utf8)
            tm_sheet_put(s, TM_STYLE_PLAIN, "%s", blocks[level < 8 ? level : 7]);
        else
            tm_sheet_put(s, TM_STYLE_PLAIN, "%c", ascii[level < 8 ? level : 7]);
    }
    tm_sheet_end_line(s);
}

static const char *time_of(double ms, char out[16])
{
    time_t t = (time_t)(ms / 1000);
    struct tm utc;
    if (!gmtime_r(&t, &utc) || !strftime(out, 16, "%H:%M:%S", &utc))
        out[0] = '\0';
    return out;
}

/* ---- head ---- */

static const char *first_sick(struct tm_span d, char out[], size_t size)
{
    struct tm_span g;
    char id[64], why[200];
    *out = '\0';
    for (size_t i = 0; !*out && tm_view_item(d, "gatherers", i, &g); i++)
        if (tm_view_is(g, "light", "red"))
            (void)snprintf(out, size, "%s: %s", tm_view_string(g, "id", id, sizeof id),
                           tm_view_string(g, "why", why, sizeof why));
    return out;
}

static void put_head(struct tm_sheet *s, struct tm_span d)
{
    char id[80], role[20], status[20], reason[300];
    figure clock;
    char right[32];
    tm_view_string(d, "health.reason", reason, sizeof reason);
    tm_view_string(d, "health.status", status, sizeof status);
    const char *light = light_of_health(d);
    if (!*reason &&
        *first_sick(d, reason, sizeof reason)) { /* which /health, that speaks of this process, does not say */
        light = "amber";
        strcpy(status, "degraded");
    }
    put_light(s, light);
    tm_sheet_put(s, TM_STYLE_BOLD, "%s", tm_view_string(d, "id", id, sizeof id));
    tm_sheet_put(s, TM_STYLE_DIM, " %s  ", tm_view_string(d, "role", role, sizeof role));
    tm_sheet_put(s, style_of(light), "%s", status);
    if (*reason)
        tm_sheet_put(s, TM_STYLE_PLAIN, "  %s", reason);
    (void)snprintf(right, sizeof right, "%s UTC", time_of(tm_view_number(d, "at_ms"), clock));
    tm_sheet_put_right(s, TM_STYLE_DIM, right);
    tm_sheet_end_line(s);
    if (tm_view_is(d, "health.policy", "stuck")) {
        figure age;
        tm_sheet_put(s, TM_STYLE_RED, "The policy thread hangs: alerts, recovery and script are as of %s ago",
                     tm_view_span_ms(tm_view_number(d, "policy_age_ms"), age));
        tm_sheet_end_line(s);
    }
    tm_sheet_end_line(s);
}

static void put_history(struct tm_sheet *s, const struct tm_view_history *h)
{
    if (!h || h->count < 2)
        return;
    put_spark(s, "rows/s", h->rows, h->count);
    put_spark(s, "lag", h->lag_s, h->count);
}

/* ---- a gatherer ---- */

static void put_part(struct tm_sheet *s, struct tm_span d, const char *part, const char *name)
{
    char path[40], why[200];
    (void)snprintf(path, sizeof path, "%s.light", part);
    put_light_of(s, d, path);
    tm_sheet_put(s, TM_STYLE_PLAIN, "%-12s", name);
    (void)snprintf(path, sizeof path, "%s.why", part);
    if (*tm_view_string(d, path, why, sizeof why))
        tm_sheet_put(s, TM_STYLE_BOLD, "%s   ", why);
}

static void put_kinds(struct tm_sheet *s, struct tm_span d)
{
    struct tm_span l;
    char name[100], state[20];
    figure age;
    size_t shown = 0;
    for (size_t i = 0; shown < LINKS_SHOWN && tm_view_item(d, "links", i, &l);
         i++) { /* those that are not up come first */
        if (tm_view_is(l, "state", "up"))
            break;
        tm_sheet_put(s, TM_STYLE_PLAIN, "    ");
        put_light(s, "red");
        tm_sheet_put(s, TM_STYLE_PLAIN, "%-28s %s, last message %s ago", tm_view_string(l, "name", name, sizeof name),
                     tm_view_string(l, "state", state, sizeof state),
                     tm_view_span_ms(tm_view_number(l, "age_ms"), age));
        tm_sheet_end_line(s);
        shown++;
    }
}

/* Why a database is away. */
static void put_last_error(struct tm_sheet *s, struct tm_span d, const char *connected, const char *last_error)
{
    char text[200];
    if (tm_view_true(d, connected) || !*tm_view_string(d, last_error, text, sizeof text))
        return;
    tm_sheet_put(s, TM_STYLE_DIM, "    %s", text);
    tm_sheet_end_line(s);
}

static void put_seat(struct tm_sheet *s, struct tm_span d, const struct tm_view_history *h)
{
    figure a, b;
    char text[48];
    put_part(s, d, "feed", "exchange");
    (void)snprintf(text, sizeof text, "%.0f of %.0f", tm_view_number(d, "feed.links_up"),
                   tm_view_number(d, "feed.links"));
    fact(s, "connections", text);
    amount_fact(s, "received", d, "feed.rows_per_s", "/s");
    span_fact(s, "last message", d, "feed.last_message_age_ms");
    tm_sheet_end_line(s);
    put_kinds(s, d);
    put_part(s, d, "journal", "journal");
    (void)snprintf(text, sizeof text, "%s of %s", tm_view_bytes(tm_view_number(d, "journal.disk_bytes"), a),
                   tm_view_bytes(tm_view_number(d, "journal.disk_bytes_max"), b));
    fact(s, "disk", text);
    span_fact(s, "durable", d, "journal.last_durable_age_ms");
    tm_sheet_end_line(s);
    put_part(s, d, "store", "store");
    amount_fact(s, "stored", d, "store.rows_per_s", "/s");
    span_fact(s, "lag", d, "store.lag_ms");
    fact(s, "size", tm_view_bytes(tm_view_number(d, "store.bytes"), a));
    amount_fact(s, "quarantined", d, "store.quarantined", "");
    tm_sheet_end_line(s);
    put_last_error(s, d, "store.connected", "store.last_error");
    tm_sheet_put(s, TM_STYLE_PLAIN, "  %-12s", "seen");
    amount_fact(s, "keys", d, "seen.keys", "");
    fact(s, "memory", tm_view_bytes(tm_view_number(d, "seen.bytes"), a));
    amount_fact(s, "duplicates", d, "feed.duplicates_per_s", "/s");
    tm_sheet_end_line(s);
    put_history(s, h);
}

/* ---- the fleet ---- */

static void put_peer(struct tm_sheet *s, struct tm_span g)
{
    char text[300];
    figure f;
    put_light_of(s, g, "light");
    tm_sheet_put(s, TM_STYLE_PLAIN, "%.14s", tm_view_string(g, "id", text, sizeof text));
    right_cell(s, 24, tm_view_amount(tm_view_number(g, "rows_per_s"), f));
    (void)snprintf(text, sizeof text, "%.0f%%", tm_view_number(g, "first_share") * 100);
    right_cell(s, 32, text);
    right_cell(s, 41, tm_view_amount(tm_view_number(g, "behind"), f));
    right_cell(s, 50, tm_view_span_ms(tm_view_number(g, "lag_ms"), f));
    right_cell(s, 59, tm_view_span_ms(tm_view_number(g, "age_ms"), f));
    tm_sheet_to(s, 61);
    if (!*tm_view_string(g, "why", text, sizeof text))
        tm_view_string(g, "state", text, sizeof text);
    tm_sheet_put(s, TM_STYLE_PLAIN, "%s", text);
    tm_sheet_end_line(s);
}

static void put_production(struct tm_sheet *s, struct tm_span d)
{
    char text[200];
    put_part(s, d, "production", "production");
    amount_fact(s, "transactions", d, "production.transactions", "");
    amount_fact(s, "conflicts", d, "production.conflicts", "");
    amount_fact(s, "errors", d, "production.errors", "");
    tm_sheet_end_line(s);
    put_last_error(s, d, "production.connected", "production.last_error");
    put_part(s, d, "merger", "merger");
    fact(s, "lease", tm_view_string(d, "lease.state", text, sizeof text));
    amount_fact(s, "read", d, "merger.rows_per_s", "/s");
    amount_fact(s, "seen keys", d, "seen.keys", "");
    tm_sheet_end_line(s);
}

/* Who merges which: "0-2 d1, 3 d2". A run of one holder's is one word. */
static void put_shards(struct tm_sheet *s, struct tm_span d)
{
    struct tm_span one, next;
    size_t count = tm_view_count(d, "shards");
    char holder[64], other[64], text[100], held[40];
    if (!count)
        return;
    (void)snprintf(held, sizeof held, "%.0f of %zu", tm_view_number(d, "lease.shards_held"), count);
    fact(s, "shards", held);
    for (size_t i = 0; i < count && tm_view_item(d, "shards", i, &one);) {
        size_t last = i;
        tm_view_string(one, "holder", holder, sizeof holder);
        while (last + 1 < count && tm_view_item(d, "shards", last + 1, &next) &&
               strcmp(holder, tm_view_string(next, "holder", other, sizeof other)) == 0)
            last++;
        (void)snprintf(text, sizeof text, last > i ? "%zu-%zu" : "%zu", i, last);
        fact(s, text, *holder ? holder : "nobody");
        i = last + 1;
    }
    tm_sheet_end_line(s);
}

static void put_fleet(struct tm_sheet *s, struct tm_span d, const struct tm_view_history *h)
{
    struct tm_span g;
    char text[40];
    double of_each = tm_view_number(d, "copies");
    amount_fact(s, "written", d, "production.rows_per_s", "/s");
    span_fact(s, "lag", d, "production.lag_ms");
    if (of_each > 0)
        (void)snprintf(text, sizeof text, "%.2f of %zu", of_each, tm_view_count(d, "gatherers"));
    else
        (void)snprintf(text, sizeof text, "- of %zu", tm_view_count(d, "gatherers"));
    fact(s, "copies", text);
    span_fact(s, "arrival to COMMIT", d, "merger.latency_ms");
    amount_fact(s, "behind", d, "catch_up.rows_behind", " rows");
    if (tm_view_number(d, "catch_up.left_s") > 0) {
        figure left;
        fact(s, "left", tm_view_span_ms(tm_view_number(d, "catch_up.left_s") * 1000, left));
    }
    tm_sheet_end_line(s);
    put_history(s, h);
    tm_sheet_end_line(s);
    tm_sheet_put(s, TM_STYLE_DIM, "  %-14s  rows/s   first   behind      lag   newest  state", "gatherer");
    tm_sheet_end_line(s);
    for (size_t i = 0; tm_view_item(d, "gatherers", i, &g); i++)
        put_peer(s, g);
    put_production(s, d);
    put_shards(s, d);
}

/* ---- what both have ---- */

static void put_alert(struct tm_sheet *s, struct tm_span a, double now_ms)
{
    char name[80], severity[20], state[20], summary[300];
    figure since = "";
    bool firing = tm_view_is(a, "state", "firing"), critical = tm_view_is(a, "severity", "critical");
    bool trouble = !tm_view_is(a, "severity", "info") && !tm_view_is(a, "state", "resolved");
    put_light(s, firing && critical ? "red" : trouble ? "amber" : "green");
    if (tm_view_number(a, "since_ms") > 0)
        tm_view_span_ms(now_ms - tm_view_number(a, "since_ms"), since);
    tm_sheet_put(s, firing ? TM_STYLE_BOLD : TM_STYLE_PLAIN, "%s", tm_view_string(a, "name", name, sizeof name));
    tm_sheet_put(s, TM_STYLE_DIM, "  %s %s %s  ", tm_view_string(a, "severity", severity, sizeof severity),
                 tm_view_string(a, "state", state, sizeof state), since);
    tm_sheet_put(s, TM_STYLE_PLAIN, "%s", tm_view_string(a, "summary", summary, sizeof summary));
    tm_sheet_end_line(s);
}

static void put_alerts(struct tm_sheet *s, struct tm_span d)
{
    static const char *const states[] = {"firing", "pending", "resolved"};
    struct tm_span a;
    char text[64];
    size_t count = tm_view_count(d, "alerts"), firing = 0;
    for (size_t i = 0; i < count && tm_view_item(d, "alerts", i, &a); i++)
        firing += tm_view_is(a, "state", "firing");
    (void)snprintf(text, sizeof text, "%zu firing of %zu", firing, count);
    title(s, "alerts", text);
    for (size_t state = 0; state < 3; state++)
        for (size_t i = 0; i < count && tm_view_item(d, "alerts", i, &a); i++)
            if (tm_view_is(a, "state", states[state]))
                put_alert(s, a, tm_view_number(d, "at_ms"));
}

static void put_run(struct tm_sheet *s, struct tm_span r, double now_ms)
{
    char routine[80], subject[120], state[20], step[260] = "", path[32];
    figure took;
    struct tm_span steps;
    double started = tm_view_number(r, "started") / 1000, ended = tm_view_number(r, "ended") / 1000;
    size_t count = tm_view_count(r, "steps");
    bool bad = tm_view_is(r, "state", "failed") || tm_view_is(r, "state", "timeout");
    put_light(s, bad                                 ? "red"
                 : tm_view_is(r, "state", "running") ? "amber"
                 : tm_view_is(r, "state", "done")    ? "green"
                                                     : "grey");
    (void)snprintf(path, sizeof path, "steps[%zu]", count - 1);
    if (count && tm_json_get(r, path, &steps) == TM_OK)
        tm_view_string(steps, "text", step, sizeof step);
    if (bad)
        tm_view_string(r, "error", step, sizeof step);
    tm_sheet_put(s, TM_STYLE_PLAIN, "%s %s", tm_view_string(r, "routine", routine, sizeof routine),
                 tm_view_string(r, "subject", subject, sizeof subject));
    tm_sheet_put(s, TM_STYLE_DIM, "  %s %s%s  ", tm_view_string(r, "state", state, sizeof state),
                 started > 0 ? tm_view_span_ms((ended > 0 ? ended : now_ms) - started, took) : "",
                 tm_view_true(r, "dry") ? " dry" : "");
    tm_sheet_put(s, TM_STYLE_PLAIN, "%s", step);
    tm_sheet_end_line(s);
}

static void put_recovery(struct tm_sheet *s, struct tm_span d)
{
    struct tm_span r;
    char text[64];
    size_t running = tm_view_count(d, "recovery.running"), waiting = tm_view_count(d, "recovery.waiting");
    size_t recent = tm_view_count(d, "recovery.recent"), left = RUNS_SHOWN;
    (void)snprintf(text, sizeof text, "%zu running, %zu waiting, %zu lately", running, waiting, recent);
    title(s, "recovery", text);
    for (size_t i = 0; left && tm_view_item(d, "recovery.running", i, &r); i++, left--)
        put_run(s, r, tm_view_number(d, "at_ms"));
    for (size_t i = recent; left && i-- > 0 && tm_view_item(d, "recovery.recent", i, &r); left--)
        put_run(s, r, tm_view_number(d, "at_ms"));
}

static void put_gaps(struct tm_sheet *s, struct tm_span d)
{
    struct tm_span g;
    char lane[80], reason[40], text[40];
    figure clock, lasted;
    size_t count = tm_view_count(d, "gaps");
    (void)snprintf(text, sizeof text, "%zu", count);
    title(s, "gaps", text);
    for (size_t i = 0; i < GAPS_SHOWN && tm_view_item(d, "gaps", i, &g); i++) {
        double from = tm_view_number(g, "from_ms"), to = tm_view_number(g, "to_ms");
        put_light(s, to > 0 ? "grey" : "amber");
        tm_sheet_put(s, TM_STYLE_PLAIN, "%-16s %-14s %s  %s", tm_view_string(g, "lane", lane, sizeof lane),
                     tm_view_string(g, "reason", reason, sizeof reason), time_of(from, clock),
                     to > 0 ? tm_view_span_ms(to - from, lasted) : "not over");
        tm_sheet_put(s, TM_STYLE_DIM, "  %.0f gaps", tm_view_number(g, "gaps"));
        tm_sheet_end_line(s);
    }
}

static void put_streams(struct tm_sheet *s, struct tm_span d)
{
    struct tm_span t;
    char name[80];
    figure f;
    bool gatherer = tm_view_is(d, "role", "gatherer");
    tm_sheet_end_line(s);
    tm_sheet_put(s, TM_STYLE_BOLD, "%-24s", "streams");
    tm_sheet_put(s, TM_STYLE_DIM, "%s",
                 gatherer ? "  rows/s  received    stored duplicate   pending"
                          : "written/s   copies      read   written duplicate");
    tm_sheet_end_line(s);
    static const char *const own[] = {"per_s", "received", "stored", "duplicate", "pending"};
    static const char *const fleet[] = {"per_s", "copies", "polled", "written", "duplicate"};
    for (size_t i = 0; tm_view_item(d, "streams", i, &t); i++) {
        tm_sheet_put(s, TM_STYLE_PLAIN, "  %s", tm_view_string(t, "name", name, sizeof name));
        for (size_t c = 0; c < 5; c++) {
            double v = tm_view_number(t, gatherer ? own[c] : fleet[c]);
            if (gatherer || c != 1)
                tm_view_amount(v, f);
            else if (v > 0)
                (void)snprintf(f, sizeof f, "%.2f", v);
            else
                strcpy(f, "-");
            right_cell(s, 32 + 10 * c, f);
        }
        tm_sheet_end_line(s);
    }
}

static void put_callbacks(struct tm_sheet *s, struct tm_span d)
{
    struct tm_span c;
    char name[160], error[300];
    for (size_t i = 0; tm_view_item(d, "callbacks", i, &c); i++) {
        bool disabled = tm_view_true(c, "disabled");
        if (!disabled && tm_view_number(c, "failures_in_a_row") == 0)
            continue;
        put_light(s, disabled ? "red" : "amber");
        tm_sheet_put(s, TM_STYLE_PLAIN, "%s %s", tm_view_string(c, "name", name, sizeof name),
                     disabled ? "is disabled" : "fails");
        tm_sheet_end_line(s);
        tm_view_string(c, "last_error", error, sizeof error);
        error[strcspn(error, "\n")] = '\0'; /* without the traceback */
        tm_sheet_put(s, TM_STYLE_DIM, "    %s", error);
        tm_sheet_end_line(s);
    }
}

static void put_script(struct tm_sheet *s, struct tm_span d)
{
    char text[300], reload[64];
    figure a, b;
    title(s, "script", tm_view_string(d, "script", text, sizeof text));
    (void)snprintf(text, sizeof text, "%.0f", tm_view_number(d, "policy.generation"));
    tm_sheet_put(s, TM_STYLE_PLAIN, "  ");
    fact(s, "generation", text);
    tm_view_string(d, "policy.last_reload", reload, sizeof reload);
    fact(s, "last reload", *reload ? reload : "none");
    (void)snprintf(text, sizeof text, "%s of %s", tm_view_bytes(tm_view_number(d, "script_bytes"), a),
                   tm_view_bytes(tm_view_number(d, "limits.memory_bytes"), b));
    fact(s, "memory", text);
    tm_sheet_end_line(s);
    if (tm_view_is(d, "policy.last_result", "failure")) {
        put_light(s, "red");
        tm_sheet_put(s, TM_STYLE_PLAIN, "the last reload was rejected: %s",
                     tm_view_string(d, "policy.last_error", text, sizeof text));
        tm_sheet_end_line(s);
    }
    put_callbacks(s, d);
}

static void put_process(struct tm_sheet *s, struct tm_span d)
{
    figure f;
    char version[40];
    tm_sheet_end_line(s);
    tm_sheet_put(s, TM_STYLE_DIM, "tidemill %s", tm_view_string(d, "version", version, sizeof version));
    fact(s, "up", tm_view_span_ms(tm_view_number(d, "process.uptime_s") * 1000, f));
    fact(s, "memory", tm_view_bytes(tm_view_number(d, "process.resident_bytes"), f));
    amount_fact(s, "files", d, "process.open_fds", "");
    amount_fact(s, "CPU", d, "process.cpu_s", "s");
    tm_sheet_end_line(s);
}

void tm_view_put(struct tm_sheet *sheet, struct tm_span document, const struct tm_view_history *history)
{
    put_head(sheet, document);
    if (tm_view_is(document, "role", "gatherer"))
        put_seat(sheet, document, history);
    else
        put_fleet(sheet, document, history);
    put_alerts(sheet, document);
    put_recovery(sheet, document);
    put_gaps(sheet, document);
    put_script(sheet, document);
    put_streams(sheet, document);
    put_process(sheet, document);
}

void tm_view_note(struct tm_view_history *h, struct tm_span document)
{
    bool gatherer = tm_view_is(document, "role", "gatherer");
    if (h->count == TM_VIEW_SECONDS) {
        memmove(h->rows, h->rows + 1, sizeof h->rows - sizeof *h->rows);
        memmove(h->lag_s, h->lag_s + 1, sizeof h->lag_s - sizeof *h->lag_s);
        h->count--;
    }
    h->rows[h->count] = (float)tm_view_number(document, gatherer ? "feed.rows_per_s" : "production.rows_per_s");
    h->lag_s[h->count++] = (float)tm_view_number(document, gatherer ? "store.lag_ms" : "production.lag_ms") / 1000;
}
