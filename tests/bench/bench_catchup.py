#!/usr/bin/python3
"""How fast a deduplicator works off what waited: three gatherers' stores with the same rows, and beside it what one
connection does with the same rows by COPY into a temporary table and INSERT ... ON CONFLICT DO NOTHING.

    tests/bench/bench_catchup.py [--rows N] [--transaction-rows N] [--skip-baseline]

Rows are deltas of 500 markets, made by SQL; each gatherer has all of them, so two thirds are duplicates. Everything is
on this machine: three stores in one PostgreSQL, production in another. Result: one table.
"""
from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import paths  # noqa: E402
from harness.daemons import Deduplicator  # noqa: E402
from harness.postgres import PostgresCluster  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

GATHERERS = ("g1", "g2", "g3")
MARK_EVERY = 2000
COLUMNS = "ticker, exchange_ts, side, price, delta, occurrence, received_at"
SETTINGS = {"synchronous_commit": "off", "shared_buffers": "'256MB'", "max_wal_size": "'4GB'", "fsync": "on"}

ROWS = """
INSERT INTO orderbook_deltas (ticker, exchange_ts, side, price, delta, occurrence, received_at, sid, exchange_seq, seq,
    epoch_no)
SELECT 'KXBENCH-26NOV-T' || lpad((n % 500)::text, 4, '0'), date_trunc('hour', now()) - interval '2 hours'
    + n * interval '200 microseconds', CASE WHEN n % 2 = 0 THEN 'yes' ELSE 'no' END, (n % 99 + 1) * 10000,
    (n::int8 * 7919 % 2000 - 1000) * 100, 0, date_trunc('hour', now()) - interval '2 hours'
    + n * interval '200 microseconds', 1, n, n + 1, 1
FROM generate_series(0, {rows} - 1) n;
INSERT INTO tidemill.marks (epoch_no, stream, seq, hash)
SELECT 1, 'orderbook_deltas', s, hashint8extended(s, 1) FROM generate_series({every}, {rows}, {every}) s;
INSERT INTO tidemill.streams (epoch_no, stream, seq, hash)
VALUES (1, 'orderbook_deltas', {rows}, hashint8extended({rows}, 1));
"""


def make_store(cluster: PostgresCluster, name: str, rows: int) -> None:
    """A gatherer's store with its backlog."""
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE kalshi_ts")
    cluster.query(f"INSERT INTO tidemill.epochs (epoch, gatherer) VALUES (gen_random_uuid(), '{name}')", database=name)
    cluster.query("CREATE TABLE orderbook_deltas_e1_0 PARTITION OF orderbook_deltas FOR VALUES FROM (1, 1) TO (1, 1000000000)",
                  database=name)
    cluster.query(ROWS.format(rows=rows, every=MARK_EVERY), database=name)


def cpu_s(pid: int) -> float:
    """User and system time of a process and of its children, those that ended too."""
    def of(stat: Path, waited: bool) -> int:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15 if waited else 13])

    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    ticks = of(Path(f"/proc/{pid}/stat"), True) + sum(of(Path(f"/proc/{child}/stat"), False) for child in children)
    return ticks / os.sysconf("SC_CLK_TCK")


def catch_up(directory: Path, stores: PostgresCluster, production: PostgresCluster, rows: int,
             env: dict[str, str]) -> tuple[float, float, float, str]:
    """Seconds, resident MB after a fifth of it, peak resident MB, who used the CPU."""
    gatherers = {name: stores.conninfo(name) for name in GATHERERS}
    dedup = Deduplicator("dedup", directory, gatherers=gatherers, production=production.conninfo(), env=env)
    early: list[float] = []

    watcher = production.connect()  # one session: logging in costs more than what is measured

    def ask(sql: str) -> str:
        with watcher.cursor() as cursor:
            cursor.execute(sql)
            return str((cursor.fetchone() or ("",))[0])

    def position() -> int:
        if ask("SELECT to_regclass('tidemill.cursors') IS NULL") == "True":
            return 0
        done = int(ask("SELECT coalesce(sum(seq), 0) FROM tidemill.cursors"))
        if done > rows * len(GATHERERS) / 5 and not early:
            early.append(dedup.process.rss_mb)
        return done

    parts = {"stores": stores.process, "production": production.process, "deduplicator": dedup.process}
    began = time.monotonic()
    dedup.process.start()
    before = {part: cpu_s(process.pid) for part, process in parts.items()}
    wait_until("the cursors are at the end", lambda: position() >= rows * len(GATHERERS), 600, dedup.process.log_tail)
    took = time.monotonic() - began
    peak = dedup.process.peak_rss_mb
    used = ", ".join(f"{part} {cpu_s(process.pid) - before[part]:.2f}" for part, process in parts.items())
    dedup.process.stop()
    watcher.close()
    print(dedup.process.log(), file=sys.stderr)
    return took, early[0] if early else peak, peak, used


def baseline(stores: PostgresCluster, production: PostgresCluster, batch: int) -> tuple[int, float]:
    """Rows and seconds of one connection that offers everything; reading is not counted."""
    production.execute("CREATE DATABASE baseline TEMPLATE kalshi")
    out = production.connect("baseline")
    out.autocommit = False
    offered, took = 0, 0.0
    with out.cursor() as cursor:
        cursor.execute("TRUNCATE orderbook_deltas")
        cursor.execute("CREATE TEMP TABLE stage (LIKE orderbook_deltas) ON COMMIT DELETE ROWS")
        out.commit()
        sources = [stores.connect(name) for name in GATHERERS]
        last = [int(stores.query("SELECT max(seq) FROM orderbook_deltas", database=name)[0][0]) for name in GATHERERS]
        for start in range(0, max(last), batch):
            for source in sources:
                data = io.BytesIO()
                with source.cursor() as reader:
                    reader.copy_expert(f"COPY (SELECT {COLUMNS} FROM orderbook_deltas WHERE epoch_no = 1 AND seq > {start}"
                                       f" AND seq <= {start + batch}) TO STDOUT (FORMAT binary)", data)
                data.seek(0)
                began = time.monotonic()
                cursor.copy_expert(f"COPY stage ({COLUMNS}) FROM STDIN (FORMAT binary)", data)
                offered += cursor.rowcount
                cursor.execute(f"INSERT INTO orderbook_deltas ({COLUMNS}) SELECT {COLUMNS} FROM stage ON CONFLICT DO NOTHING")
                out.commit()
                took += time.monotonic() - began
        for source in sources:
            source.close()
    out.close()
    return offered, took


def main() -> int:
    """Both, and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each gatherer")
    parser.add_argument("--baseline-rows", type=int, default=20000, help="in a transaction of the baseline")
    parser.add_argument("--skip-baseline", action="store_true")
    options = parser.parse_args()
    rows = options.rows // MARK_EVERY * MARK_EVERY
    with tempfile.TemporaryDirectory(prefix="tidemill-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        stores = PostgresCluster("stores", directory, "kalshi_ts", SETTINGS)
        production = PostgresCluster("production", directory, "kalshi", {**SETTINGS, "synchronous_commit": "on"})
        for cluster in (stores, production):
            cluster.create()
            cluster.start()
        try:
            migrate(directory, stores)
            for gatherer in GATHERERS:
                make_store(stores, gatherer, rows)
            stores.execute("CHECKPOINT")
            took, early, peak, used = catch_up(directory, stores, production, rows, {})
            stored = production.value("SELECT count(*) FROM orderbook_deltas")
            offered = rows * len(GATHERERS)
            print(f"{'':<24} {'offered':>10} {'stored':>10} {'s':>7} {'offered/s':>10} {'RSS MB at 20 %':>15} {'peak':>6}")
            print(f"{'deduplicator':<24} {offered:>10} {stored:>10} {took:>7.1f} {offered / took:>10.0f} {early:>15.0f}"
                  f" {peak:>6.0f}", flush=True)
            print(f"{'':<24} CPU s: {used}", flush=True)
            if not options.skip_baseline:
                before = cpu_s(production.process.pid)
                offered, took = baseline(stores, production, options.baseline_rows)
                print(f"{'COPY + ON CONFLICT':<24} {offered:>10} {'':>10} {took:>7.1f} {offered / took:>10.0f}")
                print(f"{'':<24} CPU s: production {cpu_s(production.process.pid) - before:.2f}")
            return 0 if stored == rows else 1
        finally:
            stores.stop("immediate")
            production.stop("immediate")


def migrate(directory: Path, stores: PostgresCluster) -> None:
    """The schema of a gatherer's store, as the program makes it."""
    subprocess.run([paths.program("tidemill"), "migrate", paths.ROOT / "lua/kalshi/gatherer.lua"], check=True,
                   capture_output=True, cwd=directory,
                   env={**os.environ, "TIDEMILL_STORE": stores.conninfo(), "TIDEMILL_DATA": str(directory / "journal")})


if __name__ == "__main__":
    sys.exit(main())
