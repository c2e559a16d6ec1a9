"""The drills. Ids and targets are those of the failure catalogue and of the owner's recovery table."""
from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from typing import Any, Callable

from ..daemons import Deduplicator
from ..lab import LabOptions
from ..pgproxy import STEPS
from ..waiting import wait_until
from .observer import Sample
from .run import Run

RATE = 2000
SECONDS = 20


@dataclass
class Drill:
    """One entry of the catalogue."""

    id: str
    title: str
    target: str
    act: Callable[[Run], None]
    limit: dict[str, float] = field(default_factory=dict)  # figure: at most
    lab: dict[str, Any] = field(default_factory=dict)  # more options of the lab
    exchange: dict[str, Any] = field(default_factory=dict)

    def options(self, seed: int) -> LabOptions:
        """The lab that it needs."""
        exchange = {"seed": seed, "markets": 100, "rate": RATE, "seconds": SECONDS, **self.exchange}
        return LabOptions(exchange=exchange, **self.lab)


CATALOGUE: dict[str, Drill] = {}


def drill(identifier: str, title: str, target: str, **more: Any) -> Callable[[Callable[[Run], None]], None]:
    """Put a function into the catalogue."""
    def add(act: Callable[[Run], None]) -> None:
        CATALOGUE[identifier] = Drill(identifier, title, target, act, **more)
    return add


def _gatherer_is(name: str, *states: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.health.get("dedup", {}).get("gatherers", {}).get(name) in states


def _unhealthy(name: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.health.get(name, {}).get("status") in ("degraded", "unhealthy")


def _hears_nothing(sample: Sample) -> bool:
    found = [health for name, health in sample.health.items() if name != "dedup"]
    return bool(found) and all(health.get("ws_connections") == 0 for health in found)


def _silent(name: str) -> Callable[[Sample], bool]:
    return lambda sample: name not in sample.health


# ---- A: gatherers ----

@drill("A1", "one gatherer is killed and stays away", "complete; t_detect < 2 s", limit={"t_detect_s": 2, "max_lag_s": 1})
def one_gatherer_down(run: Run) -> None:
    run.run_for(2 * RATE)
    run.break_it(run.lab.gatherers["g1"].process.kill)
    run.detected("g1 does not answer", _silent("g1"))


@drill("A2", "two gatherers are killed one after the other, one always lives", "complete")
def two_gatherers_down(run: Run) -> None:
    gatherers = run.lab.gatherers
    run.run_for(2 * RATE)
    run.break_it(gatherers["g1"].process.kill)
    run.run_for(RATE)
    gatherers["g2"].process.kill()
    run.run_for(RATE)
    run.mend_it(gatherers["g1"].start)
    run.run_for(2 * RATE)
    gatherers["g2"].start()
    run.recovered()


@drill("A4", "all gatherers are killed and started again", "RTO_first < 5 s; gaps exact", limit={"rto_first_s": 5})
def all_gatherers_down(run: Run) -> None:
    gatherers = run.lab.gatherers.values()
    run.run_for(2 * RATE)

    def kill() -> None:
        for gatherer in gatherers:
            gatherer.process.kill()

    run.break_it(kill)
    run.run_for(2 * RATE)
    for gatherer in gatherers:
        gatherer.process.start()
    run.mend_it()
    run.recovered()


@drill("A6", "a gatherer is replaced by an empty one of the same name", "complete; nothing skipped")
def gatherer_replaced(run: Run) -> None:
    gatherer, store = run.lab.gatherers["g1"], run.lab.stores["g1"]
    run.run_for(2 * RATE)
    wait_until("production has all that g1 has stored",
               lambda: not [at for at in run.lab.backlog() if at.startswith("g1/")] or run.lab.exchange.is_finished(), 60)

    def wipe() -> None:
        gatherer.process.kill()
        for path in gatherer.data.glob("*"):
            path.unlink()
        store.execute("DROP SCHEMA public CASCADE; DROP SCHEMA tidemill CASCADE; DROP SCHEMA readable CASCADE;"
                      " CREATE SCHEMA public")

    run.break_it(wipe)
    run.mend_it(gatherer.start)
    run.recovered()
    run.run_for(RATE)
    epochs = run.lab.production.value("SELECT count(DISTINCT epoch) FROM tidemill.cursors WHERE gatherer = 'g1'")
    run.expect(epochs == 2, f"g1 has {epochs} epochs in production's cursors, expected 2")


# ---- B: deduplicator ----

KILLS = int(os.environ.get("TIDEMILL_KILLS", "10"))
ROUND_SECONDS = 4  # of load for each kill or cut
B1_RATE = 800


def _load(rounds: int) -> dict[str, Any]:
    return {"rate": B1_RATE, "seconds": int(20 + ROUND_SECONDS * rounds)}


def _again(run: Run, process_runs: Callable[[], object] | None = None) -> None:
    """Rows flow again; there was still something to send."""
    run.mend_it(process_runs)
    run.back_again()
    run.expect(not run.lab.exchange.is_finished(), "the exchange had sent everything before the last fault")


@drill("B1", "the deduplicator is killed at random and at each step of a transaction", "RTO_first < 3 s; nothing twice",
       limit={"rto_first_s": 3}, lab={"pg_proxy": True, "tcp": True}, exchange=_load(KILLS + len(STEPS)))
def deduplicator_killed(run: Run) -> None:
    process, proxy, chance = run.lab.deduplicator.process, run.lab.pg_proxy, random.Random(run.figures.seed)
    for _ in range(KILLS):
        run.run_for(chance.randint(1, B1_RATE // 2))
        run.break_it(process.kill)
        _again(run, process.start)
    for step in STEPS:
        hit = proxy.arm(step, "hold")
        run.expect(hit.wait(20), f"the merger never came to the step: {step.name}")
        run.break_it(process.kill)
        proxy.cut()
        _again(run, process.start)
    run.recovered()


@drill("B2", "the deduplicator was away, and a backlog waits", "flat memory; all there",
       exchange={"rate": 20000, "seconds": 30, "markets": 200})
def backlog(run: Run) -> None:
    process = run.lab.deduplicator.process
    run.run_for(20000)
    run.break_it(process.kill)
    run.lab.wait_emitted(timeout=300)
    wait_until("the gatherers have stored all they heard", lambda: not run.lab.unstored(), 120,
               lambda: str(run.lab.unstored()))
    waiting = sum(run.lab.backlog().values())
    run.expect(waiting > 1_000_000, f"only {waiting} rows wait: too few to tell a speed")
    began = time.monotonic()
    run.mend_it(process.start)
    wait_until("the backlog is in production", lambda: not run.lab.backlog(), 120, lambda: str(run.lab.backlog()))
    took = time.monotonic() - began
    run.recovered()
    run.figures.rto_full_s = round(took, 2)
    run.figures.catchup_rows_per_s = round(waiting / took)
    run.expect(process.peak_rss_mb < 700, f"the deduplicator's memory grew to {process.peak_rss_mb:.0f} MB")
    run.expect("rows_behind" in process.log() or took < 5, "the log does not tell of the progress")


# ---- C: production ----

@drill("C7", "the connection with production breaks at each step of a transaction", "RTO_first < 3 s; nothing twice",
       limit={"rto_first_s": 3}, lab={"pg_proxy": True, "tcp": True}, exchange=_load(max(KILLS, len(STEPS))))
def connection_cut(run: Run) -> None:
    process, proxy = run.lab.deduplicator.process, run.lab.pg_proxy
    pid = process.pid
    for number in range(max(KILLS, len(STEPS))):
        step = STEPS[number % len(STEPS)]
        hit = proxy.arm(step, "cut")
        run.break_it(lambda hit=hit, step=step: run.expect(
            hit.wait(20), f"the merger never came to the step: {step.name}"))
        _again(run)
    run.recovered()
    run.expect(process.running and process.pid == pid, "the deduplicator did not live through it")


# ---- X: who writes ----

def _takes_over(run: Run, heir: Deduplicator, how: str) -> None:
    """From the fault on until the heir has committed something of its own."""
    before = (heir.try_health() or {}).get("transactions", 0)
    wait_until(f"{heir.name} takes over from one that {how}",
               lambda: heir.health()["lease"] == "held" and heir.health()["transactions"] > before, 30,
               heir.process.log_tail)
    run.note_first(f"{heir.name} after one that {how}")


def _stands_by(run: Run, zombie: Deduplicator) -> None:
    try:
        wait_until(f"{zombie.name} stands by", lambda: (zombie.try_health() or {}).get("lease") == "standby", 10,
                   zombie.process.log_tail)
    except AssertionError as error:
        run.expect(False, str(error).splitlines()[0])


@drill("X11", "the writing deduplicator hangs, dies, is cut off, stops; another one takes over", "RTO_first <= 3 s; zombie refused",
       limit={"rto_first_s": 3}, lab={"pg_proxy": True, "tcp": True}, exchange={"rate": B1_RATE, "seconds": 75})
def zombie(run: Run) -> None:
    proxy, first, second = run.lab.pg_proxy, run.lab.deduplicator, run.lab.second_deduplicator()
    run.run_for(B1_RATE)
    second.start()
    _stands_by(run, second)
    run.expect(second.metrics().sum("dedup_standby") == 1, "the metric does not say that the second one stands by")

    def hang() -> None:  # in mid-transaction: its rows and its cursors are locked
        run.expect(proxy.arm(HANGS_AT, "hold").wait(20), "the merger never came to its cursors")
        run.break_it(first.process.pause)

    hang()
    _takes_over(run, second, "hangs in a transaction")
    run.run_for(B1_RATE)
    proxy.release()
    first.process.resume()
    _stands_by(run, first)
    run.break_it(second.process.kill)
    _takes_over(run, first, "was killed")
    second.process.start()
    _stands_by(run, second)
    run.break_it(proxy.freeze)
    _takes_over(run, second, "is cut off")
    run.run_for(B1_RATE)
    proxy.release()
    _stands_by(run, first)
    run.break_it(lambda: second.process.stop())
    _takes_over(run, first, "stopped")
    run.mend_it()
    run.run_for(B1_RATE)
    run.expect("level=error" not in first.process.log(), "the refused one complains at level error")


HANGS_AT = next(step for step in STEPS if step.name == "cursors moved, unanswered")


# ---- D: the exchange ----

AWAY = 4.0  # seconds that the exchange is away; its control endpoint shares the listener, so the fault ends by itself


def _away(run: Run, kind: str) -> None:
    exchange = run.lab.exchange
    run.run_for(2 * RATE)
    run.break_it(lambda: exchange.fault("kind=disconnect", f"kind={kind},for={AWAY:g}s"))
    run.detected("nobody hears anything", _hears_nothing)
    wait_until("the exchange answers again", exchange.reachable, AWAY + 30)
    run.mend_it()
    run.recovered()


@drill("D1", "the exchange refuses connections", "attempts bounded; RTO_first < 5 s", limit={"rto_first_s": 5})
def exchange_refuses(run: Run) -> None:
    _away(run, "refuse")


@drill("D3", "the exchange hangs: connections stay, nothing comes", "t_detect <= 20 s", limit={"t_detect_s": 20, "rto_first_s": 5})
def exchange_hangs(run: Run) -> None:
    run.run_for(2 * RATE)
    run.break_it(run.lab.exchange.process.pause)
    run.detected("nobody hears anything", _hears_nothing)
    run.mend_it(run.lab.exchange.process.resume)
    run.recovered()


@drill("D4", "the exchange accepts connections and never answers", "t_detect <= 20 s", limit={"t_detect_s": 20, "rto_first_s": 5})
def exchange_is_mute(run: Run) -> None:
    _away(run, "silence")


@drill("D5", "the exchange answers upgrades with 503, then 429", "attempts bounded; RTO_first < 5 s", limit={"rto_first_s": 5})
def exchange_is_busy(run: Run) -> None:
    exchange = run.lab.exchange
    run.run_for(2 * RATE)
    run.break_it(lambda: exchange.fault("kind=disconnect", "kind=handshake,status=503"))
    run.detected("nobody hears anything", _hears_nothing)
    exchange.control("clear")
    exchange.fault("kind=handshake,status=429", "kind=disconnect")
    run.run_for(RATE)
    run.mend_it(lambda: exchange.control("clear"))
    run.recovered()


# ---- E: a gatherer's database ----

@drill("E1", "a local PostgreSQL is killed again and again", "nothing lost, WebSocket never dropped")
def local_store_killed(run: Run) -> None:
    store, gatherer = run.lab.stores["g1"], run.lab.gatherers["g1"]
    run.run_for(RATE)
    for _ in range(5):
        run.break_it(store.kill)
        run.run_for(RATE // 2)
        store.start()
        run.mend_it()
        run.run_for(RATE // 2)
    run.recovered()
    run.expect("connection lost" not in gatherer.process.log(), "g1 lost a connection with the exchange")


# ---- X: more ----

@drill("X12", "the exchange repeats, reorders and delays frames", "each record once")
def frames_out_of_order(run: Run) -> None:
    run.run_for(RATE)
    for fault in ("kind=duplicate,count=300", "kind=reorder,count=200", "kind=late,count=100,delay=1s",
                  "kind=duplicate,count=200,label=g1", "kind=gap,count=50,label=g2", "kind=late,count=50,delay=3s"):
        run.break_it(lambda fault=fault: run.lab.exchange.fault(fault))
        run.run_for(RATE // 2)
    run.mend_it()
    run.recovered()
