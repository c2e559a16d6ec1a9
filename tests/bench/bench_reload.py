#!/usr/bin/python3
"""What reloads cost a gatherer at 20,000 messages a second: how long one takes, and how late the feed is meanwhile.

    tests/bench/bench_reload.py [--rate N] [--reloads N] [--quick] [--json]

A gatherer without a database hears a simulated exchange; phases with and without reloads alternate. `took` is the median of
`tidemill reload`, process and all; `pause` is the latest record in a round with reloads, its floor that in a quiet round.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import feed, report, servers  # noqa: E402
from bench.feed import Phase  # noqa: E402
from bench.report import median, quantile  # noqa: E402

PAUSE_S = 0.1  # between reloads


def main() -> int:
    """The command."""
    parser = report.parser(__doc__)
    parser.add_argument("--rate", type=int, default=20000, help="messages a second (%(default)s)")
    parser.add_argument("--reloads", type=int, help="in a round (20; --quick 5)")
    parser.add_argument("--rounds", type=int, help="whose median counts (5; --quick 1)")
    options = parser.parse_args()
    rounds, reloads = options.rounds or (1 if options.quick else 5), options.reloads or (5 if options.quick else 20)
    out = report.Report(options)
    quiet, reloading = phases = [Phase("quiet"), Phase("reloads")]
    took: list[float] = []
    with servers.directory() as where:
        with feed.heard(where, options.rate) as gatherer:
            def reload() -> None:
                for _ in range(reloads):
                    begun = time.monotonic()
                    done = gatherer.reload()
                    took.append((time.monotonic() - begun) * 1e3)
                    if done.returncode:
                        raise AssertionError(f"a reload was refused: {done.stdout}{done.stderr}")
                    time.sleep(PAUSE_S)

            for _ in range(rounds):
                reloading.during(reload)
                begun, ended = reloading.spans[-1]
                quiet.during(lambda span=ended - begun: time.sleep(span))
        feed.read_journal(gatherer, phases)
    for phase in phases:
        out.note(phase.line())
    out.note(f"{len(took)} reloads: p99 {quantile(took, 0.99):.1f} ms")
    out.result("reload/took", median(took), "ms")
    out.result("reload/feed", reloading.p99(), "ms", quiet.p99(), "p99 without reloads")
    out.result("reload/pause", reloading.worst(), "ms", quiet.worst(), "latest record without reloads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
