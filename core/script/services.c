#include "script/services.h"
#include "script/routines.h"

#include <stdlib.h>
#include <string.h>

void tm_services_fini(struct tm_services *s)
{
    for (size_t i = 0; i < TM_LINKS_MAX; i++)
        free(s->links[i]);
    for (size_t i = 0; i < TM_STREAMS_MAX; i++) {
        tm_registry_destroy(s->registries[i].registry);
        free(s->registries[i].seen);
    }
    tm_decoder_destroy(s->decoder);
    tm_routines_destroy(s->routines);
    s->routines = NULL;
}

int tm_services_find_link(const struct tm_services *s, const char *name)
{
    for (int i = 0; i < TM_LINKS_MAX; i++)
        if (s->links[i] && strcmp(s->links[i], name) == 0)
            return i;
    return -1;
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
