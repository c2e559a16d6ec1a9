#include "archive/index.h"
#include "archive/unsynced.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct listing {
    struct tm_archive_index *index;
    const char *stream;
    int64_t since_us, until_us;
    struct tm_error *err;
};

void tm_archive_index_fini(struct tm_archive_index *index)
{
    free(index->entries);
    *index = (struct tm_archive_index){0};
}

static int add(struct listing *l, const char *key, struct tm_period period, unsigned part)
{
    struct tm_archive_index *x = l->index;
    if (x->count == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 256;
        struct tm_archive_entry *grown = realloc(x->entries, cap * sizeof *grown);
        if (!grown)
            return tm_error_set(l->err, TM_ENOMEM, "out of memory for the archive's index");
        x->entries = grown;
        x->cap = cap;
    }
    struct tm_archive_entry *e = &x->entries[x->count++];
    *e = (struct tm_archive_entry){.period = period, .part = part};
    (void)snprintf(e->key, sizeof e->key, "%s", key);
    return TM_OK;
}

static int add_period(void *arg, const char *key, const struct tm_object *object)
{
    struct listing *l = arg;
    struct tm_period p;
    unsigned part;
    (void)object;
    if (!tm_period_of_key(TM_ARCHIVE_MANIFEST, l->stream, key, &p, &part) || p.to_us <= l->since_us)
        return TM_OK;
    if (p.from_us >= l->until_us) /* a day after it: names come in the order of days */
        return p.from_us >= tm_period_at(l->until_us, TM_PERIOD_DAY_US).to_us ? 1 : TM_OK;
    return add(l, key, p, part);
}

static int by_time(const void *a, const void *b)
{
    const struct tm_archive_entry *x = a, *y = b;
    if (x->period.from_us != y->period.from_us)
        return x->period.from_us < y->period.from_us ? -1 : 1;
    return x->part < y->part ? -1 : x->part > y->part;
}

int tm_archive_index_stream(struct tm_archive_index *index, struct tm_target *target, const char *stream,
                            int64_t since_us, int64_t until_us, struct tm_error *err)
{
    struct listing l = {.index = index, .stream = stream, .since_us = since_us, .until_us = until_us, .err = err};
    char folder[TM_ARCHIVE_KEY], after[TM_ARCHIVE_KEY];
    size_t first = index->count;
    tm_period_stream_folder(TM_ARCHIVE_MANIFEST, stream, folder);
    if (since_us != INT64_MIN)
        tm_period_folder(TM_ARCHIVE_MANIFEST, stream, tm_period_at(since_us, TM_PERIOD_DAY_US), after);
    if (until_us == INT64_MAX)
        l.until_us = INT64_MAX - 2 * TM_PERIOD_DAY_US;
    int rc = tm_target_list(target, folder, since_us != INT64_MIN ? after : NULL, add_period, &l, err);
    if (rc < 0 && rc != TM_ENOENT)
        return rc;
    if (index->count > first)
        qsort(index->entries + first, index->count - first, sizeof *index->entries, by_time);
    return TM_OK;
}

/* "manifest/unsynced/gatherer=g1/trades/..." */
static int add_unsynced(void *arg, const char *key, const struct tm_object *object)
{
    struct listing *l = arg;
    const char *gatherer = key + sizeof TM_UNSYNCED_MANIFESTS - 1, *stream = strchr(gatherer, '/');
    size_t n = strlen(l->stream);
    (void)object;
    if (!stream || strncmp(stream + 1, l->stream, n) != 0 || stream[n + 1] != '/')
        return TM_OK;
    return add(l, key, (struct tm_period){0}, 0);
}

int tm_archive_index_unsynced(struct tm_archive_index *index, struct tm_target *target, const char *stream,
                              struct tm_error *err)
{
    struct listing l = {.index = index, .stream = stream, .err = err};
    int rc = tm_target_list(target, TM_UNSYNCED_MANIFESTS, NULL, add_unsynced, &l, err);
    return rc == TM_ENOENT ? TM_OK : rc;
}

int tm_archive_manifest(struct tm_target *target, const char *key, struct tm_manifest *out, struct tm_error *err)
{
    struct tm_buf text = {0};
    int rc = tm_target_read(target, key, TM_MANIFEST_BYTES_MAX, &text, err);
    rc = rc ? rc : tm_manifest_read(&text, out, err);
    tm_buf_fini(&text);
    return rc ? tm_error_wrap(err, "%s", key) : TM_OK;
}
