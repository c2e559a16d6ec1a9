#!/usr/bin/python3
"""From a frame on the wire to a row in the gatherer's own PostgreSQL: an exchange sends so many events flat out, and the
clock runs until all of them are rows.

    tests/bench/bench_gatherer.py [--events N] [--quick] [--json] [--alone]

Floor: COPY BINARY of the same rows into the same empty tables by one connection, synchronous_commit off; that has its rows
already, in memory. `node` and `python` are peers that do the whole work: receive, parse, look up, COPY in batches. Every
database is held against what the exchange says that it emitted.
"""
from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, servers  # noqa: E402
from harness.daemons import Exchange  # noqa: E402
from harness.postgres import PostgresCluster  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

MARKETS = 500
EVENTS, QUICK_EVENTS = 2_000_000, 100_000
TABLES = ("orderbook_deltas", "trades", "tickers")
# A ticker that is equal to another one in the same microsecond is the same record, so there may be fewer of them.
EXACT = ("orderbook_deltas", "trades")


def exchange_of(where: Path, events: int, wait: int) -> Exchange:
    """Flat out, so many events."""
    return Exchange(where, {"seed": 1, "markets": MARKETS, "rate": 0, "events": events, "hold": True, "mix": servers.MIX,
                            "wait-clients": wait})


def check(exchange: Exchange, store: PostgresCluster, database: str) -> int:
    """The rows that are there, held against what was emitted."""
    emitted: dict[str, Any] = exchange.stats()["emitted"]
    total = 0
    for table in TABLES:
        rows = int(store.query(f"SELECT count(*) FROM {table}", database=database)[0][0])
        want = int(emitted[table])
        if rows != want if table in EXACT else not 0.99 * want <= rows <= want:
            raise AssertionError(f"{database}.{table}: {rows} rows, the exchange emitted {want}")
        total += rows
    return total


def tidemill(store: PostgresCluster, events: int, out: report.Report) -> tuple[int, float]:
    """Rows and seconds from the exchange's start to the last commit."""
    with servers.directory() as where:
        exchange = exchange_of(where, events, 0)
        gatherer = servers.gatherer(where, exchange, store=store.conninfo())
        with servers.running(exchange, gatherer):
            exchange.start()
            gatherer.start()
            wait_until("it listens and stores", lambda: exchange.has_all_markets("g1") and gatherer.is_healthy(), 60,
                       gatherer.process.log_tail)
            watcher = store.connect()
            cursor = watcher.cursor()

            def stored() -> int:
                cursor.execute("SELECT coalesce(sum(seq), 0) FROM tidemill.streams WHERE stream = ANY(%s)", (list(TABLES),))
                return int(cursor.fetchall()[0][0])

            wait_until("the snapshots are stored", lambda: not gatherer.health()["journal_lag_bytes"], 60)
            pid, before = gatherer.process.pid, servers.process_cpu_s(gatherer.process.pid)
            began = time.monotonic()
            exchange.control("start")
            last, ended = -1, began
            while not exchange.is_finished() or time.monotonic() - ended < 1.0:
                now = stored()
                if now != last:
                    last, ended = now, time.monotonic()
                time.sleep(0.02)
            watcher.close()
            out.note(f"gatherer: {last} rows, {ended - began:.2f} s, processor {servers.process_cpu_s(pid) - before:.2f} s")
            return check(exchange, store, store.database), ended - began


def plain_copy(store: PostgresCluster) -> float:
    """Seconds of COPY BINARY of the rows that are there into the same tables, emptied."""
    connection = store.connect()
    took = 0.0
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT count(*), max(epoch_no) FROM {table}")
            count, epoch = cursor.fetchall()[0]
            cursor.execute("SELECT string_agg(quote_ident(attname), ',' ORDER BY attnum) FROM pg_attribute"
                           f" WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped")
            columns = cursor.fetchall()[0][0]
            data = io.BytesIO()
            cursor.copy_expert(f"COPY (SELECT {columns} FROM {table} ORDER BY seq) TO STDOUT (FORMAT binary)", data)
            cursor.execute(f"TRUNCATE {table}")
            data.seek(0)
            began = time.monotonic()
            cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)", data, 1 << 20)
            took += time.monotonic() - began
            if cursor.rowcount != count or not epoch:
                raise AssertionError(f"the floor's COPY into {table} stored {cursor.rowcount} of {count} rows")
    connection.close()
    return took


def peer(store: PostgresCluster, language: str, events: int) -> float:
    """Rows a second of a peer, from its first frame to its last commit."""
    store.execute(f"CREATE DATABASE {language}")
    connection = store.connect(language)
    with connection.cursor() as cursor:
        cursor.execute((servers.PEERS / "tables.sql").read_text(encoding="utf-8"))
    connection.close()
    with servers.directory() as where:
        exchange = exchange_of(where, events, 0)
        client = servers.Peer(language, "gatherer", where, {
            "ws": exchange.ws_url, "rest": exchange.rest_url, "label": language, "connections": 1, "idle_ms": 5000,
            "store": {"host": str(store.home), "port": store.port, "user": "postgres", "database": language}})
        with servers.running(exchange, client):
            exchange.start()
            client.process.start()
            wait_until("it listens", lambda: servers.listening(exchange, language, 2, MARKETS), 60, client.process.log_tail)
            exchange.control("start")
            said = client.wait_end(600)
            rows = check(exchange, store, language)
    if rows != said["rows"]:
        raise AssertionError(f"{language} says {json.dumps(said)}, its tables have {rows} rows")
    return rows / (said["last_ms"] - said["first_ms"]) * 1e3


def main() -> int:
    """The command."""
    parser = report.parser(__doc__)
    parser.add_argument("--events", type=int, help=f"({EVENTS}; --quick {QUICK_EVENTS})")
    options = parser.parse_args()
    events = options.events or (QUICK_EVENTS if options.quick else EVENTS)
    out = report.Report(options)
    with servers.directory() as where, servers.cluster(where, "store", "kalshi_ts") as store:
        rows, took = tidemill(store, events, out)
        floor = plain_copy(store)
        out.result("gatherer/rows", rows / took, "rows/s", rows / floor, "COPY BINARY of the same rows")
        for language in () if options.alone else ("node", "python"):
            out.result(f"gatherer/{language}", rows / took, "rows/s", peer(store, language, events), language)
    return 0


if __name__ == "__main__":
    sys.exit(main())
