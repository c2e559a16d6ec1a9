"""The units: what systemd says of them, and a gatherer inside of the cage that they build (FAILURES c6, A5)."""
from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Callable

import pytest
import seccomp

from harness import wait_until
from harness.daemons import Daemon
from harness.paths import ROOT, program

UNITS = ROOT / "scripts/systemd"
NAMES = ["tidemill-gatherer", "tidemill-deduplicator"]
EXPOSURE_MAX = 15  # tenths
PR_SET_MDWE = 65
PR_MDWE_REFUSE_EXEC_GAIN = 1


def _settings(name: str) -> dict[str, list[str]]:
    """"[Section]Key" -> its values, as the unit has them."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (UNITS / f"{name}.service").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(section + key, []).append(value)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_systemd_takes_the_unit(name: str, directory: Path) -> None:
    text = (UNITS / f"{name}.service").read_text(encoding="utf-8")
    unit = directory / f"{name}.service"  # where the programs are not installed
    unit.write_text(text.replace("/usr/bin/tidemill", str(program("tidemill"))), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if name in line]) == (0, []), done.stderr
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_never_gives_up_and_tells_reloads(name: str) -> None:
    unit, role = _settings(name), name.removeprefix("tidemill-")
    assert unit["[Unit]StartLimitIntervalSec"] == ["0"]
    assert (unit["[Service]Restart"], unit["[Service]RestartSec"], unit["[Service]Type"]) == (["always"], ["1"], ["notify"])
    assert unit["[Service]ExecReload"] == ["/usr/bin/tidemill reload"]
    assert f"TIDEMILL_SOCKET=/run/{name}/control.sock" in unit["[Service]Environment"]  # which reload asks
    assert unit["[Service]RuntimeDirectory"] == [name]
    assert unit["[Service]ExecStart"] == [f"/usr/bin/tidemill run /etc/tidemill/{role}.lua"]
    assert float(unit["[Service]WatchdogSec"][0]) >= 30


# ---- the cage ----

def _calls(group: str) -> set[str]:
    """The system calls of a group, groups within it resolved."""
    if not group.startswith("@"):
        return {group}
    text = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True).stdout
    words = [line.strip() for line in text.splitlines()[1:]]
    return {call for word in words if word and not word.startswith("#") for call in _calls(word)}


def _allowed(unit: dict[str, list[str]]) -> set[str]:
    calls = _calls("@default")
    for value in unit["[Service]SystemCallFilter"]:
        named = {call for group in value.removeprefix("~").split() for call in _calls(group)}
        calls = calls - named if value.startswith("~") else calls | named
    return calls


def _cage(unit: dict[str, list[str]]) -> Callable[[], None]:
    """What a process does to itself, between fork and exec, to be where systemd would put it."""
    calls = seccomp.SyscallFilter(seccomp.ERRNO(getattr(errno, unit["[Service]SystemCallErrorNumber"][0])))
    for call in _allowed(unit):
        try:
            calls.add_rule(seccomp.ALLOW, call)
        except RuntimeError:
            continue  # a call that this machine does not have
    libc = ctypes.CDLL(None, use_errno=True)
    assert unit["[Service]MemoryDenyWriteExecute"] == ["yes"]

    def enter() -> None:
        if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EINVAL:
            os._exit(99)  # EINVAL: a kernel before 6.3
        calls.load()

    return enter


@pytest.mark.parametrize("name", NAMES)
def test_it_works_in_its_cage(name: str, directory: Path) -> None:
    """Start, readiness, watchdog, reload and end, with the system calls and the memory that the unit leaves it."""
    role = name.removeprefix("tidemill-")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(directory / "notify"))
    notify.settimeout(30)
    daemon = Daemon("g1", directory, {
        "TIDEMILL_STORE": "host=127.0.0.1 port=1 dbname=x", "TIDEMILL_DATA": str(directory / "data"),
        "TIDEMILL_PRODUCTION": "host=127.0.0.1 port=1 dbname=x", "TIDEMILL_GATHERERS": "g1=host=127.0.0.1 port=1 dbname=x",
        "KALSHI_WS_URL": "ws://127.0.0.1:1/", "KALSHI_REST_URL": "http://127.0.0.1:1/",
        "NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": "200000"}, ROOT / f"lua/kalshi/{role}.lua")
    with open(directory / "log", "wb") as log, subprocess.Popen(
            daemon.process.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
            env={**os.environ, **daemon.env}, preexec_fn=_cage(_settings(name))) as child:
        try:
            assert notify.recv(4096).startswith(b"READY=1")
            assert notify.recv(4096) == b"WATCHDOG=1"
            wait_until("/health answers", daemon.try_health, 20)
            reloaded = daemon.reload()
            assert reloaded.returncode == 0, reloaded.stderr
            assert daemon.status()["policy"]["reloads"] == 1
        finally:
            child.terminate()
        assert child.wait(20) == 0
    text = (directory / "log").read_text(encoding="utf-8", errors="replace")
    assert not re.search(r"level=error|PANIC|Operation not permitted", text), text[-3000:]
    notify.close()
