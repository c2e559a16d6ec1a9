"""A3, A5, E: databases and disks fail, processes are killed at random."""
from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Callable

from ..daemons import Gatherer
from ..lab import Lab
from ..paths import ROOT
from ..process import Process
from ..shim import Shim
from ..waiting import wait_until
from .catalogue import drill
from .run import Run

RATE = 2000
SLOW = 500
KILLS = int(os.environ.get("TIDEMILL_KILLS", "20"))
OUTAGE_S = float(os.environ.get("TIDEMILL_OUTAGE", "30"))

# ---- A: one survivor, a supervisor ----


@drill("A3", "one gatherer lives, and its database is killed", "complete: the journal absorbs it")
def last_one_without_store(run: Run) -> None:
    gatherers, store = run.lab.gatherers, run.lab.stores["g1"]
    run.run_for(RATE)
    gatherers["g2"].process.kill()
    gatherers["g3"].process.kill()
    run.run_for(RATE)
    since, before = time.monotonic(), _journal_bytes(gatherers["g1"])
    run.break_it(store.kill)
    run.detected("g1 has no database", lambda sample: sample.health.get("g1", {}).get("db") == "disconnected")
    run.run_for(4 * RATE)
    grown = _journal_bytes(gatherers["g1"]) - before
    run.figures.more["journal_mb_per_min"] = round(grown / (time.monotonic() - since) * 60 / 1e6, 1)
    run.expect(grown > 0, "the journal did not grow")
    run.mend_it(store.start)
    run.recovered()


def _journal_bytes(gatherer: Gatherer) -> int:
    return sum(path.stat().st_size for path in gatherer.data.glob("*.seg"))


class Supervisor:
    """Restart=always with RestartSec=1 and no limit: what the unit file says, for processes whose end it counts."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self._down_since: dict[str, float] = {}
        self.restarts = 0

    def look(self) -> None:
        """Start what has been down for a second. To be called often."""
        for process in self._processes:
            if process.running:
                self._down_since.pop(process.name, None)
            elif time.monotonic() - self._down_since.setdefault(process.name, time.monotonic()) >= 1.0:
                self.restarts += 1
                process.start()

    def watch(self, what: str, condition: Callable[[], object], timeout: float) -> None:
        """As wait_until, with an eye on the processes."""
        def look() -> object:
            self.look()
            return condition()

        wait_until(what, look, timeout)


@drill("A5", "production is away for long, under a supervisor", "no process ends",
       limit={"rto_first_s": 35}, exchange={"rate": SLOW, "seconds": 180})
def nobody_ends(run: Run) -> None:
    processes = [daemon.process for daemon in (*run.lab.gatherers.values(), run.lab.deduplicator)]
    pids = {process.name: process.pid for process in processes}
    supervisor = Supervisor(processes)
    run.run_for(2 * SLOW)
    run.break_it(run.lab.production.kill)
    run.detected("production is away", lambda sample: sample.health.get("dedup", {}).get("rds") == "disconnected")
    until = time.monotonic() + OUTAGE_S
    supervisor.watch("the outage is over", lambda: time.monotonic() >= until, OUTAGE_S + 10)
    run.mend_it(run.lab.production.start)
    run.recovered()
    supervisor.look()
    run.figures.more["restarts"] = supervisor.restarts
    run.expect(supervisor.restarts == 0, f"{supervisor.restarts} restarts were needed")
    run.expect(pids == {process.name: process.pid for process in processes}, "a process was replaced")
    run.run_for(2 * SLOW)
    run.lab.exchange.finish()


# ---- E: a gatherer's database ----

@drill("E1", "a local PostgreSQL is killed again and again", "nothing lost, WebSocket never dropped",
       exchange={"seconds": 300})
def local_store_killed(run: Run) -> None:
    store, gatherer = run.lab.stores["g1"], run.lab.gatherers["g1"]
    run.run_for(RATE)
    for _ in range(10):
        run.break_it(store.kill)
        run.run_for(RATE // 2)
        store.start()
        run.mend_it()
        run.run_for(RATE // 2)
    run.recovered()
    run.expect("connection lost" not in gatherer.process.log(), "g1 lost a connection with the exchange")
    run.lab.exchange.finish()


def _shimmed(lab: Lab) -> None:
    gatherer = lab.gatherers["g1"]
    lab.shims["g1"] = Shim(gatherer.directory, lab.directory / "g1-faults")
    gatherer.process.env.update(lab.shims["g1"].env)


DISK_FAULTS = ("do=enospc on=pwrite,write,ftruncate", "do=eio on=pwrite,write", "do=erofs")


@drill("E2", "the journal's disk is full, broken, read-only, then fails to sync", "503 within 5 s; the others are whole",
       limit={"t_detect_s": 5}, exchange={"seconds": 60, "rate": 1000}, prepare=_shimmed,
       lab={"expected_errors": ("journal", "records do not become durable")})
def disk_fails(run: Run) -> None:
    gatherer, shim = run.lab.gatherers["g1"], run.lab.shims["g1"]
    slowest = 0.0
    run.run_for(1000)
    for order in DISK_FAULTS:
        met = len(shim.met())
        run.break_it(lambda order=order: shim.order(order))
        run.detected(f"g1 is unhealthy with {order}",
                     lambda sample: sample.health.get("g1", {}).get("status") == "unhealthy")
        slowest = max(slowest, run.figures.t_detect_s or 0.0)
        run.expect(gatherer.health_answer().status == 503, f"g1 is not 503 with {order}")
        run.expect(len(shim.met()) > met, f"no call met {order}")
        _never_pretends(run, gatherer, 2.0)
        run.mend_it(shim.clear)
        wait_until("g1 is healthy again", gatherer.is_healthy, 20, gatherer.process.log_tail)
        durable = int(gatherer.health()["durable"])
        wait_until("g1 makes records durable again", lambda d=durable: int(gatherer.health()["durable"]) > d, 10)
    run.figures.t_detect_s = slowest
    _failing_sync(run, gatherer, shim)
    run.recovered()


def _never_pretends(run: Run, gatherer: Gatherer, seconds: float) -> None:
    """As long as the disk fails, it is never healthy."""
    until = time.monotonic() + seconds

    def look() -> bool:
        health = gatherer.health()
        run.expect(health["status"] == "unhealthy", f"g1 is {health['status']} while its journal cannot write")
        return time.monotonic() >= until or bool(run.figures.broken)

    wait_until("the fault has lasted", look, seconds + 10)


def _failing_sync(run: Run, gatherer: Gatherer, shim: Shim) -> None:
    """What a disk says of a failed sync cannot be trusted any more: the process ends, and reads what is there."""
    gatherer.process.expect_end(signal.SIGABRT)
    run.break_it(lambda: shim.order("do=eio on=fdatasync"))
    wait_until("g1 has given up", lambda: not gatherer.process.running, 10, gatherer.process.log_tail)
    run.expect(gatherer.process.exit_status == -signal.SIGABRT,
               f"g1 ended with {gatherer.process.exit_status} when fdatasync failed, expected SIGABRT")
    shim.clear()
    gatherer.start()
    run.mend_it()
    wait_until("g1 is healthy again", gatherer.is_healthy, 30, gatherer.process.log_tail)


# ---- E4: a store is rebuilt from production ----

WIPE = ("DROP SCHEMA public CASCADE; DROP SCHEMA tidemill CASCADE; DROP SCHEMA readable CASCADE;"
        " DROP SCHEMA IF EXISTS restored CASCADE; CREATE SCHEMA public")
REBUILD = '''require "recovery" (exchange, { rebuild = {
  production = tm.sql { conninfo = tm.env "TIDEMILL_PRODUCTION" }, store = tm.sql { conninfo = tm.env "TIDEMILL_STORE" },
  past = "10m", slice = "5s" } })'''


def _with_rebuild(lab: Lab) -> None:
    stock = (ROOT / "lua/kalshi/gatherer.lua").read_text(encoding="utf-8")
    script = lab.directory / "gatherer.lua"
    script.write_text(stock.replace('require "recovery" (exchange)', REBUILD), encoding="utf-8")
    for gatherer in lab.gatherers.values():
        gatherer.process.argv[-1] = str(script)
        gatherer.process.env["TIDEMILL_PRODUCTION"] = lab.production.conninfo()


@drill("E4", "a gatherer's store and journal are lost and rebuilt from production", "no duplicate; nothing exported as fresh",
       exchange={"seconds": 180}, prepare=_with_rebuild)
def rebuilt_from_production(run: Run) -> None:
    gatherer, store = run.lab.gatherers["g1"], run.lab.stores["g1"]
    run.run_for(4 * RATE)
    def wipe() -> None:
        gatherer.process.kill()
        for path in gatherer.data.glob("*"):
            path.unlink()
        store.execute(WIPE)

    run.break_it(wipe)
    wiped_at = store.value("SELECT clock_timestamp()")
    run.run_for(RATE)
    wait_until("production has what came before",
               lambda: any(s.lag_s is not None and s.lag_s < 0.5 for s in run.samples()[-1:]), 60)
    run.mend_it(gatherer.start)
    run.recovered()
    wait_until("the rebuild is done", lambda: store.value("SELECT to_regclass('recovery_runs')") and store.value(
        "SELECT count(*) FROM recovery_runs WHERE routine = 'rebuild' AND state = 'done'"), 90, gatherer.process.log_tail)
    run.run_for(2 * RATE)
    run.lab.exchange.finish()
    run.lab.drain()
    for stream in ("trades", "orderbook_deltas"):
        old = int(run.lab.production.value(f"SELECT count(*) FROM {stream} WHERE received_at < %s", (wiped_at,)))
        back = int(store.value(f"SELECT count(*) FROM restored.{stream} WHERE received_at < %s", (wiped_at,)))
        fresh = int(store.value(f"SELECT count(*) FROM public.{stream} WHERE received_at < %s", (wiped_at,)))
        marked = int(store.value(f"SELECT count(*) FROM restored.{stream} WHERE origin <> 'backfill'"))
        polled = run.lab.production.value(
            "SELECT seq FROM tidemill.cursors WHERE gatherer = 'g1' AND stream = %s ORDER BY updated_at DESC LIMIT 1",
            (stream,))
        own = int(store.value(f"SELECT count(*) FROM public.{stream}"))
        run.figures.more[f"restored_{stream}"] = back
        run.expect(old > 0 and back == old, f"{back} rows of {stream} were restored, production has {old}")
        run.expect(fresh == 0 and marked == 0, f"{fresh} old rows of {stream} look like fresh ones, {marked} unmarked")
        run.expect(polled == own, f"{polled} rows of {stream} were polled from g1, which has {own} of its own")


COLUMNS = {"markets": "ticker", "events": "event_ticker"}


def _books(lab: Lab, label: str) -> int:
    """Markets whose depth the gatherer listens to."""
    return sum(client["markets"] for client in lab.exchange.stats()["clients"] if client["label"] == label)


@drill("E5", "a gatherer's tables of markets and events are dropped", "reconciled from REST; no subscription lost",
       exchange={"seconds": 40})
def relational_loss(run: Run) -> None:
    gatherer, store = run.lab.gatherers["g1"], run.lab.stores["g1"]
    run.run_for(2 * RATE)
    wait_until("the registry is stored", lambda: store.value("SELECT count(*) FROM events"), 30)
    before = {table: store.query(f"SELECT {column} FROM {table}") for table, column in COLUMNS.items()}
    wanted = gatherer.health()["ws_connections_wanted"]
    run.expect(bool(before["markets"]) and bool(before["events"]), "there was nothing to lose")
    run.break_it(lambda: store.execute("DROP TABLE markets, events CASCADE"))

    def missing() -> list[str]:
        found = [f"table {table}" for table in before if store.value(f"SELECT to_regclass('public.{table}')") is None]
        for table, column in () if found else COLUMNS.items():
            there = {row[0] for row in store.query(f"SELECT {column} FROM {table}")}
            found += [ticker for ticker, in before[table] if ticker not in there]
        return found

    wait_until("every market and event is back", lambda: not missing(), 60,
               lambda: f"{missing()}\n{gatherer.process.log_tail()}")
    run.figures.more["registry_back_s"] = round(time.monotonic() - (run.samples()[0].at if run.samples() else 0), 1)
    run.mend_it()
    run.recovered()
    run.expect(gatherer.health()["ws_connections"] == wanted, "a connection was lost")
    run.expect(all(sample.health.get("g1", {}).get("ws_connections") == wanted for sample in run.samples()
                   if "g1" in sample.health), "a connection was lost meanwhile")
    wait_until("g1 has as many books as g2", lambda: _books(run.lab, "g1") == _books(run.lab, "g2") > 0, 30)


# ---- X1: random kills ----

@drill("X1", f"kill -9 of random processes at random moments ({KILLS} times)", "complete, nothing twice",
       exchange={"rate": 1000, "seconds": 600})
def random_kills(run: Run) -> None:
    chance = random.Random(run.figures.seed)
    lab, kills = run.lab, []
    run.run_for(1000)
    for _ in range(KILLS):
        victim = chance.choice([*lab.gatherers, "dedup", *(f"store-{name}" for name in lab.stores), "production"])
        run.run_for(chance.randrange(100, 1000))
        kills.append(victim)
        run.break_it(lambda v=victim: _kill_and_start(lab, v, chance))
    run.mend_it()
    run.recovered()
    run.figures.more["killed"] = {name: kills.count(name) for name in sorted(set(kills))}
    run.run_for(2000)
    lab.exchange.finish()


def _kill_and_start(lab: Lab, victim: str, chance: random.Random) -> None:
    """One gatherer at a time, and the next one only when it listens to everything: so one always hears."""
    if victim in lab.gatherers:
        gatherer = lab.gatherers[victim]
        gatherer.process.kill()
        lab.wait_emitted(lab.exchange.emitted() + chance.randrange(1, 500))
        gatherer.start()
        wait_until(f"{victim} listens to all markets again",
                   lambda: gatherer.is_healthy() and _books(lab, victim) >= min(
                       _books(lab, name) for name in lab.gatherers if name != victim),
                   60, gatherer.process.log_tail)
    elif victim == "dedup":
        lab.deduplicator.process.kill()
        lab.wait_emitted(lab.exchange.emitted() + chance.randrange(1, 500))
        lab.deduplicator.start()
    else:
        cluster = lab.production if victim == "production" else lab.stores[victim.removeprefix("store-")]
        cluster.kill()
        lab.wait_emitted(lab.exchange.emitted() + chance.randrange(1, 500))
        cluster.start()


def journal_of(gatherer: Gatherer) -> list[Path]:
    """Its segments, oldest first."""
    return sorted(gatherer.data.glob("*.seg"))
