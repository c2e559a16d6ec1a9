"""The drills. Ids and targets are those of the failure catalogue and of the owner's recovery table."""
from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from typing import Any, Callable

from ..daemons import Deduplicator
from ..lab import Lab, LabOptions
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
    prepare: Callable[[Lab], None] = lambda lab: None  # before anything is started: proxies, networks, preloaded faults

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


def deduplicator_away(run: Run) -> dict[str, int]:
    """It stops after it has acknowledged something, and stays away until all is sent and stored; where its cursors stay."""
    run.run_for(2 * RATE)
    run.break_it(run.lab.deduplicator.process.stop)
    cursors = dict(run.lab.production.query("SELECT stream, max(seq) FROM tidemill.cursors GROUP BY 1"))
    run.lab.wait_emitted()
    wait_until("everything is stored", lambda: not run.lab.unstored(), 60)
    return cursors


def absent(run: Run, reason: str) -> int:
    """Rows that went so from the gatherers' stores."""
    return sum(int(store.value("SELECT coalesce(sum(rows), 0)::int8 FROM tidemill.absent WHERE reason = %s", (reason,)))
               for store in run.lab.stores.values())


@drill("B4", "the deduplicator is away, the local disk is full", "rows_gap_flagged = rows expired; trades complete",
       lab={"gatherers": 1,
            "gatherer_env": {"TIDEMILL_STORE_LIMIT": "16MiB", "TIDEMILL_PARTITION_ROWS": "1000"},
            "expected_errors": ("rows were expired", "nothing in it may go", "tidemill.absent says why")},
       exchange={"rate": 2 * RATE, "seconds": 12})
def away_beyond_retention(run: Run) -> None:
    cursors = deduplicator_away(run)
    gatherer = run.lab.gatherers["g1"]
    store = run.lab.stores["g1"]
    wait_until("the store is within its bound, and what was announced has gone",
               lambda: gatherer.metrics().sum("tidemill_store_pressure") == 0 and store.value(
                   "SELECT (SELECT count(*) FROM gaps WHERE reason = 'expired')"
                   " = (SELECT count(*) FROM tidemill.absent WHERE reason = 'expired')"), 60)
    run.mend_it(run.lab.deduplicator.process.start)
    run.recovered()
    run.lab.drain()
    # of what went, production had some already and had not acknowledged it yet
    expired = sum(max(0, last - max(first - 1, cursors.get(stream, 0)))
                  for stream, first, last in store.query(
                      "SELECT stream, first_seq, last_seq FROM tidemill.absent WHERE reason = 'expired'"))
    run.expect(expired > 0, "nothing was expired, so this proves nothing")
    run.given_up(expired, louder_first=True)
    stepped = run.lab.deduplicator.metrics().sum("dedup_absent_rows_total", reason="lost")
    run.expect(stepped == expired, f"the deduplicator stepped over {stepped} rows, {expired} were expired")
    flagged = run.lab.production.value("SELECT sum(split_part(split_part(detail, ': ', 2), ' ', 1)::int8)::int8 FROM gaps"
                                       " WHERE reason = 'expired'")
    gone = absent(run, "expired")
    run.expect(flagged == gone, f"production's ledger has {flagged} expired rows, {gone} left the store")


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


# ---- X: more ----

@drill("X12", "the exchange repeats, reorders and delays frames", "each record once")
def frames_out_of_order(run: Run) -> None:
    run.run_for(RATE)
    for fault in ("kind=duplicate,count=300", "kind=reorder,count=200", "kind=late,count=100,delay=1s",
                  "kind=duplicate,count=200,label=g1", "kind=gap,count=50,label=g2", "kind=late,count=50,delay=3s"):
        run.break_it(lambda fault=fault: run.lab.exchange.fault(fault))
        run.run_for(RATE // 2)
    run.mend_it(lambda: run.lab.exchange.control("clear"))
    wait_until("no frame is kept back any more", lambda: run.lab.exchange.stats()["late"] == 0, 30)
    run.recovered()
