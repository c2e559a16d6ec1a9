"""The archive: production goes into Parquet hour by hour and comes back row by row, each row once, whatever is killed or lost on
the way; what is missing there is named. One PostgreSQL and the commands; the drills do it with everything at work."""
from __future__ import annotations

import random
import subprocess
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import Lab, PostgresCluster, wait_until
from harness.archive import TIMED, Archive, LabArchive, fingerprint
from harness.paths import ROOT
from harness.s3stub import S3Stub

from test_parquet import Readers

MakeLab = Callable[..., Lab]
MakeCluster = Callable[..., PostgresCluster]

HOURS = 3
NOW = datetime.now(timezone.utc)
DAY = (NOW - timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
THESE = ("--streams", ",".join(TIMED))
SPAN = ("--since", (DAY - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M"), "--until",
        (DAY + timedelta(hours=HOURS + 1)).strftime("%Y-%m-%dT%H:%M"), *THESE)

FILL = {  # rows of three hours, from `first` on, `step` apart
    "trades": "INSERT INTO trades SELECT md5('t' || {salt} || i)::uuid, {at}, {at} + interval '9 ms', 'KX-' || i % 7, "
              "i % 99 * 10000, i * 3 - 50, CASE WHEN i % 5 > 0 THEN (ARRAY['yes', 'no'])[i % 2 + 1] END, i % 3 = 0",
    "orderbook_deltas": "INSERT INTO orderbook_deltas SELECT 'KX-' || i % 7, {at}, (ARRAY['yes', 'no'])[i % 2 + 1], "
                        "i % 99 * 10000, 100 - i, i % 2, {at} + interval '9 ms'",
    "tickers": "INSERT INTO tickers SELECT 'KX-' || i % 7, {at}, nullif(i % 4, 0) * 10000, 10000, 20000, i, i, i, i, i, i, i, "
               "{at} + interval '9 ms'",
}


def _fill(production: PostgresCluster, rows: int, salt: int = 0) -> None:
    step = HOURS * 3600 * 1_000_000 // rows
    at = f"timestamptz '{DAY.isoformat()}' + i::int8 * {step} * interval '1 microsecond' + {salt} * interval '1 us'"
    for text in FILL.values():
        production.execute(f"{text.format(at=at, salt=salt)} FROM generate_series(0, {rows - 1}) i")


AT_ONCE = {"TIDEMILL_ARCHIVE_LAG": "0s", "TIDEMILL_ARCHIVE_WAIT": "0s"}


@pytest.fixture(name="archive")
def _archive(make_cluster: MakeCluster, directory: Path) -> Archive:
    """Production with some rows of three hours, two days ago."""
    production = make_cluster("production", "kalshi")
    archive = Archive(directory, production, AT_ONCE)
    migrated = archive.run("migrate", "SCRIPT")
    assert migrated.returncode == 0, migrated.stderr
    for stream in ("orderbook_deltas", "tickers"):
        production.execute(f"CREATE TABLE IF NOT EXISTS {stream}_p{DAY:%Y%m%d} PARTITION OF {stream} FOR VALUES FROM "
                           f"('{DAY.isoformat()}') TO ('{(DAY + timedelta(days=1)).isoformat()}')")
    _fill(production, 3000)
    return archive


def _run(archive: Archive) -> dict[str, Any]:
    return archive.ask("archive", "run", "SCRIPT", *THESE)


def _rows(archive: Archive) -> int:
    return sum(archive.production.value(f"SELECT count(*) FROM {stream}") for stream in TIMED)


def _archived(archive: Archive) -> int:
    return sum(manifest.rows for manifest in archive.manifests() if manifest.stream in TIMED)


def _objects(archive: Archive) -> list[Path]:
    return sorted(archive.directory.glob("raw/**/*.parquet"))


def _restore(archive: Archive, database: str, *more: str, status: int = 0) -> dict[str, Any]:
    if not archive.production.query("SELECT 1 FROM pg_database WHERE datname = %s", (database,)):
        archive.production.execute(f"CREATE DATABASE {database}")
    return archive.ask("restore", "SCRIPT", *SPAN, *more, status=status, production=archive.production.conninfo(database))


def _is_equal(archive: Archive, database: str) -> None:
    for stream in TIMED:
        assert fingerprint(archive.production, stream, database=database) == fingerprint(archive.production, stream), stream


SUMS = {  # what somebody may ask of both, in DuckDB's words and in production's
    "trades": ("count(*), sum(price), sum(count), count(DISTINCT trade_id), max(epoch_us(exchange_ts))",
               "count(*), sum(price) * 0.000001, sum(count) * 0.01, count(DISTINCT trade_id), "
               "max((extract(epoch FROM exchange_ts) * 1000000)::int8)"),
    "orderbook_deltas": ("count(*), sum(price), sum(delta), count(DISTINCT ticker), sum(occurrence)",
                         "count(*), sum(price) * 0.000001, sum(delta) * 0.01, count(DISTINCT ticker), sum(occurrence)"),
    "tickers": ("count(*), sum(yes_bid), sum(volume), count(price), min(epoch_us(exchange_ts))",
                "count(*), sum(yes_bid) * 0.000001, sum(volume) * 0.01, count(price), "
                "min((extract(epoch FROM exchange_ts) * 1000000)::int8)"),
}


def _numbers(row: Any) -> list[Decimal]:
    return [Decimal(str(value)) for value in row]


def _is_read_by_duckdb(archive: Archive) -> None:
    """Counts and sums of each stream are those of production's SQL."""
    readers = Readers()
    for stream, (theirs, ours) in SUMS.items():
        rows, = readers.ask({"sql": f"SELECT {theirs} FROM read_parquet('{archive.directory}/raw/{stream}/**/*.parquet')"})
        assert _numbers(rows[0]) == _numbers(archive.production.query(f"SELECT {ours} FROM {stream}")[0]), stream
    assert readers.process.stdin
    readers.process.stdin.close()
    assert readers.process.wait(20) == 0


def test_each_row_goes_out_once_and_comes_back(archive: Archive) -> None:
    first = _run(archive)
    assert first["rows"] == _archived(archive) == _rows(archive) > 0
    assert first["objects"] == len(_objects(archive)) == HOURS * len(TIMED)
    assert _run(archive)["rows"] == 0
    _is_read_by_duckdb(archive)
    # late rows, of which the merge tells: a part of their own, and nothing twice
    _fill(archive.production, 100, salt=1)
    hours = [(DAY + timedelta(hours=hour)).isoformat() for hour in range(HOURS)]
    for stream in TIMED:
        archive.production.query("SELECT tidemill.note_late(%s, %s::timestamptz[])", (stream, hours))
    time.sleep(2.1)  # the shortest time for which an hour must be quiet
    late = _run(archive)
    assert late["rows"] == 100 * len(TIMED), late
    assert _archived(archive) == _rows(archive)
    assert {int(one.text["part"]) for one in archive.manifests() if one.rows} == {0, 1}
    _is_read_by_duckdb(archive)
    # into an empty database, twice
    dry = _restore(archive, "copy", "--dry-run")
    assert dry["rows"] == _rows(archive) and dry["stored"] == 0, dry
    done = _restore(archive, "copy")
    assert done["stored"] == done["rows"] == _rows(archive), done
    _is_equal(archive, "copy")
    again = _restore(archive, "copy")
    assert again["stored"] == 0 and again["duplicate"] == again["rows"], again
    _restores_beside_a_gatherers_rows(archive)


def _restores_beside_a_gatherers_rows(archive: Archive) -> None:
    """Into a schema that no poller reads, marked, once."""
    archive.production.execute("CREATE DATABASE store")
    store = archive.production.conninfo("store")
    script = str(ROOT / "lua/kalshi/gatherer.lua")
    for stored in (_rows(archive), 0):
        done = archive.ask("restore", script, *SPAN, production=store)
        assert done["stored"] == stored and done["duplicate"] == _rows(archive) - stored, done
    for stream in TIMED:
        rows = archive.production.query(f"SELECT count(*), min(origin), max(origin) FROM restored.{stream}", database="store")
        assert rows == [(archive.production.value(f"SELECT count(*) FROM {stream}"), "archive", "archive")]
        assert archive.production.query(f"SELECT count(*) FROM {stream}", database="store") == [(0,)], "a poller would read it"


def test_the_same_to_s3_which_fails_now_and_then(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that are refused, cut off or answered late; a kill in mid-export; an object that is damaged there."""
    with S3Stub() as stub:
        key_id, (secret, _) = next(iter(stub.keys.items()))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        remote = Archive(archive.directory, archive.production, {**AT_ONCE, "TIDEMILL_ARCHIVE": stub.url("kalshi")})
        with subprocess.Popen(remote.words("archive", "run", "SCRIPT", *THESE), env=remote.environment, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            wait_until("an object is there", lambda: stub.count("put"), 30)
            process.kill()
        for kind, operation in (("500", "put"), ("slowdown", "head"), ("cut", "put"), ("truncate", "get")):
            stub.fault(kind, operation)
        done = remote.run("archive", "run", "SCRIPT", *THESE)
        assert done.returncode == 0 and secret not in done.stdout + done.stderr, done.stderr
        rows = archive.production.query("SELECT stream, sum(archived_rows)::int8 FROM tidemill.exports GROUP BY 1")
        assert {stream: count for stream, count in rows if stream in TIMED} == {
            stream: archive.production.value(f"SELECT count(*) FROM {stream}") for stream in TIMED}
        assert remote.ask("archive", "verify", "SCRIPT", "--deep", *THESE)["gaps"] == []
        assert not archive.directory.exists() and all(name.startswith("kalshi/") for name in stub.objects)
        restored = _restore(remote, "copy")
        assert restored["stored"] == restored["rows"] == _rows(archive), restored
        _is_equal(archive, "copy")
        name = next(name for name in sorted(stub.objects) if "/trades/" in name and name.endswith(".parquet"))
        body = stub.objects[name].body
        stub.objects[name].body = b"x".join(body.rsplit(b"m", 1))  # of "tidemill", who wrote it: only the hash tells
        gaps = remote.ask("archive", "verify", "SCRIPT", "--deep", *THESE, status=1)["gaps"]
        assert [f"kalshi/{gap['object']}" for gap in gaps] == [name]
        assert not stub.refused, stub.refused


def test_kills_and_lost_cursors_write_nothing_twice(archive: Archive) -> None:
    chance = random.Random(5)
    for _ in range(8):
        with subprocess.Popen(archive.words("archive", "run", "SCRIPT"), env=archive.environment, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0.05, 0.5))
            process.kill()
    _run(archive)
    assert _archived(archive) == _rows(archive)
    before = _objects(archive)
    one = next(manifest for manifest in archive.manifests() if manifest.stream == "trades" and manifest.rows)
    one.path.unlink()  # as a kill between the object and its manifest leaves it
    archive.production.execute("TRUNCATE tidemill.exports, tidemill.export_cursors, tidemill.export_late")  # an earlier moment
    assert _run(archive)["rows"] == 0
    assert _objects(archive) == before and _archived(archive) == _rows(archive) and one.path.exists()
    deep = archive.ask("archive", "verify", "SCRIPT", "--deep")
    assert deep["gaps"] == []


def test_what_is_missing_has_a_name_and_the_rest_comes_back(archive: Archive) -> None:
    _run(archive)
    objects = [manifest for manifest in archive.manifests() if manifest.stream == "orderbook_deltas" and manifest.rows]
    damaged, lost = objects[0], objects[-1]
    archive.flip(damaged)
    archive.hide(lost)
    named = sorted(str(one.text["object"]) for one in (damaged, lost))
    deep = archive.ask("archive", "verify", "SCRIPT", "--deep", status=1)
    assert sorted(gap["object"] for gap in deep["gaps"]) == named
    shallow = archive.ask("archive", "verify", "SCRIPT", status=1)
    assert [gap["object"] for gap in shallow["gaps"]] == [lost.text["object"]], "a look without --deep reads no object"
    done = _restore(archive, "rest", status=1)
    assert sorted(gap["object"] for gap in done["gaps"]) == named
    assert done["stored"] == _rows(archive) - damaged.rows - lost.rows
    lines = archive.production.query("SELECT sum(rows)::int8, count(*) FROM tidemill.absent WHERE reason = 'archive'",
                                     database="rest")
    assert lines == [(damaged.rows + lost.rows, 2)]
    # a whole hour is not there at all: the time between two others has a name
    middle = objects[1]
    aside = middle.path.rename(middle.path.with_suffix(".aside"))
    hole = archive.ask("archive", "verify", "SCRIPT", "--streams", "orderbook_deltas", status=1)
    assert (middle.text["from"], middle.text["to"]) in [(gap["from"], gap["to"]) for gap in hole["gaps"]]
    aside.rename(middle.path)
    archive.show(lost)
    archive.flip(damaged)
    whole = _restore(archive, "rest")
    assert whole["stored"] == damaged.rows + lost.rows
    assert archive.production.query("SELECT count(*) FROM tidemill.absent", database="rest") == [(0,)]
    _is_equal(archive, "rest")


@pytest.mark.slow
def test_a_deduplicator_exports_while_it_is_killed(make_lab: MakeLab) -> None:
    start = datetime.now(timezone.utc).replace(minute=59, second=58, microsecond=0) - timedelta(hours=4)
    lab = make_lab(gatherers=1, exchange={"seed": 11, "markets": 30, "rate": 3000, "seconds": 12,
                                          "start-time": start.strftime("%Y-%m-%dT%H:%M:%SZ")})
    archive = LabArchive(lab, TIDEMILL_ARCHIVE_LAG="0s")
    archive.give()
    lab.start()
    for events in (2000, 5000):
        lab.wait_emitted(events)
        lab.deduplicator.process.kill()
        lab.deduplicator.start()
    wait_until("something is in the archive, so that rows come late", lambda: list(archive.manifests()), 30)
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    archive.wait_whole()
    assert _archived(archive) == _rows(archive)
    assert {int(manifest.text["part"]) for manifest in archive.manifests()} > {0}, "nothing came late, so this proves little"
    assert lab.deduplicator.metrics().sum("export_rows_total") > 0
