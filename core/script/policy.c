#include "script/policy.h"

#include "base/clock.h"
#include "engine/metrics.h"
#include "script/script_impl.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOAD_FACTOR 10
#define LOAD_CPU_MIN_US (50 * TM_US_PER_MS)
#define DRAIN_US (60 * TM_US_PER_S)
#define GRACE_US (10 * TM_US_PER_S)
#define TEND_US (50 * TM_US_PER_MS)
#define EVENTS_PER_TURN 1000
#define CHANGES_LOGGED_MAX 100

struct drained {
    struct tm_script *script;
    int64_t since_us; /* monotonic */
};

struct tm_policy {
    struct tm_policy_options options;
    struct tm_services *services;
    char path[PATH_MAX], directory[PATH_MAX];
    struct tm_script *script;
    struct drained draining[TM_POLICY_DRAINING_MAX]; /* the oldest first */
    size_t draining_count;
    struct tm_async events;
    struct tm_timer tend;
    bool links_pending; /* links that the running generation did not open are to be closed */
    int64_t links_due_us;
    struct tm_policy_status status;
    char last_error[sizeof((struct tm_error *)0)->message];
    struct tm_metric *generation, *successes, *failures, *last_success, *last_result, *duration;
};

/* ---- older generations, and links that nobody wants ---- */

static void close_oldest(struct tm_policy *p)
{
    struct tm_script *script = p->draining[0].script;
    if (tm_script_busy(script))
        tm_log(TM_LOG_WARN, "policy", "kept tasks of an older generation of the script are interrupted",
               TM_F_U64("generation", script->generation), TM_F_U64("tasks", tm_script_busy(script)));
    tm_log(TM_LOG_DEBUG, "policy", "generation closed", TM_F_U64("generation", script->generation));
    tm_script_destroy(script);
    p->draining_count--;
    memmove(&p->draining[0], &p->draining[1], p->draining_count * sizeof p->draining[0]);
}

static bool is_done(const struct tm_policy *p, const struct drained *d, int64_t now_us)
{
    if (tm_script_tasks(d->script) == 0)
        return true;
    return !tm_script_busy(d->script) && now_us - d->since_us >= p->options.drain_us;
}

static void close_done(struct tm_policy *p, int64_t now_us)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->draining_count; i++) {
        if (is_done(p, &p->draining[i], now_us))
            tm_script_destroy(p->draining[i].script);
        else
            p->draining[kept++] = p->draining[i];
    }
    p->draining_count = kept;
}

static void close_links(struct tm_policy *p)
{
    struct tm_services *s = p->services;
    if (tm_script_start_failed(p->script)) {
        tm_log(TM_LOG_WARN, "policy", "a handler of \"start\" failed: connections of the last generation stay open");
        return;
    }
    for (int i = 0; i < TM_LINKS_MAX; i++) {
        if (!s->links[i] || s->link_generations[i] == s->generation)
            continue;
        tm_log(TM_LOG_INFO, "policy", "connection closed: the script does not open it any more",
               TM_F_STR("connection", s->links[i]));
        tm_services_close_link(s, i);
    }
}

static void tend(void *arg)
{
    struct tm_policy *p = arg;
    int64_t now_us = tm_clock_mono_us();
    close_done(p, now_us);
    bool decided = tm_script_tasks(p->script) == 0 || now_us >= p->links_due_us;
    if (p->links_pending && tm_script_is_settled(p->script) && decided) {
        p->links_pending = false;
        close_links(p);
    }
    if (!p->draining_count && !p->links_pending)
        tm_timer_stop(&p->tend);
}

static void drain(struct tm_policy *p, struct tm_script *script)
{
    tm_script_drain(script);
    if (p->draining_count == TM_POLICY_DRAINING_MAX)
        close_oldest(p);
    p->draining[p->draining_count++] = (struct drained){script, tm_clock_mono_us()};
    close_done(p, tm_clock_mono_us());
    tm_timer_start(&p->tend, TEND_US, TEND_US);
}

/* ---- events ---- */

void tm_policy_event(struct tm_policy *p, const struct tm_event *event)
{
    const struct tm_services *s = p->services;
    bool is_ours = event->link < 0 || event->link >= TM_LINKS_MAX ||
                   (s->links[event->link] && s->link_generations[event->link] == s->generation);
    if (is_ours)
        tm_script_event(p->script, event);
    for (size_t i = 0; i < p->draining_count; i++)
        if (tm_script_busy(p->draining[i].script))
            tm_script_observe(p->draining[i].script, event);
}

/* They wait in the gatherer's queue while a new generation finds its links. */
static void on_events(void *arg)
{
    struct tm_policy *p = arg;
    struct tm_event *event = NULL;
    if (!tm_script_is_settled(p->script))
        return;
    for (int i = 0; i < EVENTS_PER_TURN && (event = tm_gatherer_next_event(p->services->gatherer)); i++) {
        tm_policy_event(p, event);
        free(event);
    }
    if (event)
        tm_async_send(&p->events); /* let the rest of the loop have its turn */
}

static void wake_events(void *arg)
{
    struct tm_policy *p = arg;
    tm_async_send(&p->events);
}

static void on_settled(void *arg)
{
    struct tm_policy *p = arg;
    p->links_due_us = tm_clock_mono_us() + p->options.grace_us;
    if (p->services->gatherer)
        tm_async_send(&p->events);
}

/* ---- life ---- */

static void make_metrics(struct tm_policy *p, struct tm_metrics *m)
{
    const char *name = "tidemill_reloads_total", *help = "Reloads of the script";
    p->successes = tm_metrics_counter(m, name, help, "result=\"success\"");
    p->failures = tm_metrics_counter(m, name, help, "result=\"failure\"");
    p->generation = tm_metrics_gauge(m, "tidemill_script_generation", "The generation of the script that runs", NULL);
    p->last_success = tm_metrics_gauge(m, "tidemill_reload_last_success_timestamp_seconds",
                                       "When the script that runs was loaded, Unix time", NULL);
    p->last_result = tm_metrics_gauge(m, "tidemill_reload_last_result",
                                      "1 if the last reload (or the start) succeeded, 0 if it failed", NULL);
    p->duration = tm_metrics_histogram(m, "tidemill_reload_duration_seconds", "Duration of reloads", NULL);
}

static const char *in_directory(const struct tm_policy *p, struct tm_script *script, const char *path)
{
    char absolute[2 * PATH_MAX];
    if (!path || path[0] == '/')
        return path;
    (void)snprintf(absolute, sizeof absolute, "%s/%s", p->directory, path);
    return tm_arena_strdup(script->arena, absolute);
}

static void resolve(const struct tm_policy *p, struct tm_script *script)
{
    struct tm_journal_options *journal = &script->config.gatherer.journal;
    journal->dir = in_directory(p, script, journal->dir);
}

int tm_policy_create(const struct tm_policy_options *options, struct tm_script *script, struct tm_policy **out,
                     struct tm_error *err)
{
    struct tm_policy *p = calloc(1, sizeof *p);
    if (!p || !getcwd(p->directory, sizeof p->directory) || strlen(options->path) >= sizeof p->path) {
        free(p);
        tm_script_destroy(script);
        return tm_error_set(err, TM_EINVAL, "policy: no memory, or the script or the directory has no usable path");
    }
    p->options = *options;
    p->options.drain_us = options->drain_us ? options->drain_us : DRAIN_US;
    p->options.grace_us = options->grace_us ? options->grace_us : GRACE_US;
    (void)snprintf(p->path, sizeof p->path, "%s", options->path);
    p->options.path = p->path;
    p->services = options->services;
    p->script = script;
    p->status.last_error = p->last_error;
    make_metrics(p, p->services->metrics);
    tm_timer_init(&p->tend, p->services->loop, tend, p);
    tm_async_init(&p->events, p->services->loop, on_events, p);
    resolve(p, script);
    *out = p;
    return TM_OK;
}

void tm_policy_destroy(struct tm_policy *p)
{
    if (!p)
        return;
    while (p->draining_count)
        close_oldest(p);
    tm_timer_stop(&p->tend);
    tm_async_fini(&p->events);
    tm_script_destroy(p->script);
    free(p);
}

struct tm_script *tm_policy_script(struct tm_policy *p)
{
    return p->script;
}

struct tm_config *tm_policy_config(struct tm_policy *p)
{
    return &p->script->config;
}

struct tm_policy_status tm_policy_status(const struct tm_policy *p)
{
    struct tm_policy_status status = p->status;
    status.draining = p->draining_count;
    return status;
}

static void adopt_plan(struct tm_services *s, const struct tm_config *config)
{
    tm_services_set_plan(s, s->gatherer       ? tm_gatherer_plan(s->gatherer)
                            : s->deduplicator ? tm_deduplicator_plan(s->deduplicator)
                                              : config->plan);
}

/* Generation `number` begins; the services are its from now on. */
static int begin(struct tm_policy *p, struct tm_script *script, uint64_t number, struct tm_error *err)
{
    adopt_plan(p->services, &script->config);
    p->services->generation = number;
    tm_script_on_settled(script, on_settled, p);
    return tm_script_start(script, p->services, err);
}

static void begun(struct tm_policy *p)
{
    p->status.generation = p->services->generation;
    tm_metric_set(p->generation, (double)p->status.generation);
    tm_metric_set(p->last_success, (double)tm_clock_wall_us() / 1e6);
    tm_metric_set(p->last_result, 1);
    if (tm_script_is_settled(p->script))
        on_settled(p);
}

int tm_policy_start(struct tm_policy *p, struct tm_error *err)
{
    int rc = begin(p, p->script, 1, err);
    if (rc)
        return rc;
    begun(p);
    if (p->services->gatherer)
        tm_gatherer_set_wake(p->services->gatherer, wake_events, p);
    return TM_OK;
}

/* ---- reload: everything before the swap ---- */

static int64_t load_budget_us(const struct tm_policy *p)
{
    int64_t us = LOAD_FACTOR * tm_script_load_cpu_us(p->script);
    return us < LOAD_CPU_MIN_US ? LOAD_CPU_MIN_US : us > TM_SCRIPT_LOAD_CPU_US ? TM_SCRIPT_LOAD_CPU_US : us;
}

static void explain_budget(struct tm_problems *problems, int64_t budget_us)
{
    char text[160];
    if (!problems->count || !strstr(problems->list[0].message, "budget of CPU time"))
        return;
    (void)snprintf(text, sizeof text,
                   "a reload may use %" PRId64
                   " ms of CPU time, ten times what the running generation took; a start may "
                   "use %" PRId64,
                   budget_us / TM_US_PER_MS, TM_SCRIPT_LOAD_CPU_US / TM_US_PER_MS);
    tm_problem_add(problems, problems->list[0].where, text);
}

static int load(struct tm_policy *p, struct tm_policy_report *report, struct tm_script **next)
{
    struct tm_script_options options = {
        .path = p->path,
        .library = p->options.library,
        .load_cpu_us = load_budget_us(p),
    };
    int rc = tm_script_load(&options, &report->problems, next);
    if (rc && !*next)
        return tm_error_set(&report->err, rc, "no memory for another generation of the script");
    explain_budget(&report->problems, options.load_cpu_us);
    if (!rc)
        resolve(p, *next);
    return rc;
}

static void fixed_text(struct tm_policy_report *report, const char *where, const char *name, const char *a,
                       const char *b)
{
    char text[400];
    if (a == b || (a && b && strcmp(a, b) == 0))
        return;
    (void)snprintf(text, sizeof text, "%s cannot change while it runs (%.100s -> %.100s): restart to apply it", name,
                   a ? a : "none", b ? b : "none");
    tm_problem_add(&report->problems, where, text);
}

static void fixed_size(struct tm_policy_report *report, const char *where, const char *name, uint64_t a, uint64_t b)
{
    char before[32] = "the default", after[32] = "the default";
    if (a)
        (void)snprintf(before, sizeof before, "%" PRIu64 " bytes", a);
    if (b)
        (void)snprintf(after, sizeof after, "%" PRIu64 " bytes", b);
    fixed_text(report, where, name, before, after);
}

static void check_fixed(struct tm_policy_report *report, const struct tm_config *a, const struct tm_config *b)
{
    static const char *const roles[] = {"none", "gatherer", "deduplicator"};
    const struct tm_journal_options *x = &a->gatherer.journal, *y = &b->gatherer.journal;
    fixed_text(report, b->where, "the role", roles[a->role], roles[b->role]);
    fixed_text(report, b->where, "id", a->id, b->id);
    fixed_text(report, b->where, "health", a->health, b->health);
    fixed_text(report, b->where, "metrics", a->metrics, b->metrics);
    fixed_text(report, b->where, "console_names", a->console_names, b->console_names);
    fixed_text(report, b->where, "socket", a->socket, b->socket);
    if (a->role != TM_CONFIG_GATHERER || b->role != TM_CONFIG_GATHERER)
        return;
    fixed_text(report, b->where, "data", x->dir, y->dir);
    fixed_size(report, b->where, "journal", x->bytes_max, y->bytes_max);
    fixed_size(report, b->where, "segment", x->segment_bytes, y->segment_bytes);
    fixed_size(report, b->where, "buffer", x->buffer_bytes_max, y->buffer_bytes_max);
}

typedef int gatherer_call(struct tm_gatherer *, const struct tm_gatherer_options *, struct tm_error *);
typedef int deduplicator_call(struct tm_deduplicator *, const struct tm_deduplicator_options *, struct tm_error *);

static int call_engine(struct tm_services *s, const struct tm_config *config, gatherer_call *gatherer,
                       deduplicator_call *deduplicator, struct tm_error *err)
{
    struct tm_gatherer_options g = config->gatherer;
    struct tm_deduplicator_options d = config->deduplicator;
    g.metrics = d.metrics = s->metrics;
    if (s->gatherer)
        return gatherer(s->gatherer, &g, err);
    return s->deduplicator ? deduplicator(s->deduplicator, &d, err) : TM_OK;
}

static int check(struct tm_policy *p, struct tm_policy_report *report, struct tm_script *next)
{
    struct tm_error err;
    const struct tm_config *config = &next->config;
    if (p->options.run_tests && p->options.run_tests(next, &report->problems) && !report->problems.count)
        tm_problem_add(&report->problems, p->path, "a test of the script failed");
    check_fixed(report, &p->script->config, config);
    if (!report->problems.count &&
        call_engine(p->services, config, tm_gatherer_check_reload, tm_deduplicator_check_reload, &err) < 0)
        tm_problem_add(&report->problems, config->where, err.message);
    return report->problems.count ? TM_EINVAL : TM_OK;
}

static int hand_over_state(struct tm_policy *p, struct tm_policy_report *report, struct tm_script *next)
{
    char *state;
    int rc = tm_script_save(p->script, &state, &report->err);
    if (rc)
        return tm_error_wrap(&report->err, "the state of the running generation cannot be kept");
    rc = tm_script_restore(next, state, &report->err);
    if (rc) {
        free(state);
        return tm_error_wrap(&report->err, "the new generation does not take the state of the running one");
    }
    free(p->services->state);
    p->services->state = state;
    return TM_OK;
}

/* ---- reload: the swap ---- */

static int go_back(struct tm_policy *p, int rc, uint64_t number)
{
    struct tm_error err;
    if (call_engine(p->services, &p->script->config, tm_gatherer_reload, tm_deduplicator_reload, &err) < 0)
        tm_log(TM_LOG_ERROR, "policy", "the engine cannot go back to the last generation", TM_F_ERR(&err));
    adopt_plan(p->services, &p->script->config);
    p->services->generation = number;
    return rc;
}

static int swap(struct tm_policy *p, struct tm_policy_report *report, struct tm_script *next)
{
    uint64_t number = p->services->generation;
    int rc = call_engine(p->services, &next->config, tm_gatherer_reload, tm_deduplicator_reload, &report->err);
    if (rc)
        return rc;
    rc = begin(p, next, number + 1, &report->err);
    if (rc)
        return go_back(p, rc, number);
    struct tm_script *last = p->script;
    p->script = next;
    p->links_pending = p->services->gatherer != NULL;
    drain(p, last);
    tm_log_set_level(next->config.log_level);
    tm_log_set_format(next->config.log_format);
    begun(p);
    return TM_OK;
}

/* ---- by hand ---- */

/* The gatherer compiles its plan itself; the deduplicator is given one. */
int tm_policy_apply(struct tm_script *script, struct tm_error *err)
{
    struct tm_config *config = &script->config, changed = *config;
    struct tm_plan *plan = NULL;
    int rc = tm_plan_compile(&config->plan_def, &plan, err);
    if (rc)
        return rc;
    changed.plan = plan;
    changed.gatherer.plan = config->plan_def;
    changed.deduplicator.plan = plan;
    rc = call_engine(script->services, &changed, tm_gatherer_reload, tm_deduplicator_reload, err);
    if (rc) {
        tm_plan_put(plan);
        return rc;
    }
    tm_plan_put(config->plan);
    *config = changed;
    adopt_plan(script->services, config);
    return TM_OK;
}

/* ---- reload: the whole ---- */

static void log_success(const struct tm_policy_report *report)
{
    tm_log(TM_LOG_INFO, "policy", report->change_count ? "reloaded" : "reloaded: nothing changed",
           TM_F_U64("generation", report->generation), TM_F_U64("changes", report->change_count),
           TM_F_I64("duration_ms", report->duration_us / TM_US_PER_MS));
    for (size_t i = 0; i < report->change_count && i < CHANGES_LOGGED_MAX; i++)
        tm_log(TM_LOG_INFO, "policy", "change", TM_F_STR("what", report->changes[i]));
}

static void log_failure(const struct tm_policy_report *report)
{
    const struct tm_problems *problems = &report->problems;
    size_t kept = problems->count < TM_PROBLEMS_MAX ? problems->count : TM_PROBLEMS_MAX;
    for (size_t i = 0; i < kept; i++)
        tm_log(TM_LOG_ERROR, "policy", "problem in the script", TM_F_STR("at", problems->list[i].where),
               TM_F_STR("error", problems->list[i].message));
    tm_log(TM_LOG_ERROR, "policy", "not reloaded: the running generation goes on",
           TM_F_U64("generation", report->generation), TM_F_ERR(&report->err),
           TM_F_I64("duration_ms", report->duration_us / TM_US_PER_MS));
}

/* One sentence of the problems, for status and logs. */
static void sum_up(struct tm_policy_report *report)
{
    const struct tm_problems *problems = &report->problems;
    if (!problems->count)
        return;
    (void)tm_error_set(&report->err, TM_EINVAL, "%s: %.600s", problems->list[0].where, problems->list[0].message);
    if (problems->count > 1) {
        size_t len = strlen(report->err.message);
        (void)snprintf(report->err.message + len, sizeof report->err.message - len, " (and %zu more)",
                       problems->count - 1);
    }
}

static void note(struct tm_policy *p, struct tm_policy_report *report, bool ok)
{
    p->status.last_us = tm_clock_wall_us();
    p->status.last_duration_us = report->duration_us;
    p->status.last_ok = ok;
    tm_metric_observe_us(p->duration, report->duration_us);
    tm_metric_add(ok ? p->successes : p->failures, 1);
    report->generation = p->status.generation;
    if (ok) {
        p->status.succeeded++;
        log_success(report);
        return;
    }
    p->status.failed++;
    sum_up(report);
    tm_metric_set(p->last_result, 0);
    (void)snprintf(p->last_error, sizeof p->last_error, "%s", report->err.message);
    log_failure(report);
}

int tm_policy_reload(struct tm_policy *p, struct tm_policy_report *report)
{
    int64_t begun_us = tm_clock_mono_us();
    struct tm_script *next = NULL;
    *report = (struct tm_policy_report){.arena = tm_arena_create()};
    report->problems.arena = report->arena;
    int rc = load(p, report, &next);
    if (!rc)
        rc = check(p, report, next);
    if (!rc) {
        report->change_count = tm_facts_diff(&p->script->facts, &next->facts, report->arena, &report->changes);
        rc = hand_over_state(p, report, next);
    }
    if (!rc)
        rc = swap(p, report, next);
    if (rc)
        tm_script_destroy(next);
    report->duration_us = tm_clock_mono_us() - begun_us;
    note(p, report, !rc);
    return rc;
}

void tm_policy_report_fini(struct tm_policy_report *report)
{
    tm_arena_destroy(report->arena);
    *report = (struct tm_policy_report){0};
}
