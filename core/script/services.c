#include "script/services.h"
#include "script/routines.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

void tm_services_fini(struct tm_services *s)
{
    for (int i = 0; i < TM_LINKS_MAX; i++)
        tm_services_forget_link(s, i);
    for (size_t i = 0; i < TM_STREAMS_MAX; i++)
        tm_service_registry_close(&s->registries[i]);
    for (size_t i = 0; i < TM_SPREADS_MAX; i++) {
        free(s->spreads[i].name);
        tm_spread_destroy(s->spreads[i].spread);
    }
    tm_buf_fini(&s->scratch);
    tm_decoder_destroy(s->decoder);
    tm_plan_put(s->own_plan);
    free(s->state);
    tm_timer_stop(&s->alert_timer);
    tm_alerts_destroy(s->alerts);
    s->alerts = NULL;
    tm_routines_destroy(s->routines);
    s->routines = NULL;
}

/* ---- the plan ---- */

void tm_services_set_plan(struct tm_services *s, const struct tm_plan *plan)
{
    for (size_t i = 0; i < TM_STREAMS_MAX; i++) {
        struct tm_service_registry *r = &s->registries[i];
        struct tm_error err;
        if (!r->registry)
            continue;
        const struct tm_stream *now = plan ? tm_plan_stream_by_name(plan, r->stream->name) : NULL;
        if (!now || tm_registry_set_stream(r->registry, now, &err) < 0)
            tm_service_registry_close(r);
        else
            r->stream = now;
    }
    tm_decoder_destroy(s->decoder);
    s->decoder = NULL;
    struct tm_plan *before = s->own_plan;
    s->plan = s->own_plan = tm_plan_take(plan);
    tm_plan_put(before);
}

/* ---- links ---- */

int64_t tm_services_wall_us(const struct tm_services *s)
{
    return s->simulated_us ? s->simulated_us : tm_clock_wall_us();
}

int64_t tm_services_mono_us(const struct tm_services *s)
{
    return s->simulated_us ? s->simulated_us : tm_clock_mono_us();
}

struct tm_service_registry *tm_services_find_registry(struct tm_services *s, const char *stream)
{
    for (size_t i = 0; i < TM_STREAMS_MAX; i++) {
        struct tm_service_registry *r = &s->registries[i];
        if (r->registry && strcmp(r->stream->name, stream) == 0)
            return r;
    }
    return NULL;
}

void tm_services_close_link(struct tm_services *s, int link)
{
    tm_gatherer_link_remove(s->gatherer, link);
    tm_services_forget_link(s, link);
}

int tm_services_find_link(const struct tm_services *s, const char *name)
{
    for (int i = 0; i < TM_LINKS_MAX; i++)
        if (s->links[i] && strcmp(s->links[i], name) == 0)
            return i;
    return -1;
}

void tm_service_registry_close(struct tm_service_registry *r)
{
    tm_registry_destroy(r->registry);
    free(r->seen);
    *r = (struct tm_service_registry){0};
}

int tm_services_find_spread(const struct tm_services *s, const char *name)
{
    for (int i = 0; i < TM_SPREADS_MAX; i++)
        if (s->spreads[i].name && strcmp(s->spreads[i].name, name) == 0)
            return i;
    return -1;
}

/* ---- subscriptions ---- */

void tm_services_forget_link(struct tm_services *s, int link)
{
    free(s->links[link]);
    s->links[link] = NULL;
    free(s->subscriptions[link].list);
    s->subscriptions[link] = (struct tm_service_subscriptions){0};
}

static struct tm_subscription *find_channel(struct tm_service_subscriptions *all, const struct tm_event *e)
{
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->list[i].channel, e->text) == 0)
            return &all->list[i];
    return NULL;
}

/* A channel that is confirmed again has another sid now. */
static void on_subscribed(struct tm_service_subscriptions *all, const struct tm_event *e)
{
    struct tm_subscription *found = find_channel(all, e);
    if (e->text_len >= sizeof found->channel || e->sid < 0)
        return;
    if (!all->list)
        all->list = calloc(TM_LINK_SUBSCRIPTIONS_MAX, sizeof *all->list);
    if (!found && all->list && all->count < TM_LINK_SUBSCRIPTIONS_MAX)
        found = &all->list[all->count++];
    if (!found) {
        TM_LOG_LIMITED(TM_LOG_WARN, "script", "too many subscriptions on one connection: this one is not kept",
                       TM_F_BYTES("channel", e->text, e->text_len));
        return;
    }
    memcpy(found->channel, e->text, e->text_len + 1);
    found->sid = e->sid;
}

static void on_unsubscribed(struct tm_service_subscriptions *all, int64_t sid)
{
    for (size_t i = 0; i < all->count; i++)
        if (all->list[i].sid == sid) {
            all->list[i] = all->list[--all->count];
            return;
        }
}

void tm_services_note_event(struct tm_services *s, const struct tm_event *e)
{
    if (e->link < 0 || e->link >= TM_LINKS_MAX || !s->links[e->link])
        return;
    struct tm_service_subscriptions *all = &s->subscriptions[e->link];
    if (e->type == TM_EVENT_SUBSCRIBED)
        on_subscribed(all, e);
    else if (e->type == TM_EVENT_UNSUBSCRIBED)
        on_unsubscribed(all, e->sid);
    else if (e->type == TM_EVENT_LINK_DOWN)
        all->count = 0;
}

int tm_service_registry_mark(struct tm_service_registry *r, uint32_t entry, uint32_t round)
{
    if (entry >= r->seen_count) {
        size_t count = entry < 512 ? 1024 : (size_t)entry * 2;
        uint32_t *grown = realloc(r->seen, count * sizeof *grown);
        if (!grown)
            return TM_ENOMEM;
        memset(grown + r->seen_count, 0, (count - r->seen_count) * sizeof *grown);
        r->seen = grown;
        r->seen_count = count;
    }
    r->seen[entry] = round;
    return TM_OK;
}
