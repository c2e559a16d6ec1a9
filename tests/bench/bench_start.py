#!/usr/bin/python3
"""How long processes take from exec until they are of use.

    tests/bench/bench_start.py [--times N] [--quick] [--json]

`answer`: a gatherer answers /health. `hearing`: it has subscribed to everything at an exchange with 500 markets. `merging`: a
deduplicator holds the lease and writes to a production that has its schema already. `version`: the program says its version and
ends; floor of the others, as it is what loading and linking cost. Medians.
"""
from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, servers  # noqa: E402
from bench.report import median  # noqa: E402
from harness import paths  # noqa: E402
from harness.daemons import Daemon, Deduplicator, Exchange  # noqa: E402

MARKETS = 500
STORE, PRODUCTION = "kalshi_ts", "kalshi"


def until(daemon: Daemon, ready: Callable[[], bool]) -> float:
    """Milliseconds from exec; looks every 2 ms, so that the looking does not weigh."""
    begun = time.monotonic()
    daemon.process.start()
    while not ready():
        if not daemon.process.running or time.monotonic() - begun > 30:
            raise AssertionError(f"{daemon.name} is not ready\n{daemon.process.log_tail()}")
        time.sleep(0.002)
    return (time.monotonic() - begun) * 1e3


def version_ms() -> float:
    """Start to end of `tidemill version`."""
    begun = time.monotonic()
    subprocess.run([paths.program("tidemill"), "version"], check=True, capture_output=True)
    return (time.monotonic() - begun) * 1e3


def merging(daemon: Daemon) -> bool:
    """It has the lease and a connection."""
    health = daemon.try_health() or {}
    return health.get("rds") == "connected" and health.get("lease") == "held"


def main() -> int:
    """The command."""
    parser = report.parser(__doc__)
    parser.add_argument("--times", type=int, help="(15; --quick 3)")
    options = parser.parse_args()
    times = options.times or (3 if options.quick else 15)
    out = report.Report(options)
    took: dict[str, list[float]] = {"version": [version_ms() for _ in range(times)], "answer": [], "hearing": [], "merging": []}
    with servers.directory() as where, servers.cluster(where, "servers", STORE) as store:
        store.execute(f"CREATE DATABASE {PRODUCTION}")
        exchange = Exchange(where, {"markets": MARKETS, "hold": True})
        gatherer = servers.gatherer(where, exchange, store=store.conninfo())
        dedup = Deduplicator("dedup", where, gatherers={"g1": store.conninfo()}, production=store.conninfo(PRODUCTION))
        with servers.running(exchange, gatherer, dedup):
            exchange.start()
            for number in range(times + 1):  # the first one makes the schemas
                took["answer"].append(until(gatherer, lambda: gatherer.try_health() is not None))
                gatherer.process.stop()
                took["hearing"].append(until(gatherer, lambda: exchange.has_all_markets("g1")))
                took["merging"].append(until(dedup, lambda: merging(dedup)))
                gatherer.process.stop()
                dedup.process.stop()
                if not number:
                    took["answer"], took["hearing"], took["merging"] = [], [], []
    floor = median(took["version"])
    out.result("start/version", floor, "ms")
    for what in ("answer", "hearing", "merging"):
        out.result(f"start/{what}", median(took[what]), "ms", floor, "tidemill version")
    return 0


if __name__ == "__main__":
    sys.exit(main())
