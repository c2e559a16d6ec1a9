#!/usr/bin/python3
"""A gatherer of a million markets: how long until its registry is full from the exchange's REST, how long until all of them are
subscribed to over 150 connections, and what memory that takes.

    tests/bench/bench_markets.py [--markets N] [--connections N] [--quick] [--json]

The gatherer asks 20 times a second, which is what the exchange's Basic tier allows (kalshi.md 7.1), a page of 1,000 markets
each time: 50 s at the least. By its default, 10 a second, it would be 100 s.

No events are sent, so that memory is that of the registry and of the subscriptions; floor of `memory` and `peak`: the same
process with 1,000 markets. `load` is from exec to a full registry.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, servers  # noqa: E402
from harness.daemons import Exchange  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

MARKETS, QUICK_MARKETS, FEW = 1_000_000, 20_000, 1000
REGISTRY = "market_registry_markets"
TIMEOUT_S = 600.0
REQUESTS = "20"


def measure(markets: int, connections: int) -> dict[str, float]:
    """Seconds to a full registry and to all subscribed, MB then and at most."""
    with servers.directory() as where:
        exchange = Exchange(where, {"seed": 1, "markets": markets, "depth": 1, "hold": True,
                                    "subscription-limit": max(markets, 500_000)})
        gatherer = servers.gatherer(where, exchange, connections=connections, env={"KALSHI_REST_PER_SECOND": REQUESTS})
        with servers.running(exchange, gatherer):
            exchange.start()
            begun = time.monotonic()
            gatherer.start()

            def registered() -> bool:
                metrics = gatherer.try_metrics()
                return metrics is not None and metrics.sum(REGISTRY) >= markets

            wait_until(f"the registry has {markets} markets", registered, TIMEOUT_S, gatherer.process.log_tail)
            loaded = time.monotonic() - begun
            wait_until("all are subscribed to", lambda: exchange.has_all_markets("g1"), TIMEOUT_S, gatherer.process.log_tail)
            return {"load": loaded, "subscribed": time.monotonic() - begun, "memory": gatherer.process.rss_mb,
                    "peak": gatherer.process.peak_rss_mb}


def main() -> int:
    """The command."""
    parser = report.parser(__doc__)
    parser.add_argument("--markets", type=int, help=f"({MARKETS}; --quick {QUICK_MARKETS})")
    parser.add_argument("--connections", type=int, default=150, help="(%(default)s)")
    options = parser.parse_args()
    out = report.Report(options)
    few = measure(FEW, options.connections)
    many = measure(options.markets or (QUICK_MARKETS if options.quick else MARKETS), options.connections)
    for what, unit in (("load", "s"), ("subscribed", "s"), ("memory", "MB"), ("peak", "MB")):
        out.result(f"markets/{what}", many[what], unit, few[what], f"{FEW:,} markets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
