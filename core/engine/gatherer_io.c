#include "base/clock.h"
#include "base/log.h"
#include "base/unset.h"
#include "engine/gatherer_private.h"
#include "engine/heard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A start opens all connections at once; what comes back after an outage does so at this rate. */
#define CONNECTS_PER_S 20
#define CONNECTS_BURST 200
#define PUBLISH_US (200 * TM_US_PER_MS)
#define TURN_US 500               /* a twentieth of the time a record is on its way to the disk (GROUP_US) */
#define STOP_US (2 * TM_US_PER_S) /* for closing handshakes; then the sockets are just closed */

struct tm_io_link {
    struct tm_gatherer *g;
    int number;
    uint32_t generation; /* of the number */
    char name[96];
    struct tm_link *link;
    struct tm_feed *feed;
    int64_t quiet_us;
    int64_t up_us; /* monotonic; 0: down */
    bool removed;
    char tell[64]; /* the kind whose rows are told one by one; "": none */
};

static struct tm_intake_time now_both(void)
{
    return (struct tm_intake_time){.wall_us = tm_clock_wall_us(), .mono_us = tm_clock_mono_us()};
}

/* ---- events, io -> policy ---- */

/* `kind` may be NULL. It is copied: the plan that it is in may be gone when policy reads it. */
static struct tm_event *event_create(enum tm_event_type type, const struct tm_io_link *l, const char *kind,
                                     const char *text, size_t len)
{
    size_t kind_bytes = kind ? strlen(kind) + 1 : 0;
    struct tm_event *e = calloc(1, sizeof *e + len + 1 + kind_bytes);
    TM_FATAL_UNLESS(e);
    e->type = type;
    e->link = l->number;
    e->generation = l->generation;
    e->sid = -1;
    e->text_len = len;
    if (len)
        memcpy(e->text, text, len);
    if (kind)
        e->kind = memcpy(e->text + len + 1, kind, kind_bytes);
    return e;
}

static void event_send(struct tm_gatherer *g, struct tm_event *e)
{
    if (tm_queue_try_put(g->events, e, sizeof *e + e->text_len)) {
        tm_metric_add(g->events_dropped, 1);
        free(e);
        return;
    }
    if (g->wake)
        g->wake(g->wake_arg);
}

static void raise_text(struct tm_io_link *l, enum tm_event_type type, const char *text, int64_t number)
{
    struct tm_event *e = event_create(type, l, NULL, text, text ? strlen(text) : 0);
    e->number = number;
    event_send(l->g, e);
}

/* ---- links, io thread ---- */

static void on_up(void *arg)
{
    struct tm_io_link *l = arg;
    l->up_us = tm_clock_mono_us();
    tm_feed_reset(l->g->intake, l->feed);
    tm_log(TM_LOG_INFO, "gatherer", "connected", TM_F_STR("connection", l->name));
    raise_text(l, TM_EVENT_LINK_UP, NULL, 0);
}

static void on_down(void *arg, enum tm_ws_why why, int status, const char *text)
{
    struct tm_io_link *l = arg;
    char detail[160];
    (void)snprintf(detail, sizeof detail, "%s %d %s", tm_ws_why_name(why), status, text ? text : "");
    tm_feed_interrupted(l->g->intake, l->feed, l->g->stopping ? "stopped" : "disconnected", detail, now_both());
    if (!l->g->stopping)
        TM_LOG_LIMITED(TM_LOG_WARN, "gatherer", l->up_us ? "connection lost" : "cannot connect",
                       TM_F_STR("connection", l->name), TM_F_STR("why", tm_ws_why_name(why)),
                       TM_F_I64("status", status), TM_F_STR("detail", text));
    l->up_us = 0;
    raise_text(l, TM_EVENT_LINK_DOWN, tm_ws_why_name(why), status);
}

static void start_anew(struct tm_io_link *l, const char *reason, const char *detail)
{
    tm_feed_interrupted(l->g->intake, l->feed, reason, detail, now_both());
    tm_link_reconnect(l->link);
}

static bool is_reconnect_code(const struct tm_gatherer *g, int64_t code)
{
    for (size_t i = 0; i < g->reconnect_code_count; i++)
        if (g->reconnect_codes[i] == code)
            return true;
    return false;
}

static void on_exchange_error(struct tm_io_link *l, const struct tm_decoded *d)
{
    TM_LOG_LIMITED(TM_LOG_WARN, "gatherer", "the exchange reports an error", TM_F_STR("connection", l->name),
                   TM_F_I64("code", d->code), TM_F_BYTES("text", d->text.at, d->text.len),
                   TM_F_I64("sid", d->has_sid ? d->sid : -1));
    struct tm_event *e = event_create(TM_EVENT_ERROR, l, NULL, d->text.at, d->text.len);
    e->number = d->code;
    e->sid = d->has_sid ? d->sid : -1;
    event_send(l->g, e);
    if (is_reconnect_code(l->g, d->code)) {
        char detail[48];
        (void)snprintf(detail, sizeof detail, "code %lld", (long long)d->code);
        start_anew(l, "exchange error", detail);
    }
}

static void on_control(struct tm_io_link *l, const struct tm_decoded *d)
{
    struct tm_event *e;
    switch (d->kind->role) {
    case TM_ROLE_SUBSCRIBED:
    case TM_ROLE_UNSUBSCRIBED:
        e = event_create(d->kind->role == TM_ROLE_SUBSCRIBED ? TM_EVENT_SUBSCRIBED : TM_EVENT_UNSUBSCRIBED, l, NULL,
                         d->channel.at, d->channel.len);
        e->sid = d->has_sid ? d->sid : -1;
        event_send(l->g, e);
        break;
    case TM_ROLE_ERROR:
        on_exchange_error(l, d);
        break;
    case TM_ROLE_ACK:
    case TM_ROLE_DATA:
        break;
    }
}

static void raise_gap(struct tm_io_link *l, const struct tm_intake_result *r)
{
    struct tm_event *e = event_create(TM_EVENT_GAP, l, NULL, NULL, 0);
    e->sid = r->decoded.has_sid ? r->decoded.sid : -1;
    e->first = r->sequence.first;
    e->last = r->sequence.last;
    event_send(l->g, e);
}

static void forward_frame(struct tm_io_link *l, const struct tm_kind *kind, const char *bytes, size_t len)
{
    event_send(l->g, event_create(TM_EVENT_FRAME, l, kind->tag, bytes, len));
}

static void tell_rows(struct tm_io_link *l, const struct tm_decoded *d)
{
    if (strcmp(d->kind->tag, l->tell) != 0)
        return;
    for (size_t i = 0; i < d->row_count; i++)
        event_send(l->g, event_create(TM_EVENT_ROW, l, d->kind->tag, d->rows[i].ticker, d->rows[i].ticker_len));
}

static void on_message(void *arg, const char *bytes, size_t len)
{
    struct tm_io_link *l = arg;
    struct tm_intake_result r;
    struct tm_error err TM_UNSET;
    int rc = tm_intake_message(l->g->intake, l->feed, bytes, len, now_both(), &r);
    if (rc) {
        /* memory, or a tuple that our own decoder made wrong: the frame is not taken, so the feed is not
         * whole */
        (void)tm_error_set(&err, rc, "a frame could not be taken: %s", tm_code_name(rc));
        TM_LOG_LIMITED(TM_LOG_ERROR, "gatherer", "frame lost", TM_F_STR("connection", l->name), TM_F_ERR(&err));
        start_anew(l, "internal", err.message);
        return;
    }
    if (r.repeated)
        return;
    if (r.sequence.verdict == TM_SEQUENCE_GAP)
        raise_gap(l, &r);
    if (r.decoded.verdict == TM_VERDICT_CONTROL)
        on_control(l, &r.decoded);
    if (r.decoded.kind && r.decoded.kind->forward)
        forward_frame(l, r.decoded.kind, bytes, len);
    if (*l->tell && r.decoded.kind && r.decoded.verdict == TM_VERDICT_ROWS)
        tell_rows(l, &r.decoded);
    if (r.sequence.verdict == TM_SEQUENCE_BACK)
        start_anew(l, TM_GAP_WENT_BACK, "until the connection is up again");
}

static const struct tm_link_events link_events = {.on_up = on_up, .on_message = on_message, .on_down = on_down};

static void link_destroy(struct tm_io_link *l)
{
    tm_link_destroy(l->link);
    tm_feed_destroy(l->g->intake, l->feed);
    free(l);
}

static void check_quiet(struct tm_io_link *l, int64_t now_us)
{
    struct tm_link_stats s = tm_link_stats(l->link);
    int64_t since_us = s.last_message_us > l->up_us ? s.last_message_us : l->up_us;
    if (s.state == TM_LINK_UP && l->quiet_us && now_us - since_us > l->quiet_us)
        start_anew(l, "quiet", "no message within the time the subscription allows");
}

/* ---- commands, policy -> io ---- */

static void add_link(struct tm_gatherer *g, const struct tm_command *c)
{
    struct tm_error err;
    struct tm_io_link *l = calloc(1, sizeof *l);
    TM_FATAL_UNLESS(l);
    l->g = g;
    l->number = c->link;
    l->generation = c->generation;
    l->quiet_us = c->quiet_us;
    (void)snprintf(l->name, sizeof l->name, "%s", c->name);
    int rc = tm_link_create(g->ws, g->limiter, &c->ws, &link_events, l, &l->link, &err);
    if (rc) {
        tm_log(TM_LOG_ERROR, "gatherer", "cannot make a connection", TM_F_STR("connection", c->name), TM_F_ERR(&err));
        free(l);
        return;
    }
    l->feed = tm_feed_create(g->intake, l->name, now_both());
    tm_feed_set_listed(g->intake, l->feed, c->listed, now_both());
    g->links[c->link] = l;
    tm_link_start(l->link);
}

static void update_link(struct tm_io_link *l, const struct tm_command *c)
{
    l->quiet_us = c->quiet_us;
    tm_feed_set_listed(l->g->intake, l->feed, c->listed, now_both());
    if (tm_link_update(l->link, &c->ws))
        start_anew(l, "reconnect", "the connection was declared anew");
}

/* From here on the number may be given to another link. */
static void vacate(struct tm_gatherer *g, int number)
{
    pthread_mutex_lock(&g->lock);
    g->link_vacated[number] = true;
    pthread_mutex_unlock(&g->lock);
}

static void remove_link(struct tm_gatherer *g, struct tm_io_link *l, int number)
{
    if (!l) { /* it could not be made */
        vacate(g, number);
        return;
    }
    l->removed = true;
    tm_link_stop(l->link);
}

/* A link that is not up does not send: its opening frames go out when it is. */
static void warn_unsent(const struct tm_io_link *l, int rc)
{
    if (rc && rc != TM_ESTATE)
        tm_log(TM_LOG_WARN, "gatherer", "a frame could not be sent", TM_F_STR("connection", l->name),
               TM_F_STR("why", tm_code_name(rc)));
}

static void send_now(struct tm_io_link *l, const struct tm_command *c)
{
    warn_unsent(l, tm_link_send(l->link, (const char *)c->bytes.data, c->bytes.len));
}

static void drop_markets(struct tm_io_link *l, const struct tm_command *c)
{
    const char *at = (const char *)c->bytes.data, *end = at + c->bytes.len;
    while (at < end) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((next ? next : end) - at);
        if (len)
            tm_feed_drop_market(l->g->intake, l->feed, at, len, now_both());
        at += len + 1;
    }
}

static void set_opening(struct tm_io_link *l, const struct tm_command *c)
{
    int rc = tm_link_set_opening(l->link, c->slot, (const char *)c->bytes.data, c->bytes.len);
    if (rc) {
        tm_log(TM_LOG_ERROR, "gatherer", "cannot keep an opening frame", TM_F_STR("connection", l->name),
               TM_F_STR("why", tm_code_name(rc)));
        return;
    }
    if (c->send && c->bytes.len)
        warn_unsent(l, tm_link_send_opening(l->link, c->slot));
}

static void take_rows(struct tm_gatherer *g, struct tm_command *c)
{
    int rc = tm_intake_rows(g->intake, c->stream, &c->bytes, now_both());
    if (rc)
        tm_log(TM_LOG_ERROR, "gatherer", "rows from a document could not be taken", TM_F_STR("stream", c->stream->name),
               TM_F_STR("why", tm_code_name(rc)));
}

static void begin_stop(struct tm_gatherer *g)
{
    g->stopping = true;
    for (int i = 0; i < TM_GATHERER_LINKS_MAX; i++)
        if (g->links[i])
            tm_link_stop(g->links[i]->link);
    tm_timer_start(&g->stop_deadline, STOP_US, 0);
}

static void run_command(struct tm_gatherer *g, struct tm_command *c)
{
    struct tm_io_link *l = c->link >= 0 ? g->links[c->link] : NULL;
    if (c->type == TM_COMMAND_ADD) {
        add_link(g, c);
    } else if (c->type == TM_COMMAND_ROWS) {
        take_rows(g, c);
    } else if (c->type == TM_COMMAND_STOP) {
        begin_stop(g);
    } else if (c->type == TM_COMMAND_REMOVE) {
        remove_link(g, l, c->link);
    } else if (l && c->type == TM_COMMAND_UPDATE) {
        update_link(l, c);
    } else if (l && c->type == TM_COMMAND_RECONNECT) {
        start_anew(l, "reconnect", "asked for");
    } else if (l && c->type == TM_COMMAND_OPENING) {
        set_opening(l, c);
    } else if (l && c->type == TM_COMMAND_SEND) {
        send_now(l, c);
    } else if (l && c->type == TM_COMMAND_DROP) {
        drop_markets(l, c);
    } else if (l && c->type == TM_COMMAND_TELL) {
        (void)snprintf(l->tell, sizeof l->tell, "%s", c->name ? c->name : "");
    }
}

/* ---- reloads, policy -> io ---- */

static double rate_of(double connects_per_second)
{
    return connects_per_second > 0 ? connects_per_second : CONNECTS_PER_S;
}

static void apply_change(struct tm_gatherer *g, struct tm_gatherer_change *c)
{
    int64_t *codes = g->reconnect_codes;
    g->reconnect_codes = c->reconnect_codes;
    g->reconnect_code_count = c->reconnect_code_count;
    c->reconnect_codes = codes;
    tm_intake_set_sequence_start(g->intake, c->sequence_start);
    tm_link_limiter_set_rate(g->limiter, rate_of(c->connects_per_second));
    if (c->intake)
        tm_intake_apply(g->intake, c->intake, now_both());
}

/* Between two messages, in the order in which they were asked for. What they replaced goes back to be freed there. */
static void apply_changes(struct tm_gatherer *g)
{
    pthread_mutex_lock(&g->lock);
    struct tm_gatherer_change *changes = g->changes;
    g->changes = NULL;
    pthread_mutex_unlock(&g->lock);
    if (!changes)
        return;
    struct tm_gatherer_change *last = changes;
    for (struct tm_gatherer_change *c = changes; c; last = c, c = c->next)
        apply_change(g, c);
    pthread_mutex_lock(&g->lock);
    last->next = g->spent;
    g->spent = changes;
    pthread_mutex_unlock(&g->lock);
    if (g->wake)
        g->wake(g->wake_arg);
}

static void on_commands(void *arg)
{
    struct tm_gatherer *g = arg;
    apply_changes(g);
    /* a bound per turn, so that a flood of commands does not keep the sockets waiting */
    for (int i = 0; i < 256; i++) {
        struct tm_command *c = tm_queue_try_take(g->commands);
        if (!c)
            return;
        run_command(g, c);
        tm_command_free(c);
    }
    tm_async_send(&g->commands_ready);
}

/* ---- the io thread ---- */

static void on_turn_end(void *arg)
{
    struct tm_gatherer *g = arg;
    tm_intake_settle(g->intake);
    tm_journal_flush(g->journal);
}

static void publish_link(struct tm_gatherer *g, struct tm_io_link *l, int64_t *last_message_us)
{
    struct tm_gatherer_link_stats *out = &g->published[l->number];
    out->link = tm_link_stats(l->link);
    out->rows = tm_feed_rows(l->feed);
    out->gaps = tm_feed_gaps(l->feed);
    if (out->link.last_message_us > *last_message_us)
        *last_message_us = out->link.last_message_us;
}

static void publish(struct tm_gatherer *g)
{
    struct tm_intake_stats in = tm_intake_stats(g->intake);
    size_t up = 0, links = 0;
    pthread_mutex_lock(&g->lock);
    for (int i = 0; i < TM_GATHERER_LINKS_MAX; i++) {
        struct tm_io_link *l = g->links[i];
        g->published[i].name = l ? g->published_names[i] : NULL;
        if (!l)
            continue;
        if (strcmp(g->published_names[i], l->name) != 0) /* policy reads it without the lock */
            (void)memcpy(g->published_names[i], l->name, sizeof l->name);
        publish_link(g, l, &g->last_message_us);
        links += !l->removed;
        up += !l->removed && g->published[i].link.state == TM_LINK_UP;
    }
    g->stats.links = links;
    g->stats.links_up = up;
    g->stats.frames = in.frames;
    g->stats.rows = in.rows;
    g->stats.duplicates = in.duplicates;
    g->stats.unknown = in.unknown;
    g->stats.malformed = in.malformed;
    g->stats.discarded = in.discarded;
    g->stats.gaps = in.gaps;
    g->stats.discarding = in.discarding;
    pthread_mutex_unlock(&g->lock);
    tm_metric_set(g->connected, (double)up);
    tm_intake_publish(g->intake);
}

static void sweep_links(struct tm_gatherer *g)
{
    int64_t now_us = tm_clock_mono_us();
    for (int i = 0; i < TM_GATHERER_LINKS_MAX; i++) {
        struct tm_io_link *l = g->links[i];
        if (!l)
            continue;
        if (l->removed && tm_link_stats(l->link).state == TM_LINK_STOPPED) {
            g->links[i] = NULL;
            link_destroy(l);
            vacate(g, i);
        } else {
            check_quiet(l, now_us);
        }
    }
}

static bool all_stopped(const struct tm_gatherer *g)
{
    for (int i = 0; i < TM_GATHERER_LINKS_MAX; i++)
        if (g->links[i] && tm_link_stats(g->links[i]->link).state != TM_LINK_STOPPED)
            return false;
    return true;
}

static void on_publish(void *arg)
{
    struct tm_gatherer *g = arg;
    sweep_links(g);
    tm_intake_heartbeat(g->intake, now_both());
    publish(g);
    if (g->stopping && all_stopped(g))
        tm_loop_stop(g->loop);
}

static void on_stop_deadline(void *arg)
{
    struct tm_gatherer *g = arg;
    tm_loop_stop(g->loop);
}

void *tm_gatherer_io_main(void *arg)
{
    struct tm_gatherer *g = arg;
    pthread_setname_np(pthread_self(), "io");
    if (g->heard_us)
        tm_intake_resume(g->intake, g->heard_us, now_both());
    tm_timer_start(&g->publish, PUBLISH_US, PUBLISH_US);
    tm_loop_run(g->loop);
    on_turn_end(g);
    return NULL;
}

/* ---- open and close ---- */

static int copy_codes(struct tm_gatherer *g, const struct tm_gatherer_options *options)
{
    size_t bytes = options->reconnect_code_count * sizeof *g->reconnect_codes;
    g->reconnect_codes = malloc(bytes + 1);
    if (!g->reconnect_codes)
        return TM_ENOMEM;
    if (bytes)
        memcpy(g->reconnect_codes, options->reconnect_codes, bytes);
    g->reconnect_code_count = options->reconnect_code_count;
    return TM_OK;
}

int tm_gatherer_io_open(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_error *err)
{
    g->loop = tm_loop_create();
    tm_loop_collect(g->loop, TURN_US);
    tm_async_init(&g->commands_ready, g->loop, on_commands, g);
    tm_prepare_init(&g->turn_end, g->loop, on_turn_end, g);
    tm_timer_init(&g->publish, g->loop, on_publish, g);
    tm_timer_init(&g->stop_deadline, g->loop, on_stop_deadline, g);
    g->limiter = tm_link_limiter_create(rate_of(options->connects_per_second), CONNECTS_BURST);
    struct tm_intake_options in = {.plan = g->plan,
                                   .journal = g->journal,
                                   .metrics = options->metrics,
                                   .sequence_start = options->sequence_start,
                                   .gap_log = g->gap_log,
                                   .taps = options->taps};
    int rc = copy_codes(g, options);
    g->heard_us = tm_heard_until_us(g->journal, g->plan);
    rc = rc ? tm_error_set(err, rc, "gatherer: out of memory") : tm_intake_create(&in, &g->intake, err);
    return rc ? rc : tm_ws_context_create(g->loop, &g->ws, err);
}

void tm_gatherer_io_close(struct tm_gatherer *g)
{
    for (int i = 0; i < TM_GATHERER_LINKS_MAX; i++)
        if (g->links[i])
            link_destroy(g->links[i]);
    tm_ws_context_destroy(g->ws);
    tm_link_limiter_destroy(g->limiter);
    tm_intake_destroy(g->intake);
    tm_loop_destroy(g->loop);
}
