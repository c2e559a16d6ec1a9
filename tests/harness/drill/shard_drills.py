"""Drills of deduplicators that share the work by shards (core/engine/share.h)."""
from __future__ import annotations

import os
import random
import time

from ..daemons import Deduplicator
from ..waiting import wait_until
from .catalogue import drill
from .run import Run

KILLS = int(os.environ.get("TIDEMILL_SHARD_KILLS", "12"))
EVERY_S = 10.0
SHARDS = 6
RATE = 800
SETTLE_S = 60.0

HELD = ("SELECT holder, count(*)::int FROM tidemill.leases WHERE NOT released AND expires_at > clock_timestamp()"
        " GROUP BY 1")

# I5, seen by production itself: whatever happens, no cursor moves back.
WATCH = """
CREATE TABLE truth_moved_back (gatherer text, stream text, shard int, was int8, now int8);
CREATE FUNCTION truth_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO truth_moved_back VALUES (OLD.gatherer, OLD.stream, OLD.shard, OLD.seq, NEW.seq);
    RETURN NULL;
END $$;
CREATE TRIGGER truth_moved AFTER UPDATE ON tidemill.cursors FOR EACH ROW WHEN (NEW.seq < OLD.seq)
    EXECUTE FUNCTION truth_note();
"""


def _held(run: Run) -> dict[str, int]:
    return dict(run.lab.production.query(HELD))


def _shared(run: Run, what: str, parts: list[Deduplicator]) -> None:
    """Until these hold all shards, as many each as any other."""
    fair = {part.name: SHARDS // len(parts) for part in parts}
    wait_until(what, lambda: _held(run) == fair, SETTLE_S, lambda: str(_held(run)))


def _lose(run: Run, victim: Deduplicator, how: str) -> None:
    """The others take over, which is the first sign of life, and go on by themselves for a while."""
    rest = [part for part in run.lab.deduplicators if part is not victim]
    run.break_it(victim.process.kill if how == "was killed" else victim.process.pause)
    _shared(run, f"the shards of {victim.name}, which {how}, are shared by the others", rest)
    run.note_first(f"the shards of {victim.name}, which {how}")


@drill("X11b", f"three deduplicators share {SHARDS} shards; one is killed every {EVERY_S:.0f} s, one hangs",
       "row-exact; its shards are at work again <= 3 s; cursors never move back", limit={"rto_first_s": 3},
       lab={"deduplicator_env": {"TIDEMILL_SHARDS": str(SHARDS)}},
       exchange={"rate": RATE, "seconds": int(15 + EVERY_S * (KILLS + 1))})
def sharded(run: Run) -> None:
    lab, chance = run.lab, random.Random(run.figures.seed)
    lab.production.execute(WATCH)
    for _ in range(2):
        lab.add_deduplicator().start()
    _shared(run, "three processes share the shards", list(lab.deduplicators))
    for _ in range(KILLS):
        began = time.monotonic()
        victim = chance.choice(lab.deduplicators)
        _lose(run, victim, "was killed")
        victim.start()
        _shared(run, f"{victim.name} has its share again", list(lab.deduplicators))
        wait_until("it is time for the next one", lambda began=began: time.monotonic() - began >= EVERY_S, EVERY_S + 1)
    zombie = chance.choice(lab.deduplicators)
    _lose(run, zombie, "hangs")
    run.run_for(RATE)
    zombie.process.resume()
    _shared(run, f"{zombie.name} woke up and has its share again", list(lab.deduplicators))
    run.mend_it()
    run.expect("level=error" not in zombie.process.log(), "the refused one complains at level error")
    lab.wait_emitted()
    back = lab.production.query("SELECT * FROM truth_moved_back LIMIT 3")
    run.expect(not back, f"cursors moved back: {back}")
