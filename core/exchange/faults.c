#include "exchange/faults.h"
#include "base/clock.h"
#include "exchange/text.h"

#include <stdio.h>
#include <stdlib.h>

void tm_faults_init(struct tm_faults *all, struct tm_feed *feed)
{
    *all = (struct tm_faults){.feed = feed};
}

static void drop(struct tm_fault *fault)
{
    struct tm_fault **at = &fault->all->list;
    while (*at != fault)
        at = &(*at)->next;
    *at = fault->next;
    tm_timer_stop(&fault->begin);
    tm_timer_stop(&fault->end);
    free(fault);
}

void tm_faults_fini(struct tm_faults *all)
{
    while (all->list)
        drop(all->list);
}

static void write_fact(const struct tm_fault *fault, uint32_t clients)
{
    struct tm_buf detail = {0};
    TM_FATAL_UNLESS(tm_buf_printf(&detail, "{\"text\":") == TM_OK);
    TM_FATAL_UNLESS(tm_json_quote(&detail, fault->text, strlen(fault->text)) == TM_OK);
    TM_FATAL_UNLESS(tm_buf_printf(&detail, ",\"clients\":%u}", clients) == TM_OK);
    struct tm_fact fact = {.what = "fault",
                           .stream = tm_fault_name(fault->kind),
                           .market = TM_MARKET_NONE,
                           .detail = {(const char *)detail.data, detail.len}};
    tm_ledger_fact(fault->all->feed->ledger, &fact);
    tm_buf_fini(&detail);
}

static void on_end(void *arg)
{
    tm_fault_end(arg);
    drop(arg);
}

static void begin_end(struct tm_fault *fault)
{
    fault->ends_us = tm_clock_wall_us() + fault->for_us;
    tm_timer_start(&fault->end, fault->for_us, 0);
}

static void on_begin(void *arg)
{
    struct tm_fault *fault = arg;
    tm_feed_begin(fault->all->feed);
    fault->lasting = fault->kind >= TM_FAULT_HANDSHAKE || fault->kind == TM_FAULT_STALL || fault->kind == TM_FAULT_SLOW;
    write_fact(fault, tm_fault_begin(fault));
    if (!fault->lasting)
        drop(fault);
    else if (fault->for_us)
        begin_end(fault);
}

static void arm(struct tm_fault *fault)
{
    if (fault->has_at)
        tm_timer_start(&fault->begin, fault->at_us, 0);
    else
        on_begin(fault);
}

void tm_faults_add(struct tm_faults *all, const struct tm_fault *given)
{
    struct tm_fault *fault = malloc(sizeof *fault);
    TM_FATAL_UNLESS(fault);
    *fault = *given;
    fault->all = all;
    fault->serial = ++all->serial;
    fault->next = all->list;
    all->list = fault;
    tm_timer_init(&fault->begin, all->feed->loop, on_begin, fault);
    tm_timer_init(&fault->end, all->feed->loop, on_end, fault);
    if (all->started || !fault->has_at)
        arm(fault);
}

void tm_faults_on_start(struct tm_faults *all)
{
    if (all->started)
        return;
    all->started = true;
    for (struct tm_fault *f = all->list; f; f = f->next)
        if (f->has_at)
            arm(f);
}

void tm_faults_clear(struct tm_faults *all)
{
    tm_faults_forgive(all->feed);
    while (all->list) {
        if (all->list->lasting)
            tm_fault_end(all->list);
        drop(all->list);
    }
}

static bool concerns(const struct tm_fault *f, const struct tm_identity *who, struct tm_slice path)
{
    if (who && ((f->label[0] && strcmp(f->label, who->label) != 0) || (f->key[0] && strcmp(f->key, who->key) != 0) ||
                (f->agent[0] && !strstr(who->agent, f->agent))))
        return false;
    size_t prefix = strlen(f->path);
    return !prefix || (path.len >= prefix && memcmp(path.at, f->path, prefix) == 0);
}

struct tm_fault *tm_faults_meet(struct tm_faults *all, enum tm_fault_kind kind, const struct tm_identity *who,
                                struct tm_slice path)
{
    for (struct tm_fault *f = all->list; f; f = f->next) {
        if (f->kind != kind || !f->lasting || (f->has_count && !f->count) || !concerns(f, who, path))
            continue;
        f->count -= f->has_count;
        return f;
    }
    return NULL;
}

bool tm_faults_last(const struct tm_faults *all, enum tm_fault_kind kind)
{
    for (const struct tm_fault *f = all->list; f; f = f->next)
        if (f->kind == kind && f->lasting)
            return true;
    return false;
}

bool tm_faults_pause(const struct tm_faults *all, bool *whole, int64_t *until_us)
{
    bool any = false, known = true;
    *whole = false;
    *until_us = 0;
    for (const struct tm_fault *f = all->list; f; f = f->next) {
        if (f->kind != TM_FAULT_MAINTENANCE || !f->lasting)
            continue;
        any = true;
        *whole |= f->whole;
        known &= f->ends_us != 0;
        *until_us = f->ends_us > *until_us ? f->ends_us : *until_us;
    }
    *until_us = known ? *until_us : 0;
    return any;
}

void tm_reply_too_many(struct tm_reply *reply, bool flat)
{
    reply->extra = "Cache-Control: no-store\r\n";
    if (flat)
        tm_reply_printf(reply, 429, "{\"error\":\"too many requests\"}");
    else
        tm_reply_printf(reply, 429, "{\"error\":{\"code\":\"too_many_requests\",\"message\":\"too many requests\"}}");
}

void tm_fault_reply(const struct tm_fault *f, struct tm_reply *reply)
{
    if (strcmp(f->shape, "html") == 0) {
        reply->type = "text/html";
        tm_reply_printf(reply, f->status,
                        "<html><head><title>%d</title></head><body><h1>Error %d</h1>\n</body></html>\n", f->status,
                        f->status);
    } else if (strcmp(f->shape, "none") == 0) {
        tm_reply_printf(reply, f->status, "%s", "");
    } else if (f->status == 429) {
        tm_reply_too_many(reply, strcmp(f->shape, "flat") == 0);
    } else if (f->status == 401) {
        tm_reply_printf(reply, 401,
                        "{\"error\":{\"code\":\"token_authentication_failure\","
                        "\"message\":\"token authentication failure\"}}");
    } else if (strcmp(f->shape, "flat") == 0) {
        tm_reply_printf(reply, f->status, "{\"code\":\"internal_error\",\"message\":\"internal error\"}");
    } else {
        tm_reply_printf(reply, f->status, "{\"error\":{\"code\":\"internal_error\",\"message\":\"internal error\"}}");
    }
}
