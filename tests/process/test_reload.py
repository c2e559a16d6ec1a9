"""Reload of running processes: by command, by signal, in storms and during outages, under load."""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from harness import Deduplicator, Lab, wait_until
from harness.paths import ROOT, program

MakeLab = Callable[..., Lab]

SECONDS = 20.0
RATE = 2000
REJECTED = (r"room=policy",)  # level=error lines of scripts that were refused


# ---- one process, whose databases are all away ----


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script of one's own: the stock deduplicator."""
    path = tmp_path / "own.lua"
    shutil.copyfile(ROOT / "lua/kalshi/deduplicator.lua", path)
    return path


def _append(path: Path, text: str) -> int:
    """Append a line; its number."""
    whole = path.read_text(encoding="utf-8") + text + "\n"
    path.write_text(whole, encoding="utf-8")
    return whole.count("\n")


@pytest.fixture
def make_daemon(directory: Path, script: Path) -> Iterator[Callable[..., Deduplicator]]:
    """A deduplicator that reaches neither production nor a gatherer; what is away must not matter to a reload."""
    made: list[Deduplicator] = []

    def make(**env: str) -> Deduplicator:
        made.append(Deduplicator("dedup", directory, gatherers={"g1": "host=/nonexistent"},
                                 production="host=/nonexistent password=hunter2", script=script, env=env))
        return made[-1]

    yield make
    for daemon in made:
        daemon.process.stop()
    complaints = [line for daemon in made for line in daemon.process.complaints(REJECTED)]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def daemon(make_daemon: Callable[..., Deduplicator]) -> Deduplicator:
    """One that runs."""
    made = make_daemon()
    made.start()
    return made


def _generation(daemon: Any) -> int:
    return int(daemon.status()["policy"]["generation"])


def test_the_command_prints_what_changed(daemon: Deduplicator, script: Path) -> None:
    done = daemon.reload()
    assert done.returncode == 0, done.stderr
    assert "generation 2" in done.stdout and "nothing changed" in done.stdout
    _append(script, 'tm.every("90s", function() end)')
    done = daemon.reload()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [f"  file {script}: changed", "  timers: tm.every 90s: added: 1"]
    policy = daemon.status()["policy"]
    assert (policy["generation"], policy["reloads"], policy["last_result"]) == (3, 2, "success")
    metrics = daemon.metrics()
    assert metrics.get("tidemill_script_generation") == 3
    assert metrics.get("tidemill_reloads_total", result="success") == 2
    assert metrics.get("tidemill_reload_duration_seconds_count") == 2
    assert metrics.get("tidemill_reload_last_success_timestamp_seconds") > metrics.get("process_start_time_seconds")
    assert "tm.every 90s: added" in daemon.process.log()


def test_a_script_that_is_rejected_says_why_with_78(daemon: Deduplicator, script: Path) -> None:
    good = script.read_text(encoding="utf-8")
    line = _append(script, 'tm.every("often", function() end)')
    _append(script, "local x = undefined_thing")
    done = daemon.reload()
    assert done.returncode == 78 and done.stdout == ""
    check = subprocess.run([program("tidemill"), "check", script], capture_output=True, text=True, timeout=20,
                           check=False, env={**os.environ, **daemon.env})
    assert done.stderr == check.stderr and f"own.lua:{line}: tm.every" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    answer = json.loads(daemon.reload("--json").stdout)
    assert answer["ok"] is False and sorted(p["at"].rpartition(":")[2] for p in answer["problems"]) == [
        str(line), str(line + 1)]
    policy = daemon.status()["policy"]
    assert (policy["generation"], policy["last_result"]) == (1, "failure")
    assert f"own.lua:{line}: " in policy["last_error"] and "1 more" in policy["last_error"]
    assert daemon.metrics().get("tidemill_reload_last_result") == 0
    assert daemon.metrics().get("tidemill_reloads_total", result="failure") == 2
    script.write_text(good, encoding="utf-8")
    assert daemon.reload().returncode == 0
    assert daemon.metrics().get("tidemill_reload_last_result") == 1


def test_an_endless_loop_is_rejected_and_serving_goes_on(daemon: Deduplicator, script: Path) -> None:
    _append(script, "while true do pcall(error) end")
    done = daemon.reload()
    assert done.returncode == 78 and "budget of CPU time" in done.stderr
    assert daemon.answering() and _generation(daemon) == 1


def test_what_needs_a_restart_is_refused_by_name(daemon: Deduplicator, script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert 'tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080")' in text
    script.write_text(text.replace('tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080")', '"127.0.0.1:1"'), encoding="utf-8")
    done = daemon.reload()
    assert done.returncode == 78
    assert f"health cannot change while it runs ({daemon.health_address} -> 127.0.0.1:1)" in done.stderr


def test_secrets_are_never_shown(daemon: Deduplicator, script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace('tm.env("TIDEMILL_PRODUCTION", "dbname=kalshi")', '"password=hunter3"'),
                      encoding="utf-8")
    done = daemon.reload()
    said = done.stdout + done.stderr + daemon.process.log() + json.dumps(daemon.status())
    assert "hunter" not in said


def test_nobody_there_is_1_and_no_socket_is_2(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TIDEMILL_SOCKET"}
    for argv, status in ((["--socket", str(tmp_path / "none")], 1), ([], 2), (["--sock", "x"], 2)):
        done = subprocess.run([program("tidemill"), "reload", *argv], capture_output=True, text=True, timeout=20,
                              check=False, env=environment)
        assert done.returncode == status and done.stderr, (argv, done)


# ---- SIGHUP ----


def test_sighup_reloads(daemon: Deduplicator, script: Path) -> None:
    _append(script, 'tm.every("90s", function() end)')
    daemon.process.send(signal.SIGHUP)
    wait_until("the second generation runs", lambda: _generation(daemon) == 2, SECONDS, daemon.process.log_tail)
    script.unlink()
    daemon.process.send(signal.SIGHUP)
    wait_until("the reload has failed", lambda: daemon.status()["policy"]["reloads_failed"] == 1, SECONDS)
    assert "No such file" in daemon.status()["policy"]["last_error"] and _generation(daemon) == 2


def test_ten_thousand_sighups_are_few_reloads(daemon: Deduplicator, script: Path) -> None:
    for _ in range(10_000):
        os.kill(daemon.process.pid, signal.SIGHUP)
    line = _append(script, "error('seen')")  # the last signal must still be heard
    daemon.process.send(signal.SIGHUP)
    wait_until("the last change is seen", lambda: f"own.lua:{line}" in daemon.status()["policy"]["last_error"], SECONDS,
               daemon.process.log_tail)
    policy = daemon.status()["policy"]
    assert 1 <= policy["reloads"] + policy["reloads_failed"] <= 100
    assert daemon.answering()


def test_sighup_while_it_starts(make_daemon: Callable[..., Deduplicator]) -> None:
    daemon = make_daemon()
    daemon.process.start()
    wait_until("it executes the program", lambda: _executes(daemon.process.pid, "tidemill"), SECONDS)
    daemon.process.send(signal.SIGHUP)
    while daemon.try_health() is None:
        daemon.process.send(signal.SIGHUP)
        assert daemon.process.running, daemon.process.log_tail()
    wait_until("it has reloaded once it could", lambda: _generation(daemon) >= 2, SECONDS, daemon.process.log_tail)


def _executes(pid: int, name: str) -> bool:
    """Before exec the signal would meet Python's own disposition in the child."""
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == name and _blocks_hup(pid)


def _blocks_hup(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines()
             if line.startswith(("SigBlk", "SigCgt"))}
    return bool((masks["SigBlk"] | masks["SigCgt"]) & 1)


def test_sighup_while_it_stops_is_ignored(daemon: Deduplicator) -> None:
    os.kill(daemon.process.pid, signal.SIGTERM)
    while daemon.process.running:
        daemon.process.send(signal.SIGHUP)
    assert daemon.process.exit_status == 0
    assert "stopped" in daemon.process.log().splitlines()[-1]


# ---- systemd ----


def test_systemd_is_told(make_daemon: Callable[..., Deduplicator], directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(directory / "notify"))
        systemd.settimeout(SECONDS)
        daemon = make_daemon(NOTIFY_SOCKET=str(directory / "notify"))
        daemon.start()
        assert systemd.recv(4096).startswith(b"READY=1\n")
        assert daemon.reload().returncode == 0
        assert systemd.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert systemd.recv(4096).startswith(b"READY=1\nSTATUS=generation 2 of ")
        daemon.process.stop()
        assert systemd.recv(4096) == b"STOPPING=1"


# ---- the whole system ----


def _ledger_counts(lab: Lab) -> Counter[str]:
    lab.exchange.flush_ledger()
    with open(lab.exchange.ledger, encoding="utf-8") as ledger:
        return Counter(line.split("\t", 1)[0] for line in ledger)


def _daemons(lab: Lab) -> list[Any]:
    return [*lab.gatherers.values(), lab.deduplicator]


def _reload_all(lab: Lab) -> None:
    for daemon in _daemons(lab):
        done = daemon.reload()
        assert done.returncode == 0, done.stderr


def test_reloads_under_load_lose_nothing_and_keep_the_sockets(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=2, exchange={"seed": 11, "markets": 60, "rate": RATE, "seconds": 8})
    lab.start()
    before = _ledger_counts(lab)
    for step in range(1, 7):
        lab.wait_emitted(step * RATE)
        _reload_all(lab)
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    after = _ledger_counts(lab)
    for what in ("connect", "disconnect", "open", "close"):
        assert after[what] == before[what], f"{what}: {before[what]} before the reloads, {after[what]} after"
    for daemon in _daemons(lab):
        assert _generation(daemon) == 7
        wait_until("older generations are closed", lambda d=daemon: d.status()["policy"]["draining"] == 0, SECONDS)


def test_a_subscription_changes_while_it_runs(make_lab: MakeLab, tmp_path: Path) -> None:
    script = tmp_path / "gatherer.lua"
    stock = (ROOT / "lua/kalshi/gatherer.lua").read_text(encoding="utf-8")
    script.write_text(stock, encoding="utf-8")
    lab = make_lab(gatherers=1, gatherer_script=script,
                   exchange={"seed": 11, "markets": 60, "rate": RATE, "seconds": 8})
    lab.start()
    lab.wait_emitted(RATE)
    gatherer = lab.gatherers["g1"]
    connections = gatherer.health()["ws_connections"]
    before = _ledger_counts(lab)
    assert 'exchange:subscribe("ticker")' in stock
    script.write_text(stock.replace('exchange:subscribe("ticker")',
                                    'exchange:subscribe("ticker", { connections = 2 })'), encoding="utf-8")
    assert gatherer.reload().returncode == 0
    wait_until("the second connection is up", lambda: gatherer.health()["ws_connections"] == connections + 1, SECONDS,
               gatherer.process.log_tail)
    assert _ledger_counts(lab)["connect"] == before["connect"] + 1
    script.write_text(stock, encoding="utf-8")
    assert gatherer.reload().returncode == 0
    wait_until("it is closed again", lambda: gatherer.health()["ws_connections"] == connections, 3 * SECONDS,
               gatherer.process.log_tail)
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    assert _ledger_counts(lab)["connect"] == before["connect"] + 1
    assert _ledger_counts(lab)["disconnect"] == before["disconnect"] + 1


def test_sighups_while_production_and_store_are_away(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 11, "markets": 60, "rate": RATE, "seconds": 8})
    lab.start()
    lab.wait_emitted(RATE)
    lab.production.stop("immediate")
    lab.stores["g1"].kill()
    wait_until("both are missed", lambda: lab.deduplicator.health()["rds"] == "disconnected"
               and lab.gatherers["g1"].health()["db"] == "disconnected", SECONDS)
    for daemon in _daemons(lab):
        for _ in range(100):
            daemon.process.send(signal.SIGHUP)
        wait_until("it has reloaded", lambda d=daemon: _generation(d) >= 2, SECONDS, daemon.process.log_tail)
    lab.production.start()
    lab.stores["g1"].start()
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)


def test_a_reload_while_the_exchange_is_away(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 11, "markets": 20, "rate": 500, "seconds": 2})
    lab.start()
    lab.wait_emitted()
    gatherer = lab.gatherers["g1"]
    wanted = gatherer.health()["ws_connections"]
    lab.exchange.process.stop()
    wait_until("no connection is left", lambda: gatherer.health()["ws_connections"] == 0, SECONDS)
    assert gatherer.reload().returncode == 0
    lab.exchange.start()
    wait_until("all connections are back", lambda: gatherer.health()["ws_connections"] == wanted, 2 * SECONDS,
               gatherer.process.log_tail)
