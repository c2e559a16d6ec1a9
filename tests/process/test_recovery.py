"""Recovery routines at work: what a gatherer missed comes back, once, and is written down."""
from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Callable

import psycopg2.errors
import pytest

from harness import Lab, wait_until
from harness.daemons import Daemon
from harness.ledger import load
from harness.paths import ROOT
from harness.postgres import PostgresCluster

MakeLab = Callable[..., Lab]

RATE = 1000


def _options(seconds: int, **more: object) -> dict[str, object]:
    return {"seed": 5, "markets": 40, "rate": RATE, "seconds": seconds, **more}


def ask(daemon: Daemon, command: str) -> Any:
    """One command on the control socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(daemon.socket))
        client.sendall(command.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += client.recv(65536)
    parsed = json.loads(answer)
    assert parsed["ok"], parsed
    return parsed["result"]


def recent(daemon: Daemon, routine: str) -> list[dict[str, Any]]:
    """The finished runs of a routine that the status shows."""
    return [run for run in ask(daemon, "status")["recovery"]["recent"] if run["routine"] == routine]


def wait_done(daemon: Daemon, routine: str, count: int = 1, timeout: float = 60) -> list[dict[str, Any]]:
    """Wait until so many runs have ended well."""
    return wait_until(f"{count} runs of {routine} are done",
                      lambda: (lambda runs: len(runs) >= count and runs)(
                          [run for run in recent(daemon, routine) if run["state"] == "done"]),
                      timeout, lambda: f'{ask(daemon, "status")["recovery"]}\n' + "\n".join(
                          [line for line in daemon.process.log().splitlines() if "room=control" not in line][-40:]))


def truth(lab: Lab) -> list[tuple[Any, ...]]:
    """Load the ledger into production's schema `truth`; the trades that were emitted and are not in production."""
    lab.exchange.flush_ledger()
    connection = lab.production.connect()
    try:
        with connection.cursor() as cursor:
            load(cursor, lab.exchange.ledger)
            connection.commit()
    finally:
        connection.close()
    return lab.production.query(
        "SELECT trade_id, ticker, exchange_ts, price, count, taker_side FROM truth.trades EXCEPT ALL"
        " SELECT trade_id, ticker, date_trunc('milliseconds', exchange_ts), price, count, taker_side FROM trades")


def unheard(lab: Lab) -> int:
    """Trades that no connection carried."""
    return int(lab.production.value("SELECT count(*) FROM truth.trades WHERE NOT expected"))


def runs_in(store: PostgresCluster, routine: str, state: str) -> int:
    """Rows of recovery_runs."""
    return int(store.value("SELECT count(*) FROM recovery_runs WHERE routine = %s AND state = %s", (routine, state)))


def disconnect_all(lab: Lab, seconds: int) -> None:
    """No connection, and none to be had, for so long; REST goes on."""
    lab.exchange.fault(f"kind=handshake,status=503,for={seconds}s")
    lab.exchange.fault("kind=disconnect,how=fin")  # what was sent arrives: on a busy machine a reset loses seconds of it


def test_a_burst_of_gaps_is_answered_once_with_fresh_books(make_lab: MakeLab, directory: Path) -> None:
    script = directory / "gatherer.lua"  # slow to settle, so that a slow machine's burst is one too
    stock = (ROOT / "lua/kalshi/gatherer.lua").read_text(encoding="utf-8")
    script.write_text(stock.replace('require "recovery" (exchange)',
                                    'require "recovery" (exchange, { resync = { settle = "4s" } })'), encoding="utf-8")
    lab = make_lab(gatherers=1, exchange=_options(14), gatherer_env={"KALSHI_CONNECTIONS": "2"},
                   gatherer_script=script)
    lab.start()
    lab.wait_emitted(2 * RATE)
    holes = "SELECT count(DISTINCT gap_id) FROM gaps WHERE reason = 'sequence' AND connection LIKE 'orderbook_delta/%%'"
    for count in range(1, 4):
        lab.exchange.fault("kind=gap,count=2,channel=orderbook_delta")
        wait_until("both connections have holes", lambda n=2 * count: lab.stores["g1"].value(holes) >= n, 20,
                   lab.gatherers["g1"].process.log_tail)
    wait_done(lab.gatherers["g1"], "resync", 2)
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    asked = lab.production.query("SELECT ticker, count(*) FROM truth.ledger WHERE what = 'resnapshot' GROUP BY 1")
    assert len(asked) >= 40, "not every book was asked for"
    assert {count for _, count in asked} == {1}, "a book was asked for more than once for one burst"
    runs = recent(lab.gatherers["g1"], "resync")
    assert [(run["subject"], run["state"]) for run in sorted(runs, key=lambda run: str(run["subject"]))] == [
        ("orderbook_delta/1", "done"), ("orderbook_delta/2", "done")]
    assert all(run["steps"][-1]["text"].startswith("all books are fresh") for run in runs), runs
    assert lab.production.query("SELECT subject, state, count(*) FROM recovery_runs WHERE routine = 'resync'"
                                " GROUP BY 1, 2 ORDER BY 1, 2") == [
        ("orderbook_delta/1", "done", 1), ("orderbook_delta/1", "running", 1),
        ("orderbook_delta/2", "done", 1), ("orderbook_delta/2", "running", 1)]
    metrics = lab.gatherers["g1"].metrics()
    assert metrics.get("tidemill_recovery_runs_total", routine="resync", result="done") == 2
    assert metrics.get("tidemill_recovery_running") == 0


@pytest.mark.parametrize("storm", [
    "kind=rest,status=429,shape=flat,path=/trade-api/v2/markets/trades,count=3",
    *(pytest.param(storm, marks=pytest.mark.slow)
      for storm in ("", "kind=rest,status=429,shape=nested,path=/trade-api/v2/historical,count=2",
                    "kind=rest,status=503,shape=html,path=/trade-api/v2/markets/trades,count=2"))])
def test_trades_that_nobody_heard_come_from_rest(make_lab: MakeLab, storm: str) -> None:
    lab = make_lab(gatherers=1, exchange=_options(14), gatherer_env={"KALSHI_CONNECTIONS": "1"},
                   expected_errors=("unhealthy",))
    lab.start()
    lab.wait_emitted(2 * RATE)
    if storm:
        lab.exchange.fault(storm)
    disconnect_all(lab, 4)
    gatherer = lab.gatherers["g1"]
    wait_until("it hears nothing", lambda: gatherer.metrics().get("ws_client_connected") == 0, 20)
    runs = wait_done(gatherer, "backfill", timeout=90)
    if storm:
        tried = [step for run in runs for step in run["steps"] if "tried again" in step["text"]]
        assert tried, runs
    lab.wait_emitted()
    lab.drain()
    missing = truth(lab)
    assert unheard(lab) > 50, "the outage cost nothing, so this run proves nothing"
    assert missing == [], f"{len(missing)} trades were not brought back, such as {missing[0]}"
    verdict = lab.verify()
    # the verifier takes the two lifecycle channels for one, and here they come back at different times
    faults = [stream.missing + stream.unexpected + stream.duplicate for name, stream in verdict.streams.items()
              if name != "lifecycle"]
    assert not any(faults), str(verdict)
    assert runs_in(lab.production, "backfill", "done") >= 1


def test_trades_of_the_time_when_the_process_was_away_come_from_rest(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange=_options(14), gatherer_env={"KALSHI_CONNECTIONS": "1"})
    lab.start()
    lab.wait_emitted(2 * RATE)
    lab.gatherers["g1"].process.kill()
    lab.wait_emitted(5 * RATE)
    lab.gatherers["g1"].start()
    wait_done(lab.gatherers["g1"], "backfill", timeout=90)
    lab.wait_emitted()
    lab.drain()
    missing = truth(lab)
    assert unheard(lab) > 50
    assert missing == [], f"{len(missing)} trades were not brought back, such as {missing[0]}"


def test_a_pause_is_noticed_and_books_are_fresh_after_it(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange=_options(20), gatherer_env={"KALSHI_CONNECTIONS": "1"})
    lab.start()
    lab.wait_emitted(RATE)
    gatherer = lab.gatherers["g1"]
    lab.exchange.fault("kind=maintenance,for=18s")
    wait_until("it says that the exchange is paused", lambda: "the exchange is paused" in gatherer.process.log(), 40)
    wait_until("it says that it is back", lambda: "the exchange is back" in gatherer.process.log(), 60)
    wait_done(gatherer, "resume")
    wait_done(gatherer, "resync")
    lab.exchange.flush_ledger()
    assert any(line.startswith("resnapshot") for line in
               lab.exchange.ledger.read_text(encoding="utf-8").splitlines())


def _is_dropped(store: PostgresCluster) -> bool:
    """False where the gatherer was in the middle of a transaction and the server chose ours to end."""
    try:
        store.execute("DROP SCHEMA tidemill CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public;"
                      " SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                      " AND backend_type = 'client backend'")
    except psycopg2.errors.DeadlockDetected:
        return False
    return True


def test_a_store_that_was_made_anew_gets_the_registry_again(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange=_options(30))
    lab.start()
    lab.wait_emitted(2 * RATE)
    lab.deduplicator.process.stop()  # it would rightly complain about what is done here
    store, gatherer = lab.stores["g1"], lab.gatherers["g1"]
    before = store.query("SELECT ticker FROM markets ORDER BY 1")
    assert before
    wait_until("the store is empty", lambda: _is_dropped(store), 30)
    wait_done(gatherer, "reconcile", timeout=90)
    wait_until("every market is back", lambda: set(before) <= set(store.query("SELECT ticker FROM markets")), 30,
               gatherer.process.log_tail)
