#include "script/changes.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct change {
    int64_t at_us;
    uint64_t generation;
    char who[64], what[1000], keep[1000];
};

struct tm_changes {
    struct change *ring; /* TM_CHANGES_MAX; made with the first */
    size_t count;        /* ever */
    char who[64];
};

struct tm_changes *tm_changes_create(void)
{
    struct tm_changes *c = calloc(1, sizeof *c);
    TM_FATAL_UNLESS(c);
    return c;
}

void tm_changes_destroy(struct tm_changes *c)
{
    if (!c)
        return;
    free(c->ring);
    free(c);
}

void tm_changes_set_who(struct tm_changes *c, const char *who)
{
    (void)snprintf(c->who, sizeof c->who, "%s", who ? who : "");
}

void tm_changes_note(struct tm_changes *c, uint64_t generation, const char *what, const char *keep)
{
    if (!c->ring)
        c->ring = calloc(TM_CHANGES_MAX, sizeof *c->ring);
    TM_FATAL_UNLESS(c->ring);
    struct change *change = &c->ring[c->count++ % TM_CHANGES_MAX];
    *change = (struct change){.at_us = tm_clock_wall_us(), .generation = generation};
    (void)snprintf(change->who, sizeof change->who, "%s", c->who);
    (void)snprintf(change->what, sizeof change->what, "%s", what);
    (void)snprintf(change->keep, sizeof change->keep, "%s", keep ? keep : "");
    tm_log(TM_LOG_WARN, "session", "changed by hand", TM_F_STR("what", change->what), TM_F_STR("who", change->who));
}

static size_t first_kept(const struct tm_changes *c)
{
    return c->count > TM_CHANGES_MAX ? c->count - TM_CHANGES_MAX : 0;
}

size_t tm_changes_count(const struct tm_changes *c, uint64_t generation)
{
    size_t count = 0;
    for (size_t i = first_kept(c); i < c->count; i++)
        count += c->ring[i % TM_CHANGES_MAX].generation == generation;
    return count;
}

static int put_change(const struct change *change, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "{\"at\":%" PRId64 ",\"generation\":%" PRIu64 ",\"who\":", change->at_us,
                           change->generation);
    rc = rc ? rc : tm_json_put_string(out, change->who);
    rc = rc ? rc : tm_buf_printf(out, ",\"what\":");
    rc = rc ? rc : tm_json_put_string(out, change->what);
    rc = rc ? rc : tm_buf_printf(out, ",\"keep\":");
    rc = rc ? rc : tm_json_put_string(out, change->keep);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

int tm_changes_put(const struct tm_changes *c, struct tm_buf *out)
{
    int rc = tm_buf_append(out, "[", 1);
    for (size_t i = first_kept(c); !rc && i < c->count; i++) {
        rc = i > first_kept(c) ? tm_buf_append(out, ",", 1) : TM_OK;
        rc = rc ? rc : put_change(&c->ring[i % TM_CHANGES_MAX], out);
    }
    return rc ? rc : tm_buf_append(out, "]", 1);
}
