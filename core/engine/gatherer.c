#include "base/clock.h"
#include "base/log.h"
#include "engine/gatherer_private.h"

#include <stdlib.h>
#include <string.h>

#define COMMANDS_MAX 65536
#define DURABLE_WAIT_US (2 * TM_US_PER_S)
#define GROUP_US (10 * TM_US_PER_MS) /* of which fdatasync takes half on a disk that is not quick (MEASURED.md) */
#define EVENTS_MAX 65536

/* ---- events ---- */

const char *tm_event_type_name(enum tm_event_type type)
{
    static const char *const names[] = {"link_up", "link_down", "subscribed", "unsubscribed", "gap",
                                        "error",   "frame",     "unknown",    "row"};
    return names[type];
}

void tm_gatherer_set_wake(struct tm_gatherer *g, void (*wake)(void *arg), void *arg)
{
    g->wake_arg = arg;
    g->wake = wake;
}

/* The number is another link's by now. */
static bool is_late(const struct tm_gatherer *g, const struct tm_event *e)
{
    return e->link >= 0 && e->generation != g->link_generation[e->link];
}

struct tm_event *tm_gatherer_next_event(struct tm_gatherer *g)
{
    struct tm_event *e;
    while ((e = tm_queue_try_take(g->events)) && is_late(g, e))
        free(e);
    if (!e)
        tm_gatherer_free_spent(g);
    return e;
}

/* ---- start and stop ---- */

void tm_command_free(struct tm_command *c)
{
    free(c->name);
    free(c->url);
    free(c->ca_file);
    free(c->user_agent);
    tm_auth_put(c->ws.auth);
    if (c->stream)
        tm_plan_put(c->stream->plan);
    tm_buf_fini(&c->bytes);
    free(c);
}

static void wake_io(void *arg)
{
    struct tm_gatherer *g = arg;
    tm_async_send(&g->commands_ready);
}

/* On the journal thread; the lock keeps the writer from going away under the call. */
static void on_durable(void *arg, int64_t oldest_us)
{
    struct tm_gatherer *g = arg;
    if (oldest_us) /* 0: a segment that was cut back, nothing new */
        tm_metric_observe_us(g->durable, tm_clock_mono_us() - oldest_us);
    pthread_mutex_lock(&g->lock);
    if (g->writer)
        tm_writer_wake(g->writer);
    pthread_mutex_unlock(&g->lock);
}

static int open_plan(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    struct tm_journal_options journal = options->journal;
    journal.group_us = GROUP_US;
    int rc = tm_journal_open(&journal, &g->journal, err);
    struct tm_plan *plan = NULL;
    rc = rc ? rc : tm_gatherer_compile(g, options, &plan, err);
    g->plan = plan;
    return rc;
}

static int open_writer(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    struct tm_writer_options w = tm_gatherer_writer_options(g, options);
    int rc = tm_writer_start(&w, &g->writer, err);
    if (!rc)
        tm_journal_set_wake(g->journal, on_durable, g);
    return rc;
}

/* The writer ends with what is durable, so the last rows get their chance to become that first. */
static void close_writer(struct tm_gatherer *g)
{
    if (!g->writer)
        return;
    if (tm_journal_wait(g->journal, DURABLE_WAIT_US))
        tm_log(TM_LOG_WARN, "gatherer", "the journal is slow; its last rows will be stored at the next start");
    pthread_mutex_lock(&g->lock);
    struct tm_writer *writer = g->writer;
    g->writer = NULL;
    pthread_mutex_unlock(&g->lock);
    tm_writer_stop(writer);
}

static void gatherer_free(struct tm_gatherer *g)
{
    struct tm_error err;
    tm_gatherer_io_close(g);
    close_writer(g);
    if (g->journal && tm_journal_close(g->journal, &err))
        tm_log(TM_LOG_ERROR, "gatherer", "the journal did not close whole", TM_F_ERR(&err));
    for (struct tm_command *c; (c = tm_queue_try_take(g->commands));)
        tm_command_free(c);
    for (struct tm_event *e; (e = tm_queue_try_take(g->events));)
        free(e);
    tm_gap_log_destroy(g->gap_log);
    tm_queue_destroy(g->commands);
    tm_queue_destroy(g->events);
    tm_gatherer_free_spent(g);
    for (struct tm_gatherer_change *c; (c = g->changes);) {
        g->changes = c->next;
        tm_gatherer_change_destroy(c);
    }
    tm_plan_put(g->plan);
    pthread_mutex_destroy(&g->lock);
    free((void *)(uintptr_t)g->journal_options.dir);
    free(g->id);
    free(g->reconnect_codes);
    free(g);
}

int tm_gatherer_start(const struct tm_gatherer_options *options, struct tm_gatherer **out, struct tm_error *err)
{
    struct tm_gatherer *g = calloc(1, sizeof *g);
    if (!g)
        return tm_error_set(err, TM_ENOMEM, "gatherer: out of memory");
    pthread_mutex_init(&g->lock, NULL);
    g->started_us = tm_clock_mono_us();
    g->metrics = options->metrics;
    tm_gatherer_keep_fixed(g, options);
    g->gap_log = tm_gap_log_create();
    g->commands = tm_queue_create(COMMANDS_MAX, TM_GATHERER_COMMAND_BYTES);
    g->events = tm_queue_create(EVENTS_MAX, TM_GATHERER_EVENT_BYTES);
    g->events_dropped = tm_metrics_counter(options->metrics, "tidemill_events_dropped_total",
                                           "Events that policy did not take in time.", NULL);
    g->connected =
        tm_metrics_gauge(options->metrics, "ws_client_connected", "WebSocket connections that are up.", NULL);
    g->durable = tm_metrics_histogram(
        options->metrics, "tidemill_append_to_durable_seconds",
        "From a record's arrival to its fdatasync in the journal, oldest record of each group.", NULL);
    int rc = open_plan(g, options, err);
    rc = rc ? rc : tm_gatherer_io_open(g, options, err);
    rc = rc ? rc : open_writer(g, options, err);
    if (!rc && pthread_create(&g->thread, NULL, tm_gatherer_io_main, g))
        rc = tm_error_set(err, TM_ENOMEM, "gatherer: cannot start the io thread");
    if (rc) {
        gatherer_free(g);
        return rc;
    }
    tm_queue_set_wake(g->commands, wake_io, g);
    *out = g;
    return TM_OK;
}

static int command_send(struct tm_gatherer *g, struct tm_command *c)
{
    int rc = tm_queue_try_put(g->commands, c, sizeof *c + c->bytes.len);
    if (rc)
        tm_command_free(c);
    return rc;
}

/* What must not be lost waits for room, which comes soon: io empties the queue without ever waiting itself. */
static void command_send_surely(struct tm_gatherer *g, struct tm_command *c)
{
    if (tm_queue_put(g->commands, c, sizeof *c + c->bytes.len))
        tm_command_free(c);
}

static struct tm_command *command_create(enum tm_command_type type, int link)
{
    struct tm_command *c = calloc(1, sizeof *c);
    TM_FATAL_UNLESS(c);
    c->type = type;
    c->link = link;
    return c;
}

void tm_gatherer_stop(struct tm_gatherer *g)
{
    /* the queue may be full of frames to send: what has to be said now does not wait behind them */
    while (command_send(g, command_create(TM_COMMAND_STOP, -1)))
        tm_command_free(tm_queue_try_take(g->commands));
    pthread_join(g->thread, NULL);
    gatherer_free(g);
}

const struct tm_plan *tm_gatherer_plan(const struct tm_gatherer *g)
{
    return g->plan;
}

int64_t tm_gatherer_newest_us(const struct tm_gatherer *g, size_t stream)
{
    return tm_newest_get(tm_intake_newest(g->intake), tm_plan_stream(g->plan, stream)->name);
}

/* ---- what policy asks for ---- */

static char *copy_string(const char *s)
{
    char *copy = s ? strdup(s) : NULL;
    TM_FATAL_UNLESS(copy || !s);
    return copy;
}

/* Numbers that io has let go of first, so that they stay small. TM_EFULL: all are taken, or not let go of yet. */
static int free_number(struct tm_gatherer *g)
{
    int number = -1;
    pthread_mutex_lock(&g->lock);
    for (int i = 0; i < g->link_count; i++) {
        if (g->link_vacated[i])
            g->link_use[i] = TM_LINK_UNUSED;
        g->link_vacated[i] = false;
        if (number < 0 && g->link_use[i] == TM_LINK_UNUSED)
            number = i;
    }
    pthread_mutex_unlock(&g->lock);
    if (number < 0 && g->link_count < TM_GATHERER_LINKS_MAX)
        number = g->link_count;
    return number < 0 ? TM_EFULL : number;
}

static bool is_used(const struct tm_gatherer *g, int link)
{
    return link >= 0 && link < g->link_count && g->link_use[link] == TM_LINK_USED;
}

static void copy_link(struct tm_command *c, const struct tm_gatherer_link *link)
{
    c->ws = link->ws;
    c->ws.auth = tm_auth_take(link->ws.auth);
    c->name = copy_string(link->name);
    c->ws.url = c->url = copy_string(link->ws.url);
    c->ws.ca_file = c->ca_file = copy_string(link->ws.ca_file);
    c->ws.user_agent = c->user_agent = copy_string(link->ws.user_agent);
    c->quiet_us = link->quiet_us;
    c->listed = link->listed;
}

int tm_gatherer_link_add(struct tm_gatherer *g, const struct tm_gatherer_link *link, struct tm_error *err)
{
    int rc = tm_ws_check_url(link->ws.url, err);
    if (rc)
        return rc;
    int number = free_number(g);
    if (number < 0)
        return tm_error_set(err, TM_EFULL, "link %s: at most %d connections, with those that are closing; use fewer",
                            link->name, TM_GATHERER_LINKS_MAX);
    struct tm_command *c = command_create(TM_COMMAND_ADD, number);
    copy_link(c, link);
    c->generation = g->link_generation[number] + 1;
    rc = command_send(g, c);
    if (rc)
        return tm_error_set(err, rc, "link %s: the io thread's queue is full; try again", link->name);
    g->link_use[number] = TM_LINK_USED;
    g->link_generation[number]++;
    g->link_count = number < g->link_count ? g->link_count : number + 1;
    return number;
}

void tm_gatherer_link_remove(struct tm_gatherer *g, int link)
{
    if (!is_used(g, link))
        return;
    g->link_use[link] = TM_LINK_LEAVING;
    command_send_surely(g, command_create(TM_COMMAND_REMOVE, link));
}

int tm_gatherer_link_update(struct tm_gatherer *g, int link, const struct tm_gatherer_link *def)
{
    struct tm_error err;
    if (!is_used(g, link))
        return TM_ENOENT;
    int rc = tm_ws_check_url(def->ws.url, &err);
    if (rc)
        return rc;
    struct tm_command *c = command_create(TM_COMMAND_UPDATE, link);
    copy_link(c, def);
    return command_send(g, c);
}

void tm_gatherer_link_reconnect(struct tm_gatherer *g, int link)
{
    if (is_used(g, link) && command_send(g, command_create(TM_COMMAND_RECONNECT, link)))
        tm_log(TM_LOG_ERROR, "gatherer", "cannot reconnect: the io thread's queue is full");
}

static int send_bytes(struct tm_gatherer *g, struct tm_command *c, const char *bytes, size_t len)
{
    int rc = tm_buf_append(&c->bytes, bytes, len);
    if (rc) {
        tm_command_free(c);
        return rc;
    }
    return command_send(g, c);
}

int tm_gatherer_link_opening(struct tm_gatherer *g, int link, uint32_t slot, const char *bytes, size_t len, bool send)
{
    if (!is_used(g, link))
        return TM_ENOENT;
    struct tm_command *c = command_create(TM_COMMAND_OPENING, link);
    c->slot = slot;
    c->send = send;
    return send_bytes(g, c, bytes, len);
}

int tm_gatherer_link_send(struct tm_gatherer *g, int link, const char *bytes, size_t len)
{
    return is_used(g, link) ? send_bytes(g, command_create(TM_COMMAND_SEND, link), bytes, len) : TM_ENOENT;
}

int tm_gatherer_link_drop(struct tm_gatherer *g, int link, const char *tickers, size_t len)
{
    return is_used(g, link) ? send_bytes(g, command_create(TM_COMMAND_DROP, link), tickers, len) : TM_ENOENT;
}

int tm_gatherer_link_tell(struct tm_gatherer *g, int link, const char *kind)
{
    struct tm_command *c = command_create(TM_COMMAND_TELL, link);
    c->name = copy_string(kind);
    return command_send(g, c);
}

int tm_gatherer_submit(struct tm_gatherer *g, const struct tm_stream *stream, struct tm_buf *bytes)
{
    struct tm_command *c = command_create(TM_COMMAND_ROWS, -1);
    struct tm_buf given = *bytes;
    (void)tm_plan_take(stream->plan);
    c->stream = stream;
    c->bytes = given;
    *bytes = (struct tm_buf){0};
    int rc = tm_queue_try_put(g->commands, c, sizeof *c + given.len);
    if (!rc)
        return TM_OK;
    *bytes = given; /* stay the caller's */
    c->bytes = (struct tm_buf){0};
    tm_command_free(c);
    return rc;
}

/* ---- state ---- */

size_t tm_gatherer_link_count(const struct tm_gatherer *g)
{
    return (size_t)g->link_count;
}

int tm_gatherer_link_stats(struct tm_gatherer *g, int link, struct tm_gatherer_link_stats *out)
{
    if (!is_used(g, link))
        return TM_ENOENT;
    pthread_mutex_lock(&g->lock);
    *out = g->published[link];
    pthread_mutex_unlock(&g->lock);
    return out->name ? TM_OK : TM_ENOENT;
}

size_t tm_gatherer_links(struct tm_gatherer *g, struct tm_gatherer_link_view *out, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&g->lock);
    for (int i = 0; i < TM_GATHERER_LINKS_MAX && count < max; i++) {
        if (!g->published[i].name)
            continue;
        (void)memcpy(out[count].name, g->published_names[i], sizeof out[count].name);
        out[count++].stats = g->published[i];
    }
    pthread_mutex_unlock(&g->lock);
    return count;
}

size_t tm_gatherer_gaps(struct tm_gatherer *g, struct tm_gap_note *out, size_t max)
{
    return tm_gap_log_read(g->gap_log, out, max);
}

struct tm_gatherer_stats tm_gatherer_stats(struct tm_gatherer *g)
{
    int64_t now_us = tm_clock_mono_us();
    tm_gatherer_free_spent(g);
    pthread_mutex_lock(&g->lock);
    struct tm_gatherer_stats s = g->stats;
    int64_t last_message_us = g->last_message_us;
    pthread_mutex_unlock(&g->lock);
    s.journal = tm_journal_stats(g->journal);
    s.store = tm_writer_stats(g->writer);
    s.last_durable_age_us = now_us - (s.journal.last_sync_us ? s.journal.last_sync_us : g->started_us);
    s.last_message_age_us = now_us - (last_message_us ? last_message_us : g->started_us);
    return s;
}
