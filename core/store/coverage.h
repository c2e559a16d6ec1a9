/*
 * The gap ledger, read: SQL that production gets after its tables (tidemill migrate, tidemill schema).
 *
 *     SELECT * FROM coverage('KXBTC-26NOV', t0, t1);                         all streams
 *     SELECT * FROM coverage('KXBTC-26NOV', t0, t1, 'orderbook_deltas');
 *
 *      stream | whole | from_ts | to_ts | reasons                                    | ambiguous
 *     --------+-------+---------+-------+--------------------------------------------+-----------
 *      trades | t     | 12:00   | 12:07 |                                            |         0
 *      trades | f     | 12:07   | 12:09 | {"g1": "disconnected", "g2": "stopped"}    |         0
 *
 * Coverage is told positively, so that silence is never taken for wholeness. A gatherer is whole for a stream and a market
 * from where a connection of it claimed that (reason 'whole' in `gaps`) until something ended the claim, but never beyond
 * the last heartbeat of which production has everything: the ledger and the stream's own rows up to the seqs that the
 * heartbeat names, by the cursors. So a gatherer that is dead, lags, was retired, is stopped by a hole, or did not exist
 * yet is not whole, without any row that says so. What ends a claim, and what makes holes in it: engine/gap.h, and rows that
 * were lost after they were journaled (store/absent.h); where those were of the ledger, every claim before them ends.
 *
 * Rows that a gatherer's store had to let go and that were brought back from the archive (archive/restore.h) are no hole any
 * more: their gap has closed_by 'archive'.
 *
 * Days that retention dropped from production (tidemill.dropped) are not whole, whoever brought them.
 *
 * Also here: tidemill.prune_heartbeats() and tidemill.find_ambiguities(...), which the deduplicator calls now and then
 * (engine/clerk.h), and the table tidemill.ambiguities that coverage() reads.
 */
#ifndef TM_STORE_COVERAGE_H
#define TM_STORE_COVERAGE_H

#include "base/buf.h"

int tm_coverage_sql(struct tm_buf *out) TM_MUST_CHECK;

#endif
