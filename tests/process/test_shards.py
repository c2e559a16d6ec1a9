"""Deduplicators that share one production's work by shards of the ticker's hash (core/engine/share.h)."""
from __future__ import annotations

from harness import Lab, LabOptions, PostgresCluster, wait_until
from harness.daemons import Deduplicator

RATE = 1000
HELD = ("SELECT holder, count(*)::int FROM tidemill.leases WHERE NOT released AND expires_at > clock_timestamp()"
        " GROUP BY 1 ORDER BY 1")


def holders(lab: Lab) -> dict[str, int]:
    """How many shards each process holds."""
    return dict(lab.production.query(HELD))


def shared(lab: Lab, what: str, **expected: int) -> None:
    """Wait until they hold so many each."""
    wait_until(what, lambda: holders(lab) == expected, 20, lambda: str(holders(lab)))


def test_shards_move_with_the_processes_and_no_row_is_lost_or_doubled() -> None:
    with Lab(LabOptions(gatherers=2, exchange={"markets": 40, "rate": RATE, "seconds": 8},
                        deduplicator_env={"TIDEMILL_SHARDS": "4"})) as lab:
        lab.start()
        second, third = lab.add_deduplicator(), lab.add_deduplicator()
        shared(lab, "one process holds all shards", dedup=4)
        second.start()
        shared(lab, "a second one has its share", dedup=2, dedup2=2)
        third.start()
        wait_until("three processes have shards", lambda: sorted(holders(lab).values()) == [1, 1, 2], 20,
                   lambda: str(holders(lab)))
        wait_until("a process says which are its own", lambda: says(third) == (1, 1), 10, lambda: str(third.status()))
        second.process.kill()
        shared(lab, "the shards of one that was killed move", dedup=2, dedup3=2)
        third.process.pause()
        shared(lab, "the shards of one that hangs move", dedup=4)
        third.process.resume()
        shared(lab, "it has a share again when it wakes up", dedup=2, dedup3=2)
        lab.wait_emitted()
        lab.drain()
        verdict = lab.verify()
        assert verdict.clean, verdict
        told_to_gatherers(lab)


LEAST = ("SELECT stream, min(seq), count(*) FROM tidemill.cursors WHERE gatherer = %s AND stream IN ('trades', 'orderbook_deltas')"
         " GROUP BY 1 ORDER BY 1")


def told_to_gatherers(lab: Lab) -> None:
    """A gatherer is told what every shard has, and no more; each shard has a cursor of its own."""
    for name, store in lab.stores.items():
        def told(store: PostgresCluster = store) -> list[tuple[str, int]]:
            return store.query("SELECT stream, seq FROM tidemill.acknowledged WHERE stream IN ('trades', 'orderbook_deltas')"
                               " ORDER BY 1")

        least = lab.production.query(LEAST, (name,))
        assert [count for _, _, count in least] == [4, 4], least
        wait_until(f"{name} knows what production has", lambda: told() == [row[:2] for row in least], 20, lambda: str(told()))


def says(part: Deduplicator) -> tuple[int, int]:
    """How many shards it holds, and how many it thinks are held under its name."""
    status = part.status()
    return status["lease"]["shards_held"], [shard["holder"] for shard in status["shards"]].count(part.name)
