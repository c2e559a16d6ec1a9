"""One drill on one lab: when it broke, when it was whole again, and what that cost."""
from __future__ import annotations

import sys
import time
from typing import Callable

from ..lab import Lab
from ..verifier import Verdict
from ..waiting import wait_until
from . import books, coverage, replay
from .figures import Figures
from .observer import Observer, Sample

LAG_OK_S = 1.0
BOOKS_SHOWN = 3
BOUNDS = {"fds": 512, "threads": 64}  # of one process, at any time


class Run:
    """What a drill's code is given: the lab, the marks, and waits that look at the observer."""

    def __init__(self, drill: str, seed: int, lab: Lab) -> None:
        self.lab = lab
        self.figures = Figures(drill, seed)
        self._observer = Observer(lab)
        self._broke_at: float | None = None
        self._whole_at: float | None = None
        self._given_up = 0
        self._louder_first = False
        self._first_s = 0.0

    # ---- what a drill calls ----

    def begin(self) -> None:
        """Everything is up and the exchange has begun."""
        self.lab.start()
        self._observer.start()

    def break_it(self, what: Callable[[], object]) -> None:
        """Do the damage; time runs from here."""
        self._broke_at = time.monotonic()
        what()

    def mend_it(self, what: Callable[[], object] | None = None) -> None:
        """Undo it, or say that it ended by itself; time to recover runs from here."""
        if what:
            what()
        self._whole_at = time.monotonic()

    def detected(self, what: str, shows: Callable[[Sample], bool], timeout: float = 60.0) -> None:
        """Wait until the first look that shows the damage."""
        since = self._broke_at or 0.0
        seen = wait_until(f"it is seen that {what}", lambda: next(filter(shows, self._observer.samples(since)), None),
                          timeout, lambda: str(self._observer.samples(since)[-1:]))
        self.figures.t_detect_s = round(seen.at - since, 2)

    def run_for(self, events: int) -> None:
        """Let the exchange send so many events more, or what it has left."""
        exchange = self.lab.exchange
        goal = exchange.emitted() + events
        wait_until(f"the exchange has sent {goal} events", lambda: exchange.emitted() >= goal or exchange.is_finished(), 120)

    def recovered(self, timeout: float = 120.0) -> None:
        """Wait until rows flow again and the lag is small again."""
        since, before, first = self._first_rows(timeout)
        full = wait_until("the lag is below a second",
                          lambda: next((s for s in self._observer.samples(first.at)
                                        if s.lag_s is not None and s.lag_s < LAG_OK_S), None),
                          timeout, lambda: str(self._observer.samples(since)[-1:]))
        self.figures.rto_first_s = round(max(first.at - since, self._first_s), 2)
        self.figures.rto_full_s = round(full.at - since, 2)
        rows = (full.position or 0) - before
        self.figures.catchup_rows_per_s = round(rows / max(full.at - since, 0.001), 0)
        self.figures.catchup_unique_per_s = self._unique_per_s(since, full.at)

    def _first_rows(self, timeout: float) -> tuple[float, int, Sample]:
        """Since when it is whole again, where the cursors stood then, and the first look that shows new rows."""
        since = self._whole_at or self._broke_at or 0.0
        before = max((s.position or 0 for s in self._observer.samples() if s.at < since), default=0)
        first = wait_until("new rows are in production",
                           lambda: next((s for s in self._observer.samples(since) if (s.position or 0) > before), None),
                           timeout, lambda: str(self._observer.samples(since)[-1:]))
        return since, before, first

    def _unique_per_s(self, since: float, until: float) -> float | None:
        """Between the last count before and the first one after; a deduplicator that was started anew counts from 0."""
        counts = [s for s in self._observer.samples() if s.written is not None]
        start = max((s for s in counts if s.at < since), key=lambda s: s.at, default=None)
        end = min((s for s in counts if s.at >= until), key=lambda s: s.at, default=None)
        if start is None or end is None:
            return None
        grown = (end.written or 0) - (start.written or 0)
        return round((grown if grown >= 0 else end.written or 0) / max(end.at - since, 0.001), 0)

    def samples(self) -> list[Sample]:
        """What was seen since it broke."""
        return self._observer.samples(self._broke_at or 0.0)

    def back_again(self, timeout: float = 60.0) -> None:
        """Wait until rows flow again; the slowest of several times counts."""
        since, _, first = self._first_rows(timeout)
        self._first_s = max(self._first_s, first.at - since)

    def note_first(self, what: str) -> None:
        """That was the first sign of life after the fault, now; the slowest of several counts."""
        took = time.monotonic() - (self._broke_at or 0.0)
        print(f"    {what}: {took:.2f} s", file=sys.stderr, flush=True)
        self._first_s = max(self._first_s, took)
        self.figures.rto_first_s = round(self._first_s, 2)

    def expect(self, holds: bool, otherwise: str) -> None:
        """An invariant of the drill's own."""
        if not holds:
            self.figures.broken.append(otherwise)

    def given_up(self, rows: int, louder_first: bool) -> None:
        """So many rows were given up, and production was told: they are not lost in silence, and no others may be."""
        self._given_up = rows
        self._louder_first = louder_first

    # ---- the end ----

    def finish(self) -> Figures:
        """Let it run out, compare production with the ledger, read the figures."""
        self.lab.wait_emitted()
        self.lab.drain()
        coverage.wait_for_proof(self.lab.production, [name for name, gatherer in self.lab.gatherers.items()
                                                      if gatherer.process.running])
        self._note_memory()
        self._observer.stop()
        streams = [row[0] for row in self.lab.production.query("SELECT DISTINCT stream FROM tidemill.cursors")]
        self.figures.broken += books.check(self.lab, streams)
        lags = [s.lag_s for s in self._observer.samples() if s.lag_s is not None]
        self.figures.max_lag_s = max(lags, default=0.0)
        self._judge(self.lab.verify())
        if not self._given_up:  # of books whose rows were given up nothing can be said
            for difference in replay.differences(self.lab)[:BOOKS_SHOWN]:
                self.expect(False, difference)
        return self.figures

    def _note_memory(self) -> None:
        self.figures.peak_rss_mb = round(self._observer.peak_rss_mb, 1)
        for what, most in BOUNDS.items():
            self.expect(self._observer.peak[what] <= most, f"{self._observer.peak[what]} {what}, expected {most} at most")

    def _judge(self, verdict: Verdict) -> None:
        every = verdict.streams.values()
        figures = self.figures
        figures.rows = verdict.figures().production
        figures.rows_lost = sum(stream.missing for stream in every)
        figures.rows_dup = sum(stream.duplicate + stream.unexpected for stream in every)
        covered = coverage.judge(self.lab.production)
        figures.rows_gap_flagged, figures.rows_gap_silent = covered.flagged, covered.silent
        figures.gap_edge_ms = covered.edge_ms
        if self._given_up:
            self._excuse_given_up(verdict)
        self.expect(figures.rows > 0, "nothing reached production")
        self.expect(not figures.rows_lost, f"rows were lost: {verdict}")
        self.expect(not figures.rows_dup, f"rows are there twice or were never sent: {verdict}")
        figures.broken += covered.faults

    def _excuse_given_up(self, verdict: Verdict) -> None:
        """Rows that the exchange need not have delivered yet (a subscription begins) may be among them."""
        events = verdict.figures()
        missing, spare = self.figures.rows_lost, events.emitted - events.expected
        self.expect(self._given_up - spare <= missing <= self._given_up,
                    f"{missing} rows are missing, {self._given_up} were given up: {verdict}")
        self.expect(not self._louder_first or verdict.streams["trades"].missing == 0, "trades went before louder streams")
        self.figures.rows_lost = max(0, missing - self._given_up)
