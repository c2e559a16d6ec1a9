#include "record/keys.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

const char *tm_moment_text(int64_t unix_us, char out[TM_MOMENT_TEXT])
{
    time_t s = (time_t)(unix_us / TM_US_PER_S);
    struct tm utc;
    if (!gmtime_r(&s, &utc) || !strftime(out, TM_MOMENT_TEXT, "%Y-%m-%dT%H:%M:%SZ", &utc))
        (void)snprintf(out, TM_MOMENT_TEXT, "(no time)");
    return out;
}

/* ---- lists ---- */

static const char *names_of(const struct tm_stream *s, const struct tm_key *key, struct tm_arena *arena)
{
    size_t len = 1;
    for (uint16_t i = 0; i < key->column_count; i++)
        len += strlen(s->columns[key->columns[i]].name) + 1;
    char *text = tm_arena_alloc(arena, len), *at = text;
    for (uint16_t i = 0; i < key->column_count; i++)
        at += snprintf(at, len - (size_t)(at - text), "%s%s", i ? "," : "", s->columns[key->columns[i]].name);
    return text;
}

static void add_keys(struct tm_key_list *list, const struct tm_stream *s, struct tm_arena *arena)
{
    for (uint16_t k = 0; k < s->keys_count && !s->observer && !s->within_us; k++)
        list->items[list->count++] = (struct tm_key_record){.stream = s->name,
                                                            .from_us = s->keys[k].from_us,
                                                            .columns = names_of(s, &s->keys[k], arena),
                                                            .occurrence = s->keys[k].counted};
}

struct tm_key_list tm_stream_keys(const struct tm_stream *stream, struct tm_arena *arena)
{
    struct tm_key_list list = {.items = tm_arena_alloc(arena, TM_KEYS_MAX * sizeof *list.items)};
    add_keys(&list, stream, arena);
    return list;
}

struct tm_key_list tm_plan_keys(const struct tm_plan *plan, struct tm_arena *arena)
{
    size_t streams = tm_plan_stream_count(plan);
    struct tm_key_list list = {.items = tm_arena_alloc(arena, streams * TM_KEYS_MAX * sizeof *list.items)};
    for (size_t i = 0; i < streams; i++)
        add_keys(&list, tm_plan_stream(plan, i), arena);
    return list;
}

struct tm_key_list tm_key_list_of(const struct tm_key_list *list, const char *stream)
{
    struct tm_key_list of = {0};
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].stream, stream) != 0)
            continue;
        if (!of.count++)
            of.items = &list->items[i];
    }
    return of;
}

/* ---- comparing ---- */

static size_t names_count(const char *names)
{
    size_t n = 1;
    for (; *names; names++)
        n += *names == ',';
    return n;
}

static bool has_name(const char *names, const char *name, size_t len)
{
    for (const char *at = names; *at; at += *at == ',') {
        size_t n = strcspn(at, ",");
        if (n == len && memcmp(at, name, len) == 0)
            return true;
        at += n;
    }
    return false;
}

static bool same_names(const char *a, const char *b)
{
    if (names_count(a) != names_count(b))
        return false;
    for (const char *at = a; *at; at += *at == ',') {
        size_t n = strcspn(at, ",");
        if (!has_name(b, at, n))
            return false;
        at += n;
    }
    return true;
}

static bool same_key(const struct tm_key_record *a, const struct tm_key_record *b)
{
    return a->occurrence == b->occurrence && same_names(a->columns, b->columns);
}

static bool same_record(const struct tm_key_record *a, const struct tm_key_record *b)
{
    return strcmp(a->stream, b->stream) == 0 && a->from_us == b->from_us && same_key(a, b);
}

bool tm_key_list_has(const struct tm_key_list *list, const struct tm_key_record *key)
{
    for (size_t i = 0; i < list->count; i++)
        if (same_record(&list->items[i], key))
            return true;
    return false;
}

bool tm_key_lists_equal(const struct tm_key_list *a, const struct tm_key_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!same_record(&a->items[i], &b->items[i]))
            return false;
    return true;
}

static const struct tm_key_record *key_from(const struct tm_key_list *list, int64_t from_us)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].from_us == from_us)
            return &list->items[i];
    return NULL;
}

/* ---- the rule ---- */

static int64_t floor_of(const struct tm_key_moment *m)
{
    return (m->newest_us > m->now_us ? m->newest_us : m->now_us) + m->margin_us;
}

/* The first whole second that may be declared; never in the past of whoever reads this. */
static const char *earliest(const struct tm_key_moment *m, char out[TM_MOMENT_TEXT])
{
    struct tm_key_moment from_now = *m;
    if (m->now_us == INT64_MIN)
        from_now.now_us = tm_clock_wall_us();
    if (!m->margin_us)
        from_now.margin_us = TM_KEY_MARGIN_US;
    return tm_moment_text((floor_of(&from_now) / TM_US_PER_S + 1) * TM_US_PER_S, out);
}

static int refuse_first(const struct tm_stream *s, const struct tm_key_record *known, const struct tm_key_record *next,
                        const struct tm_key_moment *m, struct tm_error *err)
{
    char from[TM_MOMENT_TEXT];
    const char *fixed = tm_stream_fixed_key(s);
    if (fixed)
        return tm_error_set(err, TM_ESTATE,
                            "stream %s: its key changes from (%s) to (%s) for records that were taken already, and it "
                            "cannot change at a moment either: %s; give the new stream another name, or migrate its "
                            "table by hand and correct tidemill.keys",
                            s->name, known->columns, next->columns, fixed);
    return tm_error_set(err, TM_ESTATE,
                        "stream %s: its key changes for records that were taken already, from (%s) to (%s); declare "
                        "the new key with from = \"%s\" or later",
                        s->name, known->columns, next->columns, earliest(m, from));
}

/* What has begun must still be declared. */
static int check_history(const struct tm_stream *s, const struct tm_key_record *known, const struct tm_key_list *next,
                         const struct tm_key_moment *m, struct tm_error *err)
{
    char at[TM_MOMENT_TEXT], from[TM_MOMENT_TEXT];
    const struct tm_key_record *now = key_from(next, known->from_us);
    if (now && same_key(known, now))
        return TM_OK;
    if (known->from_us == INT64_MIN)
        return refuse_first(s, known, now, m, err);
    (void)tm_moment_text(known->from_us, at);
    if (now)
        return tm_error_set(err, TM_ESTATE,
                            "stream %s: its key changes from (%s) to (%s) for records from \"%s\" on, and some were "
                            "taken already; keep that one and declare the new key with from = \"%s\" or later",
                            s->name, known->columns, now->columns, at, earliest(m, from));
    return tm_error_set(
        err, TM_ESTATE,
        "stream %s: the key (%s) that holds from \"%s\" on is not declared any more; declare it again%s", s->name,
        known->columns, at,
        m->keep_all ? ", or, if it has not begun and no process is to use it, delete it from tidemill.keys"
                    : ": records are taken by it");
}

/* What is new must begin later than all that was taken. */
static int check_addition(const struct tm_stream *s, const struct tm_key_record *next, int64_t floor_us,
                          const struct tm_key_moment *m, struct tm_error *err)
{
    char at[TM_MOMENT_TEXT], from[TM_MOMENT_TEXT];
    if (next->from_us > floor_us)
        return TM_OK;
    return tm_error_set(err, TM_ESTATE,
                        "stream %s: its key changes for records that were taken already, or are about to be: (%s) from "
                        "\"%s\"; declare the new key with from = \"%s\" or later",
                        s->name, next->columns, tm_moment_text(next->from_us, at), earliest(m, from));
}

int tm_key_list_change(const struct tm_stream *stream, const struct tm_key_list *known, const struct tm_key_list *next,
                       const struct tm_key_moment *moment, struct tm_error *err)
{
    if (moment->newest_us == INT64_MIN)
        return TM_OK;
    int64_t floor_us = floor_of(moment);
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < known->count; i++)
        if (moment->keep_all || known->items[i].from_us <= floor_us)
            rc = check_history(stream, &known->items[i], next, moment, err);
    for (size_t i = 0; !rc && i < next->count; i++) {
        const struct tm_key_record *was = key_from(known, next->items[i].from_us);
        if (!was || !same_key(was, &next->items[i]))
            rc = check_addition(stream, &next->items[i], floor_us, moment, err);
    }
    return rc;
}

int tm_plan_key_change(const struct tm_plan *old_plan, const struct tm_plan *new_plan, const int64_t *newest_us,
                       int64_t now_us, int64_t margin_us, struct tm_error *err)
{
    struct tm_arena *arena = tm_arena_create();
    struct tm_key_list old_list = tm_plan_keys(old_plan, arena), new_list = tm_plan_keys(new_plan, arena);
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_plan_stream_count(old_plan); i++) {
        const struct tm_stream *was = tm_plan_stream(old_plan, i);
        const struct tm_stream *is = tm_plan_stream_by_name(new_plan, was->name);
        if (!is)
            continue;
        struct tm_key_list known = tm_key_list_of(&old_list, was->name), next = tm_key_list_of(&new_list, was->name);
        struct tm_key_moment moment = {.newest_us = newest_us[i], .now_us = now_us, .margin_us = margin_us};
        if (known.count && next.count)
            rc = tm_key_list_change(is, &known, &next, &moment, err);
    }
    tm_arena_destroy(arena);
    return rc;
}
