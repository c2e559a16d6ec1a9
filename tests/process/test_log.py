"""A log that nobody reads stops nothing (FAILURES X5, X11), and frames of the exchange cannot fill one (FAILURES c8)."""
from __future__ import annotations

import fcntl
import os
import select
import signal
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import Lab, wait_until
from harness.paths import ROOT

MakeLab = Callable[..., Lab]

PIPE_BYTES = 4096
READ_BYTES = 1 << 20  # of a pipe that is looked at now and then
PATIENCE = 60.0
NOISE = """
local noise = ("x"):rep(200)
tm.every("20ms", function() for i = 1, 20 do tm.log.debug("noise", { i = i, noise = noise }) end end)
"""


class Pipe:
    """A pipe of the least size, to be the log of a process; nobody reads it until drain()."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self.reader, False)
        self.text = b""

    def is_full(self) -> bool:
        """Whether it takes no further line."""
        return not select.select([], [self.writer], [], 0)[1]

    def drain(self) -> str:
        """All that was read so far."""
        try:
            while chunk := os.read(self.reader, 65536):
                self.text += chunk
        except BlockingIOError:
            pass
        return self.text.decode()

    def close(self) -> None:
        """Both ends."""
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """One for a test."""
    made = Pipe()
    yield made
    made.close()


def _script(directory: Path, text: str) -> Path:
    """The stock gatherer and something more."""
    path = directory / "more.lua"
    stock = (ROOT / "lua/kalshi/gatherer.lua").read_text(encoding="ascii")
    path.write_text(stock + text, encoding="ascii")
    return path


def _start_noisy(make_lab: MakeLab, pipe: Pipe) -> Lab:
    """A lab whose gatherer logs into the pipe more than it takes."""
    lab = make_lab(gatherers=1, exchange={"seed": 3, "markets": 20, "rate": 300, "seconds": 3600},
                   gatherer_env={"TIDEMILL_LOG_LEVEL": "debug"})
    gatherer = lab.gatherers["g1"]
    gatherer.process.argv[-1] = str(_script(lab.directory, NOISE))
    gatherer.process.stderr = pipe.writer
    lab.start_databases()
    lab.exchange.start()
    gatherer.start()
    return lab


def test_a_log_that_nobody_reads_stops_nothing(make_lab: MakeLab, pipe: Pipe) -> None:
    """Guards: a blocking write() to stderr from io, store and policy froze the gatherer for good."""
    lab = _start_noisy(make_lab, pipe)
    gatherer = lab.gatherers["g1"]
    wait_until("the gatherer is healthy", gatherer.is_healthy, PATIENCE)
    lab.exchange.control("start")
    wait_until("the pipe is full", pipe.is_full, PATIENCE)
    wait_until("lines are lost", lambda: gatherer.metrics().get("tidemill_log_lost_total") > 0, PATIENCE)
    for _ in range(3):  # what io logs itself: connections that end and come again, holes
        lab.exchange.fault("kind=disconnect", "kind=gap,count=2")
        frames = gatherer.metrics().sum("tidemill_frames_total")
        wait_until("frames come", lambda seen=frames: gatherer.metrics().sum("tidemill_frames_total") > seen + 200,
                   PATIENCE)
        wait_until("the gatherer is healthy", gatherer.is_healthy, PATIENCE)
    rows = gatherer.metrics().sum("tidemill_store_rows_total")
    wait_until("rows are stored", lambda: gatherer.metrics().sum("tidemill_store_rows_total") > rows, PATIENCE)
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, READ_BYTES)
    wait_until("the loss is said where lines are missing", lambda: "lines lost here" in pipe.drain(), PATIENCE)
    wait_until("lines come again", lambda: "noise" in pipe.drain().rpartition("lines lost here")[2], PATIENCE)
    assert all(line.startswith("time=20") for line in pipe.drain().splitlines()[:-1]), "lines are whole"
    gatherer.process.send(signal.SIGTERM)
    wait_until("it ends with its last line", lambda: "event=stopped" in pipe.drain(), PATIENCE)


def test_a_full_log_does_not_hold_up_the_end(make_lab: MakeLab, pipe: Pipe) -> None:
    lab = _start_noisy(make_lab, pipe)
    gatherer = lab.gatherers["g1"]
    wait_until("the pipe is full", pipe.is_full, PATIENCE)
    assert gatherer.process.stop(timeout=20.0) == 0
