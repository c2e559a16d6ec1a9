#include "base/clock.h"
#include "base/log.h"
#include "engine/gatherer_private.h"

#include <stdlib.h>
#include <string.h>

#define COMMANDS_MAX 65536
#define DURABLE_WAIT_US (2 * TM_US_PER_S)
#define EVENTS_MAX 65536

/* ---- events ---- */

const char *tm_event_type_name(enum tm_event_type type)
{
    static const char *const names[] = {"link_up", "link_down", "subscribed", "unsubscribed",
                                        "gap",     "error",     "frame",      "unknown"};
    return names[type];
}

void tm_gatherer_set_wake(struct tm_gatherer *g, void (*wake)(void *arg), void *arg)
{
    g->wake_arg = arg;
    g->wake = wake;
}

struct tm_event *tm_gatherer_next_event(struct tm_gatherer *g)
{
    return tm_queue_try_take(g->events);
}

/* ---- start and stop ---- */

void tm_command_free(struct tm_command *c)
{
    free(c->name);
    free(c->url);
    free(c->ca_file);
    free(c->user_agent);
    tm_buf_fini(&c->bytes);
    free(c);
}

static void wake_io(void *arg)
{
    struct tm_gatherer *g = arg;
    tm_async_send(&g->commands_ready);
}

/* On the journal thread; the lock keeps the writer from going away under the call. */
static void on_durable(void *arg)
{
    struct tm_gatherer *g = arg;
    pthread_mutex_lock(&g->lock);
    if (g->writer)
        tm_writer_wake(g->writer);
    pthread_mutex_unlock(&g->lock);
}

static int open_plan(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    int rc = tm_journal_open(&options->journal, &g->journal, err);
    if (rc)
        return rc;
    struct tm_plan_def def = options->plan;
    def.gatherer = options->id;
    memcpy(def.epoch, tm_journal_epoch(g->journal), sizeof def.epoch);
    return tm_plan_compile(&def, &g->plan, err);
}

static int open_writer(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    struct tm_writer_options w = {.conninfo = options->store,
                                  .gatherer = options->id,
                                  .journal = g->journal,
                                  .plan = g->plan,
                                  .metrics = options->metrics,
                                  .migrate = options->migrate};
    int rc = tm_writer_start(&w, &g->writer, err);
    if (!rc)
        tm_journal_set_wake(g->journal, on_durable, g);
    return rc;
}

static int copy_codes(struct tm_gatherer *g, const struct tm_gatherer_options *options)
{
    size_t bytes = options->reconnect_code_count * sizeof *g->reconnect_codes;
    if (!bytes)
        return TM_OK;
    g->reconnect_codes = malloc(bytes);
    if (!g->reconnect_codes)
        return TM_ENOMEM;
    memcpy(g->reconnect_codes, options->reconnect_codes, bytes);
    g->reconnect_code_count = options->reconnect_code_count;
    return TM_OK;
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
    tm_queue_destroy(g->commands);
    tm_queue_destroy(g->events);
    tm_plan_destroy(g->plan);
    pthread_mutex_destroy(&g->lock);
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
    g->commands = tm_queue_create(COMMANDS_MAX, TM_GATHERER_COMMAND_BYTES);
    g->events = tm_queue_create(EVENTS_MAX, TM_GATHERER_EVENT_BYTES);
    g->events_dropped = tm_metrics_counter(options->metrics, "tidemill_events_dropped_total",
                                           "Events that policy did not take in time.", NULL);
    g->connected =
        tm_metrics_gauge(options->metrics, "ws_client_connected", "WebSocket connections that are up.", NULL);
    int rc = copy_codes(g, options);
    rc = rc ? rc : open_plan(g, options, err);
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

/* ---- what policy asks for ---- */

static char *copy_string(const char *s)
{
    char *copy = s ? strdup(s) : NULL;
    TM_FATAL_UNLESS(copy || !s);
    return copy;
}

int tm_gatherer_link_add(struct tm_gatherer *g, const struct tm_gatherer_link *link, struct tm_error *err)
{
    if (g->link_count == TM_GATHERER_LINKS_MAX)
        return tm_error_set(err, TM_EFULL, "link %s: at most %d connections; use fewer", link->name,
                            TM_GATHERER_LINKS_MAX);
    int rc = tm_ws_check_url(link->ws.url, err);
    if (rc)
        return rc;
    int number = g->link_count;
    struct tm_command *c = command_create(TM_COMMAND_ADD, number);
    c->ws = link->ws;
    c->name = copy_string(link->name);
    c->ws.url = c->url = copy_string(link->ws.url);
    c->ws.ca_file = c->ca_file = copy_string(link->ws.ca_file);
    c->ws.user_agent = c->user_agent = copy_string(link->ws.user_agent);
    c->quiet_us = link->quiet_us;
    rc = command_send(g, c);
    if (rc)
        return tm_error_set(err, rc, "link %s: the io thread's queue is full; try again", link->name);
    g->link_count++;
    return number;
}

void tm_gatherer_link_remove(struct tm_gatherer *g, int link)
{
    if (command_send(g, command_create(TM_COMMAND_REMOVE, link)))
        tm_log(TM_LOG_ERROR, "gatherer", "cannot remove a connection: the io thread's queue is full");
}

void tm_gatherer_link_reconnect(struct tm_gatherer *g, int link)
{
    if (command_send(g, command_create(TM_COMMAND_RECONNECT, link)))
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
    struct tm_command *c = command_create(TM_COMMAND_OPENING, link);
    c->slot = slot;
    c->send = send;
    return send_bytes(g, c, bytes, len);
}

int tm_gatherer_link_send(struct tm_gatherer *g, int link, const char *bytes, size_t len)
{
    return send_bytes(g, command_create(TM_COMMAND_SEND, link), bytes, len);
}

int tm_gatherer_submit(struct tm_gatherer *g, const struct tm_stream *stream, struct tm_buf *bytes)
{
    struct tm_command *c = command_create(TM_COMMAND_ROWS, -1);
    c->stream = stream;
    c->bytes = *bytes;
    int rc = tm_queue_try_put(g->commands, c, sizeof *c + bytes->len);
    if (rc)
        free(c); /* the bytes stay the caller's */
    else
        *bytes = (struct tm_buf){0};
    return rc;
}

/* ---- state ---- */

size_t tm_gatherer_link_count(const struct tm_gatherer *g)
{
    return (size_t)g->link_count;
}

int tm_gatherer_link_stats(struct tm_gatherer *g, int link, struct tm_gatherer_link_stats *out)
{
    if (link < 0 || link >= g->link_count)
        return TM_ENOENT;
    pthread_mutex_lock(&g->lock);
    *out = g->published[link];
    pthread_mutex_unlock(&g->lock);
    return out->name ? TM_OK : TM_ENOENT;
}

struct tm_gatherer_stats tm_gatherer_stats(struct tm_gatherer *g)
{
    int64_t now_us = tm_clock_mono_us();
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
