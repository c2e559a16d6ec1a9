#include "exchange/faults.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const kinds[TM_FAULT_KINDS] = {
    "gap",   "duplicate", "reorder",    "late",  "fragment",  "unknown", "malformed", "poison",  "protocol",    "error",
    "stall", "slow",      "disconnect", "close", "handshake", "rest",    "refuse",    "silence", "maintenance",
};

const char *tm_fault_name(enum tm_fault_kind kind)
{
    return kinds[kind];
}

enum form { SPAN, COUNT, CODE, SHARE, YES_NO, WORD, KIND, CHANNEL, HOW };

struct param {
    const char *name;
    enum form form;
    size_t at, size;
};

#define AT(member) offsetof(struct tm_fault, member)
#define WORD_AT(member) WORD, AT(member), sizeof(((struct tm_fault *)0)->member)

static const struct param params[] = {
    {"kind", KIND, AT(kind), 0},
    {"at", SPAN, AT(at_us), 0},
    {"for", SPAN, AT(for_us), 0},
    {"delay", SPAN, AT(delay_us), 0},
    {"count", COUNT, AT(count), 0},
    {"client", COUNT, AT(client), 0},
    {"sid", COUNT, AT(sid), 0},
    {"channel", CHANNEL, AT(channel), 0},
    {"fraction", SHARE, AT(fraction), 0},
    {"code", CODE, AT(code), 0},
    {"status", CODE, AT(status), 0},
    {"pings", YES_NO, AT(pings), 0},
    {"keep", YES_NO, AT(keep), 0},
    {"disconnect", YES_NO, AT(disconnect), 0},
    {"how", HOW, AT(fin), 0},
    {"label", WORD_AT(label)},
    {"key", WORD_AT(key)},
    {"agent", WORD_AT(agent)},
    {"what", WORD_AT(what)},
    {"text", WORD_AT(what)},
    {"path", WORD_AT(path)},
    {"shape", WORD_AT(shape)},
};

static int expected(struct tm_error *err, const char *what, const char *value)
{
    return tm_error_set(err, TM_EINVAL, "expected %s, got \"%s\"", what, value);
}

static int set_number(const struct param *p, void *at, const char *value, struct tm_error *err)
{
    char *rest;
    long v = strtol(value, &rest, 10);
    if (rest == value || *rest || v < (p->form == CODE ? 0 : 1) || v > 1000000000)
        return expected(err, "a number", value);
    if (p->form == CODE)
        *(int *)at = (int)v;
    else
        *(uint32_t *)at = (uint32_t)v;
    return TM_OK;
}

static int set_word(const struct param *p, char *at, const char *value, struct tm_error *err)
{
    if (strlen(value) >= p->size)
        return tm_error_set(err, TM_EINVAL, "longer than %zu characters", p->size - 1);
    memcpy(at, value, strlen(value) + 1);
    return TM_OK;
}

static int set_kind(enum tm_fault_kind *at, const char *value, struct tm_error *err)
{
    for (int i = 0; i < TM_FAULT_KINDS; i++)
        if (strcmp(kinds[i], value) == 0) {
            *at = (enum tm_fault_kind)i;
            return TM_OK;
        }
    return expected(err, "a kind such as gap, stall or disconnect", value);
}

static int set_choice(bool *at, const char *value, const char *yes, const char *no, struct tm_error *err)
{
    *at = strcmp(value, yes) == 0;
    if (*at || strcmp(value, no) == 0)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL, "expected %s or %s, got \"%s\"", yes, no, value);
}

static int set_share(double *at, const char *value, struct tm_error *err)
{
    char *rest;
    *at = strtod(value, &rest);
    return rest != value && !*rest && *at >= 0 && *at <= 1 ? TM_OK : expected(err, "0 to 1", value);
}

static int set_channel(int *at, const char *value, struct tm_error *err)
{
    *at = tm_channel_find((struct tm_slice){value, strlen(value)});
    return *at >= 0 ? TM_OK : expected(err, "a channel such as trade", value);
}

static int set_param(struct tm_fault *f, const struct param *p, const char *value, struct tm_error *err)
{
    void *at = (char *)f + p->at;
    switch (p->form) {
    case SPAN:
        return tm_duration_parse(value, at) ? TM_OK : expected(err, "a duration such as 10s", value);
    case COUNT:
    case CODE:
        return set_number(p, at, value, err);
    case SHARE:
        return set_share(at, value, err);
    case YES_NO:
        return set_choice(at, value, "yes", "no", err);
    case HOW:
        return set_choice(at, value, "fin", "rst", err);
    case KIND:
        return set_kind(at, value, err);
    case CHANNEL:
        return set_channel(at, value, err);
    case WORD:
        break;
    }
    return set_word(p, at, value, err);
}

static int set_pair(struct tm_fault *f, char *pair, struct tm_error *err)
{
    char *value = strchr(pair, '=');
    if (!value)
        return expected(err, "name=value", pair);
    *value++ = '\0';
    for (size_t i = 0; i < sizeof params / sizeof params[0]; i++)
        if (strcmp(params[i].name, pair) == 0) {
            f->has_at |= strcmp(pair, "at") == 0;
            f->has_count |= strcmp(pair, "count") == 0;
            return set_param(f, &params[i], value, err) ? tm_error_wrap(err, "%s", pair) : TM_OK;
        }
    return tm_error_set(err, TM_EINVAL, "unknown parameter \"%s\"; faults.h lists them", pair);
}

static void set_defaults(struct tm_fault *f)
{
    *f = (struct tm_fault){.kind = TM_FAULT_KINDS,
                           .channel = -1,
                           .fraction = 1,
                           .count = 1,
                           .delay_us = 1000000,
                           .status = 503,
                           .pings = true,
                           .keep = true};
}

int tm_fault_parse(const char *text, struct tm_fault *out, struct tm_error *err)
{
    char pairs[sizeof out->text], *save = NULL;
    set_defaults(out);
    if (strlen(text) >= sizeof pairs)
        return tm_error_set(err, TM_EINVAL, "fault: longer than %zu characters", sizeof pairs - 1);
    memcpy(pairs, text, strlen(text) + 1);
    memcpy(out->text, text, strlen(text) + 1);
    for (char *pair = strtok_r(pairs, ",&\r\n", &save); pair; pair = strtok_r(NULL, ",&\r\n", &save))
        if (set_pair(out, pair, err))
            return tm_error_wrap(err, "fault \"%s\"", text);
    if (out->kind == TM_FAULT_KINDS)
        return tm_error_set(err, TM_EINVAL, "fault \"%s\": kind= is missing", text);
    if (!out->code)
        out->code = out->kind == TM_FAULT_CLOSE ? 1001 : 25;
    return TM_OK;
}
