#include "archive/period.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

int tm_archive_column(const struct tm_stream *s)
{
    if (s->mode != TM_STREAM_APPEND)
        return -1;
    if (s->partition_column >= 0)
        return s->partition_column;
    return !s->observer && s->time_column >= 0 ? s->time_column : s->received_column;
}

struct tm_period tm_period_at(int64_t us, int64_t length_us)
{
    int64_t from_us = (us >= 0 ? us : us - length_us + 1) / length_us * length_us;
    return (struct tm_period){.from_us = from_us, .to_us = from_us + length_us};
}

static bool is_day(struct tm_period p)
{
    return p.to_us - p.from_us == TM_PERIOD_DAY_US;
}

static struct tm utc_of(int64_t us)
{
    time_t s = (time_t)(us / TM_US_PER_S);
    struct tm utc;
    gmtime_r(&s, &utc);
    return utc;
}

static const char *root_of(enum tm_archive_kind kind)
{
    return kind == TM_ARCHIVE_OBJECT ? "raw" : "manifest/raw";
}

void tm_period_stream_folder(enum tm_archive_kind kind, const char *stream, char out[TM_ARCHIVE_KEY])
{
    (void)snprintf(out, TM_ARCHIVE_KEY, "%s/%.63s/", root_of(kind), stream);
}

void tm_period_folder(enum tm_archive_kind kind, const char *stream, struct tm_period p, char out[TM_ARCHIVE_KEY])
{
    struct tm utc = utc_of(p.from_us);
    tm_period_stream_folder(kind, stream, out);
    size_t n = strlen(out);
    (void)strftime(out + n, TM_ARCHIVE_KEY - n,
                   is_day(p) ? "year=%Y/month=%m/day=%d/" : "year=%Y/month=%m/day=%d/hour=%H/", &utc);
}

void tm_period_key(enum tm_archive_kind kind, const char *stream, struct tm_period p, unsigned part,
                   char out[TM_ARCHIVE_KEY])
{
    struct tm utc = utc_of(p.from_us);
    char moment[32];
    (void)strftime(moment, sizeof moment, is_day(p) ? "%Y%m%d" : "%Y%m%dT%H", &utc);
    tm_period_folder(kind, stream, p, out);
    size_t n = strlen(out);
    (void)snprintf(out + n, TM_ARCHIVE_KEY - n, "%.63s-%s-%04u.%s", stream, moment, part,
                   kind == TM_ARCHIVE_OBJECT ? "parquet" : "json");
}

/* The name says the same twice; it is ours if it is what we would call it. */
bool tm_period_of_key(enum tm_archive_kind kind, const char *stream, const char *key, struct tm_period *p,
                      unsigned *part)
{
    char own[TM_ARCHIVE_KEY];
    struct tm utc = {0};
    tm_period_stream_folder(kind, stream, own);
    size_t n = strlen(own);
    if (strncmp(key, own, n) != 0)
        return false;
    const char *rest = strptime(key + n, "year=%Y/month=%m/day=%d/", &utc);
    const char *hour = rest ? strptime(rest, "hour=%H/", &utc) : NULL;
    if (!rest || sscanf(strrchr(key, '-') ? strrchr(key, '-') : "", "-%4u.", part) != 1)
        return false;
    *p = tm_period_at((int64_t)timegm(&utc) * TM_US_PER_S, hour ? TM_PERIOD_HOUR_US : TM_PERIOD_DAY_US);
    tm_period_key(kind, stream, *p, *part, own);
    return strcmp(own, key) == 0;
}

const char *tm_period_text(int64_t us, char out[TM_PERIOD_TEXT])
{
    struct tm utc = utc_of(us);
    (void)strftime(out, TM_PERIOD_TEXT, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return out;
}
