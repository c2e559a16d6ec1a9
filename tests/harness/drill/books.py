"""The accounting identities (I7), read from /metrics of every process that runs.

    gatherer      received = journaled + duplicate + discarded
                  journaled + replayed = stored + quarantined + gone + pending
    deduplicator  polled = written + duplicate + quarantined + late

Counters begin at 0 with the process, so a process that was started anew answers for itself alone; `replayed` is what it
found in the journal of the one before. Nothing stands still (heartbeats), and the numbers of one answer are not of one
instant: an identity holds when one of several answers shows it.
"""
from __future__ import annotations

from typing import Callable

from ..daemons import Daemon
from ..http import Metrics
from ..lab import Lab
from ..waiting import wait_until

TIMEOUT = 10.0
Identity = Callable[[Metrics, str], tuple[float, float]]


def _received(metrics: Metrics, stream: str) -> tuple[float, float]:
    return (metrics.sum("tidemill_rows_received_total", stream=stream),
            sum(metrics.sum(f"tidemill_rows_{what}_total", stream=stream) for what in ("journaled", "duplicate", "discarded")))


def _journaled(metrics: Metrics, stream: str) -> tuple[float, float]:
    return (sum(metrics.sum(f"tidemill_rows_{what}_total", stream=stream) for what in ("journaled", "replayed")),
            sum(metrics.sum(name, stream=stream) for name in (
                "tidemill_store_rows_total", "tidemill_store_quarantined_rows_total", "tidemill_rows_gone_total",
                "tidemill_rows_pending")))


def _polled(metrics: Metrics, stream: str) -> tuple[float, float]:
    return (metrics.sum("tidemill_polled_rows_total", stream=stream),
            sum(metrics.sum(f"tidemill_{what}_rows_total", stream=stream) for what in ("written", "duplicate", "quarantined", "late")))


def check(lab: Lab, streams: list[str]) -> list[str]:
    """What does not add up, in words."""
    faults: list[str] = []
    for gatherer in lab.gatherers.values():
        if gatherer.process.running:
            faults += _check(gatherer, streams, "received", _received) + _check(gatherer, streams, "journaled", _journaled)
    for deduplicator in lab.deduplicators:
        if deduplicator.process.running:
            faults += _check(deduplicator, streams, "polled", _polled)
    return faults


def _check(daemon: Daemon, streams: list[str], what: str, identity: Identity) -> list[str]:
    open_ = {stream: (0.0, 0.0) for stream in streams}

    def settled() -> bool:
        metrics = daemon.metrics()
        for stream in list(open_):
            open_[stream] = identity(metrics, stream)
            if open_[stream][0] == open_[stream][1]:
                del open_[stream]
        return not open_

    try:
        wait_until(f"the books of {daemon.name} balance", settled, TIMEOUT)
    except AssertionError:
        pass
    return [f"{daemon.name}: {stream}: {what} {left:.0f} rows, but {right:.0f} are accounted for"
            for stream, (left, right) in open_.items()]
