#include "engine/share.h"
#include "base/hash.h"

/* ---- of a process ---- */

struct shares {
    unsigned target, kept;
    bool takes_part;
};

static bool somebody_is_settled(const struct tm_share_view *v, const unsigned held[])
{
    for (size_t m = 0; m < v->members; m++)
        if (v->ripe[m] || held[m])
            return true;
    return false;
}

/* The next of those that have no target yet: who holds most, so that the fewest move. */
static int next_member(const struct tm_share_view *v, const struct shares s[], const unsigned held[], const bool done[])
{
    int best = -1;
    for (size_t m = 0; m < v->members; m++)
        if (s[m].takes_part && !done[m] && (best < 0 || held[m] > held[best]))
            best = (int)m;
    return best;
}

static void set_targets(const struct tm_share_view *v, struct shares s[], const unsigned held[])
{
    bool done[TM_SHARE_MEMBERS_MAX] = {false};
    unsigned count = 0;
    for (size_t m = 0; m < v->members; m++)
        count += s[m].takes_part;
    for (unsigned i = 0; i < count; i++) {
        int m = next_member(v, s, held, done);
        s[m].target = v->shards / count + (i < v->shards % count);
        done[m] = true;
    }
}

/* Who is the furthest below its share. */
static int neediest(const struct tm_share_view *v, const struct shares s[])
{
    int best = -1;
    for (size_t m = 0; m < v->members; m++)
        if (s[m].kept < s[m].target && (best < 0 || s[m].target - s[m].kept > s[best].target - s[best].kept))
            best = (int)m;
    return best;
}

void tm_share(const struct tm_share_view *v, int owner[TM_SHARDS_MAX])
{
    struct shares s[TM_SHARE_MEMBERS_MAX] = {0};
    unsigned held[TM_SHARE_MEMBERS_MAX] = {0};
    for (unsigned i = 0; i < v->shards; i++)
        if (v->holder[i] >= 0)
            held[v->holder[i]]++;
    bool settled = somebody_is_settled(v, held);
    for (size_t m = 0; m < v->members; m++)
        s[m].takes_part = !settled || v->ripe[m] || held[m];
    set_targets(v, s, held);
    for (unsigned i = 0; i < v->shards; i++) {
        int m = v->holder[i];
        owner[i] = m >= 0 && s[m].kept < s[m].target ? m : -1;
        if (owner[i] >= 0)
            s[m].kept++;
    }
    for (unsigned i = 0; i < v->shards; i++) {
        if (owner[i] < 0 && (owner[i] = neediest(v, s)) >= 0)
            s[owner[i]].kept++;
    }
}

/* ---- of a row ---- */

bool tm_share_is_spread(const struct tm_stream *stream)
{
    return stream->ticker_column >= 0;
}

unsigned tm_share_of(const struct tm_stream *stream, const struct tm_field *fields, unsigned shards)
{
    int at = stream->ticker_column;
    if (shards <= 1 || at < 0 || fields[at].len < 0)
        return 0;
    return (unsigned)(tm_hash64(fields[at].bytes, (size_t)fields[at].len, 0) % shards);
}
