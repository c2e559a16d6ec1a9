"""Production against the exchange's ledger, row by row, in SQL.

The ledger is loaded into the schema `truth` of the production database (ledger.py), one table per stream with the
columns that must come out equal. Two questions per stream, both EXCEPT ALL:

    missing      what had to arrive and is not in production
    extra        what is in production and was not sent, or was sent fewer times; split into
                 duplicate   (sent, but stored more often than sent) and unexpected (never sent)

"Had to arrive" is what was sent to at least one connection: the exchange may begin before the first gatherer has
subscribed, and what nobody was sent nobody can store. Streams that each gatherer observes for itself (snapshots,
unknown frames) are compared gatherer by gatherer.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

import psycopg2.extensions

from .ledger import STREAMS, Stream, load
from .postgres import PostgresCluster

SAMPLE_ROWS = 5
SETTLE_S = 1.0  # of a run: databases and their sessions see their tables for the first time
WORK_MEM = "1GB"  # of hash tables and sorts: full runs compare millions of rows


@dataclass
class Figures:
    """What the demo prints as JSON, in this order."""

    emitted: int
    expected: int
    production: int
    missing: int
    unexpected: int
    duplicate: int
    lag_ms_p50: float | None
    lag_ms_p99: float | None
    rows_per_s: float


@dataclass
class StreamVerdict:
    """One stream's comparison."""

    stream: str
    observed: bool
    emitted: int = 0
    expected: int = 0
    production: int = 0
    missing: int = 0
    unexpected: int = 0
    duplicate: int = 0
    samples: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """All streams, and how fast it went."""

    streams: dict[str, StreamVerdict]
    lag_ms_p50: float | None = None
    lag_ms_p99: float | None = None
    settled_ms_p50: float | None = None  # of what was sent after the first second
    settled_ms_p99: float | None = None
    rows_per_s: float = 0.0

    def faults(self) -> int:
        """Rows that are missing, unexpected or duplicate, in any stream."""
        return sum(stream.missing + stream.unexpected + stream.duplicate for stream in self.streams.values())

    @property
    def clean(self) -> bool:
        """Nothing missing, unexpected or duplicate, and there was something to compare."""
        return self.figures().expected > 0 and self.faults() == 0

    def figures(self) -> Figures:
        """The totals: differences over all streams, events over those that are the exchange's own."""
        every = list(self.streams.values())
        events = [stream for stream in every if not stream.observed]
        return Figures(emitted=sum(stream.emitted for stream in events),
                       expected=sum(stream.expected for stream in events),
                       production=sum(stream.production for stream in events),
                       missing=sum(stream.missing for stream in every),
                       unexpected=sum(stream.unexpected for stream in every),
                       duplicate=sum(stream.duplicate for stream in every),
                       lag_ms_p50=self.lag_ms_p50, lag_ms_p99=self.lag_ms_p99, rows_per_s=self.rows_per_s)

    def explain(self) -> list[str]:
        """Lines for people: counts per stream, and the first rows that differ."""
        lines = []
        for stream in self.streams.values():
            lines.append(f"{stream.stream:<20} emitted {stream.emitted:>9}  expected {stream.expected:>9}  "
                         f"production {stream.production:>9}  missing {stream.missing}  "
                         f"unexpected {stream.unexpected}  duplicate {stream.duplicate}")
            lines += [f"    {sample}" for sample in stream.samples]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.explain())


class Verifier:
    """Compares one production database with one ledger."""

    def __init__(self, production: PostgresCluster, ledger: Path, blackouts: Sequence[int] = ()) -> None:
        self._production = production
        self._blackouts = blackouts
        self._ledger = ledger

    def verify(self) -> Verdict:
        """Load, compare, measure. May be called again while production grows."""
        connection = self._production.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET work_mem = %s", (WORK_MEM,))
                cursor.execute("SET synchronous_commit = off")
                load(cursor, self._ledger, self._blackouts)
                verdict = Verdict({stream.name: _compare(cursor, stream) for stream in STREAMS})
                (verdict.lag_ms_p50, verdict.lag_ms_p99), (verdict.settled_ms_p50, verdict.settled_ms_p99) = _lags(cursor)
                verdict.rows_per_s = _rows_per_second(cursor, verdict.figures().production)
                return verdict
        finally:
            connection.close()


Cursor = psycopg2.extensions.cursor


def _value(cursor: Cursor, sql: str) -> Any:
    cursor.execute(sql)
    row = cursor.fetchone()
    return row[0] if row else None


def _compare(cursor: Cursor, stream: Stream) -> StreamVerdict:
    """One stream. The differences stay in temporary tables, so that a person at a breakpoint can look at them."""
    columns, name = ", ".join(stream.columns), stream.name
    cursor.execute(f"DROP TABLE IF EXISTS missing_{name}, extra_{name}")
    cursor.execute(f"CREATE TEMPORARY TABLE missing_{name} AS SELECT {columns} FROM truth.{name} WHERE expected "
                   f"EXCEPT ALL SELECT {columns} FROM {stream.stored}")
    cursor.execute(f"CREATE TEMPORARY TABLE extra_{name} AS SELECT {columns} FROM {stream.stored} "
                   f"EXCEPT ALL SELECT {columns} FROM truth.{name}")
    extra = _value(cursor, f"SELECT count(*) FROM extra_{name}")
    again = _sent_but_again(cursor, stream) if extra else 0
    return StreamVerdict(
        stream=name, observed=stream.observed,
        emitted=_value(cursor, f"SELECT count(*) FROM truth.ledger WHERE what = 'emit' AND stream = '{name}'"),
        expected=_value(cursor, f"SELECT count(*) FROM truth.{name} WHERE expected"),
        production=_value(cursor, f"SELECT count(*) FROM {stream.stored}"),
        missing=_value(cursor, f"SELECT count(*) FROM missing_{name}"),
        unexpected=extra - again, duplicate=again,
        samples=_samples(cursor, name, "missing") + _samples(cursor, name, "extra"))


def _sent_but_again(cursor: Cursor, stream: Stream) -> int:
    """Extra rows that are copies of something that was sent."""
    return int(_value(cursor, f"SELECT count(*) FROM extra_{stream.name} x WHERE x::text IN (SELECT t::text FROM "
                              f"(SELECT {', '.join(stream.columns)} FROM truth.{stream.name}) t)"))


def _samples(cursor: Cursor, name: str, kind: str) -> list[str]:
    cursor.execute(f"SELECT t::text FROM {kind}_{name} t LIMIT {SAMPLE_ROWS}")
    return [f"{kind}: {row[0][:300]}" for row in cursor.fetchall()]


def _lags(cursor: Cursor) -> tuple[tuple[float | None, float | None], ...]:
    """From the exchange's send to visible in production, p50 and p99 in ms, over trades and deltas, all and those sent after
    SETTLE_S: the commit time of the transaction that wrote the row (xmin) minus the ledger's emission time of the same row."""
    percentiles = "percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM lag) * 1000)"
    cursor.execute(
        "WITH lag AS ("
        " SELECT pg_xact_commit_timestamp(p.xmin) - t.emitted_at AS lag, t.emitted_at"
        " FROM orderbook_deltas p JOIN truth.orderbook_deltas t"
        " USING (ticker, exchange_ts, side, price, delta, occurrence)"
        " UNION ALL SELECT pg_xact_commit_timestamp(p.xmin) - t.emitted_at, t.emitted_at FROM trades p"
        " JOIN truth.trades t USING (trade_id))"
        f" SELECT {percentiles}, {percentiles} FILTER (WHERE emitted_at >="
        " (SELECT min(emitted_at) FROM lag) + %s * interval '1 second') FROM lag WHERE lag IS NOT NULL", (SETTLE_S,))
    found = cursor.fetchone() or (None, None)
    return tuple((None, None) if both is None else (round(float(both[0]), 1), round(float(both[1]), 1)) for both in found)


def _rows_per_second(cursor: Cursor, rows: int) -> float:
    """Rows in production over the time from the first emission to the last commit."""
    seconds = _value(cursor, "SELECT extract(epoch FROM (SELECT max(pg_xact_commit_timestamp(xmin)) FROM "
                             "orderbook_deltas) - (SELECT min(emitted_at) FROM truth.orderbook_deltas))")
    return round(rows / float(seconds), 1) if seconds and seconds > 0 else 0.0
