"""What production's coverage() says against what the exchange's ledger says.

    missing rows   lie in pieces that coverage() calls not whole: strictly, without tolerance
    whole pieces   hold no missing row (the same question from the other side)
    other pieces   reach at most EDGE_S into time that some living gatherer was sent everything of

Time counts only where the exchange emitted anything, and only up to a market's last event: nobody can tell a second of
silence from one that was missed, and a gatherer leaves a market that is settled.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg2.extensions

from ..postgres import PostgresCluster
from ..waiting import wait_until

EDGE_S = 1.0
PROOF_TIMEOUT = 30.0
STREAMS = {"orderbook_deltas": ("ticker", "exchange_ts", "side", "price", "delta", "occurrence"),
           "trades": ("trade_id",),
           "tickers": ("ticker", "exchange_ts", "price", "yes_bid", "yes_ask", "yes_bid_size", "yes_ask_size",
                       "last_trade_size", "volume", "open_interest", "dollar_volume", "dollar_open_interest")}

# When each market's stream was sent whole to somebody, by wall time: from where a client was told that it is subscribed to
# until it was gone. Of an event that a fault withheld an instant was not sent; of one that it kept back, the time until that
# left. And when each market's last event was.
DELIVERED = """
DROP TABLE IF EXISTS truth.delivered, truth.active, truth.away, truth.newest;
CREATE UNLOGGED TABLE truth.active AS
    SELECT range_agg(tstzrange(truth.at(tick * 100000), truth.at((tick + 1) * 100000))) AS spans
    FROM (SELECT DISTINCT wall_us / 100000 AS tick FROM truth.ledger WHERE what = 'emit') t;
CREATE UNLOGGED TABLE truth.newest AS
    SELECT stream, ticker, truth.at(max(wall_us)) AS at FROM truth.ledger WHERE what = 'emit' GROUP BY 1, 2;
CREATE UNLOGGED TABLE truth.away AS
    SELECT client, sid, ticker, tstzrange(truth.at(wall_us), truth.at(wall_us + 1)) AS span
    FROM truth.ledger WHERE what = 'withheld'
    UNION ALL SELECT l.client, l.sid, l.ticker, tstzrange(truth.at(e.wall_us), truth.at(l.wall_us + 1))
    FROM truth.ledger l JOIN truth.ledger e ON e.what = 'emit' AND e.number = l.number WHERE l.what = 'late';
CREATE INDEX ON truth.away (client, sid, ticker);
ANALYZE truth.away, truth.newest;
CREATE UNLOGGED TABLE truth.delivered AS
WITH opened AS (
    SELECT o.client, o.sid, s.stream, s.ticker, min(o.wall_us) AS since
    FROM truth.spans s JOIN truth.ledger o USING (client, sid)
    WHERE s.ticker IS NULL AND o.what = 'open' GROUP BY 1, 2, 3, 4
    UNION ALL SELECT o.client, o.sid, s.stream, s.ticker, min(o.wall_us)
    FROM truth.spans s JOIN truth.ledger o USING (client, sid, ticker)
    WHERE o.what IN ('snapshot', 'listen') AND o.number = s.first GROUP BY 1, 2, 3, 4
), one AS (
    SELECT o.stream, o.ticker,
        tstzmultirange(tstzrange(truth.at(o.since), coalesce(truth.at(greatest(c.ended_us, o.since)), 'infinity')))
        - coalesce(CASE WHEN o.ticker IS NULL
            THEN (SELECT range_agg(span) FROM truth.away a WHERE (a.client, a.sid) = (o.client, o.sid))
            ELSE (SELECT range_agg(span) FROM truth.away a WHERE (a.client, a.sid, a.ticker) = (o.client, o.sid, o.ticker))
            END, '{}') AS spans
    FROM opened o JOIN truth.clients c USING (client)
)
SELECT stream, ticker, range_agg(spans) AS spans FROM one GROUP BY 1, 2;
ANALYZE truth.delivered;
"""

COVERED = """
DROP TABLE IF EXISTS truth.covered;
CREATE UNLOGGED TABLE truth.covered AS
SELECT m.ticker, c.* FROM (SELECT DISTINCT ticker FROM truth.ledger WHERE what = 'emit' AND ticker IS NOT NULL) m,
    (SELECT truth.at(min(wall_us)) AS lo, truth.at(max(wall_us) + 1) AS hi FROM truth.ledger WHERE what = 'emit') t,
    unnest(%s) AS s (stream), LATERAL coverage(m.ticker, t.lo, t.hi, s.stream) c;
"""

# Missing rows of markets that somebody had ever been subscribed to by then, and whether they are flagged.
MISSING = """
SELECT count(*) FILTER (WHERE flagged), count(*) FILTER (WHERE NOT flagged), min(emitted_at) FILTER (WHERE NOT flagged),
    min(ticker) FILTER (WHERE NOT flagged)
FROM (
    SELECT t.emitted_at, t.ticker, NOT EXISTS (SELECT FROM truth.covered c WHERE c.stream = '{stream}'
        AND c.ticker = t.ticker AND c.whole AND t.emitted_at >= c.from_ts AND t.emitted_at < c.to_ts) AS flagged
    FROM truth.{stream} t
    WHERE NOT EXISTS (SELECT FROM public.{stream} p WHERE ({theirs}) IS NOT DISTINCT FROM ({ours}))
        AND t.number > (SELECT min(first) FROM truth.spans s WHERE s.stream = '{stream}'
            AND (s.ticker = t.ticker OR s.ticker IS NULL))
) x
"""

# How far pieces that are not whole reach into time of which everything was sent to somebody.
EXCESS = """
SELECT stream, ticker, lower(part), upper(part), extract(epoch FROM upper(part) - lower(part))::float8 AS seconds, reasons::text
FROM (
    SELECT c.stream, c.ticker, c.reasons, unnest(tstzmultirange(tstzrange(c.from_ts, c.to_ts)) * a.spans
        * tstzmultirange(tstzrange(NULL, (SELECT n.at FROM truth.newest n
            WHERE (n.stream, n.ticker) = (c.stream, c.ticker))))
        * (SELECT range_agg(d.spans) FROM truth.delivered d WHERE d.stream = c.stream
           AND (d.ticker = c.ticker OR d.ticker IS NULL))) AS part
    FROM truth.covered c, truth.active a WHERE NOT c.whole
) x ORDER BY seconds DESC LIMIT 1
"""


@dataclass
class Coverage:
    """The answers, over all streams."""

    flagged: int = 0  # missing rows inside pieces that are not whole
    silent: int = 0  # missing rows outside
    edge_ms: float = 0.0  # the furthest that a piece reaches into time that was delivered
    faults: list[str] = field(default_factory=list)


def wait_for_proof(production: PostgresCluster, living: list[str]) -> None:
    """Until production knows that each living gatherer has heard all that the exchange has sent: drained."""
    now = production.value("SELECT now()")
    wait_until("every living gatherer has said what it heard", lambda: not _unproven(production, living, now), PROOF_TIMEOUT,
               lambda: str(production.query("SELECT * FROM tidemill.heard('orderbook_deltas')")))


def _unproven(production: PostgresCluster, living: list[str], since: Any) -> list[str]:
    proven = {row[0] for stream in STREAMS for row in production.query(
        f"SELECT gatherer FROM tidemill.heard('{stream}') GROUP BY 1 HAVING max(until) > '{since}'::timestamptz + interval '1 s'")}
    return [name for name in living if name not in proven]


def judge(production: PostgresCluster) -> Coverage:
    """The verifier has loaded the ledger."""
    found = Coverage()
    connection = production.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '256MB'")
            cursor.execute("ANALYZE gaps, heartbeats")  # as autovacuum does sooner or later: every market is asked about
            cursor.execute(DELIVERED)
            cursor.execute(COVERED, (list(STREAMS),))
            cursor.execute("CREATE INDEX ON truth.covered (stream, ticker); ANALYZE truth.covered")
            for stream, columns in STREAMS.items():
                _judge_stream(cursor, found, stream, columns)
            _judge_edges(cursor, found)
    finally:
        connection.close()
    return found


def _judge_stream(cursor: psycopg2.extensions.cursor, found: Coverage, stream: str, columns: tuple[str, ...]) -> None:
    # an anti-join over equal columns; NULLs are equal here as they are in the key
    on = " AND ".join(f"p.{c} IS NOT DISTINCT FROM t.{c}" if stream == "tickers" and c not in ("ticker", "exchange_ts")
                      else f"p.{c} = t.{c}" for c in columns)
    sql = MISSING.replace("({theirs}) IS NOT DISTINCT FROM ({ours})", on).format(stream=stream)
    cursor.execute(sql)
    row = cursor.fetchone()
    assert row is not None
    found.flagged += row[0]
    found.silent += row[1]
    if row[1]:
        found.faults.append(f"{row[1]} missing rows of {stream} lie in time that coverage() calls whole"
                            f" (the first: {row[3]} at {row[2]})")


def _judge_edges(cursor: psycopg2.extensions.cursor, found: Coverage) -> None:
    cursor.execute(EXCESS)
    row = cursor.fetchone()
    if row is None:
        return
    stream, ticker, lower, upper, seconds, reasons = row
    found.edge_ms = round(seconds * 1000, 0)
    if seconds > EDGE_S:
        found.faults.append(f"coverage() calls {stream} of {ticker} not whole from {lower} to {upper}, when all of it was"
                            f" delivered: {reasons}")
