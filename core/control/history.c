#include "control/history.h"

#include "base/clock.h"
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 104

struct series {
    char name[NAME_BYTES];
    uint64_t noted; /* the turn */
    float values[TM_HISTORY_SECONDS];
};

struct reading {
    int64_t at_us;
    double value;
};

struct counter {
    char name[NAME_BYTES];
    uint64_t noted;
    size_t count;                                   /* ever */
    struct reading readings[TM_HISTORY_WINDOW + 1]; /* a ring */
};

struct tm_history {
    uint64_t turn; /* the one under way, from 0 */
    size_t series_count, counter_count;
    struct series series[TM_HISTORY_SERIES_MAX];
    struct counter counters[TM_HISTORY_COUNTERS_MAX];
};

struct tm_history *tm_history_create(void)
{
    struct tm_history *h = calloc(1, sizeof *h);
    TM_FATAL_UNLESS(h);
    return h;
}

void tm_history_destroy(struct tm_history *h)
{
    free(h);
}

/* ---- rates ---- */

static const struct counter *find_counter(const struct tm_history *h, const char *name)
{
    for (size_t i = 0; i < h->counter_count; i++)
        if (strcmp(h->counters[i].name, name) == 0)
            return &h->counters[i];
    return NULL;
}

/* A new one, perhaps in the place of one that nobody uses any more; NULL: there is no room. */
static struct counter *make_counter(struct tm_history *h, const char *name)
{
    struct counter *c = NULL;
    if (h->counter_count < TM_HISTORY_COUNTERS_MAX)
        c = &h->counters[h->counter_count++];
    for (size_t i = 0; !c && i < h->counter_count; i++)
        if (h->turn - h->counters[i].noted >= TM_HISTORY_SECONDS)
            c = &h->counters[i];
    if (c)
        *c = (struct counter){0};
    if (c)
        strcpy(c->name, name);
    return c;
}

static const struct reading *reading_back(const struct counter *c, size_t back)
{
    return &c->readings[(c->count - 1 - back) % (TM_HISTORY_WINDOW + 1)];
}

void tm_history_count(struct tm_history *h, const char *counter, double value, int64_t now_us)
{
    if (strlen(counter) >= NAME_BYTES)
        return;
    struct counter *c = (struct counter *)(uintptr_t)find_counter(h, counter);
    c = c ? c : make_counter(h, counter);
    if (!c)
        return;
    if (c->count && value < reading_back(c, 0)->value)
        c->count = 0;
    c->readings[c->count++ % (TM_HISTORY_WINDOW + 1)] = (struct reading){now_us, value};
    c->noted = h->turn;
}

double tm_history_rate(const struct tm_history *h, const char *counter, int seconds)
{
    const struct counter *c = find_counter(h, counter);
    if (!c || c->count < 2)
        return 0;
    size_t back = c->count - 1;
    back = back < TM_HISTORY_WINDOW ? back : TM_HISTORY_WINDOW;
    back = back < (size_t)seconds ? back : (size_t)seconds;
    const struct reading *newest = reading_back(c, 0), *oldest = reading_back(c, back);
    int64_t elapsed_us = newest->at_us - oldest->at_us;
    return elapsed_us > 0 ? (newest->value - oldest->value) * TM_US_PER_S / (double)elapsed_us : 0;
}

/* ---- figures ---- */

static struct series *find_series(struct tm_history *h, const char *name)
{
    struct series *stale = NULL;
    for (size_t i = 0; i < h->series_count; i++) {
        if (strcmp(h->series[i].name, name) == 0)
            return &h->series[i];
        if (h->turn - h->series[i].noted >= TM_HISTORY_SECONDS)
            stale = &h->series[i];
    }
    struct series *s = h->series_count < TM_HISTORY_SERIES_MAX ? &h->series[h->series_count++] : stale;
    if (!s || strlen(name) >= NAME_BYTES)
        return NULL;
    strcpy(s->name, name);
    for (size_t i = 0; i < TM_HISTORY_SECONDS; i++)
        s->values[i] = NAN;
    return s;
}

void tm_history_note(struct tm_history *h, const char *figure, double value)
{
    struct series *s = find_series(h, figure);
    if (!s)
        return;
    s->values[h->turn % TM_HISTORY_SECONDS] = (float)value;
    s->noted = h->turn;
}

void tm_history_turn(struct tm_history *h)
{
    h->turn++;
    for (size_t i = 0; i < h->series_count; i++)
        h->series[i].values[h->turn % TM_HISTORY_SECONDS] = NAN;
}

static void put_values(struct tm_json *j, const struct tm_history *h, const struct series *s)
{
    uint64_t from = h->turn > TM_HISTORY_SECONDS - 1 ? h->turn - (TM_HISTORY_SECONDS - 1) : 0;
    tm_json_add(j, ":[");
    for (uint64_t t = from; t < h->turn; t++) {
        double v = s->values[t % TM_HISTORY_SECONDS];
        if (isfinite(v))
            tm_json_add(j, "%s%.4g", t == from ? "" : ",", v);
        else
            tm_json_add(j, "%snull", t == from ? "" : ",");
    }
    tm_json_add(j, "]");
}

int tm_history_put_latest(const struct tm_history *h, struct tm_buf *out)
{
    struct tm_json j = {.out = out};
    const char *comma = "";
    tm_json_add(&j, "{");
    for (size_t i = 0; h->turn && i < h->series_count; i++) {
        double v = h->series[i].values[(h->turn - 1) % TM_HISTORY_SECONDS];
        if (!isfinite(v))
            continue;
        tm_json_add(&j, "%s", comma);
        if (!j.rc)
            j.rc = tm_json_put_string(out, h->series[i].name);
        tm_json_add(&j, ":%.4g", v);
        comma = ",";
    }
    tm_json_add(&j, "}");
    return j.rc;
}

int tm_history_put(const struct tm_history *h, struct tm_buf *out)
{
    struct tm_json j = {.out = out};
    tm_json_add(&j, "{\"step_s\":1,\"figures\":{");
    for (size_t i = 0; i < h->series_count; i++) {
        tm_json_add(&j, i ? "," : "");
        if (!j.rc)
            j.rc = tm_json_put_string(out, h->series[i].name);
        put_values(&j, h, &h->series[i]);
    }
    tm_json_add(&j, "}}");
    return j.rc;
}
