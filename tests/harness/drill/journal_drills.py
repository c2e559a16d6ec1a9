"""X3, X4: what becomes of a journal that was not synced, or was damaged."""
from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from ..daemons import Gatherer
from ..lab import Lab
from ..shim import Shim
from ..waiting import wait_until
from . import coverage
from .catalogue import drill
from .run import Run
from .store_drills import journal_of

RATE = 2000
ROUNDS = 3
QUIET = "deltas=90,tickers=6,trades=4,lifecycle=0"  # no new market, which perhaps only one has heard of


def _one_shimmed(lab: Lab) -> None:
    gatherer = lab.gatherers["g1"]
    lab.shims["g1"] = Shim(gatherer.directory, lab.directory / "g1-faults")
    gatherer.process.env.update(lab.shims["g1"].env)


@drill("X3", "the only gatherer loses its power while its database is away", "all that was durable is stored",
       lab={"gatherers": 1}, exchange={"rate": RATE // 2, "seconds": 300, "mix": QUIET}, prepare=_one_shimmed)
def power_loss(run: Run) -> None:
    """The exchange pauses, so that everything is durable; then the next write meets the loss. Nothing may be missing."""
    exchange, gatherer, store = run.lab.exchange, run.lab.gatherers["g1"], run.lab.stores["g1"]
    shim = run.lab.shims["g1"]
    run.run_for(RATE)
    for _ in range(ROUNDS):
        store.kill()
        run.run_for(2 * RATE)
        exchange.control("stop")
        _settle(gatherer)
        gatherer.process.expect_end(signal.SIGKILL)
        run.break_it(lambda: shim.order("do=power on=pwrite"))
        exchange.fault("kind=disconnect")  # which the ledger of gaps has to write down
        wait_until("g1 has no power", lambda: not gatherer.process.running, 30, gatherer.process.log_tail)
        shim.clear()
        store.start()
        gatherer.start()
        wait_until("g1 listens again", lambda: gatherer.is_healthy() and exchange.has_all_markets("g1"), 60,
                   gatherer.process.log_tail)
        run.mend_it(lambda: exchange.control("start"))
        run.run_for(RATE)
    run.recovered()
    exchange.finish()


def _settle(gatherer: Gatherer) -> None:
    """Nothing of the exchange's has been journaled for two seconds: there is nothing left, and heartbeats go on behind it."""
    last, since = -1.0, time.monotonic()

    def is_still() -> bool:
        nonlocal last, since
        metrics = gatherer.metrics()
        journaled = sum(metrics.sum("tidemill_rows_journaled_total", stream=stream) for stream in coverage.STREAMS)
        if journaled != last:
            last, since = journaled, time.monotonic()
        return time.monotonic() - since >= 2.0

    wait_until("all that was heard is durable", is_still, 60)


_TOLD = {"expected_errors": ("damage", "damaged", "rows are missing in the journal", "tidemill.absent says why")}


@drill("X4", "bytes of a journal are flipped and cut off while its gatherer is down", "loss told, stepped over; the others fill it",
       exchange={"seconds": 30}, lab=_TOLD)
def damaged_journal(run: Run) -> None:
    _damage_what_no_store_has(run)


@drill("X4b", "the same to the only gatherer", "rows_gap_flagged = rows told; the rest goes on",
       exchange={"seconds": 30, "mix": QUIET}, lab={"gatherers": 1, **_TOLD})
def damaged_journal_alone(run: Run) -> None:
    _damage_what_no_store_has(run)
    told = run.lab.production.query("SELECT stream, sum(rows)::int8 FROM tidemill.absent WHERE reason = 'missing' GROUP BY 1")
    run.given_up(sum(rows for stream, rows in told if stream in coverage.STREAMS), louder_first=False)


def _damage_what_no_store_has(run: Run) -> None:
    """The deduplicator is told what is not there, and takes what is behind it."""
    gatherer, store = run.lab.gatherers["g1"], run.lab.stores["g1"]
    chance = random.Random(run.figures.seed)
    run.run_for(2 * RATE)
    store.kill()  # what is damaged now only the journal has
    before = {path: path.stat().st_size for path in journal_of(gatherer)}
    run.run_for(6 * RATE)
    gatherer.process.kill()
    newest = journal_of(gatherer)[-1]
    run.break_it(lambda: _damage(newest, before.get(newest, 0), chance))
    store.start()
    run.mend_it(gatherer.start)
    run.detected("rows are stepped over", lambda _: run.lab.deduplicator.metrics().sum(
        "dedup_absent_rows_total", reason="lost") > 0)
    run.recovered()
    run.lab.drain()
    run.expect("damage stepped over" in gatherer.process.log(), f"g1 says nothing of the damage: {gatherer.process.log_tail()}")
    stepped = run.lab.deduplicator.metrics().sum("dedup_absent_rows_total", reason="lost")
    told = run.lab.production.value("SELECT coalesce(sum(rows), 0)::int8 FROM tidemill.absent WHERE reason = 'missing'")
    run.expect(stepped == told, f"{stepped} rows were stepped over, production was told of {told}")


def _damage(path: Path, after: int, chance: random.Random) -> None:
    """Flip bits in three places of the part that no store has, and cut the end off."""
    data = bytearray(path.read_bytes())
    for _ in range(3):
        at = chance.randrange(after + (len(data) - after) // 4, len(data) - 2000)
        data[at] ^= 1 << chance.randrange(8)
    del data[len(data) - chance.randrange(1, 500):]
    path.write_bytes(bytes(data))
