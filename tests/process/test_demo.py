"""scripts/demo as a stranger runs it."""
from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pyte
import pytest

from harness import wait_until
from harness.paths import ROOT

DEMO = ROOT / "scripts" / "demo"
KEYS = ["emitted", "expected", "production", "missing", "unexpected", "duplicate", "lag_ms_p50", "lag_ms_p99",
        "rows_per_s"]


def _run(*arguments: str, tmp: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DEMO, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180,
                          env={**os.environ, "TMPDIR": str(tmp)}, check=False)


def test_json_run_is_row_exact_and_leaves_nothing(directory: Path) -> None:
    done = _run("--seconds", "5", "--markets", "100", "--rate", "2000", "--seed", "7", "--json", tmp=directory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    figures = json.loads(done.stdout)
    assert list(figures) == KEYS
    assert (figures["missing"], figures["unexpected"], figures["duplicate"]) == (0, 0, 0)
    assert figures["emitted"] >= 9000 and figures["expected"] > 0.9 * figures["emitted"]
    assert 0 < figures["lag_ms_p50"] <= figures["lag_ms_p99"]
    assert [done.stderr.count(part) for part in (" psql 'host=", "/health ", "/metrics\n", " ws://")] == [4, 4, 4, 1]
    assert list(directory.iterdir()) == []


def test_recorded_frames_are_replayed(directory: Path) -> None:
    book = {"market_ticker": "KXREC-26-T1", "yes_dollars_fp": [["0.4700", "31.54"]]}
    delta = {"market_ticker": "KXREC-26-T1", "price_dollars": "0.4700", "delta_fp": "-9.90", "side": "yes",
             "ts": "2026-07-25T17:20:00.2Z", "ts_ms": 1785000000200}
    fine = {**delta, "price_dollars": "0.47125", "delta_fp": "1.00"}
    frames = [("orderbook_snapshot", book), ("orderbook_delta", delta), ("orderbook_delta", delta), ("orderbook_delta", fine),
              ("market_sentiment", {"market_ticker": "KXREC-26-T1", "score": 0.75})]
    recording = directory / "recording.jsonl"
    recording.write_text("".join(json.dumps({"recv_ms": 1785000000000 + 100 * seq, "event": {
        "type": kind, "sid": 1, "seq": seq, "msg": msg}}) + "\n" for seq, (kind, msg) in enumerate(frames, 1)),
        encoding="ascii")
    done = _run("--replay", str(recording), "--gatherers", "2", "--json", tmp=directory)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [figures[key] for key in KEYS[:6]] == [3, 3, 3, 0, 0, 0]
    assert list(directory.iterdir()) == [recording]


@pytest.mark.parametrize("arguments, reason", [
    (["--json"], "--json needs --seconds or --replay"),
    (["--seconds", "0"], "expected a number above 0"),
    (["--seconds", "5", "--late-gatherers", "3"], "--late-gatherers 3: expected 0 to 2"),
    (["--replay", "/nonexistent"], "--replay /nonexistent: no such file"),
])
def test_wrong_arguments_are_refused_with_the_reason(directory: Path, arguments: list[str], reason: str) -> None:
    done = _run(*arguments, tmp=directory)
    assert done.returncode == 2
    assert reason in done.stderr
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_live_run_draws_a_table_and_leaves_nothing_when_interrupted(directory: Path, number: signal.Signals) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([DEMO, "--markets", "50", "--rate", "500"], stdin=slave, stdout=slave, stderr=slave,
                          env={**os.environ, "TMPDIR": str(directory)}, process_group=0) as demo:
        os.close(slave)
        screen = _Screen(master)
        try:
            wait_until("the table shows three healthy gatherers", lambda: screen.shows_healthy("g1", "g2", "g3"), 90,
                       lambda: screen.text[-3000:])
            _assert_addresses_are_whole(screen.text)
            os.killpg(demo.pid, number)  # as a terminal does: to the whole foreground group
            wait_until("the demo has ended", lambda: screen.read() or demo.poll() is not None, 30)
        finally:
            if demo.poll() is None:
                os.killpg(demo.pid, signal.SIGTERM)
                demo.wait(60)
            os.close(master)
    assert demo.returncode == 0, screen.text[-3000:]
    assert list(directory.iterdir()) == []


def _assert_addresses_are_whole(text: str) -> None:
    """On a terminal of 80 by 24: every part has its addresses, and what is too long for a line goes on in the next."""
    terminal = pyte.Screen(80, 24)
    pyte.Stream(terminal).feed(text.rpartition("\x1b[J")[0] + "\x1b[J")
    shown = "".join(terminal.display)  # as it wraps
    for name in ("g1", "g2", "g3", "dedup"):
        assert len(re.findall(rf"{name} +http://127.0.0.1:\d+/health http://127.0.0.1:\d+/metrics ", shown)) == 1, shown
    assert len(re.findall(r"psql 'host=/\S+ port=\d+ user=\S+ dbname=\S+' ", shown)) == 4, shown
    assert re.search(r"exchange +ws://127.0.0.1:\d+/\S+ ", shown) and re.search(r"logs +/", shown), shown


class _Screen:
    """What a terminal received."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.text = ""

    def read(self) -> bool:
        """Take what is there without waiting; never true, so that it can stand in a condition."""
        while select.select([self._descriptor], [], [], 0)[0]:
            try:
                self.text += os.read(self._descriptor, 65536).decode("utf-8", "replace")
            except OSError:
                break  # the other side is closed
        return False

    def shows_healthy(self, *names: str) -> bool:
        """Whether the last whole picture has a healthy line for each name."""
        self.read()
        picture = self.text.rpartition("\x1b[J")[0].rpartition("\x1b[H")[2]
        return all(any(line.startswith(name) and "healthy" in line and "unhealthy" not in line
                       for line in picture.splitlines()) for name in names)
