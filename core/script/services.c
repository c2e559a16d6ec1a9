#include "script/services.h"

#include <stdlib.h>
#include <string.h>

void tm_services_fini(struct tm_services *s)
{
    for (size_t i = 0; i < TM_LINKS_MAX; i++)
        free(s->links[i]);
    for (size_t i = 0; i < TM_STREAMS_MAX; i++)
        tm_service_registry_close(&s->registries[i]);
    tm_decoder_destroy(s->decoder);
    tm_plan_put(s->own_plan);
    free(s->state);
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

void tm_services_close_link(struct tm_services *s, int link)
{
    tm_gatherer_link_remove(s->gatherer, link);
    free(s->links[link]);
    s->links[link] = NULL;
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
