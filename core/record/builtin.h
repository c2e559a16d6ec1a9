/*
 * The three streams that every plan has.
 *
 * unknown_frames  received_at timestamptz, reason text ('unknown', 'malformed'), detail text, raw bytea: observer stream.
 * gaps            the gap ledger (DESIGN 6), observer stream: every reason why this gatherer may have missed something.
 *                 gap_id uuid, stream text, ticker text (NULL: all of them), from_ts, to_ts timestamptz (NULL: still
 *                 open), reason text, connection text, subscription int8 (the exchange's id of it), first_seq int8,
 *                 last_seq int8 (the missing sequence numbers), closed_by text, detail text, received_at timestamptz.
 *                 An open gap is one row with to_ts NULL; closing it appends a second row with the same gap_id.
 *                 A row with the reason 'whole' ends the gap of its connection for one stream, and for one market or, with
 *                 ticker NULL, all: from to_ts on the connection brings every record of them. 'unsubscribed' ends that.
 * heartbeats      proofs of life, observer stream, five a second: heard_until timestamptz: all that reached this gatherer up
 *                 to then is journaled, in the ledger too; seqs jsonb: up to which seq of each stream; received_at.
 */
#ifndef TM_RECORD_BUILTIN_H
#define TM_RECORD_BUILTIN_H

#include "record/plan.h"

#define TM_STREAM_UNKNOWN "unknown_frames"
#define TM_STREAM_GAPS "gaps"
#define TM_STREAM_HEARTBEATS "heartbeats"

extern const struct tm_stream_def tm_builtin_streams[3];

#endif
