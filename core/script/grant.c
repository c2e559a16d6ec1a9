#include "script/grant.h"

#include <stdio.h>
#include <string.h>

#define LIBRARIES 5

static const char *const names[LIBRARIES] = {"io", "os", "debug", "ffi", "jit"};
static uint32_t granted;

static uint32_t find(const char *name, size_t len)
{
    for (uint32_t i = 0; i < LIBRARIES; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
            return 1U << i;
    return 0;
}

uint32_t tm_grant_of(const char *library)
{
    return find(library, strlen(library));
}

int tm_grant_parse(const char *text, uint32_t *out, struct tm_error *err)
{
    *out = 0;
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, ",");
        uint32_t grant = find(at, len);
        if (!grant)
            return tm_error_set(err, TM_EINVAL, "grant: expected some of io, os, debug, ffi, jit, got '%.*s'",
                                len > 40 ? 40 : (int)len, at);
        *out |= grant;
        at += len + (at[len] == ',');
    }
    return TM_OK;
}

void tm_grants_set(uint32_t grants)
{
    granted = grants;
}

uint32_t tm_grants(void)
{
    return granted;
}

const char *tm_grant_names(uint32_t grants)
{
    static char texts[1 << LIBRARIES][sizeof "io,os,debug,ffi,jit"]; /* each always says the same */
    grants &= (1U << LIBRARIES) - 1;
    char *text = texts[grants];
    size_t len = 0;
    for (uint32_t i = 0; i < LIBRARIES; i++)
        if (grants & 1U << i)
            len += (size_t)snprintf(text + len, sizeof texts[0] - len, "%s%s", len ? "," : "", names[i]);
    return text;
}
