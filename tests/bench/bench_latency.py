#!/usr/bin/python3
"""From the exchange's send to visible in production, with gatherers, their stores, a deduplicator and production, all of it on
this machine; and a burst.

    tests/bench/bench_latency.py [--seconds N] [--gatherers N] [--quick] [--json]

Messages are of the other benchmarks' mix, with a market that opens or closes now and then: the simulator's own has a hundred of
those a second at this rate, each of which costs requests, subscriptions and snapshots.

Latency is the commit time of the transaction that made a row visible less the time at which the exchange sent it, over all
trades and deltas, at 2,000 and 20,000 messages a second. The first second, in which databases and their sessions see their tables
for the first time, is not in it; `whole-p99` is of all. Floor: the same steps for one row, one after the other, each waited for:
write and fdatasync, COPY into a store, read it there, COPY into production with synchronous_commit on. The burst is 100,000
messages a second for 10 s to one gatherer: `burst-drain` is how long after its end production has all of it, `burst-lost` the
rows that it then has not, compared with the ledger row by row, as in every run here.
"""
from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, servers  # noqa: E402
from bench.report import median  # noqa: E402
from harness.lab import Lab, LabOptions  # noqa: E402
from harness.postgres import PostgresCluster  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

RATES = (2000, 20000)
BURST_RATE = 100000
MARKETS = 500
MIX = f"{servers.MIX.removesuffix('=0')}=0.005"  # one event in 20,000 is a market's life: still many more than there are
FLOOR_ROUNDS = 100


def lab_of(gatherers: int, rate: int, seconds: float) -> Lab:
    """All parts; the stores' durability is the journals'."""
    return Lab(LabOptions(gatherers=gatherers, exchange={"seed": 1, "markets": MARKETS, "rate": rate, "seconds": seconds, "mix": MIX},
                          store_settings=servers.POSTGRES,
                          production_settings={**servers.POSTGRES, "synchronous_commit": "on"}))


def steady(gatherers: int, rate: int, seconds: float) -> tuple[float, float, float]:
    """p50 and p99 in ms once it has settled, and p99 of all."""
    with lab_of(gatherers, rate, seconds) as lab:
        lab.start()
        lab.wait_emitted()
        lab.drain(120)
        verdict = lab.verify()
        if not verdict.clean or verdict.settled_ms_p50 is None or verdict.settled_ms_p99 is None or verdict.lag_ms_p99 is None:
            raise AssertionError(f"at {rate} msg/s: {verdict}")
        return verdict.settled_ms_p50, verdict.settled_ms_p99, verdict.lag_ms_p99


def burst(seconds: float, out: report.Report) -> None:
    """One gatherer, and all that it can be asked for."""
    with lab_of(1, BURST_RATE, seconds) as lab:
        lab.start()
        lab.wait_emitted()
        ended = time.monotonic()
        wait_until("production has it", lambda: not lab.unstored() and not lab.backlog(), 300)
        drained = time.monotonic() - ended
        lab.drain(60)
        figures = lab.verify().figures()
        out.note(f"burst: {figures.emitted} events, {figures.rows_per_s:.0f} rows/s into production")
        out.result("latency/burst-drain", drained, "s")
        out.result("latency/burst-lost", figures.missing + figures.unexpected + figures.duplicate, "rows")


def floor(rounds: int) -> float:
    """Median of the steps for one row, in ms."""
    with servers.directory() as where, servers.cluster(where, "store", "store") as store, \
            servers.cluster(where, "production", "production", synchronous_commit="on") as production:
        took = []
        here, there = _table(store), _table(production)
        journal = os.open(where / "journal", os.O_WRONLY | os.O_CREAT)
        for number in range(rounds):
            begun = time.monotonic()
            os.write(journal, bytes(150))
            os.fdatasync(journal)
            here.execute("INSERT INTO t VALUES (%s, 'KXBENCH-26NOV-T0001', now(), 'yes', 470000, 100)", (number,))
            here.execute("SELECT * FROM t WHERE seq = %s", (number,))
            there.execute("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s)", here.fetchall()[0])
            took.append((time.monotonic() - begun) * 1e3)
        os.close(journal)
        here.connection.close()
        there.connection.close()
        return median(took)


def _table(cluster: PostgresCluster):  # type: ignore[no-untyped-def]  # psycopg2's cursor
    cursor = cluster.connect().cursor()
    cursor.execute("CREATE TABLE t (seq int8 PRIMARY KEY, ticker text, at timestamptz, side text, price int4, delta int8)")
    return cursor


def main() -> int:
    """The command."""
    parser: argparse.ArgumentParser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, help="of each rate and of the burst (10; --quick 2)")
    parser.add_argument("--gatherers", type=int, default=3, help="at steady rates (%(default)s)")
    options = parser.parse_args()
    seconds = options.seconds or (2.0 if options.quick else 10.0)
    out = report.Report(options)
    steps = floor(FLOOR_ROUNDS // 4 if options.quick else FLOOR_ROUNDS)
    for rate in RATES:
        p50, p99, whole = steady(options.gatherers, rate, seconds)
        out.result(f"latency/{rate}-p50", p50, "ms", steps, "the same steps for one row")
        out.result(f"latency/{rate}-p99", p99, "ms", steps, "the same steps for one row")
        out.result(f"latency/{rate}-whole-p99", whole, "ms", steps, "the same steps for one row")
    burst(seconds, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
