/* What faults do to clients and their subscriptions. */
#include "exchange/faults.h"
#include "exchange/rng.h"

#include <stdlib.h>

static bool chosen(const struct tm_fault *f, const struct tm_client *c)
{
    if ((f->client && f->client != c->number) || (f->label[0] && strcmp(f->label, c->label) != 0) ||
        (f->key[0] && strcmp(f->key, c->key) != 0) || (f->agent[0] && !strstr(c->agent, f->agent)))
        return false;
    uint64_t draw = tm_mix(f->all->feed->opt->seed, c->number, f->serial) >> 11;
    return (double)draw * 0x1p-53 < f->fraction;
}

static struct tm_trouble *trouble(struct tm_sub *s)
{
    if (!s->trouble) {
        s->trouble = calloc(1, sizeof *s->trouble);
        TM_FATAL_UNLESS(s->trouble);
        s->slow_path = true;
    }
    return s->trouble;
}

static void meet_sub(const struct tm_fault *f, struct tm_sub *s)
{
    switch (f->kind) {
    case TM_FAULT_GAP:
        trouble(s)->gap += f->count;
        break;
    case TM_FAULT_DUPLICATE:
        trouble(s)->duplicate += f->count;
        break;
    case TM_FAULT_REORDER:
        trouble(s)->reorder += f->count;
        break;
    case TM_FAULT_LATE:
        trouble(s)->late += f->count;
        s->trouble->late_us = f->delay_us;
        break;
    case TM_FAULT_FRAGMENT:
        trouble(s)->fragment += f->count;
        break;
    case TM_FAULT_RENUMBER:
        s->seq = 0;
        break;
    case TM_FAULT_ERROR:
        tm_sub_fail(s, f->code);
        break;
    default:
        for (uint32_t i = 0; i < f->count; i++)
            tm_inject(s, f, i);
    }
}

static void meet_subs(const struct tm_fault *f, struct tm_client *c)
{
    for (int i = 0; i < TM_CHANNELS_MAX; i++) {
        struct tm_sub *s = c->subs[i];
        if (s && (f->channel < 0 || f->channel == i) && (!f->sid || f->sid == s->sid))
            meet_sub(f, s);
    }
}

static void set_dropping(struct tm_client *c, bool dropping)
{
    c->dropping = dropping;
    for (int i = 0; i < TM_CHANNELS_MAX; i++)
        if (c->subs[i])
            c->subs[i]->slow_path = dropping || c->subs[i]->trouble;
}

static void stall(const struct tm_fault *f, struct tm_client *c)
{
    if (!f->keep)
        set_dropping(c, true);
    else if (f->pings)
        c->data = &c->held;
    if (!f->pings)
        tm_conn_set_frozen(c->conn, true);
}

static void end_stall(struct tm_client *c)
{
    c->data = &c->conn->out;
    set_dropping(c, false);
    if (c->held.len && tm_buf_append(c->data, c->held.data, c->held.len))
        tm_conn_close(c->conn, true, "out of memory");
    tm_buf_fini(&c->held);
    tm_client_mark(c);
    tm_conn_set_frozen(c->conn, false);
}

static void disconnect(const struct tm_fault *f, struct tm_client *c)
{
    if (f->kind == TM_FAULT_CLOSE) {
        tm_client_send_close(c, f->code, f->what);
        return;
    }
    if (f->fin)
        tm_conn_finish(c->conn);
    else
        tm_conn_close(c->conn, true, "fault");
}

static void meet_client(const struct tm_fault *f, struct tm_client *c)
{
    switch (f->kind) {
    case TM_FAULT_STALL:
        stall(f, c);
        break;
    case TM_FAULT_SLOW:
        tm_conn_set_delay(c->conn, f->delay_us);
        break;
    case TM_FAULT_DISCONNECT:
    case TM_FAULT_CLOSE:
        disconnect(f, c);
        break;
    default:
        meet_subs(f, c);
        tm_client_mark(c);
    }
}

uint32_t tm_fault_begin(struct tm_fault *f)
{
    struct tm_feed *feed = f->all->feed;
    uint32_t met = 0;
    bool about_clients = f->kind < TM_FAULT_HANDSHAKE;
    if (!about_clients && !(f->kind == TM_FAULT_MAINTENANCE && f->disconnect))
        return 0;
    for (uint32_t i = feed->client_count; i-- > 0;) { /* from the end: clients may go */
        struct tm_client *c = feed->clients[i];
        if (!chosen(f, c))
            continue;
        met++;
        if (about_clients)
            meet_client(f, c);
        else
            tm_client_send_close(c, 1001, "maintenance");
    }
    return met;
}

static void forgive(struct tm_sub *s)
{
    struct tm_client *c = s->client;
    if (!s->trouble)
        return;
    if (tm_sub_release_kept(s)) {
        tm_conn_close(c->conn, true, "out of memory"); /* and with it the subscription */
        return;
    }
    tm_buf_fini(&s->trouble->kept);
    free(s->trouble);
    s->trouble = NULL;
    s->slow_path = c->dropping;
    tm_client_mark(c);
}

void tm_faults_forgive(struct tm_feed *feed)
{
    for (uint32_t i = 0; i < feed->sub_count; i++)
        if (feed->subs[i])
            forgive(feed->subs[i]);
}

void tm_fault_end(struct tm_fault *f)
{
    struct tm_feed *feed = f->all->feed;
    for (uint32_t i = feed->client_count; i-- > 0;) {
        struct tm_client *c = feed->clients[i];
        if (!chosen(f, c))
            continue;
        if (f->kind == TM_FAULT_STALL)
            end_stall(c);
        else if (f->kind == TM_FAULT_SLOW)
            tm_conn_set_delay(c->conn, 0);
    }
}
