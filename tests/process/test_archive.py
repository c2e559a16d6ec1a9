"""The archive: production goes into Parquet hour by hour and comes back row by row, each row once, whatever is killed or lost on
the way; what is missing there is named."""
from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Callable

from harness import Lab
from harness.archive import TIMED, Archive, fingerprint

from test_parquet import Readers

MakeLab = Callable[..., Lab]


def _hours_ago(hours: int) -> datetime:
    """Shortly before the end of an hour, so that the events go on into the next one."""
    return datetime.now(timezone.utc).replace(minute=59, second=58, microsecond=0) - timedelta(hours=hours + 1)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _rows(lab: Lab) -> int:
    return sum(lab.production.value(f"SELECT count(*) FROM {stream}") for stream in TIMED)


def _archived(archive: Archive) -> int:
    return sum(manifest.rows for manifest in archive.manifests() if manifest.stream in TIMED)


def _goes_out_once(lab: Lab, archive: Archive) -> None:
    """Under load, with rows of hours that are in the archive already, and a deduplicator that is killed meanwhile."""
    lab.start()
    for events in (2000, 5000):
        lab.wait_emitted(events)
        lab.deduplicator.process.kill()
        lab.deduplicator.start()
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    archive.wait_whole()
    assert _archived(archive) == _rows(lab)
    parts = {int(manifest.text["part"]) for manifest in archive.manifests()}
    assert parts > {0}, "nothing came late, so this proves little"
    hours = {manifest.text["from"] for manifest in archive.manifests() if manifest.stream == "orderbook_deltas"}
    assert len(hours) >= 2, hours
    metrics = lab.deduplicator.metrics()
    assert metrics.sum("export_rows_total") > 0 and metrics.sum("export_errors_total") == 0


def _comes_back(lab: Lab, archive: Archive, span: tuple[str, ...]) -> None:
    """Into an empty database, twice."""
    lab.production.execute("CREATE DATABASE copy")
    copy = lab.production.conninfo("copy")
    dry = archive.ask("restore", "SCRIPT", *span, "--dry-run", production=copy)
    assert dry["rows"] == _rows(lab) and dry["stored"] == 0, dry
    assert lab.production.value("SELECT count(*) FROM tidemill.restored") == 0
    first = archive.ask("restore", "SCRIPT", *span, production=copy)
    assert first["stored"] == first["rows"] == _rows(lab), first
    for stream in TIMED:
        assert fingerprint(lab, stream, database="copy") == fingerprint(lab, stream), stream
    again = archive.ask("restore", "SCRIPT", *span, production=copy)
    assert again["stored"] == 0 and again["duplicate"] == again["rows"], again


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


def _is_read_by_duckdb(lab: Lab, archive: Archive) -> None:
    """Counts and sums of each stream are those of production's SQL."""
    readers = Readers()
    for stream, (theirs, ours) in SUMS.items():
        rows, = readers.ask({"sql": f"SELECT {theirs} FROM read_parquet('{archive.directory}/raw/{stream}/**/*.parquet')"})
        assert _numbers(rows[0]) == _numbers(lab.production.query(f"SELECT {ours} FROM {stream}")[0]), stream
    assert readers.process.stdin
    readers.process.stdin.close()
    assert readers.process.wait(20) == 0


def _is_found_again(lab: Lab, archive: Archive) -> None:
    """Production does not know any more what is archived, and a manifest was not written: nothing is written twice."""
    before = sorted(archive.directory.glob("raw/**/*.parquet"))
    rows = _archived(archive)
    lab.deduplicator.process.stop()
    one = next(manifest for manifest in archive.manifests() if manifest.stream == "trades" and manifest.rows)
    one.path.unlink()
    lab.production.execute("TRUNCATE tidemill.exports, tidemill.export_cursors, tidemill.export_late")
    lab.deduplicator.start()
    archive.wait_whole()
    assert sorted(archive.directory.glob("raw/**/*.parquet")) == before and _archived(archive) == rows
    assert one.path.exists()


def _names_what_is_missing(lab: Lab, archive: Archive, span: tuple[str, ...]) -> None:
    """One object is damaged, one is gone: two gaps, and the rest comes back."""
    objects = [manifest for manifest in archive.manifests() if manifest.stream == "orderbook_deltas" and manifest.rows > 10]
    damaged, lost = objects[0], objects[-1]
    assert damaged.path != lost.path
    archive.flip(damaged)
    archive.hide(lost)
    named = sorted(str(one.text["object"]) for one in (damaged, lost))
    deep = archive.ask("archive", "verify", "SCRIPT", "--deep", status=1)
    assert sorted(gap["object"] for gap in deep["gaps"]) == named
    shallow = archive.ask("archive", "verify", "SCRIPT", status=1)
    assert [gap["object"] for gap in shallow["gaps"]] == [lost.text["object"]], "a look without --deep reads no object"
    lab.production.execute("CREATE DATABASE rest")
    rest = lab.production.conninfo("rest")
    done = archive.ask("restore", "SCRIPT", *span, status=1, production=rest)
    assert sorted(gap["object"] for gap in done["gaps"]) == named
    assert done["stored"] == _rows(lab) - damaged.rows - lost.rows
    lines = lab.production.query("SELECT sum(rows)::int8, count(*) FROM tidemill.absent WHERE reason = 'archive'", database="rest")
    assert lines == [(damaged.rows + lost.rows, 2)]
    archive.show(lost)
    archive.flip(damaged)
    whole = archive.ask("restore", "SCRIPT", *span, production=rest)
    assert whole["stored"] == damaged.rows + lost.rows
    assert lab.production.query("SELECT count(*) FROM tidemill.absent", database="rest") == [(0,)]
    for stream in TIMED:
        assert fingerprint(lab, stream, database="rest") == fingerprint(lab, stream), stream


def test_production_goes_out_once_and_comes_back(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 11, "markets": 30, "rate": 3000, "seconds": 4,
                                          "start-time": _text(_hours_ago(3))})
    archive = Archive(lab, TIDEMILL_ARCHIVE_LAG="0s")
    archive.give()
    _goes_out_once(lab, archive)
    span = ("--since", _text(_hours_ago(5)), "--until", _text(datetime.now(timezone.utc)), "--streams", ",".join(TIMED))
    _is_read_by_duckdb(lab, archive)
    _comes_back(lab, archive, span)
    _is_found_again(lab, archive)
    _names_what_is_missing(lab, archive, span)
