"""B3, B4a, B5: outages that are longer than any buffer. What was archived comes back, and what is missing has a name."""
from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from ..archive import TIMED, Archive, LabArchive, Manifest, fingerprint
from ..lab import Lab
from ..waiting import wait_until
from .catalogue import absent, deduplicator_away, drill
from .run import Run

RATE = 2000
DAYS = 40
COPY = "copy"


def _ago(**span: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _give_deduplicator(lab: Lab) -> None:
    LabArchive(lab, TIDEMILL_ARCHIVE_LAG="0s").give()


FORTY = {"TIDEMILL_ARCHIVE_LAG": "0s", "TIDEMILL_ARCHIVE_EVERY": "day", "TIDEMILL_RETAIN_TICKERS": "365d",
         "TIDEMILL_RETAIN_DELTAS": "365d"}  # of the processes and of the commands


def _give_days(lab: Lab) -> None:
    LabArchive(lab, **FORTY).give()


def _give_all(lab: Lab) -> None:
    LabArchive(lab, TIDEMILL_ARCHIVE_LAG="0s", TIDEMILL_ARCHIVE_APPROVE="no").give(gatherers=True)


def _restores_twice(run: Run, archive: Archive, *span: str) -> None:
    """Into an empty database: equal to production row by row, and a second time changes nothing."""
    run.lab.production.execute(f"CREATE DATABASE {COPY}")
    conninfo = run.lab.production.conninfo(COPY)
    first = archive.ask("restore", "SCRIPT", *span, "--streams", ",".join(TIMED), production=conninfo)
    again = archive.ask("restore", "SCRIPT", *span, "--streams", ",".join(TIMED), production=conninfo)
    run.expect(first["stored"] == first["rows"] > 0, f"restored into an empty database: {first}")
    run.expect(again["stored"] == 0 and again["duplicate"] == again["rows"], f"the second restore: {again}")
    for stream in TIMED:
        restored, own = fingerprint(run.lab.production, stream, database=COPY), fingerprint(run.lab.production, stream)
        run.expect(restored == own, f"{stream}: restored are {restored}, production has {own}")


# ---- B3 ----


@drill("B3", "the deduplicator is away for days, within retention", "complete; nothing expired; archived exactly once",
       lab={"gatherers": 1, "gatherer_env": {"TIDEMILL_KEEP": "1s", "TIDEMILL_PARTITION_ROWS": "1000"}},
       exchange={"start-time": _ago(days=6)}, prepare=_give_deduplicator)
def away_within_retention(run: Run) -> None:
    archive, store = LabArchive(run.lab), run.lab.stores["g1"]

    def acknowledged() -> int:
        return int(store.value("SELECT coalesce(max(seq), 0) FROM tidemill.acknowledged WHERE stream = 'orderbook_deltas'"))

    wait_until("some partitions may go", lambda: acknowledged() > RATE, 30)
    deduplicator_away(run)
    first_kept = acknowledged() // 1000 * 1000 + 1
    wait_until("what was acknowledged has gone",
               lambda: store.value("SELECT min(seq) FROM orderbook_deltas") == first_kept, 60)
    run.mend_it(run.lab.deduplicator.process.start)
    run.recovered()
    run.lab.drain()
    run.expect(absent(run, "released") > 0, "nothing was released, so this proves nothing")
    run.expect(absent(run, "expired") == 0, "rows were expired although there was room")
    archive.wait_whole()
    _restores_twice(run, archive, "--since", _ago(days=8), "--until", _ago(days=4))


# ---- B4 with an archive ----


@drill("B4a", "the same, and the gatherer has an archive", "every row comes back; what is damaged there is a named gap",
       lab={"gatherers": 1,
            "gatherer_env": {"TIDEMILL_STORE_LIMIT": "16MiB", "TIDEMILL_PARTITION_ROWS": "1000"},
            "expected_errors": ("rows were expired", "nothing in it may go", "tidemill.absent says why", "cannot be restored")},
       exchange={"rate": 2 * RATE, "seconds": 12}, prepare=_give_all)
def away_with_an_archive(run: Run) -> None:
    archive, gatherer, store = LabArchive(run.lab), run.lab.gatherers["g1"], run.lab.stores["g1"]
    cursors = deduplicator_away(run)
    wait_until("the store is within its bound, and what was announced has gone",
               lambda: gatherer.metrics().sum("tidemill_store_pressure") == 0 and store.value(
                   "SELECT (SELECT count(*) FROM gaps WHERE reason = 'expired')"
                   " = (SELECT count(*) FROM tidemill.absent WHERE reason = 'expired')"), 60, gatherer.process.log_tail)
    lines = store.query("SELECT rows, detail FROM tidemill.absent WHERE reason = 'expired'")
    run.expect(len(lines) >= 3, f"only {len(lines)} partitions were expired, so this proves little")
    run.expect(all(detail and detail.startswith("archived: ") for _, detail in lines), f"not archived: {lines}")
    # of what was archived first production may have some; the last has to come back
    left_out = [one for one in archive.manifests("unsynced") if one.stream == "orderbook_deltas" and
                f"archived: {one.path.relative_to(archive.directory)}" in [detail for _, detail in lines]][-2:]
    archive.flip(left_out[0])
    archive.hide(left_out[1])
    run.mend_it(run.lab.deduplicator.process.start)
    run.recovered()
    run.lab.drain()
    stepped = run.lab.production.value("SELECT count(DISTINCT detail) FROM tidemill.absent WHERE detail LIKE 'archived: %'")
    _wait_asked(run, "failed", 2)
    _wait_asked(run, "done", stepped - 2)
    named = run.lab.production.value("SELECT coalesce(sum(rows), 0)::int8 FROM tidemill.absent WHERE reason = 'archive'")
    run.expect(named == sum(one.rows for one in left_out), f"{named} rows have a named gap, {left_out}")
    missing = run.lab.verify().figures().missing
    run.expect(0 < missing <= named, f"{missing} rows are missing, {named} have a name")
    run.figures.more["rows_restored"] = int(run.lab.production.value("SELECT sum(stored)::int8 FROM tidemill.restores"))
    archive.flip(left_out[0])
    archive.show(left_out[1])
    run.lab.production.execute("UPDATE tidemill.restores SET state = 'wanted' WHERE state = 'failed'")
    _wait_asked(run, "done", stepped)
    left = run.lab.production.value("SELECT count(*) FROM tidemill.absent WHERE reason IN ('archive', 'expired')")
    run.expect(left == 0, f"{left} gaps have a name although all is there")
    run.expect(len(cursors) > 0, "the deduplicator had merged nothing before")


def _wait_asked(run: Run, state: str, count: int) -> None:
    """The routine of the deduplicator asks, and the engine answers."""
    wait_until(f"{count} manifests are {state}", lambda: run.lab.production.value(
        "SELECT count(*) FROM tidemill.restores WHERE state = %s", (state,)) == count, 90,
               lambda: str(run.lab.production.query("SELECT state, count(*) FROM tidemill.restores GROUP BY 1"))
               + run.lab.deduplicator.process.log_tail())


# ---- B5 ----

_BEFORE = "exchange_ts - d * interval '1 day' AS exchange_ts, received_at - d * interval '1 day' AS received_at"
_SPREAD = {  # what comes by the exchange's time, as it was on each of the days before
    "trades": "md5(trade_id::text || d)::uuid AS trade_id, ticker, price, count, taker_side, is_block_trade",
    "orderbook_deltas": "ticker, side, price, delta, occurrence",
    "tickers": "ticker, price, yes_bid, yes_ask, yes_bid_size, yes_ask_size, last_trade_size, volume, open_interest, "
               "dollar_volume, dollar_open_interest",
}


def _spread(run: Run) -> str:
    """Forty days of rows, of what a few seconds brought; returns the moment before which they lie."""
    production = run.lab.production
    cut = production.value("SELECT to_char(date_trunc('day', min(exchange_ts), 'UTC') AT TIME ZONE 'UTC', "
                           "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM orderbook_deltas")
    for stream, columns in _SPREAD.items():
        if stream != "trades":
            production.execute(
                "DO $$ DECLARE d date; BEGIN FOR n IN -1.." + str(DAYS) + " LOOP d := (timestamptz '" + cut + "' AT TIME ZONE "
                "'UTC')::date - n; IF to_regclass('" + stream + "_p' || to_char(d, 'YYYYMMDD')) IS NULL THEN EXECUTE "
                "format('CREATE TABLE %I PARTITION OF " + stream + " FOR VALUES FROM (%L) TO (%L)', '" + stream + "_p' || "
                "to_char(d, 'YYYYMMDD'), d::text || ' 00:00:00+00', (d + 1)::text || ' 00:00:00+00'); END IF; END LOOP; END $$")
        production.execute("CREATE SCHEMA IF NOT EXISTS forty")
        production.execute(f"CREATE TABLE forty.{stream} AS SELECT {columns}, {_BEFORE} FROM {stream}, "
                           f"generate_series(1, {DAYS}) d")
        names = ", ".join(name for name, in production.query(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND table_schema = 'forty'", (stream,)))
        production.execute(f"INSERT INTO {stream} ({names}) SELECT {names} FROM forty.{stream}")
        production.execute(f"DROP TABLE forty.{stream}")
        production.execute(f"CREATE TABLE forty.{stream} AS SELECT * FROM {stream} WHERE {TIMED[stream]} < '{cut}'")
    return str(cut)


def _differences(run: Run, stream: str, cut: str) -> tuple[int, int]:
    """Rows of the forty days that production has not, and that it has too many."""
    own = f"SELECT * FROM {stream} WHERE {TIMED[stream]} < '{cut}'"
    return tuple(run.lab.production.value(f"SELECT count(*) FROM ({a} EXCEPT ALL {b}) x") for a, b in (
        (f"SELECT * FROM forty.{stream}", own), (own, f"SELECT * FROM forty.{stream}")))  # type: ignore[return-value]


def _only_in(run: Run, manifest: Manifest, cut: str) -> bool:
    """Is all that is missing of its stream within its period?"""
    column = TIMED[manifest.stream]
    outside = run.lab.production.value(
        f"SELECT count(*) FROM (SELECT * FROM forty.{manifest.stream} EXCEPT ALL SELECT * FROM {manifest.stream} WHERE {column} "
        f"< '{cut}') x WHERE {column} < %s OR {column} >= %s", (manifest.moment("from"), manifest.moment("to")))
    return int(outside) == 0


@drill("B5", "forty days are gone from production, and only the archive has them", "two named gaps, no other difference",
       lab={"gatherers": 2}, exchange={"seconds": 15, "rate": 1000}, prepare=_give_days)
def back_from_the_archive(run: Run) -> None:
    archive, lab = LabArchive(run.lab, **FORTY), run.lab
    run.run_for(8000)
    lab.exchange.finish()
    lab.drain()
    lab.deduplicator.process.stop()  # nothing is archived while the rows of forty days are made
    lab.production.execute("DELETE FROM tidemill.export_cursors")
    cut = _spread(run)
    lab.deduplicator.process.start()
    archive.wait_whole(_moment(cut), 300)
    rows = sum(one.rows for one in archive.manifests())
    damaged, lost = (next(one for one in archive.manifests() if one.stream == stream and one.rows > 10)
                     for stream in ("orderbook_deltas", "trades"))
    run.break_it(lambda: [lab.production.execute(f"DELETE FROM {stream} WHERE {TIMED[stream]} < '{cut}'") for stream in TIMED])
    archive.flip(damaged)
    archive.hide(lost)
    span = ("--since", _ago(days=DAYS + 2), "--until", cut, "--streams", ",".join(TIMED))
    began = time.monotonic()
    run.mend_it()
    result = archive.ask("restore", "SCRIPT", *span, status=1)
    took = time.monotonic() - began
    run.figures.more.update(restore_mb_per_s=round(result["bytes"] / took / 1e6, 2), restore_rows_per_s=round(rows / took))
    _judge_gaps(run, result["gaps"], {damaged.stream: damaged, lost.stream: lost}, cut)
    before = {stream: fingerprint(lab.production, stream) for stream in TIMED}
    again = archive.ask("restore", "SCRIPT", *span, status=1)
    run.expect(again["stored"] == 0 and before == {stream: fingerprint(lab.production, stream) for stream in TIMED},
               f"the second restore changed something: {again}")
    archive.flip(damaged)
    archive.show(lost)
    whole = archive.ask("restore", "SCRIPT", *span)
    run.expect(whole["stored"] == damaged.rows + lost.rows, f"with the objects mended: {whole}")
    for stream in TIMED:
        run.expect(_differences(run, stream, cut) == (0, 0), f"{stream}: differs although all is there")
    archive.wait_whole(_moment(cut), 120)  # what came back is looked at, and nothing of it is archived twice
    run.expect(sum(one.rows for one in archive.manifests()) == rows, "rows that came back were archived once more")
    for stream in TIMED:
        lab.production.execute(f"DELETE FROM {stream} WHERE {TIMED[stream]} < '{cut}'")


def _judge_gaps(run: Run, gaps: list[dict[str, object]], expected: dict[str, Manifest], cut: str) -> None:
    run.expect(sorted(str(gap["object"]) for gap in gaps) == sorted(str(one.text["object"]) for one in expected.values()),
               f"expected two named gaps, got {gaps}")
    for stream in TIMED:
        missing, extra = _differences(run, stream, cut)
        one = expected.get(stream)
        run.expect(missing == (one.rows if one else 0), f"{stream}: {missing} rows are missing, {one.rows if one else 0} have a name")
        run.expect(extra == 0, f"{stream}: {extra} rows were invented")
        run.expect(one is None or _only_in(run, one, cut), f"{stream}: rows are missing outside of the named gap")
    named = run.lab.production.value("SELECT count(*) FROM tidemill.absent WHERE reason = 'archive'")
    run.expect(named == len(expected), f"{named} gaps have a name in tidemill.absent")
