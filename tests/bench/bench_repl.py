#!/usr/bin/python3
"""What people at the control socket cost a gatherer under load: the round trip of a REPL command, and the feed's latency
while hostile clients and 50 consoles are connected (X19), beside what it is without them.

    tests/bench/bench_repl.py [--rate N] [--seconds N] [--quick] [--json]

A gatherer without a database hears a simulated exchange. Phases alternate in rounds, and the median of their p99 counts.
`round-trip` is the worst of three commands; `feed` is how much later the feed is with everybody connected than without.
"""
from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "process"))

from bench import feed, report, servers  # noqa: E402
from bench.feed import Phase  # noqa: E402
from bench.report import median, quantile  # noqa: E402
from harness.console import Console, Refused  # noqa: E402
from rude_peers import rude  # noqa: E402

CONSOLES = 50
ASK_EVERY = 0.02
TEXTS = ("1 + 1", "#links()", "status()")


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


def main() -> int:
    """The command."""
    parser = report.parser(__doc__)
    parser.add_argument("--rate", type=int, default=20000, help="messages a second (%(default)s)")
    parser.add_argument("--seconds", type=float, help="of each phase, all rounds together (20; --quick 3)")
    parser.add_argument("--rounds", type=int, help="whose median counts (5; --quick 1)")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    seconds = (options.seconds or (3 if options.quick else 20)) / rounds
    out = report.Report(options)
    quiet, asking, crowded = phases = [Phase("quiet"), Phase("one console, asking"), Phase(f"X19 and {CONSOLES} consoles")]
    trips: dict[str, list[list[float]]] = {text: [] for text in TEXTS}
    with servers.directory() as where:
        with feed.heard(where, options.rate) as gatherer:
            def ask() -> None:
                for text in TEXTS:
                    trips[text].append(round_trips(gatherer.socket, text, int(seconds / ASK_EVERY / len(TEXTS))))

            for _ in range(rounds):
                quiet.during(lambda: time.sleep(seconds))
                asking.during(ask)
                crowded.during(lambda: pester(gatherer.socket, seconds))
                time.sleep(1)
        feed.read_journal(gatherer, phases)
    for phase in phases:
        out.note(phase.line())
    for text, times in trips.items():
        took = [one for each in times for one in each]
        out.note(f"round trip of {text:12} {len(took):>9} times  p50 {quantile(took, 0.5):7.2f} ms   p99 "
                 f"{quantile(took, 0.99):7.2f} ms   of each round: " + " ".join(f"{quantile(each, 0.99):.2f}" for each in times))
    out.result("repl/round-trip", max(median([quantile(each, 0.99) for each in times]) for times in trips.values()), "ms")
    out.result("repl/feed", crowded.p99() - quiet.p99(), "ms", quiet.p99(), "p99 without anybody")
    return 0


if __name__ == "__main__":
    sys.exit(main())
