/* Silences, and the text in which a set of alerts outlives its process. */
#include "base/hash.h"
#include "engine/alert_private.h"
#include "engine/alert_set.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- silences ---- */

/* Whether `name` is as `pattern` says, in which * stands for any text: a star is tried again further on. */
static bool is_like(const char *pattern, const char *name)
{
    const char *star = NULL, *again = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            again = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++again;
        } else {
            return false;
        }
    }
    return pattern[strspn(pattern, "*")] == '\0';
}

bool tm_alerts_is_silenced(const struct tm_alerts *alerts, const char *name, int64_t wall_us)
{
    for (size_t i = 0; i < alerts->silence_count; i++)
        if (wall_us < alerts->silences[i].until_us && is_like(alerts->silences[i].pattern, name))
            return true;
    return false;
}

static bool is_pattern(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_*");
    return len > 0 && len < sizeof((struct tm_alert_silence *)0)->pattern && !text[len];
}

static void drop_over(struct tm_alerts *set, int64_t wall_us)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->silence_count; i++)
        if (wall_us < set->silences[i].until_us)
            set->silences[kept++] = set->silences[i];
    set->silence_count = kept;
}

static bool is_of_any(const struct tm_alerts *set, const char *pattern)
{
    for (size_t i = 0; i < set->count; i++)
        if (is_like(pattern, set->list[i].def.name))
            return true;
    return false;
}

static struct tm_alert_silence *find_silence(struct tm_alerts *set, const char *pattern)
{
    for (size_t i = 0; i < set->silence_count; i++)
        if (strcmp(set->silences[i].pattern, pattern) == 0)
            return &set->silences[i];
    return NULL;
}

int tm_alerts_silence(struct tm_alerts *alerts, const char *pattern, int64_t until_us, const char *why, int64_t wall_us,
                      struct tm_error *err)
{
    if (!is_pattern(pattern))
        return tm_error_set(err, TM_EINVAL,
                            "expected the name of an alert, letters, digits, '_' and '*' for any text, got \"%.80s\"",
                            pattern);
    drop_over(alerts, wall_us);
    struct tm_alert_silence *s = find_silence(alerts, pattern);
    if (!s && until_us <= wall_us)
        return tm_error_set(err, TM_ENOENT, "there is no silence of %s to end", pattern);
    if (!s && !is_of_any(alerts, pattern))
        return tm_error_set(err, TM_ENOENT, "there is no alert named %s; `tidemill alerts` lists them", pattern);
    if (!s && alerts->silence_count == TM_ALERT_SILENCES_MAX)
        return tm_error_set(err, TM_EFULL, "there are %d silences already: end one of them", TM_ALERT_SILENCES_MAX);
    if (!s)
        s = &alerts->silences[alerts->silence_count++];
    *s = (struct tm_alert_silence){.until_us = until_us};
    (void)snprintf(s->pattern, sizeof s->pattern, "%s", pattern);
    (void)snprintf(s->why, sizeof s->why, "%s", why ? why : "");
    drop_over(alerts, wall_us);
    alerts->changed = true;
    return TM_OK;
}

size_t tm_alerts_silence_count(const struct tm_alerts *alerts)
{
    return alerts->silence_count;
}

const struct tm_alert_silence *tm_alerts_silence_get(const struct tm_alerts *alerts, size_t i)
{
    return &alerts->silences[i];
}

/* ---- the text ----
 *
 *     tidemill-alerts 1
 *     alert NAME MEANING STATE HEARD SINCE PENDING TOLD VALUE summary      times are wall time; MEANING is a hash
 *     silence UNTIL PATTERN why
 */

#define FIRST_LINE "tidemill-alerts 1\n"

bool tm_alerts_take_changed(struct tm_alerts *alerts)
{
    bool changed = alerts->changed;
    alerts->changed = false;
    return changed;
}

static uint64_t hash_of(const struct tm_alert *a)
{
    return tm_hash64(a->meaning, strlen(a->meaning), 0);
}

/* The rest of a line: what is no printable text becomes a space. */
static int put_rest(struct tm_buf *out, const char *text)
{
    int rc = tm_buf_append(out, " ", 1);
    for (; !rc && *text; text++)
        rc = tm_buf_append(out, (unsigned char)*text < 0x20 || *text == 0x7f ? " " : text, 1);
    return rc ? rc : tm_buf_append(out, "\n", 1);
}

int tm_alerts_save(const struct tm_alerts *alerts, int64_t now_us, int64_t wall_us, struct tm_buf *out)
{
    int rc = tm_buf_append(out, FIRST_LINE, strlen(FIRST_LINE));
    for (size_t i = 0; i < alerts->count && !rc; i++) {
        const struct tm_alert *a = &alerts->list[i];
        if (a->state == TM_ALERT_INACTIVE)
            continue;
        rc = tm_buf_printf(out, "alert %s %016" PRIx64 " %s %d %" PRId64 " %" PRId64 " %" PRId64 " %.17g", a->def.name,
                           hash_of(a), tm_alert_state_name(a->state), a->heard, a->since_us,
                           wall_us - (now_us - a->pending_us), wall_us - (now_us - a->told_us), a->last.value);
        rc = rc ? rc : put_rest(out, a->summary);
    }
    for (size_t i = 0; i < alerts->silence_count && !rc; i++) {
        const struct tm_alert_silence *s = &alerts->silences[i];
        rc = tm_buf_printf(out, "silence %" PRId64 " %s", s->until_us, s->pattern);
        rc = rc ? rc : put_rest(out, s->why);
    }
    return rc;
}

struct saved {
    char name[64], state[16];
    uint64_t meaning;
    int heard;
    int64_t since_us, pending_us, told_us;
    double value;
};

static struct tm_alert *meant(struct tm_alerts *set, const struct saved *s)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->list[i].def.name, s->name) == 0 && hash_of(&set->list[i]) == s->meaning)
            return &set->list[i];
    return NULL;
}

static bool read_state(const char *name, enum tm_alert_state *out)
{
    for (int state = TM_ALERT_PENDING; state <= TM_ALERT_RESOLVED; state++) {
        if (strcmp(name, tm_alert_state_name((enum tm_alert_state)state)) == 0) {
            *out = (enum tm_alert_state)state;
            return true;
        }
    }
    return false;
}

/* A moment of the wall clock on the monotonic one; never in the future, whatever the clocks did meanwhile. */
static int64_t to_monotonic(int64_t us, int64_t now_us, int64_t wall_us)
{
    return us < wall_us ? now_us - (wall_us - us) : now_us;
}

static bool load_alert(struct tm_alerts *set, const char *line, int64_t now_us, int64_t wall_us)
{
    struct saved s;
    int end = 0;
    if (sscanf(line, "alert %63s %16" SCNx64 " %15s %d %" SCNd64 " %" SCNd64 " %" SCNd64 " %lf%n", s.name, &s.meaning,
               s.state, &s.heard, &s.since_us, &s.pending_us, &s.told_us, &s.value, &end) != 8)
        return false;
    struct tm_alert *a = meant(set, &s);
    if (!a || !read_state(s.state, &a->state))
        return false;
    a->heard = s.heard != 0;
    a->since_us = s.since_us;
    a->pending_us = to_monotonic(s.pending_us, now_us, wall_us);
    a->told_us = to_monotonic(s.told_us, now_us, wall_us);
    a->settle_us = now_us + TM_ALERT_SETTLE_US;
    a->last.value = s.value;
    (void)snprintf(a->summary, sizeof a->summary, "%s", line[end] ? line + end + 1 : "");
    tm_alert_show(a);
    return true;
}

static bool load_silence(struct tm_alerts *set, const char *line, int64_t wall_us)
{
    int64_t until_us;
    char pattern[64];
    int end = 0;
    struct tm_error err;
    if (sscanf(line, "silence %" SCNd64 " %63s%n", &until_us, pattern, &end) != 2 || until_us <= wall_us)
        return false;
    return tm_alerts_silence(set, pattern, until_us, line[end] ? line + end + 1 : "", wall_us, &err) == TM_OK;
}

size_t tm_alerts_load(struct tm_alerts *alerts, const char *text, int64_t now_us, int64_t wall_us)
{
    char line[TM_ALERT_SUMMARY_MAX + 256];
    size_t taken = 0;
    if (strncmp(text, FIRST_LINE, strlen(FIRST_LINE)) != 0)
        return 0;
    for (text += strlen(FIRST_LINE); *text;) {
        size_t len = strcspn(text, "\n");
        (void)snprintf(line, sizeof line, "%.*s", (int)(len < sizeof line ? len : sizeof line - 1), text);
        taken += load_alert(alerts, line, now_us, wall_us) || load_silence(alerts, line, wall_us);
        text += len + (text[len] == '\n');
    }
    return taken;
}
