"""One drill on one lab: when it broke, when it was whole again, and what that cost."""
from __future__ import annotations

import sys
import time
from typing import Callable

from ..lab import Lab
from ..verifier import Verdict
from ..waiting import wait_until
from .figures import Figures
from .observer import Observer, Sample

LAG_OK_S = 1.0
EDGE_S = 1.0  # a gap's edges may be off by so much

# What was sent while nobody listened and is not in production, and whether every gatherer's ledger says so. A market
# counts from its first subscription on. A gap row without an end is followed by one with the same id and an end.
UNHEARD = """
WITH gap AS (
    SELECT gatherer, gap_id, min(from_ts) AS from_ts, coalesce(max(to_ts), 'infinity') AS to_ts
    FROM gaps WHERE connection LIKE 'orderbook_delta/%' GROUP BY gatherer, gap_id
), spans AS (
    SELECT gatherer, range_agg(tstzrange(from_ts - interval '{edge} s', to_ts + interval '{edge} s')) AS spans
    FROM gap GROUP BY gatherer
), unheard AS (
    SELECT emitted_at, exchange_ts, ticker, side, price, delta, occurrence FROM truth.orderbook_deltas t
    WHERE NOT expected AND NOT EXISTS (
        SELECT FROM orderbook_deltas p WHERE (p.ticker, p.exchange_ts, p.side, p.price, p.delta, p.occurrence)
            = (t.ticker, t.exchange_ts, t.side, t.price, t.delta, t.occurrence))
        AND number > (SELECT min(first) FROM truth.spans s WHERE s.ticker = t.ticker)
)
SELECT count(*) FILTER (WHERE covered), count(*) FILTER (WHERE NOT covered) FROM (
    SELECT (SELECT count(*) FROM spans WHERE spans @> u.emitted_at) = {gatherers} AS covered FROM unheard u) x
"""


class Run:
    """What a drill's code is given: the lab, the marks, and waits that look at the observer."""

    def __init__(self, drill: str, seed: int, lab: Lab) -> None:
        self.lab = lab
        self.figures = Figures(drill, seed)
        self._observer = Observer(lab)
        self._broke_at: float | None = None
        self._whole_at: float | None = None
        self._peak_mb = 0.0
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
        """Let the exchange send so many events more."""
        self.lab.wait_emitted(self.lab.exchange.emitted() + events)

    def recovered(self, timeout: float = 120.0) -> None:
        """Wait until rows flow again and the lag is small again."""
        since = self._whole_at or self._broke_at or 0.0
        before = max((s.position or 0 for s in self._observer.samples() if s.at < since), default=0)
        first = wait_until("new rows are in production",
                           lambda: next((s for s in self._observer.samples(since) if (s.position or 0) > before), None),
                           timeout, lambda: str(self._observer.samples(since)[-1:]))
        full = wait_until("the lag is below a second",
                          lambda: next((s for s in self._observer.samples(first.at)
                                        if s.lag_s is not None and s.lag_s < LAG_OK_S), None),
                          timeout, lambda: str(self._observer.samples(since)[-1:]))
        self.figures.rto_first_s = round(max(first.at - since, self._first_s), 2)
        self.figures.rto_full_s = round(full.at - since, 2)
        rows = (full.position or 0) - before
        self.figures.catchup_rows_per_s = round(rows / max(full.at - since, 0.001), 0)

    def back_again(self, timeout: float = 60.0) -> None:
        """Wait until rows flow again; the slowest of several times counts."""
        since = self._whole_at or self._broke_at or 0.0
        before = max((s.position or 0 for s in self._observer.samples() if s.at < since), default=0)
        first = wait_until("new rows are in production",
                           lambda: next((s for s in self._observer.samples(since) if (s.position or 0) > before), None),
                           timeout, lambda: str(self._observer.samples(since)[-1:]))
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

    # ---- the end ----

    def finish(self) -> Figures:
        """Let it run out, compare production with the ledger, read the figures."""
        self.lab.wait_emitted()
        self.lab.drain()
        self._note_memory()
        self._observer.stop()
        lags = [s.lag_s for s in self._observer.samples() if s.lag_s is not None]
        self.figures.max_lag_s = max(lags, default=0.0)
        self._judge(self.lab.verify())
        return self.figures

    def _note_memory(self) -> None:
        for daemon in (*self.lab.gatherers.values(), self.lab.deduplicator):
            if daemon.process.running:
                self._peak_mb = max(self._peak_mb, daemon.process.peak_rss_mb)
        self.figures.peak_rss_mb = round(self._peak_mb, 1)

    def _judge(self, verdict: Verdict) -> None:
        every = verdict.streams.values()
        figures = self.figures
        figures.rows = verdict.figures().production
        figures.rows_lost = sum(stream.missing for stream in every)
        figures.rows_dup = sum(stream.duplicate + stream.unexpected for stream in every)
        flagged, silent = self.lab.production.query(UNHEARD.format(edge=EDGE_S, gatherers=len(self.lab.gatherers)))[0]
        figures.rows_gap_flagged, figures.rows_gap_silent = int(flagged), int(silent)
        self.expect(figures.rows > 0, "nothing reached production")
        self.expect(not figures.rows_lost, f"rows were lost: {verdict}")
        self.expect(not figures.rows_dup, f"rows are there twice or were never sent: {verdict}")
        self.expect(not figures.rows_gap_silent, f"{silent} rows are missing outside of any recorded gap")
