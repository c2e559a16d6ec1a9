#!/usr/bin/python3
"""How fast a deduplicator merges what waited: three gatherers' stores with the same rows, into production.

    tests/bench/bench_merge.py [--rows N] [--quick] [--json] [--alone]

Rows are deltas of 500 markets, made by SQL; each gatherer has all of them, so two thirds are duplicates. Everything is on this
machine: three stores in one PostgreSQL, production in another. `unique` is unique rows a second, from the first commit to the
last; its floor is COPY BINARY of the unique rows into the same table, emptied, by one connection. `sql`, `node` and
`python` are offered rows a second beside peers that merge the same stores into the same table: SQL alone (postgres_fdw and
INSERT ... ON CONFLICT DO NOTHING), and COPY through a temporary table. `growth` is memory from a fifth of the work on.
"""
from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, servers  # noqa: E402
from harness import paths  # noqa: E402
from harness.daemons import Deduplicator  # noqa: E402
from harness.postgres import PostgresCluster  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

GATHERERS = ("g1", "g2", "g3")
MARK_EVERY = 2000
COLUMNS = "ticker, exchange_ts, side, price, delta, occurrence, received_at"
BATCH_ROWS = 20000  # of a transaction of the peers
ROWS_OF_EACH, QUICK_ROWS = 1_000_000, 60_000

ROWS = """
INSERT INTO orderbook_deltas (ticker, exchange_ts, side, price, delta, occurrence, received_at, sid, exchange_seq, seq,
    epoch_no)
SELECT 'KXBENCH-26NOV-T' || lpad((n % 500)::text, 4, '0'), '{from_ts}'::timestamptz
    + n * interval '200 microseconds', CASE WHEN n % 2 = 0 THEN 'yes' ELSE 'no' END, (n % 99 + 1) * 10000,
    (n::int8 * 7919 % 2000 - 1000) * 100, 0, '{from_ts}'::timestamptz
    + n * interval '200 microseconds', 1, n, n + 1, 1
FROM generate_series(0, {rows} - 1) n;
INSERT INTO tidemill.marks (epoch_no, stream, seq, hash)
SELECT 1, 'orderbook_deltas', s, hashint8extended(s, 1) FROM generate_series({every}, {rows}, {every}) s;
INSERT INTO tidemill.streams (epoch_no, stream, seq, hash)
VALUES (1, 'orderbook_deltas', {rows}, hashint8extended({rows}, 1));
"""


def make_store(cluster: PostgresCluster, name: str, rows: int, began: datetime) -> None:
    """A gatherer's store with its backlog, which begins two hours ago."""
    from_ts = began.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE kalshi_ts")
    cluster.query(f"INSERT INTO tidemill.epochs (epoch, gatherer) VALUES (gen_random_uuid(), '{name}')", database=name)
    cluster.query("CREATE TABLE orderbook_deltas_e1_0 PARTITION OF orderbook_deltas FOR VALUES FROM (1, 1) TO (1, 1000000000)",
                  database=name)
    cluster.query(ROWS.format(rows=rows, every=MARK_EVERY, from_ts=from_ts.isoformat()), database=name)


def cpu_s(pid: int) -> float:
    """User and system time of a process and of its children, those that ended too."""
    def of(stat: Path, waited: bool) -> int:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15 if waited else 13])

    ticks = of(Path(f"/proc/{pid}/stat"), True)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        with contextlib.suppress(OSError):  # ended meanwhile: its time is with its parent's next time
            ticks += of(Path(f"/proc/{child}/stat"), False)
    return ticks / os.sysconf("SC_CLK_TCK")


def catch_up(directory: Path, stores: PostgresCluster, production: PostgresCluster, rows: int,
             profile: Path | None = None) -> tuple[float, float, str]:
    """Offered rows a second from the first commit on, growth of resident MB after a fifth of it, who used the processor."""
    gatherers = {name: stores.conninfo(name) for name in GATHERERS}
    dedup = Deduplicator("dedup", directory, gatherers=gatherers, production=production.conninfo())
    watcher = production.connect()  # one session: logging in costs more than what is measured
    total = rows * len(GATHERERS)

    def ask(sql: str) -> str:
        with watcher.cursor() as cursor:
            cursor.execute(sql)
            return str((cursor.fetchone() or ("",))[0])

    def position() -> int:
        if ask("SELECT to_regclass('tidemill.cursors') IS NULL") == "True":
            return 0
        return int(ask("SELECT coalesce(sum(seq), 0) FROM tidemill.cursors"))

    def reached(goal: int) -> tuple[int, float]:
        """Where it stood at the first look at which it was as far as that, and when."""
        found = wait_until(f"the cursors are at {goal}", lambda: next(filter(lambda at: at >= goal, [position()]), None), 600,
                           dedup.process.log_tail)
        return found, time.monotonic()

    parts = {"stores": stores.process, "production": production.process, "deduplicator": dedup.process}
    dedup.process.start()
    with servers.running(dedup):
        first, began = reached(1)
        perf = _perf(dedup.process.pid, profile) if profile else None  # its threads are there now
        before = {part: cpu_s(process.pid) for part, process in parts.items()}
        reached(total // 5)
        early = dedup.process.rss_mb
        ended = reached(total)[1]
        growth = dedup.process.peak_rss_mb - early
        used = ", ".join(f"{part} {cpu_s(process.pid) - before[part]:.2f}" for part, process in parts.items())
    watcher.close()
    if perf:
        perf.wait()
    return (total - first) / (ended - began), growth, used


def _perf(pid: int, path: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["perf", "record", "-q", "-F", "999", "-p", str(pid), "-o", path])


def emptied(production: PostgresCluster, name: str) -> None:
    """Another database with production's tables and nothing in them."""
    production.execute(f"CREATE DATABASE {name} TEMPLATE {production.database}", database="postgres")
    production.execute("TRUNCATE orderbook_deltas", database=name)


def count(production: PostgresCluster, name: str, rows: int) -> None:
    """Whether it has what it should."""
    stored = production.query("SELECT count(*) FROM orderbook_deltas", database=name)[0][0]
    if stored != rows:
        raise AssertionError(f"{name}: {stored} rows, expected {rows}")


def plain_copy(stores: PostgresCluster, production: PostgresCluster, rows: int) -> float:
    """Seconds of one COPY of one gatherer's rows."""
    emptied(production, "floor")
    data = io.BytesIO()
    source, target = stores.connect(GATHERERS[0]), production.connect("floor")
    with source.cursor() as reader, target.cursor() as writer:
        reader.copy_expert(f"COPY (SELECT {COLUMNS} FROM orderbook_deltas ORDER BY seq) TO STDOUT (FORMAT binary)", data)
        data.seek(0)
        began = time.monotonic()
        writer.copy_expert(f"COPY orderbook_deltas ({COLUMNS}) FROM STDIN (FORMAT binary)", data, 1 << 20)
        took = time.monotonic() - began
    source.close()
    target.close()
    count(production, "floor", rows)
    return took


def sql_only(stores: PostgresCluster, production: PostgresCluster, rows: int) -> float:
    """Offered rows a second of SQL that a user would have a timer run in production."""
    emptied(production, "sql")
    connection = production.connect("sql")
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION postgres_fdw; CREATE TABLE cursors (gatherer text PRIMARY KEY, seq int8)")
        for name in GATHERERS:
            cursor.execute((servers.PEERS / "sql" / "gatherer.sql").read_text(encoding="utf-8").format(
                name=name, host=stores.home, port=stores.port))
        began = time.monotonic()
        for _ in range(0, rows, BATCH_ROWS):
            for name in GATHERERS:
                cursor.execute((servers.PEERS / "sql" / "merge.sql").read_text(encoding="utf-8").format(
                    name=name, columns=COLUMNS, rows=BATCH_ROWS))
        took = time.monotonic() - began
    connection.close()
    count(production, "sql", rows)
    return rows * len(GATHERERS) / took


def peer(stores: PostgresCluster, production: PostgresCluster, language: str, rows: int) -> float:
    """Offered rows a second of a program."""
    emptied(production, language)

    def address(cluster: PostgresCluster, database: str) -> dict[str, object]:
        return {"host": str(cluster.home), "port": cluster.port, "user": "postgres", "database": database}

    with servers.directory() as where:
        client = servers.Peer(language, "merge", where, {
            "stores": [{"name": name, **address(stores, name)} for name in GATHERERS], "columns": COLUMNS, "rows": BATCH_ROWS,
            "production": address(production, language)})
        with servers.running(client):
            client.process.start()
            said = client.wait_end(600)
    count(production, language, rows)
    if said["offered"] != rows * len(GATHERERS):
        raise AssertionError(f"{language} was offered {said['offered']} rows of {rows * len(GATHERERS)}")
    return float(said["offered"]) / float(said["seconds"])


def main() -> int:
    """The command."""
    parser = report.parser(__doc__)
    parser.add_argument("--rows", type=int, help=f"of each gatherer ({ROWS_OF_EACH}; --quick {QUICK_ROWS})")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="perf's samples of the deduplicator into FILE, and no more")
    options = parser.parse_args()
    rows = (options.rows or (QUICK_ROWS if options.quick else ROWS_OF_EACH)) // BATCH_ROWS * BATCH_ROWS
    out = report.Report(options)
    with servers.directory() as where, servers.cluster(where, "stores", "kalshi_ts") as stores, \
            servers.cluster(where, "production", "kalshi", synchronous_commit="on") as production:
        migrate(where, stores)
        began = datetime.now(timezone.utc)
        for gatherer in GATHERERS:
            make_store(stores, gatherer, rows, began)
        stores.execute("CHECKPOINT")
        offered, growth, used = catch_up(where, stores, production, rows, options.profile)
        count(production, production.database, rows)
        if options.profile:
            return 0
        out.note(f"{rows} rows of each gatherer; processor seconds: {used}")
        out.result("merge/unique", offered / len(GATHERERS), "rows/s", rows / plain_copy(stores, production, rows),
                   "COPY BINARY of the unique rows")
        out.result("merge/growth", growth, "MB")
        if options.alone:
            out.result("merge/offered", offered, "rows/s")
            return 0
        out.result("merge/sql", offered, "rows/s", sql_only(stores, production, rows), "postgres_fdw, ON CONFLICT")
        for language in ("node", "python"):
            out.result(f"merge/{language}", offered, "rows/s", peer(stores, production, language, rows),
                       f"{language}, COPY, ON CONFLICT")
    return 0


def migrate(directory: Path, stores: PostgresCluster) -> None:
    """The schema of a gatherer's store, as the program makes it."""
    subprocess.run([paths.program("tidemill"), "migrate", paths.ROOT / "lua/kalshi/gatherer.lua"], check=True,
                   capture_output=True, cwd=directory,
                   env={**os.environ, **paths.NO_EXCHANGE, "TIDEMILL_STORE": stores.conninfo(), "TIDEMILL_DATA": str(directory / "journal")})


if __name__ == "__main__":
    sys.exit(main())
