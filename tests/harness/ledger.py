"""The exchange's ledger as SQL tables: what production has to hold.

The ledger (its format stands in core/exchange/ledger.h) is loaded as it is into truth.ledger. From it come

    truth.spans      which events went into which subscription: (first, last] event numbers, per market or for all
    truth.<stream>   one row per event of a stream: the columns to compare, when it was sent, whether it is expected

An event is *expected* when at least one subscription carried it. A connection that ended may have lost what was on the
wire, and a gatherer that was killed what was not yet durable; so what a connection was sent in its last second is not
demanded on its account (another connection may still demand it).
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import psycopg2.extensions

GRACE_US = 1_000_000
FOREVER = 2**62

COLUMNS = ("what", "number", "wall_us", "stream", "ticker", "ts_us", "side", "price", "amount", "occurrence",
           "trade_id", "client", "label", "sid", "seq", "detail")


@dataclass(frozen=True)
class Stream:
    """How one stream is compared: which columns, and where they are in production."""

    name: str
    columns: tuple[str, ...]
    stored: str  # a FROM item of production that has these columns
    observed: bool = False  # each gatherer's own observation: compared, but not counted as an event of the exchange
    within: str | None = None  # equal rows sent within this time are one record by declaration


def _selected(table: str, *columns: str) -> str:
    return f"(SELECT {', '.join(columns)} FROM {table}) stored"


STREAMS = (
    # A trade may be stored from REST, which knows its microseconds; the feed and the ledger know milliseconds.
    Stream("trades", ("trade_id", "ticker", "exchange_ts", "price", "count", "taker_side", "is_block_trade"),
           _selected("public.trades", "trade_id", "ticker",
                     "date_trunc('milliseconds', exchange_ts) AS exchange_ts", "price", '"count"', "taker_side",
                     "is_block_trade")),
    Stream("orderbook_deltas", ("ticker", "exchange_ts", "side", "price", "delta", "occurrence"),
           "public.orderbook_deltas"),
    Stream("tickers", ("ticker", "exchange_ts", "price", "yes_bid", "yes_ask", "yes_bid_size", "yes_ask_size",
                       "last_trade_size", "volume", "open_interest", "dollar_volume", "dollar_open_interest"),
           "public.tickers", within="100 years"),
    Stream("lifecycle", ("ticker", "event_type", "message"), "public.lifecycle", within="5 minutes"),
    Stream("orderbook_snapshots", ("gatherer", "ticker", "yes_levels", "no_levels"),
           "(SELECT * FROM public.orderbook_snapshots WHERE source = 'ws') stored", observed=True),
    Stream("unknown_frames", ("gatherer", "raw"), "public.unknown_frames", observed=True),
)

CHANNEL_STREAM = """CASE {0} WHEN 'orderbook_delta' THEN 'orderbook_deltas' WHEN 'trade' THEN 'trades'
    WHEN 'ticker' THEN 'tickers' WHEN 'multivariate_market_lifecycle' THEN 'combo_lifecycle' ELSE 'lifecycle' END"""

# Events of combos go to a channel of their own, whatever stream they become.
EVENT_SPAN = """CASE WHEN e.stream = 'lifecycle' AND starts_with(e.ticker, 'KXMVE') THEN 'combo_lifecycle'
    ELSE e.stream END"""

SCHEMA = """
DROP SCHEMA IF EXISTS truth CASCADE;
CREATE SCHEMA truth;
CREATE UNLOGGED TABLE truth.ledger (
    line int8 GENERATED ALWAYS AS IDENTITY,
    what text, number int8, wall_us int8, stream text, ticker text COLLATE "C", ts_us int8, side text COLLATE "C",
    price int4, amount int8, occurrence int4, trade_id uuid, client int4, label text COLLATE "C", sid int4, seq int8,
    detail text);
CREATE FUNCTION truth.at(us int8) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
    $$ SELECT timestamptz '1970-01-01 00:00:00Z' + us * interval '1 microsecond' $$;
"""

# Per client: its label, when it ended if it did, and the last event that it surely got.
CLIENTS = """
CREATE UNLOGGED TABLE truth.clients AS
WITH ticks AS (
    SELECT wall_us / 100000 AS tick, max(number) AS number FROM truth.ledger WHERE what = 'emit' GROUP BY 1
), ends AS (
    SELECT client, min(wall_us) AS wall_us FROM (
        SELECT client, wall_us FROM truth.ledger WHERE what = 'disconnect'
        UNION ALL SELECT client, at FROM truth.ledger, unnest(ARRAY[{blackouts}]::int8[]) at
        WHERE what = 'connect' AND wall_us < at) every GROUP BY 1
)
SELECT c.client, c.label, e.wall_us AS ended_us, CASE WHEN e.client IS NULL THEN {forever} ELSE
    coalesce((SELECT max(number) FROM ticks WHERE (tick + 1) * 100000 <= e.wall_us - {grace}), 0) END AS last
FROM truth.ledger c LEFT JOIN ends e USING (client) WHERE c.what = 'connect';
"""

# A market is carried from its snapshot or listen line until it is removed, the subscription closes, or the client goes.
SPANS = """
CREATE UNLOGGED TABLE truth.spans AS
WITH opened AS (
    SELECT o.client, o.sid, {channel_stream} AS stream, o.number AS first, (o.detail::jsonb ->> 'all')::bool AS is_all,
        least(coalesce(c.number, {forever}), k.last) AS last
    FROM truth.ledger o JOIN truth.clients k USING (client)
    LEFT JOIN truth.ledger c ON c.what = 'close' AND (c.client, c.sid) = (o.client, o.sid)
    WHERE o.what = 'open'
), markets AS (
    SELECT client, sid, ticker, what, number,
        lag(what) OVER market AS before, lead(line) OVER market AS next_line, line
    FROM truth.ledger WHERE what IN ('listen', 'snapshot', 'unlisten')
    WINDOW market AS (PARTITION BY client, sid, ticker ORDER BY line)
), removed AS (
    SELECT client, sid, ticker, number, line FROM markets WHERE what = 'unlisten'
)
SELECT client, sid, stream, NULL::text COLLATE "C" AS ticker, first, last FROM opened WHERE is_all
UNION ALL
SELECT o.client, o.sid, o.stream, m.ticker, m.number, least(o.last,
    coalesce((SELECT min(r.number) FROM removed r WHERE (r.client, r.sid, r.ticker) = (m.client, m.sid, m.ticker)
              AND r.line > m.line), {forever}))
FROM markets m JOIN opened o USING (client, sid)
WHERE m.what <> 'unlisten' AND (m.before IS NULL OR m.before = 'unlisten');

DELETE FROM truth.spans WHERE last <= first;
CREATE UNLOGGED TABLE truth.coverage AS
    SELECT stream, ticker, range_agg(int8range(first, last, '(]')) AS numbers FROM truth.spans GROUP BY 1, 2;
CREATE UNLOGGED TABLE truth.withheld AS
    SELECT number, client, sid FROM truth.ledger WHERE what = 'withheld';
ANALYZE truth.ledger, truth.spans, truth.coverage, truth.withheld;
"""

# The events of one stream; {columns} are those to compare.
EVENTS = """
CREATE UNLOGGED TABLE truth.{stream} AS
SELECT e.number, truth.at(e.wall_us) AS emitted_at, {columns},
    coalesce(e.number <@ one.numbers, false) OR coalesce(e.number <@ every.numbers, false) AS expected
FROM truth.ledger e
LEFT JOIN truth.coverage one ON one.stream = {span} AND one.ticker = e.ticker
LEFT JOIN truth.coverage every ON every.stream = {span} AND every.ticker IS NULL
WHERE e.what = 'emit' AND e.stream = '{stream}';

UPDATE truth.{stream} t SET expected = false FROM truth.withheld w
WHERE w.number = t.number AND NOT EXISTS (
    SELECT FROM truth.spans s WHERE s.stream = '{stream}' AND (s.ticker = t.ticker OR s.ticker IS NULL)
        AND t.number > s.first AND t.number <= s.last
        AND NOT EXISTS (SELECT FROM truth.withheld x WHERE (x.number, x.client, x.sid) = (t.number, s.client, s.sid)));
"""

EVENT_COLUMNS = {
    "trades": "e.trade_id, e.ticker, truth.at(e.ts_us) AS exchange_ts, e.price, e.amount AS count,"
              " e.side AS taker_side, (e.detail::jsonb ->> 'is_block_trade')::bool AS is_block_trade",
    "orderbook_deltas": "e.ticker, truth.at(e.ts_us) AS exchange_ts, e.side, e.price, e.amount AS delta, e.occurrence",
    "tickers": "e.ticker, truth.at(e.ts_us) AS exchange_ts, " + ", ".join(
        f"(nullif(e.detail::jsonb ->> '{path}', '')::numeric * {scale})::int8 AS {name}" for name, path, scale in (
            ("price", "price_dollars", 1000000), ("yes_bid", "yes_bid_dollars", 1000000),
            ("yes_ask", "yes_ask_dollars", 1000000), ("yes_bid_size", "yes_bid_size_fp", 100),
            ("yes_ask_size", "yes_ask_size_fp", 100), ("last_trade_size", "last_trade_size_fp", 100),
            ("volume", "volume_fp", 100), ("open_interest", "open_interest_fp", 100),
            ("dollar_volume", "dollar_volume", 1), ("dollar_open_interest", "dollar_open_interest", 1))),
    "lifecycle": "e.ticker, (e.detail::jsonb ->> 'event_type') COLLATE \"C\" AS event_type,"
                 " e.detail::jsonb AS message",
}

# Equal deltas differ by nothing but their number in the order seen, and a gatherer that came in the middle of a burst
# counts from there. So of a burst that not everybody saw whole, as many are expected as the luckiest subscription saw.
BURSTS = """
WITH doubtful AS (
    SELECT ticker, exchange_ts, side, price, delta FROM truth.orderbook_deltas
    GROUP BY 1, 2, 3, 4, 5 HAVING count(*) > 1 AND
        (NOT bool_and(expected) OR bool_or(number IN (SELECT number FROM truth.withheld)))
), seen AS (
    SELECT t.ticker, exchange_ts, side, price, delta, s.client, count(*) AS n
    FROM truth.orderbook_deltas t JOIN doubtful USING (ticker, exchange_ts, side, price, delta)
    JOIN truth.spans s ON s.stream = 'orderbook_deltas' AND s.ticker = t.ticker AND t.number > s.first
        AND t.number <= s.last
    WHERE NOT EXISTS (SELECT FROM truth.withheld x WHERE (x.number, x.client, x.sid) = (t.number, s.client, s.sid))
    GROUP BY 1, 2, 3, 4, 5, 6
), most AS (
    SELECT d.*, coalesce(max(n), 0) AS n FROM doubtful d
    LEFT JOIN seen USING (ticker, exchange_ts, side, price, delta) GROUP BY 1, 2, 3, 4, 5
)
UPDATE truth.orderbook_deltas t SET expected = t.occurrence < m.n FROM most m
WHERE (t.ticker, t.exchange_ts, t.side, t.price, t.delta) = (m.ticker, m.exchange_ts, m.side, m.price, m.delta);
"""

# What is one record by the stream's declaration is one here too: an identical ticker at an identical time, and an
# identical message of a stream without times within {within} of the one before.
REPEATS = """
DELETE FROM truth.{stream} t USING (
    SELECT number, emitted_at - lag(emitted_at) OVER (PARTITION BY {columns} ORDER BY number) AS since
    FROM truth.{stream}) d
WHERE d.number = t.number AND d.since < interval '{within}';
"""

SNAPSHOTS = """
CREATE UNLOGGED TABLE truth.orderbook_snapshots AS
SELECT l.number, truth.at(l.wall_us) AS emitted_at, c.label AS gatherer, l.ticker,
    l.detail::jsonb -> 'yes_dollars_fp' AS yes_levels, l.detail::jsonb -> 'no_dollars_fp' AS no_levels,
    c.last = {forever} AND NOT EXISTS (SELECT FROM truth.ledger x WHERE x.what = 'lost'
        AND (x.client, x.sid, x.seq, x.ticker) = (l.client, l.sid, l.seq, l.ticker)) AS expected
FROM truth.ledger l JOIN truth.clients c USING (client) WHERE l.what IN ('snapshot', 'resnapshot');
"""

# Poison may be kept as unknown, or be quarantined as a row; a drill counts both (X21).
UNKNOWN = """
CREATE UNLOGGED TABLE truth.unknown_frames AS
SELECT l.number, truth.at(l.wall_us) AS emitted_at, c.label AS gatherer,
    decode(substr(l.detail, 3), 'hex') AS raw, c.last = {forever} AND l.stream <> 'poison' AS expected
FROM truth.ledger l JOIN truth.clients c USING (client)
WHERE l.what = 'injected' AND l.stream IN ('unknown', 'malformed', 'poison');
"""


def load(cursor: psycopg2.extensions.cursor, path: Path, blackouts: Sequence[int] = ()) -> None:
    """Make the schema `truth` anew from a ledger file. At the moments of `blackouts` (Unix microseconds) the network took
    every connection that there was, which the exchange could not know."""
    cursor.execute(SCHEMA)
    with open(path, encoding="utf-8") as ledger:
        cursor.copy_expert(f"COPY truth.ledger ({', '.join(COLUMNS)}) FROM STDIN", ledger)
    cursor.execute(CLIENTS.format(forever=FOREVER, grace=GRACE_US,
                                  blackouts=", ".join(str(at) for at in blackouts)))
    cursor.execute(SPANS.format(forever=FOREVER, channel_stream=CHANNEL_STREAM.format("o.stream")))
    for stream, columns in EVENT_COLUMNS.items():
        cursor.execute(EVENTS.format(stream=stream, columns=columns, span=EVENT_SPAN))
    cursor.execute(BURSTS)
    for stream in STREAMS:
        if stream.within:
            cursor.execute(REPEATS.format(stream=stream.name, columns=", ".join(stream.columns), within=stream.within))
    cursor.execute(SNAPSHOTS.format(forever=FOREVER))
    cursor.execute(UNKNOWN.format(forever=FOREVER))
