#!/usr/bin/python3
"""What people at the control socket cost a gatherer under load: the round trip of a REPL command, and the feed's latency
while hostile clients and 50 consoles are connected (X19), beside what it is without them.

    tests/bench/bench_repl.py [--rate N] [--seconds N] [--json]

A gatherer without a database hears a simulated exchange; the latency of the feed is received_at - exchange_ts of every
delta in its journal, by phase. Exit status 1 when the round trip's p99 is over 5 ms, or the feed's p99 with everybody
connected is over 10 ms more than the worse of the quiet phases around it.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "process"))

from harness import paths  # noqa: E402
from harness.console import Console, Refused  # noqa: E402
from harness.daemons import Exchange, Gatherer  # noqa: E402
from harness.waiting import wait_until  # noqa: E402
from rude_peers import rude  # noqa: E402

CONSOLES = 50
ROUND_TRIP_MS, FEED_MS = 5.0, 10.0
ASK_EVERY = 0.02


@dataclass
class Phase:
    """A time of the run, and how late the feed's records were in it."""

    name: str
    begun: float = 0.0
    ended: float = 0.0
    late_ms: list[float] = field(default_factory=list)

    def line(self) -> str:
        """For the table."""
        return (f"{self.name:26} {len(self.late_ms):>9} rows   p50 {quantile(self.late_ms, 0.5):7.2f} ms   "
                f"p99 {quantile(self.late_ms, 0.99):7.2f} ms   p99.9 {quantile(self.late_ms, 0.999):7.2f} ms")


def quantile(values: list[float], share: float) -> float:
    """Of a list that need not be sorted."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def round_trips(path: Path, text: str, count: int) -> list[float]:
    """Milliseconds of so many commands, one after the other, at a person's pace and a bit."""
    took = []
    with Console(path) as console:
        console.eval(text)
        for _ in range(count):
            begun = time.perf_counter()
            console.eval(text)
            took.append((time.perf_counter() - begun) * 1e3)
            time.sleep(ASK_EVERY)
    return took


def watch(path: Path, stop: threading.Event) -> None:
    """A console that looks at the status every second, and comes back when it is put out."""
    while not stop.is_set():
        try:
            with Console(path) as console:
                while not stop.wait(1.0):
                    console.eval("status().health.status")
        except (OSError, EOFError, Refused):
            stop.wait(0.2)


def pester(path: Path, seconds: float) -> None:
    """Everybody at once, the rude ones coming again and again."""
    stop = threading.Event()
    consoles = [threading.Thread(target=watch, args=(path, stop)) for _ in range(CONSOLES)]
    for thread in consoles:
        thread.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        peers = rude(path)
        time.sleep(min(2.0, max(0.0, until - time.monotonic())))
        for peer in peers:
            peer.close()
    stop.set()
    for thread in consoles:
        thread.join()


def read_journal(gatherer: Gatherer, phases: list[Phase]) -> None:
    """Sort every delta of the journal into the phase in which it was received."""
    dump = subprocess.Popen([paths.program("tidemill"), "journal", "dump", gatherer.data, "--json",
                             "--stream", "orderbook_deltas", "--script", paths.ROOT / gatherer.script],
                            stdout=subprocess.PIPE, text=True, env={**os.environ, **gatherer.env})
    assert dump.stdout
    for line in dump.stdout:
        row = json.loads(line)
        row = row.get("row", row)
        received = datetime.fromisoformat(row["received_at"].replace("Z", "+00:00")).timestamp()
        sent = datetime.fromisoformat(row["exchange_ts"].replace("Z", "+00:00")).timestamp()
        for phase in phases:
            if phase.begun <= received < phase.ended:
                phase.late_ms.append((received - sent) * 1e3)
    dump.wait()


def measure(options: argparse.Namespace, directory: Path) -> tuple[list[Phase], dict[str, list[float]]]:
    """The run."""
    exchange = Exchange(directory, {"seed": 1, "markets": 200, "rate": options.rate, "seconds": 3600, "hold": True})
    gatherer = Gatherer("g1", directory, store="host=127.0.0.1 port=1 dbname=x connect_timeout=1",
                        ws_url=f"{exchange.ws_url}?label=g1", rest_url=exchange.rest_url)
    phases = [Phase("quiet"), Phase("one console, asking"), Phase(f"X19 and {CONSOLES} consoles"), Phase("quiet again")]
    trips: dict[str, list[float]] = {}

    def during(phase: Phase, work: object) -> None:
        phase.begun = time.time()
        work()  # type: ignore[operator]
        phase.ended = time.time()

    def ask() -> None:
        count = int(options.seconds / ASK_EVERY / 3)
        trips["1 + 1"] = round_trips(gatherer.socket, "1 + 1", count)
        trips["#links()"] = round_trips(gatherer.socket, "#links()", count)
        trips["status()"] = round_trips(gatherer.socket, "status()", count)

    try:
        exchange.start()
        gatherer.start()
        wait_until("it hears all markets", lambda: exchange.has_all_markets("g1"), 60, gatherer.process.log_tail)
        exchange.control("start")
        time.sleep(3)
        during(phases[0], lambda: time.sleep(options.seconds))
        during(phases[1], ask)
        during(phases[2], lambda: pester(gatherer.socket, options.seconds))
        time.sleep(2)
        during(phases[3], lambda: time.sleep(options.seconds))
    finally:
        gatherer.process.stop()
        exchange.process.stop()
    read_journal(gatherer, phases)
    return phases, trips


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=20000, help="messages a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="of each phase (%(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="tidemill-"))
    os.chmod(directory, 0o711)
    try:
        phases, trips = measure(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for phase in phases:
        print(phase.line(), file=sys.stderr if options.json else sys.stdout)
    for text, took in trips.items():
        print(f"round trip of {text:12} {len(took):>9} times   p50 {quantile(took, 0.5):7.2f} ms   p99 "
              f"{quantile(took, 0.99):7.2f} ms   max {max(took):7.2f} ms", file=sys.stderr if options.json else sys.stdout)
    worst_trip = max(quantile(took, 0.99) for took in trips.values())
    quiet = max(quantile(phases[0].late_ms, 0.99), quantile(phases[3].late_ms, 0.99))
    more = quantile(phases[2].late_ms, 0.99) - quiet
    good = worst_trip <= ROUND_TRIP_MS and more <= FEED_MS
    if options.json:
        print(json.dumps({"rate": options.rate, "round_trip_p99_ms": worst_trip, "feed_p99_more_ms": more, "good": good}))
    else:
        print(f"round trip p99 {worst_trip:.2f} ms (at most {ROUND_TRIP_MS:g}), feed p99 with everybody {more:+.2f} ms "
              f"(at most {FEED_MS:+g}): {'good' if good else 'NOT good'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
