/* A fault's text, read by the table. */
#include "exchange/fault_table.h"
#include "exchange/rest.h"

#include <stdio.h>
#include <stdlib.h>

#define SEPARATORS ",&\r\n"

static int expected(struct tm_error *err, const char *what, const char *value)
{
    return tm_error_set(err, TM_EINVAL, "expected %s, got \"%s\"", what, value);
}

static int set_number(const struct tm_fault_param *p, void *at, const char *value, struct tm_error *err)
{
    char *rest;
    long long v = strtoll(value, &rest, 10);
    bool whole = rest != value && !*rest;
    if (!whole || ((v < p->low || v > p->high) && !(p->zero && v == 0)))
        return tm_error_set(err, TM_EINVAL, "expected a number from %lld to %lld%s, got \"%s\"", (long long)p->low,
                            (long long)p->high, p->zero ? ", or 0 for none" : "", value);
    if (p->form == TM_FORM_CODE)
        *(int *)at = (int)v;
    else
        *(uint32_t *)at = (uint32_t)v;
    return TM_OK;
}

static int set_span(const struct tm_fault_param *p, int64_t *at, const char *value, struct tm_error *err)
{
    if (!tm_duration_parse(value, at))
        return expected(err, "a duration such as 10s", value);
    return *at >= p->low ? TM_OK : expected(err, "a duration above zero", value);
}

static int set_word(const struct tm_fault_param *p, char *at, const char *value, struct tm_error *err)
{
    if (strlen(value) >= p->size)
        return tm_error_set(err, TM_EINVAL, "longer than %zu characters", p->size - 1);
    memcpy(at, value, strlen(value) + 1);
    return TM_OK;
}

/* Which of the words between the bars it is; -1: none of them. */
static int find_word(const char *words, const char *value)
{
    size_t len = strlen(value);
    for (int i = 0; words; i++) {
        const char *bar = strchr(words, '|');
        if (len && (bar ? (size_t)(bar - words) : strlen(words)) == len && memcmp(words, value, len) == 0)
            return i;
        words = bar ? bar + 1 : NULL;
    }
    return -1;
}

static int set_choice(const struct tm_fault_param *p, void *at, const char *value, struct tm_error *err)
{
    int place = find_word(p->value, value);
    if (place < 0)
        return tm_error_set(err, TM_EINVAL, "expected %s%s, got \"%s\"", p->form == TM_FORM_CHOICE ? "one of " : "",
                            p->value, value);
    if (p->form == TM_FORM_CHOICE)
        return set_word(p, at, value, err);
    *(bool *)at = place == 0;
    return TM_OK;
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

static int set_name(const struct tm_fault_param *p, char *at, const char *value, struct tm_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    if (!*value || value[strspn(value, letters)])
        return expected(err, "letters, digits and _", value);
    return set_word(p, at, value, err);
}

static int set_path(const struct tm_fault_param *p, char *at, const char *value, struct tm_error *err)
{
    if (strncmp(value, TM_REST_BASE, strlen(TM_REST_BASE)) != 0)
        return expected(err, "a whole path such as " TM_REST_BASE "/markets, or its beginning", value);
    return set_word(p, at, value, err);
}

static int set_poison(const struct tm_fault_param *p, char *at, const char *value, struct tm_error *err)
{
    char *rest;
    unsigned long number = strtoul(value, &rest, 10);
    bool is_case = *value >= '0' && *value <= '9' && !*rest && number < tm_poison_count();
    if (!is_case && strcmp(value, "huge") != 0)
        return tm_error_set(err, TM_EINVAL, "expected huge or a number from 0 to %zu, got \"%s\"",
                            tm_poison_count() - 1, value);
    return set_word(p, at, value, err);
}

static int set_param(struct tm_fault *f, const struct tm_fault_param *p, const char *value, struct tm_error *err)
{
    void *at = (char *)f + p->at;
    switch (p->form) {
    case TM_FORM_SPAN:
        return set_span(p, at, value, err);
    case TM_FORM_COUNT:
    case TM_FORM_CODE:
        return set_number(p, at, value, err);
    case TM_FORM_SHARE:
        return set_share(at, value, err);
    case TM_FORM_SWITCH:
    case TM_FORM_CHOICE:
        return set_choice(p, at, value, err);
    case TM_FORM_CHANNEL:
        return set_channel(at, value, err);
    case TM_FORM_NAME:
        return set_name(p, at, value, err);
    case TM_FORM_PATH:
        return set_path(p, at, value, err);
    case TM_FORM_POISON:
        return set_poison(p, at, value, err);
    case TM_FORM_WORD:
        break;
    }
    return set_word(p, at, value, err);
}

static int refuse_param(enum tm_fault_kind kind, const char *name, struct tm_error *err)
{
    char all[256];
    size_t len = 0;
    const struct tm_fault_param *p;
    for (size_t i = 0; (p = tm_fault_param_at(kind, i)) && len < sizeof all; i++)
        len += (size_t)snprintf(all + len, sizeof all - len, "%s%s=", i ? ", " : "", p->name);
    return tm_error_set(err, TM_EINVAL, "unknown parameter \"%s\"; kind=%s takes %s", name, tm_fault_name(kind), all);
}

static int refuse_kind(const char *name, struct tm_error *err)
{
    char all[256];
    size_t len = 0;
    for (int kind = 0; kind < TM_FAULT_KINDS && len < sizeof all; kind++)
        len += (size_t)snprintf(all + len, sizeof all - len, "%s%s", kind ? ", " : "",
                                tm_fault_name((enum tm_fault_kind)kind));
    return tm_error_set(err, TM_EINVAL, "kind: expected a kind of %s, got \"%s\"", all, name);
}

static int set_pair(struct tm_fault *f, char *pair, struct tm_error *err)
{
    char *value = strchr(pair, '=');
    if (!value)
        return expected(err, "name=value", pair);
    *value++ = '\0';
    if (strcmp(pair, "kind") == 0)
        return TM_OK;
    const struct tm_fault_param *p = tm_fault_param(f->kind, pair);
    if (!p)
        return refuse_param(f->kind, pair, err);
    f->has_at |= strcmp(pair, "at") == 0;
    f->has_count |= strcmp(pair, "count") == 0;
    f->has_whom |= tm_fault_selects(p);
    return set_param(f, p, value, err) ? tm_error_wrap(err, "%s", pair) : TM_OK;
}

/* The kind comes first, wherever it stands, because it says what the others may be. */
static int read_kind(struct tm_fault *f, const char *text, struct tm_error *err)
{
    static const char name[] = "kind=";
    char pairs[sizeof f->text], *save = NULL;
    memcpy(pairs, text, strlen(text) + 1);
    for (char *pair = strtok_r(pairs, SEPARATORS, &save); pair; pair = strtok_r(NULL, SEPARATORS, &save)) {
        if (strncmp(pair, name, sizeof name - 1) != 0)
            continue;
        f->kind = tm_fault_find(pair + sizeof name - 1);
        return f->kind == TM_FAULT_KINDS ? refuse_kind(pair + sizeof name - 1, err) : TM_OK;
    }
    return tm_error_set(err, TM_EINVAL, "kind= is missing");
}

static void set_fallbacks(struct tm_fault *f)
{
    const struct tm_fault_param *p;
    for (size_t i = 0; (p = tm_fault_param_at(f->kind, i)); i++)
        TM_FATAL_UNLESS(!p->fallback || set_param(f, p, p->fallback, NULL) == TM_OK);
}

static int read_pairs(struct tm_fault *f, const char *text, struct tm_error *err)
{
    char pairs[sizeof f->text], *save = NULL;
    memcpy(pairs, text, strlen(text) + 1);
    for (char *pair = strtok_r(pairs, SEPARATORS, &save); pair; pair = strtok_r(NULL, SEPARATORS, &save))
        if (set_pair(f, pair, err))
            return err->code;
    return TM_OK;
}

/* What no parameter alone can be blamed for. */
static int check(const struct tm_fault *f, struct tm_error *err)
{
    if (tm_fault_entry(f->kind)->bounded && !f->for_us && !f->has_count)
        return tm_error_set(err, TM_EINVAL,
                            "expected for=TIME or count=N: without an end it would keep POST /control/clear away too");
    if (f->kind == TM_FAULT_CLOSE && !f->code && f->what[0])
        return tm_error_set(err, TM_EINVAL, "text: expected none with code=0, got \"%s\"", f->what);
    if (f->kind == TM_FAULT_MAINTENANCE && f->has_whom && !f->disconnect)
        return tm_error_set(err, TM_EINVAL, "expected disconnect=yes, because only that concerns single connections");
    return TM_OK;
}

int tm_fault_parse(const char *text, struct tm_fault *out, struct tm_error *err)
{
    struct tm_error ignored;
    err = err ? err : &ignored;
    *out = (struct tm_fault){.kind = TM_FAULT_KINDS, .channel = -1, .fraction = 1};
    if (strlen(text) >= sizeof out->text)
        return tm_error_set(err, TM_EINVAL, "fault: longer than %zu characters", sizeof out->text - 1);
    memcpy(out->text, text, strlen(text) + 1);
    int rc = read_kind(out, text, err);
    if (!rc) {
        set_fallbacks(out);
        rc = read_pairs(out, text, err);
    }
    if (!rc)
        rc = check(out, err);
    return rc ? tm_error_wrap(err, "fault \"%s\"", text) : TM_OK;
}
