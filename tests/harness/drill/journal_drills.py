"""X3, X4: what becomes of a journal that was not synced, or was damaged."""
from __future__ import annotations

import random
import signal
from pathlib import Path

from ..lab import Lab
from ..shim import Shim
from ..waiting import wait_until
from .catalogue import drill
from .run import Run
from .store_drills import journal_of

RATE = 2000


def _one_shimmed(lab: Lab) -> None:
    gatherer = lab.gatherers["g1"]
    lab.shims["g1"] = Shim(gatherer.directory, lab.directory / "g1-faults")
    gatherer.process.env.update(lab.shims["g1"].env)


@drill("X3", "the only gatherer loses its power while its database is away", "all that was durable is stored",
       lab={"gatherers": 1}, prepare=_one_shimmed)
def power_loss(run: Run) -> None:
    """Of the time before the loss nothing but the last moment may be missing, and the ledger says so."""
    gatherer, store, shim = run.lab.gatherers["g1"], run.lab.stores["g1"], run.lab.shims["g1"]
    run.run_for(RATE)
    for _ in range(3):
        store.kill()
        run.run_for(2 * RATE)
        durable = int(gatherer.health()["durable"])
        run.break_it(lambda: shim.order("do=power on=pwrite nth=3"))
        gatherer.process.expect_end(signal.SIGKILL)
        wait_until("g1 has no power", lambda: not gatherer.process.running, 20)
        shim.clear()
        store.start()
        run.expect(durable > 0, "nothing was durable")
        run.mend_it(gatherer.start)
        run.run_for(RATE)
    run.recovered()


@drill("X4", "bytes of a journal are flipped, cut and repeated while its gatherer is down",
       "loss limited and told; the others fill it", exchange={"seconds": 30},
       lab={"expected_errors": ("damage", "damaged", "a stream is not taken further", "journal")})
def damaged_journal(run: Run) -> None:
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
    run.recovered()
    found = gatherer.metrics()
    frames = found.sum("tidemill_journal_damaged_frames_total")
    run.figures.more["damaged_frames"] = int(frames)
    run.expect("damage" in gatherer.process.log(), "g1 says nothing of the damage")
    wait_until("g1 is taken again", lambda: run.lab.deduplicator.health()["gatherers"]["g1"] == "connected", 30,
               run.lab.deduplicator.process.log_tail)


def _damage(path: Path, after: int, chance: random.Random) -> None:
    """Flip bits in three places of the part that no store has, and cut the end off."""
    data = bytearray(path.read_bytes())
    for _ in range(3):
        at = chance.randrange(after + (len(data) - after) // 4, len(data) - 2000)
        data[at] ^= 1 << chance.randrange(8)
    del data[len(data) - chance.randrange(1, 500):]
    path.write_bytes(bytes(data))
