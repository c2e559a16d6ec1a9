"""The drills. Ids and targets are those of the failure catalogue and of the owner's recovery table."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

from ..lab import LabOptions
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


@drill("A6", "a gatherer is replaced by an empty one of the same name", "complete; nothing skipped", exchange={"seconds": 40})
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
    wait_until("production knows both epochs of g1", lambda: run.lab.production.value(
        "SELECT count(DISTINCT epoch) FROM tidemill.cursors WHERE gatherer = 'g1'") == 2, 60)


# ---- B: deduplicator ----

@drill("B1", "the deduplicator is killed again and again", "RTO_first < 3 s; nothing twice", limit={"rto_first_s": 3})
def deduplicator_killed(run: Run) -> None:
    process = run.lab.deduplicator.process
    for _ in range(10):
        run.run_for(RATE // 2)
        run.break_it(process.kill)
        process.start()
        run.mend_it()
    run.recovered()


@drill("X11", "a deduplicator hangs, a second one takes over, the first wakes up", "zombie refused")
def zombie(run: Run) -> None:
    run.run_for(RATE)
    first, second = run.lab.deduplicator, run.lab.second_deduplicator()
    second.start()
    run.break_it(first.process.pause)
    run.run_for(RATE)
    run.lab.production.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidemill deduplicator'"
        " AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)")
    wait_until("the second one writes", lambda: second.health().get("rds") == "connected"
               and second.metrics().sum("tidemill_written_rows_total") > 0, 60, second.process.log_tail)
    run.mend_it(first.process.resume)
    run.run_for(RATE)
    run.lab.wait_emitted()
    run.lab.drain()
    second.process.stop()
    run.expect(not second.process.complaints(), f"the second one complains: {second.process.complaints()}")


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
