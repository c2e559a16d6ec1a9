"""What can be seen from outside, twenty times a second, in a thread of its own."""
from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from ..daemons import Daemon
from ..lab import Lab

PERIOD = 0.05
METRICS_EVERY = 5  # looks; they are longer to read than the rest


@dataclass
class Sample:
    """One look. A part that does not answer is absent."""

    at: float  # time.monotonic()
    health: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the name of the daemon
    position: int | None = None  # sum of all cursors in production; None: production does not answer

    written: float | None = None  # rows that the deduplicator has stored since its start, now and then

    @property
    def lag_s(self) -> float | None:
        """The deduplicator's own word."""
        lag_ms = self.health.get("dedup", {}).get("lag_ms")
        return None if lag_ms is None else lag_ms / 1000


class Observer:
    """Samples a lab until it is stopped. One reader."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._connection: psycopg2.extensions.connection | None = None
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._looks = 0
        self.peak_rss_mb = 0.0
        self.peak: dict[str, int] = {"fds": 0, "threads": 0}

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """The last look is over when this returns."""
        self._stop.set()
        self._thread.join(30)
        if self._connection is not None:
            self._connection.close()

    def samples(self, since: float = 0.0) -> list[Sample]:
        """All looks from a moment on."""
        with self._lock:
            return [sample for sample in self._samples if sample.at >= since]

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            sample = self._look()
            with self._lock:
                self._samples.append(sample)

    def _look(self) -> Sample:
        sample = Sample(time.monotonic())
        for daemon in (*self._lab.gatherers.values(), self._lab.deduplicator):
            health = daemon.try_health()
            if health is not None:
                sample.health[daemon.name] = health
            self._measure(daemon)
        sample.position = self._position()
        self._looks += 1
        if self._looks % METRICS_EVERY == 1:
            metrics = self._lab.deduplicator.try_metrics()
            sample.written = metrics.sum("tidemill_written_rows_total") if metrics else None
        return sample

    def _measure(self, daemon: Daemon) -> None:
        """What the process takes of the machine; it may end meanwhile."""
        try:
            process = daemon.process
            self.peak_rss_mb = max(self.peak_rss_mb, process.status_kb("VmHWM") / 1024)
            self.peak["threads"] = max(self.peak["threads"], process.status_kb("Threads"))
            self.peak["fds"] = max(self.peak["fds"], _open_files(daemon))
        except (OSError, KeyError, RuntimeError):
            pass

    def _position(self) -> int | None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._lab.production.connect()
            with self._connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = '500ms'")
                cursor.execute("SELECT coalesce(sum(seq), 0) FROM tidemill.cursors")
                row = cursor.fetchone()
                return int(row[0]) if row else None
        except psycopg2.Error:
            if self._connection is not None and not self._connection.closed:
                self._connection.close()
            return None


def _open_files(daemon: Daemon) -> int:
    """Only root may look into a process that is not dumpable; others ask it."""
    try:
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    except PermissionError:
        return int(daemon.metrics().get("process_open_fds"))
