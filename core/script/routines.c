#include "script/routines.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNNING_MAX 4
#define WAITING_MAX 200
#define RECENT_MAX 20

struct step {
    int64_t at_us;
    char text[240];
};

enum place { WAITING, RUNNING, RECENT };

struct node {
    struct tm_run run; /* its strings are owned here */
    struct node *next; /* oldest first */
    enum place place;
    const void *owner; /* while running */
    int64_t queued_us, ended_us, not_before_us;
    char result[16], *error;
    struct step *steps; /* TM_RUN_STEPS_MAX, a ring; made with the first step */
    size_t step_count;  /* ever */
};

struct list {
    struct node *head, **tail;
    size_t count;
};

struct tm_routines {
    struct list lists[3];
    const void *owner;
    size_t running_max, waiting_max;
    uint64_t last_id, coalesced, dropped;
    struct tm_metrics *metrics;
    struct tm_metric *running, *waiting;
};

/* ---- nodes and lists ---- */

static char *copy(const char *s)
{
    char *c = s ? strdup(s) : NULL;
    TM_FATAL_UNLESS(c || !s);
    return c;
}

static void replace(const char **where, const char *with)
{
    char *c = copy(with);
    free((void *)(uintptr_t)*where);
    *where = c;
}

static void node_free(struct node *n)
{
    replace(&n->run.routine, NULL);
    replace(&n->run.subject, NULL);
    replace(&n->run.event, NULL);
    replace(&n->run.fields, NULL);
    replace(&n->run.saved, NULL);
    free(n->error);
    free(n->steps);
    free(n);
}

static void put(struct tm_routines *r, struct node *n, enum place place)
{
    struct list *l = &r->lists[place];
    n->place = place;
    n->next = NULL;
    *l->tail = n;
    l->tail = &n->next;
    l->count++;
}

static struct node *take(struct tm_routines *r, struct node *n)
{
    struct list *l = &r->lists[n->place];
    struct node **at = &l->head;
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    if (!n->next)
        l->tail = at;
    l->count--;
    return n;
}

static void publish(struct tm_routines *r)
{
    tm_metric_set(r->running, (double)r->lists[RUNNING].count);
    tm_metric_set(r->waiting, (double)r->lists[WAITING].count);
}

static struct node *find(const struct tm_routines *r, enum place place, const char *routine, const char *subject)
{
    struct node *n = r->lists[place].head;
    while (n && (strcmp(n->run.routine, routine) != 0 || strcmp(n->run.subject, subject) != 0))
        n = n->next;
    return n;
}

static struct node *find_id(const struct tm_routines *r, enum place place, uint64_t id)
{
    struct node *n = r->lists[place].head;
    while (n && n->run.id != id)
        n = n->next;
    return n;
}

/* ---- life ---- */

struct tm_routines *tm_routines_create(struct tm_metrics *metrics)
{
    struct tm_routines *r = calloc(1, sizeof *r);
    TM_FATAL_UNLESS(r);
    for (int i = 0; i < 3; i++)
        r->lists[i].tail = &r->lists[i].head;
    r->running_max = RUNNING_MAX;
    r->waiting_max = WAITING_MAX;
    r->metrics = metrics;
    r->running = tm_metrics_gauge(metrics, "tidemill_recovery_running", "Recovery routines under way.", NULL);
    r->waiting =
        tm_metrics_gauge(metrics, "tidemill_recovery_waiting", "Recovery routines that wait their turn.", NULL);
    return r;
}

void tm_routines_destroy(struct tm_routines *r)
{
    if (!r)
        return;
    for (int i = 0; i < 3; i++)
        while (r->lists[i].head)
            node_free(take(r, r->lists[i].head));
    free(r);
}

void tm_routines_open(struct tm_routines *r, const void *owner, size_t running_max, size_t waiting_max)
{
    r->owner = owner;
    r->running_max = running_max ? running_max : RUNNING_MAX;
    r->waiting_max = waiting_max ? waiting_max : WAITING_MAX;
}

/* Names are letters, digits, '_', '-' and '.': the library sees to it, and what is not is left out here. */
static void count(struct tm_routines *r, const char *routine, const char *result)
{
    char labels[160];
    if (strpbrk(routine, "\"\\\n") || strlen(routine) > 64)
        return;
    (void)snprintf(labels, sizeof labels, "routine=\"%s\",result=\"%s\"", routine, result);
    tm_metric_add(tm_metrics_counter(r->metrics, "tidemill_recovery_runs_total", "Runs of recovery routines.", labels),
                  1);
}

/* ---- waiting ---- */

static bool is_before(const struct node *a, const struct node *b)
{
    return a->run.priority < b->run.priority; /* the list is in order of age */
}

static struct node *least_urgent(const struct tm_routines *r)
{
    struct node *worst = r->lists[WAITING].head;
    for (struct node *n = worst; n; n = n->next)
        if (!is_before(n, worst))
            worst = n;
    return worst;
}

static struct node *node_create(struct tm_routines *r, const struct tm_run_offer *o, int64_t wall_us)
{
    struct node *n = calloc(1, sizeof *n);
    uint8_t id[16];
    TM_FATAL_UNLESS(n);
    tm_random_bytes(id, sizeof id);
    for (size_t i = 0, at = 0; i < sizeof id; i++)
        at += (size_t)snprintf(n->run.uuid + at, sizeof n->run.uuid - at, "%s%02x",
                               i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
    n->run.id = ++r->last_id;
    n->run.routine = copy(o->routine);
    n->run.subject = copy(o->subject);
    n->run.event = copy(o->event);
    n->run.fields = copy(o->fields);
    n->run.saved = copy(o->saved);
    n->run.priority = o->priority;
    n->run.dry = o->dry;
    n->run.attempt = o->attempt;
    n->not_before_us = o->not_before_us;
    n->queued_us = wall_us;
    return n;
}

static void drop(struct tm_routines *r, struct node *n)
{
    r->dropped++;
    count(r, n->run.routine, "dropped");
    tm_log(TM_LOG_ERROR, "recovery", "too many recovery runs wait: one was dropped",
           TM_F_STR("routine", n->run.routine), TM_F_STR("subject", n->run.subject), TM_F_STR("event", n->run.event));
    node_free(n);
}

enum tm_run_offered tm_routines_offer(struct tm_routines *r, const struct tm_run_offer *o, int64_t wall_us)
{
    struct node *n = find(r, WAITING, o->routine, o->subject);
    if (n) {
        replace(&n->run.fields, o->fields);
        replace(&n->run.event, o->event);
        if (o->saved)
            replace(&n->run.saved, o->saved);
        n->run.priority = o->priority < n->run.priority ? o->priority : n->run.priority;
        n->run.dry = n->run.dry && o->dry;
        r->coalesced++;
        return TM_RUN_COALESCED;
    }
    bool runs = find(r, RUNNING, o->routine, o->subject) != NULL;
    n = node_create(r, o, wall_us);
    put(r, n, WAITING);
    bool lost = false;
    if (r->lists[WAITING].count > r->waiting_max) {
        struct node *worst = least_urgent(r);
        lost = worst == n;
        drop(r, take(r, worst));
    }
    publish(r);
    if (lost)
        return TM_RUN_DROPPED;
    r->coalesced += runs;
    return runs ? TM_RUN_COALESCED : TM_RUN_QUEUED;
}

const char *tm_routines_pending(const struct tm_routines *r, const char *routine, const char *subject)
{
    const struct node *n = find(r, WAITING, routine, subject);
    return n ? n->run.fields : NULL;
}

char *tm_routines_take(struct tm_routines *r, const char *routine, const char *subject)
{
    struct node *n = find(r, WAITING, routine, subject);
    if (!n)
        return NULL;
    char *fields = copy(n->run.fields);
    node_free(take(r, n));
    publish(r);
    return fields;
}

/* ---- running ---- */

const struct tm_run *tm_routines_next(const struct tm_routines *r, const void *owner, int64_t now_us)
{
    const struct node *best = NULL;
    if (owner != r->owner || r->lists[RUNNING].count >= r->running_max)
        return NULL;
    for (struct node *n = r->lists[WAITING].head; n; n = n->next)
        if (n->not_before_us <= now_us && (!best || is_before(n, best)) &&
            !find(r, RUNNING, n->run.routine, n->run.subject))
            best = n;
    return best ? &best->run : NULL;
}

void tm_routines_start(struct tm_routines *r, uint64_t id, const void *owner, int64_t wall_us)
{
    struct node *n = find_id(r, WAITING, id);
    if (!n)
        return;
    put(r, take(r, n), RUNNING);
    n->owner = owner;
    n->run.started_us = wall_us;
    publish(r);
}

const struct tm_run *tm_routines_find(const struct tm_routines *r, uint64_t id)
{
    const struct node *n = find_id(r, RUNNING, id);
    return n ? &n->run : NULL;
}

void tm_routines_step(struct tm_routines *r, uint64_t id, const char *text, int64_t wall_us)
{
    struct node *n = find_id(r, RUNNING, id);
    if (!n)
        return;
    if (!n->steps)
        n->steps = calloc(TM_RUN_STEPS_MAX, sizeof *n->steps);
    TM_FATAL_UNLESS(n->steps);
    struct step *s = &n->steps[n->step_count++ % TM_RUN_STEPS_MAX];
    s->at_us = wall_us;
    (void)snprintf(s->text, sizeof s->text, "%s", text);
}

void tm_routines_save(struct tm_routines *r, uint64_t id, const char *saved)
{
    struct node *n = find_id(r, RUNNING, id);
    if (n)
        replace(&n->run.saved, saved);
}

void tm_routines_end(struct tm_routines *r, uint64_t id, const char *result, const char *error, int64_t wall_us)
{
    struct node *n = find_id(r, RUNNING, id);
    if (!n)
        return;
    count(r, n->run.routine, result);
    (void)snprintf(n->result, sizeof n->result, "%s", result);
    n->error = copy(error);
    n->ended_us = wall_us;
    n->owner = NULL;
    put(r, take(r, n), RECENT);
    if (r->lists[RECENT].count > RECENT_MAX)
        node_free(take(r, r->lists[RECENT].head));
    publish(r);
}

size_t tm_routines_cancel(struct tm_routines *r, const char *routine, const char *subject)
{
    size_t found = 0;
    for (int place = WAITING; place <= RUNNING; place++) {
        for (struct node *n = r->lists[place].head, *next; n; n = next) {
            next = n->next;
            if (strcmp(n->run.routine, routine) != 0 || (subject && strcmp(n->run.subject, subject) != 0))
                continue;
            found++;
            n->run.cancelled = true;
            if (place == WAITING)
                node_free(take(r, n));
        }
    }
    publish(r);
    return found;
}

void tm_routines_abandon(struct tm_routines *r, const void *owner, int64_t wall_us)
{
    for (struct node *n = r->lists[RUNNING].head, *next; n; n = next) {
        next = n->next;
        if (n->owner != owner)
            continue;
        struct tm_run_offer again = {.routine = n->run.routine,
                                     .subject = n->run.subject,
                                     .event = n->run.event,
                                     .fields = n->run.fields,
                                     .saved = n->run.saved,
                                     .priority = n->run.priority,
                                     .dry = n->run.dry,
                                     .attempt = n->run.attempt};
        tm_log(TM_LOG_WARN, "recovery", "a run was interrupted with its script and begins again",
               TM_F_STR("routine", n->run.routine), TM_F_STR("subject", n->run.subject));
        bool known = n->run.cancelled || find(r, WAITING, n->run.routine, n->run.subject);
        if (!known)
            (void)tm_routines_offer(r, &again, wall_us);
        tm_routines_end(r, n->run.id, n->run.cancelled ? "cancelled" : "interrupted", NULL, wall_us);
    }
}

size_t tm_routines_running(const struct tm_routines *r)
{
    return r->lists[RUNNING].count;
}

size_t tm_routines_waiting(const struct tm_routines *r)
{
    return r->lists[WAITING].count;
}

/* ---- status ---- */

static int put_field(struct tm_buf *out, const char *name, const char *value)
{
    int rc = tm_buf_printf(out, ",\"%s\":", name);
    return rc ? rc : tm_json_put_string(out, value);
}

static int put_steps(const struct node *n, struct tm_buf *out)
{
    size_t kept = n->step_count < TM_RUN_STEPS_MAX ? n->step_count : TM_RUN_STEPS_MAX;
    int rc = tm_buf_printf(out, ",\"step_count\":%zu,\"steps\":[", n->step_count);
    for (size_t i = n->step_count - kept; !rc && i < n->step_count; i++) {
        const struct step *s = &n->steps[i % TM_RUN_STEPS_MAX];
        rc = tm_buf_printf(out, "%s{\"at\":%" PRId64 ",\"text\":", i > n->step_count - kept ? "," : "", s->at_us);
        rc = rc ? rc : tm_json_put_string(out, s->text);
        rc = rc ? rc : tm_buf_append(out, "}", 1);
    }
    return rc ? rc : tm_buf_append(out, "]", 1);
}

static int put_run(const struct node *n, struct tm_buf *out)
{
    static const char *const states[] = {"waiting", "running", ""};
    int rc = tm_buf_printf(out, "{\"id\":%" PRIu64 ",\"run_id\":\"%s\",\"priority\":%d,\"dry\":%s,\"attempt\":%" PRIu32,
                           n->run.id, n->run.uuid, n->run.priority, n->run.dry ? "true" : "false", n->run.attempt);
    rc = rc ? rc : put_field(out, "routine", n->run.routine);
    rc = rc ? rc : put_field(out, "subject", n->run.subject);
    rc = rc ? rc : put_field(out, "event", n->run.event);
    rc = rc ? rc : put_field(out, "state", n->place == RECENT ? n->result : states[n->place]);
    rc = rc ? rc
            : tm_buf_printf(out, ",\"queued\":%" PRId64 ",\"started\":%" PRId64 ",\"ended\":%" PRId64, n->queued_us,
                            n->run.started_us, n->ended_us);
    rc = rc || !n->run.cancelled ? rc : tm_buf_printf(out, ",\"cancelled\":true");
    rc = rc || !n->error ? rc : put_field(out, "error", n->error);
    rc = rc ? rc : put_steps(n, out);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

static int put_list(const struct list *l, const char *name, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "\"%s\":[", name);
    for (const struct node *n = l->head; !rc && n; n = n->next) {
        rc = tm_buf_append(out, ",", n == l->head ? 0 : 1);
        rc = rc ? rc : put_run(n, out);
    }
    return rc ? rc : tm_buf_append(out, "],", 2);
}

int tm_routines_status(const struct tm_routines *r, struct tm_buf *out)
{
    int rc = tm_buf_append(out, "{", 1);
    rc = rc ? rc : put_list(&r->lists[RUNNING], "running", out);
    rc = rc ? rc : put_list(&r->lists[WAITING], "waiting", out);
    rc = rc ? rc : put_list(&r->lists[RECENT], "recent", out);
    return rc ? rc : tm_buf_printf(out, "\"coalesced\":%" PRIu64 ",\"dropped\":%" PRIu64 "}", r->coalesced, r->dropped);
}
