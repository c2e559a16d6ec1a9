"""How late the feed's records are, in phases of a run: received_at - exchange_ts of every delta in the journal of a gatherer that
hears an exchange at a steady rate and has no store."""
from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Callable, Iterator

from harness import paths
from harness.daemons import Exchange, Gatherer
from harness.waiting import wait_until

from . import servers
from .report import median, quantile

SETTLE_S = 3.0


@dataclass
class Phase:
    """A time of the run, and how late the feed's records were in it."""

    name: str
    spans: list[tuple[float, float]] = field(default_factory=list)  # of the rounds
    rounds: list[list[float]] = field(default_factory=list)  # how late the feed was, in ms

    def during(self, work: Callable[[], None]) -> None:
        """One round: what is heard while this is done counts."""
        begun = time.time()
        work()
        self.spans.append((begun, time.time()))
        self.rounds.append([])

    @property
    def late_ms(self) -> list[float]:
        """Of all rounds."""
        return [late for one in self.rounds for late in one]

    def p99(self) -> float:
        """The median of the rounds' p99: other work on the machine disturbs some of them."""
        return median([quantile(one, 0.99) for one in self.rounds])

    def worst(self) -> float:
        """The median of the rounds' latest records."""
        return median([max(one) for one in self.rounds if one])

    def line(self) -> str:
        """For people."""
        return (f"{self.name:26} {len(self.late_ms):>9} rows   p50 {quantile(self.late_ms, 0.5):7.2f} ms   "
                f"p99 {quantile(self.late_ms, 0.99):7.2f} ms   of each round: "
                + " ".join(f"{quantile(one, 0.99):.2f}" for one in self.rounds))


@contextmanager
def heard(where: Path, rate: int) -> Iterator[Gatherer]:
    """A gatherer that hears so many messages a second."""
    exchange = Exchange(where, {"seed": 1, "markets": 200, "rate": rate, "seconds": 3600, "hold": True})
    gatherer = servers.gatherer(where, exchange)
    with servers.running(exchange, gatherer):
        exchange.start()
        gatherer.start()
        wait_until("it hears all markets", lambda: exchange.has_all_markets("g1"), 60, gatherer.process.log_tail)
        exchange.control("start")
        time.sleep(SETTLE_S)
        yield gatherer


def read_journal(gatherer: Gatherer, phases: list[Phase]) -> None:
    """Sort every delta of the journal of a gatherer that was stopped into the phase in which it was received."""
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
    for phase in phases:
        if not all(phase.rounds):
            raise AssertionError(f"in some round of \"{phase.name}\" nothing was heard")
