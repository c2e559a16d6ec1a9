"""`tidemill restore-plan` and `tidemill rewind`, on stores that SQL has filled: two gatherers that each let some rows go."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import PostgresCluster
from harness.paths import NO_EXCHANGE, ROOT, program

GATHERER = ROOT / "lua/kalshi/gatherer.lua"
DEDUPLICATOR = ROOT / "lua/kalshi/deduplicator.lua"
EPOCH = "01000000-0000-0000-0000-00000000000{}"
MOMENT = "('2026-01-01 00:00:00Z'::timestamptz + {} * interval '1 s')"
GONE = {1: (201, 300), 2: (250, 350)}  # seqs; row n came in second n


class Database:
    """One of several in a cluster."""

    def __init__(self, cluster: PostgresCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        cluster.execute(f"CREATE DATABASE {name}")

    def conninfo(self) -> str:
        """For the program."""
        return self.cluster.conninfo(self.name)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of one statement."""
        return self.cluster.query(sql, database=self.name)


class Fleet:
    """Production was restored to second 150 of 500."""

    def __init__(self, cluster: PostgresCluster, directory: Path) -> None:
        self.production = Database(cluster, "kalshi")
        self.stores = {number: Database(cluster, f"store{number}") for number in (1, 2)}
        self.env = {**os.environ, **NO_EXCHANGE, "TIDEMILL_DATA": str(directory / "journal"),
                    "TIDEMILL_PRODUCTION": self.production.conninfo(), "TIDEMILL_GATHERERS": ";".join(
                        f"g{number}={store.conninfo()}" for number, store in self.stores.items())}
        self.run("migrate", DEDUPLICATOR)
        for number, store in self.stores.items():
            self.env["TIDEMILL_STORE"] = store.conninfo()
            self.run("migrate", GATHERER)
            self._fill(number, store)
        self.production.query("INSERT INTO tidemill.leases (shard, holder, token, released) VALUES (0, 'd', 't', false)")

    def _fill(self, number: int, store: Database) -> None:
        epoch, (first, last) = EPOCH.format(number), GONE[number]
        store.query(
            f"INSERT INTO tidemill.epochs (epoch, gatherer) VALUES ('{epoch}', 'g{number}');"
            "INSERT INTO tidemill.streams (epoch_no, stream, seq, hash) VALUES (1, 'trades', 500, 7);"
            "CREATE TABLE trades_e1_0 PARTITION OF trades FOR VALUES FROM (1, 1) TO (1, 4000001);"
            "INSERT INTO trades (epoch_no, trade_id, exchange_ts, received_at, ticker, price, count, sid, exchange_seq, seq)"
            f" SELECT 1, gen_random_uuid(), {MOMENT.format('n')}, {MOMENT.format('n')}, 'KX', 1, 1, 1, n, n"
            f" FROM generate_series(1, 500) n WHERE n NOT BETWEEN {first} AND {last};"
            "INSERT INTO tidemill.marks (epoch_no, stream, seq, hash, committed_at)"
            f" SELECT 1, 'trades', n, 1000 + n, {MOMENT.format('n')} FROM generate_series(100, 500, 100) n;"
            "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, reason)"
            f" VALUES ('g{number}', '{epoch}', 'trades', {first}, {last}, {last - first + 1}, 'released')")
        self.production.query(
            "INSERT INTO tidemill.cursors (gatherer, epoch, stream, seq, hash, updated_at)"
            f" VALUES ('g{number}', '{epoch}', 'trades', 150, 9, {MOMENT.format(150)})")

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """The program itself."""
        return subprocess.run([str(program("tidemill")), *map(str, arguments)], capture_output=True, text=True, timeout=60,
                              env=self.env, check=False)

    def cursors(self) -> list[tuple[object, ...]]:
        """Where production's cursors are."""
        return self.production.query("SELECT gatherer, seq, hash FROM tidemill.cursors ORDER BY 1")


@pytest.fixture(name="fleet")
def _fleet(make_cluster: Callable[..., PostgresCluster], directory: Path) -> Fleet:
    return Fleet(make_cluster("all", "postgres"), directory)


def _lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_plan_says_what_is_polled_again_and_what_nobody_holds(fleet: Fleet) -> None:
    done = fleet.run("restore-plan", DEDUPLICATOR, "--rate", "100")
    lines = _lines(done.stdout)
    assert ["g1", "trades", "151", "500", "250"] in [line[:5] for line in lines], done
    assert ["g2", "trades", "151", "500", "249"] in [line[:5] for line in lines], done
    assert "499 rows are polled again: about 5 s at 100 rows/s" in done.stdout
    # g1 misses what came after second 200 and before 301, g2 after 249 and before 351
    assert ["trades", "2026-01-01", "00:04:09", "to", "2026-01-01", "00:05:01"] in lines, done.stdout
    assert done.returncode == 1, "something is gone for good"
    fleet.stores[2].query("DELETE FROM tidemill.absent")
    whole = fleet.run("restore-plan", DEDUPLICATOR)
    assert whole.returncode == 0 and "no gatherer holds" not in whole.stdout, whole


def test_a_gatherer_that_is_away_holds_nothing(fleet: Fleet) -> None:
    fleet.env["TIDEMILL_GATHERERS"] += ";g3=host=/nonexistent dbname=none"
    done = fleet.run("restore-plan", DEDUPLICATOR)
    assert done.returncode == 1 and "what g3 holds is not known" in done.stderr, done
    refused = fleet.run("rewind", DEDUPLICATOR, "--to", "2026-01-01 00:02:00Z")
    assert refused.returncode == 1 and "refused" in refused.stderr, refused
    assert fleet.cursors() == [("g1", 150, 9), ("g2", 150, 9)]


def test_cursors_go_back_to_a_mark_and_never_forward(fleet: Fleet) -> None:
    dry = fleet.run("rewind", DEDUPLICATOR, "--to", "2026-01-01 00:02:00Z", "--dry-run")
    assert ["g1", "trades", "101", "500", "300"] in [line[:5] for line in _lines(dry.stdout)], dry
    assert fleet.cursors() == [("g1", 150, 9), ("g2", 150, 9)], "a dry run moved something"
    fleet.run("rewind", DEDUPLICATOR, "--to", "2026-01-01 00:05:00Z")
    assert fleet.cursors() == [("g1", 150, 9), ("g2", 150, 9)], "a cursor was moved to where it had not been"
    fleet.run("rewind", DEDUPLICATOR, "--to", "2026-01-01 00:02:00Z")
    assert fleet.cursors() == [("g1", 100, 1100), ("g2", 100, 1100)]
    told = fleet.production.query("SELECT released AND token <> 't' FROM tidemill.leases")
    assert told == [(True,)], "the holder was not told"
    fleet.run("rewind", DEDUPLICATOR, "--to", "2026-01-01 00:00:10Z")
    assert not fleet.cursors(), "from the beginning there is no cursor"


def test_what_is_no_moment_or_no_stream_is_refused(fleet: Fleet) -> None:
    for arguments, code, words in ((("--to", "yesterdy"), 1, "--to"), ((), 2, "--to TIME"),
                                   (("--to", "now", "--stream", "trade"), 1, "no stream trade")):
        done = fleet.run("rewind", DEDUPLICATOR, *arguments)
        assert done.returncode == code and words in done.stderr, done
    assert fleet.run("restore-plan", GATHERER).returncode == 78
