#include "net/link.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define BACKOFF_BASE_US TM_US_PER_S
#define BACKOFF_MAX_US (30 * TM_US_PER_S)
#define TRY_SPACING_US TM_US_PER_S
#define STABLE_US (10 * TM_US_PER_S) /* a link that was up this long starts its backoff anew */
#define SLOT_MAX 999999

struct opening {
    uint32_t slot;
    bool sent; /* on the connection that is up now */
    size_t len;
    char *bytes;
};

struct tm_link {
    struct tm_ws_context *context;
    struct tm_link_limiter *limiter;
    struct tm_ws_options options; /* strings are ours */
    struct tm_link_events events;
    void *arg;
    struct tm_timer timer;
    struct tm_ws *ws; /* while CONNECTING or UP */
    struct tm_link_stats stats;
    uint32_t failures; /* in a row */
    int64_t last_try_us;
    bool started, stopping, reconnecting;
    bool reserved;            /* the limiter has given a turn, which `timer` waits for */
    struct opening *openings; /* in the order of their slots */
    size_t opening_count, opening_cap;
};

const char *tm_link_state_name(enum tm_link_state state)
{
    static const char *const names[] = {"down", "connecting", "up", "stopped"};
    return names[state];
}

static void link_move(struct tm_link *link, enum tm_link_state to)
{
    static const unsigned allowed[] = {
        [TM_LINK_DOWN] = 1u << TM_LINK_CONNECTING | 1u << TM_LINK_STOPPED,
        [TM_LINK_CONNECTING] = 1u << TM_LINK_UP | 1u << TM_LINK_DOWN,
        [TM_LINK_UP] = 1u << TM_LINK_DOWN,
        [TM_LINK_STOPPED] = 0,
    };
    TM_FATAL_UNLESS(allowed[link->stats.state] & 1u << to);
    link->stats.state = to;
    link->stats.next_try_us = 0;
}

/* Draw a moment for the next try: jittered, a second after the last one, and when the shared limiter has
 * room. */
static void schedule_try(struct tm_link *link, int64_t pause_us)
{
    int64_t now = tm_clock_mono_us(), at = now + pause_us;
    if (link->last_try_us && at < link->last_try_us + TRY_SPACING_US)
        at = link->last_try_us + TRY_SPACING_US;
    link->stats.next_try_us = at;
    tm_timer_start(&link->timer, at - now, 0);
}

static void send_openings(struct tm_link *link)
{
    for (size_t i = 0; i < link->opening_count && link->stats.state == TM_LINK_UP; i++) {
        struct opening *o = &link->openings[i];
        int rc = tm_ws_send(link->ws, o->bytes, o->len);
        o->sent = !rc;
        if (rc) {
            TM_LOG_LIMITED(TM_LOG_WARN, "net", "opening frame not sent", TM_F_STR("url", link->options.url),
                           TM_F_U64("slot", o->slot), TM_F_STR("reason", tm_code_name(rc)));
            return;
        }
    }
}

static void on_ws_open(void *arg)
{
    struct tm_link *link = arg;
    link_move(link, TM_LINK_UP);
    link->stats.ups++;
    link->stats.up_since_us = tm_clock_mono_us();
    for (size_t i = 0; i < link->opening_count; i++)
        link->openings[i].sent = false;
    if (link->events.on_up)
        link->events.on_up(link->arg);
    if (!link->stopping && !link->reconnecting)
        send_openings(link);
}

static void on_ws_message(void *arg, const char *bytes, size_t len)
{
    struct tm_link *link = arg;
    link->stats.messages++;
    link->stats.bytes += len;
    link->stats.last_message_us = tm_ws_turn_us(link->context);
    if (link->events.on_message)
        link->events.on_message(link->arg, bytes, len);
}

/* How long to wait after this end: not at all if we asked for it, else by the backoff. */
static int64_t pause_after(struct tm_link *link, bool was_up)
{
    bool stable = was_up && tm_clock_mono_us() - link->stats.up_since_us >= STABLE_US;
    if (stable)
        link->failures = 0;
    if (link->reconnecting)
        return 0;
    return tm_backoff_us(link->failures++, BACKOFF_BASE_US, BACKOFF_MAX_US, tm_random_unit());
}

static void on_ws_close(void *arg, enum tm_ws_why why, int status, const char *text)
{
    struct tm_link *link = arg;
    int64_t pause = pause_after(link, link->stats.state == TM_LINK_UP);
    link->stats.last_byte_us = tm_ws_last_byte_us(link->ws);
    link->ws = NULL;
    link->reconnecting = false;
    link_move(link, TM_LINK_DOWN);
    if (link->stopping)
        link_move(link, TM_LINK_STOPPED);
    else
        schedule_try(link, pause);
    if (link->events.on_down)
        link->events.on_down(link->arg, why, status, text);
}

static void try_connect(struct tm_link *link)
{
    static const struct tm_ws_events events = {on_ws_open, on_ws_message, on_ws_close};
    struct tm_error err;
    link->last_try_us = tm_clock_mono_us();
    link->stats.tries++;
    link_move(link, TM_LINK_CONNECTING);
    int rc = tm_ws_connect(link->context, &link->options, &events, link, &link->ws, &err);
    if (!rc)
        return;
    link_move(link, TM_LINK_DOWN);
    schedule_try(link, pause_after(link, false));
    if (link->events.on_down)
        link->events.on_down(link->arg, TM_WS_REFUSED, 0, err.message);
}

/* First the pause of this link, then its turn in the limiter, then the try. */
static void on_timer(void *arg)
{
    struct tm_link *link = arg;
    int64_t now = tm_clock_mono_us();
    int64_t wait = link->reserved ? 0 : tm_link_limiter_reserve(link->limiter, now);
    link->reserved = wait > 0;
    if (!link->reserved) {
        try_connect(link);
        return;
    }
    link->stats.next_try_us = now + wait;
    tm_timer_start(&link->timer, wait, 0);
}

static char *copy(const char *s)
{
    char *c = s ? strdup(s) : NULL;
    TM_FATAL_UNLESS(c || !s);
    return c;
}

static void take_options(struct tm_ws_options *own, const struct tm_ws_options *options)
{
    *own = *options;
    own->url = copy(options->url);
    own->ca_file = copy(options->ca_file);
    own->user_agent = copy(options->user_agent);
    own->auth = tm_auth_take(options->auth);
}

static void put_options(struct tm_ws_options *own)
{
    free((void *)(uintptr_t)own->url);
    free((void *)(uintptr_t)own->ca_file);
    free((void *)(uintptr_t)own->user_agent);
    tm_auth_put(own->auth);
}

int tm_link_create(struct tm_ws_context *context, struct tm_link_limiter *limiter, const struct tm_ws_options *options,
                   const struct tm_link_events *events, void *arg, struct tm_link **out, struct tm_error *err)
{
    int rc = tm_ws_check_url(options->url, err);
    if (rc)
        return rc;
    struct tm_link *link = calloc(1, sizeof *link);
    TM_FATAL_UNLESS(link);
    link->context = context;
    link->limiter = limiter;
    take_options(&link->options, options);
    link->events = *events;
    link->arg = arg;
    tm_timer_init(&link->timer, tm_ws_context_loop(context), on_timer, link);
    *out = link;
    return TM_OK;
}

void tm_link_destroy(struct tm_link *link)
{
    if (!link)
        return;
    TM_FATAL_UNLESS(link->stats.state == TM_LINK_STOPPED || !link->started);
    for (size_t i = 0; i < link->opening_count; i++)
        free(link->openings[i].bytes);
    free(link->openings);
    put_options(&link->options);
    free(link);
}

void tm_link_start(struct tm_link *link)
{
    if (link->started)
        return;
    link->started = true;
    schedule_try(link, 0);
}

void tm_link_stop(struct tm_link *link)
{
    link->stopping = true;
    tm_timer_stop(&link->timer);
    if (link->ws)
        tm_ws_close(link->ws);
    else if (link->stats.state == TM_LINK_DOWN)
        link_move(link, TM_LINK_STOPPED);
}

void tm_link_reconnect(struct tm_link *link)
{
    if (!link->started || link->stopping)
        return;
    if (!link->ws) {
        schedule_try(link, 0);
        return;
    }
    link->reconnecting = true;
    tm_ws_close(link->ws);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool tm_link_update(struct tm_link *link, const struct tm_ws_options *options)
{
    struct tm_ws_options old = link->options;
    bool same_peer = strcmp(old.url, options->url) == 0 && same_text(old.ca_file, options->ca_file) &&
                     tm_auth_equal(old.auth, options->auth);
    take_options(&link->options, options);
    put_options(&old);
    if (link->ws)
        tm_ws_set_liveness(link->ws, options->ping_idle_us, options->silence_us);
    return !same_peer;
}

/* The place of `slot` in the ordered array: where it is, or where it would be inserted. */
static size_t find_slot(const struct tm_link *link, uint32_t slot)
{
    size_t low = 0, high = link->opening_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (link->openings[mid].slot < slot)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int insert_slot(struct tm_link *link, size_t at, uint32_t slot)
{
    if (link->opening_count == link->opening_cap) {
        size_t cap = link->opening_cap ? link->opening_cap * 2 : 4;
        struct opening *grown = reallocarray(link->openings, cap, sizeof *grown);
        if (!grown)
            return TM_ENOMEM;
        link->openings = grown;
        link->opening_cap = cap;
    }
    memmove(&link->openings[at + 1], &link->openings[at], (link->opening_count - at) * sizeof link->openings[0]);
    link->openings[at] = (struct opening){.slot = slot};
    link->opening_count++;
    return TM_OK;
}

static void remove_slot(struct tm_link *link, size_t at)
{
    free(link->openings[at].bytes);
    link->opening_count--;
    memmove(&link->openings[at], &link->openings[at + 1], (link->opening_count - at) * sizeof link->openings[0]);
}

int tm_link_set_opening(struct tm_link *link, uint32_t slot, const char *bytes, size_t len)
{
    if (slot > SLOT_MAX)
        return TM_EINVAL;
    size_t at = find_slot(link, slot);
    bool found = at < link->opening_count && link->openings[at].slot == slot;
    if (!len) {
        if (found)
            remove_slot(link, at);
        return TM_OK;
    }
    if (found && link->openings[at].len == len && !memcmp(link->openings[at].bytes, bytes, len))
        return TM_OK;
    char *kept = malloc(len);
    if (!kept || (!found && insert_slot(link, at, slot))) {
        free(kept);
        return TM_ENOMEM;
    }
    memcpy(kept, bytes, len);
    free(link->openings[at].bytes);
    link->openings[at].bytes = kept;
    link->openings[at].len = len;
    link->openings[at].sent = false;
    return TM_OK;
}

int tm_link_send_opening(struct tm_link *link, uint32_t slot)
{
    size_t at = find_slot(link, slot);
    if (link->stats.state != TM_LINK_UP)
        return TM_ESTATE;
    if (at == link->opening_count || link->openings[at].slot != slot)
        return TM_ENOENT;
    struct opening *o = &link->openings[at];
    int rc = o->sent ? TM_OK : tm_ws_send(link->ws, o->bytes, o->len);
    o->sent = !rc;
    return rc;
}

int tm_link_send(struct tm_link *link, const char *bytes, size_t len)
{
    return link->stats.state == TM_LINK_UP ? tm_ws_send(link->ws, bytes, len) : TM_ESTATE;
}

struct tm_link_stats tm_link_stats(const struct tm_link *link)
{
    struct tm_link_stats stats = link->stats;
    if (link->stats.state == TM_LINK_UP)
        stats.last_byte_us = tm_ws_last_byte_us(link->ws);
    return stats;
}
