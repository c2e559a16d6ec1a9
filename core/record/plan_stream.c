/* Streams: checking a definition, adding the columns that every stream has, working out the key. */
#include "base/clock.h"
#include "record/compiled.h"

#include <stdio.h>
#include <string.h>

#define FAULT(...) tm_error_set(err, TM_EINVAL, __VA_ARGS__)

/* A partition's name adds up to 26 bytes (record/schema.h), and PostgreSQL cuts names at 63. */
#define STREAM_NAME_MAX 36
#define NAME_MAX_BYTES 63

static const char *const added_names[] = {"gatherer", "epoch", "epoch_no", "sid", "exchange_seq", "seq", NULL};

/* What PostgreSQL 15 does not take as a column's name without quotes, and the columns that every table has. */
static const char *const reserved_names[] = {"all",
                                             "analyse",
                                             "analyze",
                                             "and",
                                             "any",
                                             "array",
                                             "as",
                                             "asc",
                                             "asymmetric",
                                             "authorization",
                                             "binary",
                                             "both",
                                             "case",
                                             "cast",
                                             "check",
                                             "cmax",
                                             "cmin",
                                             "collate",
                                             "collation",
                                             "column",
                                             "concurrently",
                                             "constraint",
                                             "create",
                                             "cross",
                                             "ctid",
                                             "current_catalog",
                                             "current_date",
                                             "current_role",
                                             "current_schema",
                                             "current_time",
                                             "current_timestamp",
                                             "current_user",
                                             "default",
                                             "deferrable",
                                             "desc",
                                             "distinct",
                                             "do",
                                             "else",
                                             "end",
                                             "except",
                                             "false",
                                             "fetch",
                                             "for",
                                             "foreign",
                                             "freeze",
                                             "from",
                                             "full",
                                             "grant",
                                             "group",
                                             "having",
                                             "ilike",
                                             "in",
                                             "initially",
                                             "inner",
                                             "intersect",
                                             "into",
                                             "is",
                                             "isnull",
                                             "join",
                                             "lateral",
                                             "leading",
                                             "left",
                                             "like",
                                             "limit",
                                             "localtime",
                                             "localtimestamp",
                                             "natural",
                                             "not",
                                             "notnull",
                                             "null",
                                             "offset",
                                             "on",
                                             "only",
                                             "or",
                                             "order",
                                             "outer",
                                             "overlaps",
                                             "placing",
                                             "primary",
                                             "references",
                                             "returning",
                                             "right",
                                             "select",
                                             "session_user",
                                             "similar",
                                             "some",
                                             "symmetric",
                                             "table",
                                             "tableoid",
                                             "tablesample",
                                             "then",
                                             "to",
                                             "trailing",
                                             "true",
                                             "union",
                                             "unique",
                                             "user",
                                             "using",
                                             "variadic",
                                             "verbose",
                                             "when",
                                             "where",
                                             "window",
                                             "with",
                                             "xmax",
                                             "xmin",
                                             NULL};

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

/* NULL if the name can be a table or column, else what is wrong with it. */
static const char *name_fault(const char *name, size_t max)
{
    if (!name || !*name)
        return "a name is missing";
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (name[good] || (*name >= '0' && *name <= '9'))
        return "a name has lower-case letters, digits and _ and begins with no digit";
    if (good > max)
        return "the name is too long";
    return is_one_of(name, reserved_names) ? "the name is reserved by SQL; take another" : NULL;
}

int tm_stream_column(const struct tm_stream *stream, const char *name)
{
    for (uint16_t i = 0; i < stream->column_count; i++)
        if (strcmp(stream->columns[i].name, name) == 0)
            return i;
    return -1;
}

int tm_stream_within_lead(const struct tm_stream *stream)
{
    return stream->ticker_column >= 0 ? stream->ticker_column : stream->key[0];
}

/* ---- columns ---- */

static int check_column(const struct tm_column_def *c, const struct tm_stream *s, struct tm_error *err)
{
    const char *fault = name_fault(c->name, NAME_MAX_BYTES);
    if (fault)
        return FAULT("column \"%s\": %s", c->name ? c->name : "", fault);
    if (is_one_of(c->name, added_names))
        return FAULT("column \"%s\": every stream gets a column of this name by itself; take another", c->name);
    if (tm_stream_column(s, c->name) >= 0)
        return FAULT("column \"%s\": declared twice", c->name);
    if ((unsigned)c->type > TM_TYPE_BYTEA)
        return FAULT("column \"%s\": unknown type %d", c->name, (int)c->type);
    bool integer = c->type == TM_TYPE_INT2 || c->type == TM_TYPE_INT4 || c->type == TM_TYPE_INT8;
    if (c->scale < 0 || c->scale > 18 || (c->scale && !integer))
        return FAULT("column \"%s\": scale is %d, expected 0 to 18, and 0 unless the type is an integer", c->name,
                     c->scale);
    if (c->one_of && (c->type != TM_TYPE_TEXT || !c->one_of[0]))
        return FAULT("column \"%s\": a list of allowed values must not be empty and is for text only", c->name);
    if (c->range && (!integer || c->range->min > c->range->max))
        return FAULT("column \"%s\": min must not be above max, and both are for integers only", c->name);
    return TM_OK;
}

static const struct tm_range *copy_range(struct tm_arena *arena, const struct tm_range *range)
{
    return range ? memcpy(tm_arena_alloc(arena, sizeof *range), range, sizeof *range) : NULL;
}

static const char *const *copy_list(struct tm_arena *arena, const char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    if (!n)
        return NULL;
    const char **copy = tm_arena_alloc(arena, (n + 1) * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = tm_arena_strdup(arena, list[i]);
    return copy;
}

static void add_column(struct tm_stream *s, const char *name, enum tm_type type, bool not_null, bool local_only)
{
    s->columns[s->column_count++] =
        (struct tm_column){.name = name, .type = type, .not_null = not_null, .local_only = local_only};
}

static int take_columns(const struct tm_stream_def *def, struct tm_arena *arena, struct tm_stream *s,
                        struct tm_error *err)
{
    size_t most = TM_COLUMNS_MAX - 3 - (def->observer ? 2 : 0);
    if (!def->column_count || def->column_count > most)
        return FAULT("%zu columns, expected 1 to %zu", def->column_count, most);
    for (size_t i = 0; i < def->column_count; i++) {
        const struct tm_column_def *c = &def->columns[i];
        int rc = check_column(c, s, err);
        if (rc)
            return rc;
        add_column(s, tm_arena_strdup(arena, c->name), c->type, c->not_null, false);
        s->columns[i].scale = c->scale;
        s->columns[i].one_of = copy_list(arena, c->one_of);
        s->columns[i].range = copy_range(arena, c->range);
    }
    if (def->observer) {
        add_column(s, "gatherer", TM_TYPE_TEXT, true, false);
        add_column(s, "epoch", TM_TYPE_UUID, true, false);
    }
    s->production_count = s->column_count;
    add_column(s, "sid", TM_TYPE_INT8, false, true);
    add_column(s, "exchange_seq", TM_TYPE_INT8, false, true);
    add_column(s, "seq", TM_TYPE_INT8, true, !def->observer);
    return TM_OK;
}

/* ---- columns with a meaning ---- */

static int named_column(const struct tm_stream *s, const char *what, const char *name, enum tm_type type, int *out,
                        struct tm_error *err)
{
    *out = -1;
    if (!name)
        return TM_OK;
    int column = tm_stream_column(s, name);
    if (column < 0)
        return FAULT("%s \"%s\" is not a column of the stream", what, name);
    if (s->columns[column].type != type)
        return FAULT("%s \"%s\" must be of type %s", what, name, type == TM_TYPE_TEXT ? "text" : "timestamptz");
    *out = column;
    return TM_OK;
}

static int take_roles(const struct tm_stream_def *def, struct tm_stream *s, struct tm_error *err)
{
    int rc = named_column(s, "ticker_column", def->ticker_column, TM_TYPE_TEXT, &s->ticker_column, err);
    if (!rc)
        rc = named_column(s, "time_column", def->time_column, TM_TYPE_TIMESTAMPTZ, &s->time_column, err);
    if (!rc)
        rc = named_column(s, "partition_column", def->partition_column, TM_TYPE_TIMESTAMPTZ, &s->partition_column, err);
    if (rc)
        return rc;
    s->occurrence_column = -1;
    s->received_column = tm_stream_column(s, "received_at");
    if (s->received_column >= 0 && s->columns[s->received_column].type != TM_TYPE_TIMESTAMPTZ)
        return FAULT("column \"received_at\" is the time of arrival and must be timestamptz");
    return TM_OK;
}

/* ---- the keys ---- */

static bool key_has(const struct tm_key *key, int column)
{
    for (uint16_t i = 0; i < key->column_count; i++)
        if (key->columns[i] == column)
            return true;
    return false;
}

static void key_append(struct tm_stream *s, struct tm_key *key, int column)
{
    if (column < 0 || key_has(key, column))
        return;
    s->columns[column].in_key = true;
    key->columns[key->column_count++] = (uint16_t)column;
}

/* One table of what excludes what, so that each rule stands once. */
static int check_modes(const struct tm_stream_def *def, struct tm_error *err)
{
    bool upsert = def->mode == TM_STREAM_UPSERT, keyed = def->key && def->key[0];
    const struct {
        bool wrong;
        const char *text;
    } rules[] = {
        {(unsigned)def->mode > TM_STREAM_UPSERT, "unknown mode"},
        {(unsigned)def->partition > TM_PARTITION_HASH, "unknown partitioning"},
        {def->observer && keyed, "an observer stream has no key of its own: its key is gatherer, epoch and seq"},
        {!def->observer && !keyed, "a key is missing: name the columns that make two records the same"},
        {def->observer && upsert, "an observer stream cannot be upsert: its rows are never replaced"},
        {def->occurrence && (upsert || def->observer), "occurrence is only for append streams with a key"},
        {def->within_us < 0 || def->window_us < 0, "times must not be negative"},
        {def->within_us && (upsert || def->observer || def->occurrence),
         "within is only for append streams with a key and without occurrence"},
        {upsert && def->partition != TM_PARTITION_NONE, "an upsert stream cannot be partitioned"},
        {(def->partition == TM_PARTITION_DAY) != (def->partition_column != NULL),
         "partition by day and partition_column go together"},
        {def->partition == TM_PARTITION_HASH && (def->observer || def->within_us),
         "partition by hash is for streams with a unique key"},
        {def->later_key_count > TM_KEYS_MAX - 1, "too many keys: a stream has at most 4, one after the other"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].wrong)
            return FAULT("%s", rules[i].text);
    return TM_OK;
}

static int check_key_column(const struct tm_stream_def *def, const struct tm_stream *s, const struct tm_key *key,
                            const char *name, struct tm_error *err)
{
    int column = tm_stream_column(s, name);
    if (column < 0)
        return FAULT("key column \"%s\" is not a column of the stream", name);
    const struct tm_column *c = &s->columns[column];
    if (column == s->received_column || c->local_only)
        return FAULT("key column \"%s\" differs between gatherers, so no two copies of a record would meet", name);
    if (key_has(key, column))
        return FAULT("key column \"%s\" is named twice", name);
    if (!def->within_us && (c->type == TM_TYPE_JSONB || c->type == TM_TYPE_BYTEA))
        return FAULT("key column \"%s\": jsonb and bytea cannot be in a unique key", name);
    if (def->mode == TM_STREAM_UPSERT && !c->not_null)
        return FAULT("key column \"%s\" of an upsert stream must be not_null", name);
    return TM_OK;
}

/* A row of a btree index has at most 2704 bytes; emit.c holds key texts to TM_KEY_TEXT_BYTES_MAX. */
static int check_key_size(const struct tm_stream *s, const struct tm_key *key, struct tm_error *err)
{
    unsigned texts = 0;
    for (uint16_t i = 0; i < key->column_count; i++)
        texts += s->columns[key->columns[i]].type == TM_TYPE_TEXT;
    if (texts > TM_KEY_TEXTS_MAX)
        return FAULT("the key has %u text columns, expected at most %d: PostgreSQL could not index it", texts,
                     TM_KEY_TEXTS_MAX);
    return TM_OK;
}

/* In the order declared first, which is what duplicates are looked for in; then with the time in front. */
static int take_key_columns(const struct tm_stream_def *def, struct tm_stream *s, const char *const *names,
                            struct tm_key *key, struct tm_error *err)
{
    for (size_t i = 0; names[i]; i++) {
        int rc = check_key_column(def, s, key, names[i], err);
        if (rc)
            return rc;
        key_append(s, key, tm_stream_column(s, names[i]));
    }
    bool time_in_key = s->time_column >= 0 && key_has(key, s->time_column);
    key->column_count = 0;
    key_append(s, key, time_in_key ? s->time_column : -1);
    for (size_t i = 0; names[i]; i++)
        key_append(s, key, tm_stream_column(s, names[i]));
    return s->within_us ? TM_OK : check_key_size(s, key, err);
}

static int check_within_lead(const struct tm_stream *s, struct tm_error *err)
{
    const struct tm_column *lead = &s->columns[tm_stream_within_lead(s)];
    if (s->within_us && (lead->type == TM_TYPE_JSONB || lead->type == TM_TYPE_BYTEA))
        return FAULT("key column \"%s\": the first one of a within key must not be jsonb or bytea, or the stream needs "
                     "a ticker_column",
                     lead->name);
    return TM_OK;
}

static int take_first_key(const struct tm_stream_def *def, struct tm_stream *s, struct tm_error *err)
{
    struct tm_key *key = &s->keys[s->keys_count++];
    key->from_us = INT64_MIN;
    if (def->observer) {
        key_append(s, key, s->partition_column);
        key_append(s, key, tm_stream_column(s, "gatherer"));
        key_append(s, key, tm_stream_column(s, "epoch"));
        key_append(s, key, tm_stream_column(s, "seq"));
        return TM_OK;
    }
    key->counted = def->occurrence;
    int rc = take_key_columns(def, s, def->key, key, err);
    return rc ? rc : check_within_lead(s, err);
}

static int check_partition(const struct tm_stream *s, struct tm_error *err)
{
    if (s->partition_column < 0)
        return TM_OK;
    const struct tm_column *c = &s->columns[s->partition_column];
    if (!c->not_null)
        return FAULT("partition_column \"%s\" must be not_null: a row without it belongs to no day", c->name);
    for (uint16_t i = 0; i < s->keys_count; i++)
        if (!key_has(&s->keys[i], s->partition_column) && !s->within_us)
            return FAULT("partition_column \"%s\" must be in the key: PostgreSQL cannot keep keys unique across days "
                         "otherwise",
                         c->name);
    return TM_OK;
}

/* ---- keys that begin at a moment ---- */

const char *tm_stream_fixed_key(const struct tm_stream *s)
{
    if (s->observer)
        return "it is an observer stream, whose every row is a record of its own";
    if (s->mode == TM_STREAM_UPSERT)
        return "it is an upsert stream, whose key is the table's primary key";
    if (s->within_us)
        return "it is a within stream, whose records have no exchange time";
    if (s->time_column < 0)
        return "it names no time column, so that nobody can tell which key a record is of";
    if (s->partition == TM_PARTITION_HASH)
        return "it is partitioned by hash, and the partitions follow the key";
    if (s->partition != TM_PARTITION_DAY)
        return "it is one table, whose unique index of the first key covers all times; partition it by day";
    if (s->partition_column != s->time_column)
        return "it is partitioned by another column than its time";
    return NULL;
}

static int take_later_key(const struct tm_stream_def *def, const struct tm_key_def *later, struct tm_stream *s,
                          struct tm_error *err)
{
    struct tm_key *key = &s->keys[s->keys_count];
    if (!later->key || !later->key[0])
        return FAULT("a key is missing: name the columns that make two records the same");
    if (later->from_us < 0 || later->from_us % TM_US_PER_S)
        return FAULT(
            "from is not a whole second since 1970: the millisecond and microsecond forms of a time must stand "
            "on the same side of it");
    if (later->from_us <= s->keys[s->keys_count - 1].from_us)
        return FAULT("from must be later than that of the key before it");
    key->from_us = later->from_us;
    key->counted = later->occurrence;
    s->keys_count++;
    return take_key_columns(def, s, later->key, key, err);
}

static int take_later_keys(const struct tm_stream_def *def, struct tm_stream *s, struct tm_error *err)
{
    const char *fixed = def->later_key_count ? tm_stream_fixed_key(s) : NULL;
    if (fixed)
        return FAULT("its key cannot change at a moment of exchange time: %s", fixed);
    for (size_t i = 0; i < def->later_key_count; i++) {
        int rc = take_later_key(def, &def->later_keys[i], s, err);
        if (rc)
            return tm_error_wrap(err, "key %zu", i + 2);
    }
    return TM_OK;
}

/* ---- the whole ---- */

static const char *join_names(const struct tm_stream *s, struct tm_arena *arena)
{
    size_t len = 1;
    for (uint16_t i = 0; i < s->column_count; i++)
        len += strlen(s->columns[i].name) + 1;
    char *text = tm_arena_alloc(arena, len), *at = text;
    for (uint16_t i = 0; i < s->column_count; i++)
        at += snprintf(at, len - (size_t)(at - text), "%s%s", i ? "," : "", s->columns[i].name);
    return text;
}

static int compile(const struct tm_stream_def *def, struct tm_arena *arena, struct tm_stream *s, struct tm_error *err)
{
    int rc = check_modes(def, err);
    if (rc)
        return rc;
    s->keys = tm_arena_alloc(arena, (1 + def->later_key_count) * sizeof *s->keys);
    s->key = s->keys->columns;
    rc = take_columns(def, arena, s, err);
    if (!rc)
        rc = take_roles(def, s, err);
    if (!rc && def->within_us && s->received_column < 0)
        rc = FAULT("within needs a column received_at");
    if (!rc)
        rc = take_first_key(def, s, err);
    if (!rc)
        rc = take_later_keys(def, s, err);
    if (!rc)
        rc = check_partition(s, err);
    if (!rc)
        s->copy_columns = join_names(s, arena);
    return rc;
}

int tm_stream_compile(const struct tm_stream_def *def, size_t position, struct tm_arena *arena, struct tm_stream *out,
                      struct tm_error *err)
{
    const char *fault = name_fault(def->name, STREAM_NAME_MAX);
    if (fault)
        return FAULT("stream %zu \"%s\": %s", position + 1, def->name ? def->name : "", fault);
    *out = (struct tm_stream){
        .name = tm_arena_strdup(arena, def->name),
        .index = (uint16_t)position,
        .mode = def->mode,
        .observer = def->observer,
        .partition = def->partition,
        .within_us = def->within_us,
        .window_us = def->window_us,
        .memory_bytes_max = def->memory_bytes_max,
    };
    int rc = compile(def, arena, out, err);
    return rc ? tm_error_wrap(err, "stream \"%s\"", def->name) : TM_OK;
}
