#include "control/look.h"
#include "control/daemon_private.h"

#include "base/clock.h"
#include "base/endian.h"
#include "base/json.h"
#include "dedup/seen.h"
#include "engine/intake.h"
#include "record/row_json.h"
#include "script/changes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 1000
#define ENTRIES_LOOKED_MAX 2000000 /* keys compared for one command: 30 ms */
#define WORD_MAX 256

static int put_named(struct tm_buf *out, const char *name, const char *text)
{
    int rc = tm_buf_printf(out, ",\"%s\":", name);
    return rc ? rc : tm_json_put_string(out, text);
}

/* The next word of the arguments, "" when there is none. */
static const char *take_word(const char **args, char word[WORD_MAX])
{
    *args += strspn(*args, " \t");
    size_t len = strcspn(*args, " \t");
    (void)snprintf(word, WORD_MAX, "%.*s", (int)(len < WORD_MAX ? len : WORD_MAX - 1), *args);
    *args += len;
    return word;
}

/* ---- links ---- */

static int put_subscriptions(const struct tm_service_subscriptions *all, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, ",\"subscriptions\":{");
    for (size_t i = 0; !rc && i < all->count; i++) {
        rc = i ? tm_buf_append(out, ",", 1) : TM_OK;
        rc = rc ? rc : tm_json_put_string(out, all->list[i].channel);
        rc = rc ? rc : tm_buf_printf(out, ":%" PRId64, all->list[i].sid);
    }
    return rc ? rc : tm_buf_append(out, "}", 1);
}

static int64_t age_ms(int64_t since_us)
{
    return since_us ? (tm_clock_mono_us() - since_us) / TM_US_PER_MS : -1;
}

static int put_link(const struct tm_services *s, int link, const struct tm_gatherer_link_stats *stats,
                    struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "{\"id\":%d", link);
    rc = rc ? rc : put_named(out, "name", stats->name);
    rc = rc ? rc : put_named(out, "state", tm_link_state_name(stats->link.state));
    rc = rc ? rc
            : tm_buf_printf(out,
                            ",\"ups\":%" PRIu64 ",\"tries\":%" PRIu64 ",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64
                            ",\"rows\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"up_ms\":%" PRId64
                            ",\"last_message_ms\":%" PRId64,
                            stats->link.ups, stats->link.tries, stats->link.messages, stats->link.bytes, stats->rows,
                            stats->gaps, stats->link.state == TM_LINK_UP ? age_ms(stats->link.up_since_us) : -1,
                            age_ms(stats->link.last_message_us));
    rc = rc ? rc : put_subscriptions(&s->subscriptions[link], out);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

int tm_look_links(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    (void)err;
    struct tm_daemon *d = context;
    struct tm_gatherer *g = d->services.gatherer;
    size_t shown = 0;
    int rc = tm_buf_append(out, "[", 1);
    for (int i = 0; !rc && g && i < TM_LINKS_MAX; i++) {
        struct tm_gatherer_link_stats stats;
        if (!d->services.links[i] || tm_gatherer_link_stats(g, i, &stats) < 0)
            continue;
        rc = shown++ ? tm_buf_append(out, ",", 1) : TM_OK;
        rc = rc ? rc : put_link(&d->services, i, &stats, out);
    }
    return rc ? rc : tm_buf_append(out, "]", 1);
}

/* ---- streams ---- */

static int put_columns(const struct tm_stream *s, struct tm_buf *out)
{
    static const char *const types[] = {"bool", "int2", "int4",        "int8",  "float8",
                                        "text", "uuid", "timestamptz", "jsonb", "bytea"};
    int rc = tm_buf_printf(out, ",\"columns\":[");
    for (size_t i = 0; !rc && i < s->column_count; i++) {
        const struct tm_column *c = &s->columns[i];
        rc = tm_buf_printf(out, "%s{\"name\":\"%s\",\"type\":\"%s\",\"scale\":%d,\"in_key\":%s}", i ? "," : "", c->name,
                           types[c->type], c->scale, c->in_key ? "true" : "false");
    }
    return rc ? rc : tm_buf_append(out, "]", 1);
}

static int put_stream(const struct tm_stream *s, struct tm_buf *out)
{
    struct tm_seen_options seen = tm_stream_seen_options(s);
    int rc = tm_buf_printf(out, "{\"name\":\"%s\",\"mode\":\"%s\",\"observer\":%s,\"opened\":%s,\"remembers\":%s",
                           s->name, s->mode == TM_STREAM_UPSERT ? "upsert" : "append", s->observer ? "true" : "false",
                           s->opened ? "true" : "false", tm_stream_has_seen(s) ? "true" : "false");
    rc = rc ? rc
            : tm_buf_printf(out, ",\"window_us\":%" PRId64 ",\"memory_bytes\":%zu,\"keys\":%u", seen.window_us,
                            seen.memory_bytes_max ? seen.memory_bytes_max : TM_SEEN_BYTES, s->keys_count);
    rc = rc || s->ticker_column < 0 ? rc : put_named(out, "ticker", s->columns[s->ticker_column].name);
    rc = rc || s->time_column < 0 ? rc : put_named(out, "time", s->columns[s->time_column].name);
    rc = rc ? rc : put_columns(s, out);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

int tm_look_streams(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    (void)err;
    const struct tm_daemon *d = context;
    const struct tm_plan *plan = d->services.plan;
    int rc = tm_buf_append(out, "[", 1);
    for (size_t i = 0; !rc && plan && i < tm_plan_stream_count(plan); i++) {
        rc = i ? tm_buf_append(out, ",", 1) : TM_OK;
        rc = rc ? rc : put_stream(tm_plan_stream(plan, i), out);
    }
    return rc ? rc : tm_buf_append(out, "]", 1);
}

/* ---- metrics ---- */

/* "name{labels} value" -> ["name{labels}",value]; values that JSON cannot say as text. */
static int put_series(const char *line, size_t len, bool first, struct tm_buf *out)
{
    const char *space = memrchr(line, ' ', len);
    size_t name_len = space ? (size_t)(space - line) : 0, value_len = len - name_len - 1;
    if (!space)
        return TM_OK;
    bool is_number = strspn(space + 1, "0123456789+-.e") == value_len;
    int rc = tm_buf_printf(out, "%s[", first ? "" : ",");
    rc = rc ? rc : tm_json_put_text(out, line, name_len);
    rc = rc ? rc : tm_buf_printf(out, is_number ? ",%.*s]" : ",\"%.*s\"]", (int)value_len, space + 1);
    return rc;
}

int tm_look_metrics(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)err;
    struct tm_daemon *d = context;
    struct tm_buf all = {0};
    char wanted[WORD_MAX];
    bool first = true;
    (void)take_word(&args, wanted);
    tm_process_update(&d->process);
    int rc = tm_metrics_render(d->services.metrics, &all);
    rc = rc ? rc : tm_buf_append(out, "[", 1);
    const char *text = rc ? NULL : tm_buf_cstr(&all);
    for (const char *end; !rc && text && (end = strchr(text, '\n')); text = end + 1) {
        size_t name_len = strcspn(text, "{ ");
        const char *found = *text == '#' ? NULL : memmem(text, name_len, wanted, strlen(wanted));
        rc = found ? put_series(text, (size_t)(end - text), first, out) : TM_OK;
        first = first && !found;
    }
    tm_buf_fini(&all);
    return rc ? rc : tm_buf_append(out, "]", 1);
}

/* ---- registries ---- */

int tm_look_registries(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    (void)err;
    const struct tm_daemon *d = context;
    size_t shown = 0;
    int rc = tm_buf_append(out, "[", 1);
    for (size_t i = 0; !rc && i < TM_STREAMS_MAX; i++) {
        const struct tm_service_registry *r = &d->services.registries[i];
        if (r->registry)
            rc = tm_buf_printf(out, "%s{\"stream\":\"%s\",\"entries\":%zu,\"memory_bytes\":%zu}", shown++ ? "," : "",
                               r->stream->name, tm_registry_count(r->registry), tm_registry_memory(r->registry));
    }
    return rc ? rc : tm_buf_append(out, "]", 1);
}

static int put_bytes(struct tm_buf *out, const struct tm_field *f)
{
    int rc = tm_buf_append(out, "\"", 1);
    for (int32_t i = 0; !rc && i < f->len; i++)
        rc = tm_buf_printf(out, "%02x", f->bytes[i]);
    return rc ? rc : tm_buf_append(out, "\"", 1);
}

/* As records are shown, but for floats (all digits, as text), and ids and bytes (nothing but hex digits). */
static int put_field(const struct tm_column *c, const struct tm_field *f, struct tm_buf *out)
{
    if (c->type == TM_TYPE_UUID || c->type == TM_TYPE_BYTEA)
        return put_bytes(out, f);
    if (c->type != TM_TYPE_FLOAT8)
        return tm_json_put_field(out, c, f);
    uint64_t bits = tm_get_be64(f->bytes);
    double v;
    memcpy(&v, &bits, sizeof v);
    return tm_buf_printf(out, "\"%.17g\"", v);
}

static int put_entry(const struct tm_registry *r, uint32_t entry, struct tm_buf *out)
{
    int rc = tm_buf_append(out, "{", 1);
    bool first = true;
    for (size_t i = 0; !rc && i < tm_registry_column_count(r); i++) {
        struct tm_field f = tm_registry_get(r, entry, i);
        if (f.len < 0)
            continue;
        rc = tm_buf_printf(out, "%s\"%s\":", first ? "" : ",", tm_registry_column(r, i)->name);
        rc = rc ? rc : put_field(tm_registry_column(r, i), &f, out);
        first = false;
    }
    return rc ? rc : tm_buf_append(out, "}", 1);
}

static bool fits(const char *pattern, size_t len, const struct tm_field *key)
{
    bool is_prefix = len && pattern[len - 1] == '*';
    size_t wanted = len - is_prefix;
    if (key->len < 0 || (size_t)key->len < wanted || (!is_prefix && (size_t)key->len != wanted))
        return false;
    return memcmp(key->bytes, pattern, wanted) == 0;
}

static int put_entries(const struct tm_registry *r, const char *pattern, size_t limit, struct tm_buf *out)
{
    size_t shown = 0, len = strlen(pattern);
    uint32_t end = tm_registry_end(r);
    end = end < ENTRIES_LOOKED_MAX ? end : ENTRIES_LOOKED_MAX;
    int rc = tm_buf_append(out, "[", 1);
    for (uint32_t entry = 0; !rc && entry < end && shown < limit; entry++) {
        struct tm_field key =
            tm_registry_is_live(r, entry) ? tm_registry_get(r, entry, 0) : (struct tm_field){.len = -1};
        if (!fits(pattern, len, &key))
            continue;
        rc = shown++ ? tm_buf_append(out, ",", 1) : TM_OK;
        rc = rc ? rc : put_entry(r, entry, out);
    }
    return rc ? rc : tm_buf_append(out, "]", 1);
}

static int put_one(struct tm_registry *r, const char *key, struct tm_buf *out)
{
    int64_t entry = tm_registry_find(r, key, strlen(key));
    int rc = tm_buf_append(out, "[", 1);
    if (entry >= 0)
        rc = rc ? rc : put_entry(r, (uint32_t)entry, out);
    return rc ? rc : tm_buf_append(out, "]", 1);
}

int tm_look_entries(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    struct tm_daemon *d = context;
    char stream[WORD_MAX], pattern[WORD_MAX], limit[WORD_MAX];
    struct tm_service_registry *r = tm_services_find_registry(&d->services, take_word(&args, stream));
    if (!r)
        return tm_error_set(err, TM_ENOENT, "entries: there is no registry of a stream \"%.64s\"", stream);
    (void)take_word(&args, pattern);
    long n = atol(take_word(&args, limit));
    if (*pattern && !strchr(pattern, '*'))
        return put_one(r->registry, pattern, out);
    return put_entries(r->registry, *pattern ? pattern : "*",
                       n > 0 && n < ENTRIES_MAX ? (size_t)n
                       : *limit                 ? ENTRIES_MAX
                                                : 20,
                       out);
}

/* ---- the manual ---- */

/* "### tm.alert(name)" is about tm.alert. */
static bool is_heading_of(const char *line, const char *name)
{
    size_t len = strlen(name);
    return strncmp(line, "### ", 4) == 0 && strncmp(line + 4, name, len) == 0 && strchr("({ \n", line[4 + len]);
}

static int read_section(FILE *f, const char *name, struct tm_buf *text)
{
    char line[1024];
    bool inside = false;
    int rc = TM_OK;
    while (!rc && fgets(line, sizeof line, f) && !(inside && strncmp(line, "##", 2) == 0)) {
        bool begins = !inside && is_heading_of(line, name);
        inside = inside || begins;
        if (inside)
            rc = tm_buf_append(text, line + (begins ? 4 : 0), strlen(line) - (begins ? 4 : 0));
    }
    return rc;
}

int tm_look_manual(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)context;
    char name[WORD_MAX], path[2048];
    struct tm_buf text = {0};
    (void)snprintf(path, sizeof path, "%s/REFERENCE.md", tm_script_library());
    FILE *f = *take_word(&args, name) ? fopen(path, "re") : NULL;
    int rc = f ? read_section(f, name, &text) : TM_OK;
    if (f)
        fclose(f);
    if (!rc && !text.len)
        rc = tm_error_set(err, TM_ENOENT, "manual: there is nothing about \"%.64s\"", name);
    rc = rc ? rc : tm_json_put_text(out, (const char *)text.data, text.len);
    tm_buf_fini(&text);
    return rc;
}

/* ---- people ---- */

int tm_look_sessions(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    (void)err;
    const struct tm_daemon *d = context;
    return tm_control_put_sessions(d->control, out);
}

int tm_look_changes(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    (void)err;
    const struct tm_daemon *d = context;
    int rc = tm_buf_printf(out, "{\"generation\":%" PRIu64 ",\"changes\":", d->services.generation);
    rc = rc ? rc : tm_changes_put(d->services.changes, out);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

int tm_look_log_level(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    struct tm_daemon *d = context;
    enum tm_log_level level;
    char word[WORD_MAX], what[64], keep[64];
    if (tm_log_level_parse(take_word(&args, word), &level) < 0)
        return tm_error_set(err, TM_EINVAL, "log-level: expected debug, info, warn or error, got \"%.20s\"", word);
    (void)snprintf(what, sizeof what, "log_level(\"%.8s\")", word);
    (void)snprintf(keep, sizeof keep, "log_level = \"%.8s\" in the role", word);
    tm_daemon_note_who(d);
    tm_changes_note(d->services.changes, d->services.generation, what, keep);
    tm_log_set_level(level);
    return tm_json_put_string(out, word);
}

int tm_look_kill(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    struct tm_daemon *d = context;
    char number[WORD_MAX], word[WORD_MAX];
    long session = atol(take_word(&args, number));
    bool close = strcmp(take_word(&args, word), "close") == 0;
    if (session <= 0 || session > UINT32_MAX)
        return tm_error_set(err, TM_EINVAL, "kill: expected the number of a session, as sessions shows it");
    int rc = tm_control_kill(d->control, (uint32_t)session, close, err);
    return rc ? rc : tm_buf_printf(out, "%ld", session);
}
