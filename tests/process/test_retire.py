"""`tidemill retire`: what it refuses, what it writes down, on stores that SQL has filled."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from harness import PostgresCluster
from harness.paths import NO_EXCHANGE, ROOT, program

GATHERER = ROOT / "lua/kalshi/gatherer.lua"
DEDUPLICATOR = ROOT / "lua/kalshi/deduplicator.lua"
EPOCH = "01000000-0000-0000-0000-00000000000{}"


class Fleet:
    """Production, and one store that is g1; g2 is not there; g3 is not in the script."""

    def __init__(self, store: PostgresCluster, production: PostgresCluster, directory: Path) -> None:
        self.store, self.production = store, production
        self.env = {**os.environ, **NO_EXCHANGE, "TIDEMILL_STORE": store.conninfo(),
                    "TIDEMILL_DATA": str(directory / "journal"),
                    "TIDEMILL_PRODUCTION": production.conninfo(),
                    "TIDEMILL_GATHERERS": f"g1={store.conninfo()};g2=host=/nonexistent dbname=none"}
        for script in (GATHERER, DEDUPLICATOR):
            done = self.run("migrate", script)
            assert done.returncode == 0, done.stderr
        store.execute(f"INSERT INTO tidemill.epochs (epoch, gatherer) VALUES ('{EPOCH.format(1)}', 'g1');"
                      " INSERT INTO tidemill.streams (epoch_no, stream, seq, hash) VALUES (1, 'trades', 500, 7),"
                      " (1, 'tickers', 90, 8)")
        for number in (1, 2, 3):
            production.execute(
                "INSERT INTO tidemill.cursors (gatherer, epoch, stream, seq, hash, updated_at) SELECT"
                f" 'g{number}', '{EPOCH.format(number)}', s, q, 1, '2026-01-01' FROM (VALUES ('trades', 400),"
                " ('tickers', 90)) v (s, q)")

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """The program itself."""
        return subprocess.run([str(program("tidemill")), *map(str, arguments)], capture_output=True, text=True, timeout=60,
                              env=self.env, check=False)

    def retired(self) -> list[str]:
        """Gatherers of which production knows a retired epoch."""
        return [row[0] for row in self.production.query(
            "SELECT DISTINCT gatherer FROM tidemill.gatherers WHERE state = 'retired' ORDER BY 1")]

    def gaps(self) -> list[tuple[object, ...]]:
        """What production says is lost."""
        return self.production.query("SELECT gatherer, epoch::text, stream, first_seq, last_seq, from_ts::date::text,"
                                     " reason FROM gaps ORDER BY stream")


@pytest.fixture(name="fleet")
def _fleet(make_cluster: Callable[..., PostgresCluster], directory: Path) -> Fleet:
    return Fleet(make_cluster("store"), make_cluster("production", "kalshi"), directory)


def test_a_gatherer_is_retired(fleet: Fleet) -> None:
    # rows that are not merged yet
    refused = fleet.run("retire", DEDUPLICATOR, "g1")
    assert refused.returncode == 1
    assert "100 rows are not in production (seq 401 to 500)" in refused.stderr and "tickers" not in refused.stderr
    assert not fleet.retired() and not fleet.gaps()
    # what it has is not known
    for name, why in (("g2", "cannot connect"), ("g3", "the script does not name it")):
        refused = fleet.run("retire", DEDUPLICATOR, name)
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr
    assert not fleet.retired() and not fleet.gaps()
    # forced: the loss is written down, and nothing else
    forced = fleet.run("retire", DEDUPLICATOR, "g1", "--force")
    assert forced.returncode == 0, forced.stderr
    assert fleet.retired() == ["g1"]
    assert fleet.gaps() == [("g1", EPOCH.format(1), "trades", 401, 500, "2026-01-01", "retired")]
    forced = fleet.run("retire", "--force", DEDUPLICATOR, "g3")
    assert forced.returncode == 0, forced.stderr
    assert [gap[2:5] for gap in fleet.gaps() if gap[0] == "g3"] == [("tickers", 91, None), ("trades", 401, None)]
    # a second time there is nothing to retire
    again = fleet.run("retire", DEDUPLICATOR, "g1", "--force")
    assert again.returncode == 1 and "no epoch" in again.stderr
    assert len(fleet.gaps()) == 3


def test_whole_it_needs_no_force(fleet: Fleet) -> None:
    fleet.production.execute("UPDATE tidemill.cursors SET seq = 500 WHERE gatherer = 'g1' AND stream = 'trades'")
    done = fleet.run("retire", DEDUPLICATOR, "g1")
    assert done.returncode == 0, done.stderr
    assert fleet.retired() == ["g1"] and not fleet.gaps()


def test_misuse(fleet: Fleet) -> None:
    assert fleet.run("retire", DEDUPLICATOR).returncode == 2
    wrong = fleet.run("retire", GATHERER, "g1")
    assert wrong.returncode == 1 and "deduplicator's script" in wrong.stderr
    unknown = fleet.run("retire", DEDUPLICATOR, "g9", "--force")
    assert unknown.returncode == 1 and "g9 has no epoch" in unknown.stderr
