#!/usr/bin/python3
"""What people at the control socket cost a gatherer under load: the round trip of a REPL command, and the feed's latency
while hostile clients and 50 consoles are connected (X19), beside what it is without them.

    tests/bench/bench_repl.py [--rate N] [--seconds N] [--json]

A gatherer without a database hears a simulated exchange; the latency of the feed is received_at - exchange_ts of every
delta in its journal, by phase. Phases alternate in rounds, and the median of their p99 counts. Exit status 1 when the
round trip's is over 5 ms, or the feed's with everybody connected is over 10 ms more than without.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing
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
from typing import Callable

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
    spans: list[tuple[float, float]] = field(default_factory=list)  # of the rounds
    rounds: list[list[float]] = field(default_factory=list)  # how late the feed was, in ms

    @property
    def late_ms(self) -> list[float]:
        """Of all rounds."""
        return [late for one in self.rounds for late in one]

    def p99(self) -> float:
        """The median of the rounds' p99: other work on the machine disturbs some of them."""
        return median([quantile(one, 0.99) for one in self.rounds])

    def line(self) -> str:
        """For the table."""
        return (f"{self.name:26} {len(self.late_ms):>9} rows   p50 {quantile(self.late_ms, 0.5):7.2f} ms   "
                f"p99 {quantile(self.late_ms, 0.99):7.2f} ms   of each round: "
                + " ".join(f"{quantile(one, 0.99):.2f}" for one in self.rounds))


def median(values: list[float]) -> float:
    """Of some."""
    return quantile(values, 0.5)


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
    """Everybody at once, in a process of less priority: it is the gatherer's work that is measured, not the clients'."""
    child = multiprocessing.Process(target=_pester, args=(path, seconds))
    child.start()
    child.join()


def _pester(path: Path, seconds: float) -> None:
    """The consoles, and the rude ones, who come again and again."""
    os.nice(4)
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
            for i, (begun, ended) in enumerate(phase.spans):
                if begun <= received < ended:
                    phase.rounds[i].append((received - sent) * 1e3)
    dump.wait()


TEXTS = ("1 + 1", "#links()", "status()")


def measure(options: argparse.Namespace, directory: Path) -> tuple[list[Phase], dict[str, list[list[float]]]]:
    """The run: in each round a quiet time, one of a console that asks, one of everybody."""
    exchange = Exchange(directory, {"seed": 1, "markets": 200, "rate": options.rate, "seconds": 3600, "hold": True})
    gatherer = Gatherer("g1", directory, store="host=127.0.0.1 port=1 dbname=x connect_timeout=1",
                        ws_url=f"{exchange.ws_url}?label=g1", rest_url=exchange.rest_url)
    phases = [Phase("quiet"), Phase("one console, asking"), Phase(f"X19 and {CONSOLES} consoles")]
    trips: dict[str, list[list[float]]] = {text: [] for text in TEXTS}
    seconds = options.seconds / options.rounds

    def during(phase: Phase, work: Callable[[], None]) -> None:
        begun = time.time()
        work()
        phase.spans.append((begun, time.time()))
        phase.rounds.append([])

    def ask() -> None:
        for text in TEXTS:
            trips[text].append(round_trips(gatherer.socket, text, int(seconds / ASK_EVERY / len(TEXTS))))

    try:
        exchange.start()
        gatherer.start()
        wait_until("it hears all markets", lambda: exchange.has_all_markets("g1"), 60, gatherer.process.log_tail)
        exchange.control("start")
        time.sleep(3)
        for _ in range(options.rounds):
            during(phases[0], lambda: time.sleep(seconds))
            during(phases[1], ask)
            during(phases[2], lambda: pester(gatherer.socket, seconds))
            time.sleep(1)
    finally:
        gatherer.process.stop()
        exchange.process.stop()
    read_journal(gatherer, phases)
    return phases, trips


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=20000, help="messages a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of each phase, all rounds together (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="whose median counts (%(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="tidemill-"))
    os.chmod(directory, 0o711)
    try:
        phases, trips = measure(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    to = sys.stderr if options.json else sys.stdout
    for phase in phases:
        print(phase.line(), file=to)
    for text, rounds in trips.items():
        took = [one for each in rounds for one in each]
        print(f"round trip of {text:12} {len(took):>9} times  p50 {quantile(took, 0.5):7.2f} ms   p99 "
              f"{quantile(took, 0.99):7.2f} ms   of each round: "
              + " ".join(f"{quantile(each, 0.99):.2f}" for each in rounds), file=to)
    worst_trip = max(median([quantile(each, 0.99) for each in rounds]) for rounds in trips.values())
    more = phases[2].p99() - phases[0].p99()
    good = worst_trip <= ROUND_TRIP_MS and more <= FEED_MS
    if options.json:
        print(json.dumps({"rate": options.rate, "round_trip_p99_ms": worst_trip, "feed_p99_more_ms": more, "good": good}))
    else:
        print(f"round trip p99 {worst_trip:.2f} ms (at most {ROUND_TRIP_MS:g}), feed p99 with everybody {more:+.2f} ms "
              f"(at most {FEED_MS:+g}): {'good' if good else 'NOT good'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
