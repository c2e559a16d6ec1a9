/*
 * How deduplicators share the shards of a production (DESIGN 9): which shard a row is of, and which process a shard is for.
 * Pure functions; every process comes to the same answer from the same view, and the leases (store/lease.h) settle what is
 * left where views differ for a moment.
 *
 *     of a row       XXH3 of its ticker, modulo the number of shards. Rows without a ticker, and streams without such a
 *                    column (heartbeats, unknown frames), are shard 0's: each row has one owner, whoever delivers it
 *     of a process   its fair share, N / P of them or one more. A shard stays where it is as long as its holder is not above
 *                    that: so the fewest move, and none when nobody came or went. What is above, and what nobody holds, is
 *                    for those below
 *
 * A process that has just come is asked for nothing until it has been there for a while (`ripe`), unless there is nobody
 * else: one that crashes and starts again and again moves nothing.
 *
 * The hash is ours and taken of the bytes of the row, not the server's, which is promised neither between versions nor
 * between machines: gatherers' servers may differ, and a row must have one owner.
 */
#ifndef TM_ENGINE_SHARE_H
#define TM_ENGINE_SHARE_H

#include "record/plan.h"
#include "record/row.h"

#define TM_SHARDS_MAX 32
#define TM_SHARE_MEMBERS_MAX 64

/* What everybody sees. Members are alive and in the order of their ids. */
struct tm_share_view {
    unsigned shards;
    size_t members;
    bool ripe[TM_SHARE_MEMBERS_MAX];
    int holder[TM_SHARDS_MAX]; /* a member; -1: nobody who is alive */
};

/* owner[shard]: the member that the shard is for; -1: there is none. */
void tm_share(const struct tm_share_view *view, int owner[TM_SHARDS_MAX]);

/* Whether rows of the stream are spread over the shards; else all of them are shard 0's. */
bool tm_share_is_spread(const struct tm_stream *stream);

/* The shard of a row; fields as tm_tuple_split gives them. */
unsigned tm_share_of(const struct tm_stream *stream, const struct tm_field *fields, unsigned shards);

#endif
