"""`tidemill journal` and `tidemill quarantine` on what real daemons leave behind; the exchange's ledger says what is right."""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Callable

from harness import Lab, wait_until
from harness.daemons import Daemon
from harness.paths import ROOT, program

MakeLab = Callable[..., Lab]


def _options(seconds: int, **more: object) -> dict[str, object]:
    return {"seed": 12, "markets": 20, "rate": 500, "seconds": seconds, **more}


def _tidemill(*arguments: Any, daemon: Daemon | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **daemon.env} if daemon else None
    return subprocess.run([program("tidemill"), *map(str, arguments)], capture_output=True, text=True, timeout=120, env=env,
                          check=False)


def _lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


# ---- journal ----


def _check(directory: Path) -> tuple[int, dict[str, Any]]:
    done = _tidemill("journal", "check", directory, "--json")
    assert done.stdout, done.stderr
    return done.returncode, _lines(done)[0]


def test_a_journal_is_checked_while_it_is_written_dumped_damaged_and_repaired(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange=_options(6),
                   expected_errors=("rows are missing in the journal", "damage stepped over", "tidemill.absent says why"))
    lab.start()
    gatherer, store = lab.gatherers["g1"], lab.stores["g1"]
    lab.wait_emitted(500)
    store.stop()  # from here on the journal keeps everything
    for _ in range(5):
        status, live = _check(gatherer.data)
        assert status == 0 and live["ok"] and not live["damage"], live
    refused = _tidemill("journal", "repair", gatherer.data)
    assert refused.returncode == 1 and "a process is using it" in refused.stderr
    lab.wait_emitted()
    gatherer.process.kill()

    status, found = _check(gatherer.data)
    assert status == 0 and found["ok"], found
    streams = {stream["stream"]: stream for stream in found["streams"]}
    deltas = streams["orderbook_deltas"]
    assert deltas["records"] == deltas["last"] - deltas["first"] + 1 > 500 and deltas["missing"] == 0

    script = ROOT / "lua/kalshi/gatherer.lua"
    dumped = _lines(_tidemill("journal", "dump", gatherer.data, "--json", "--stream", "trades", "--script", script,
                              daemon=gatherer))
    assert [row["seq"] for row in dumped] == list(range(streams["trades"]["first"], streams["trades"]["last"] + 1))
    sent = _sent_trades(lab)
    shown = {row["row"]["trade_id"]: row["row"]["ticker"] for row in dumped}
    assert shown.items() <= sent.items() and len(shown) == len(dumped) > 10
    few = _tidemill("journal", "dump", gatherer.data, "--stream=trades", "--limit", 2, "--from", dumped[3]["seq"])
    assert [line.split()[:2] for line in few.stdout.splitlines()] == [["trades", str(row["seq"])] for row in dumped[3:5]]

    _damage(gatherer.data, dumped[len(dumped) // 2])
    status, broken = _check(gatherer.data)
    assert status == 1 and len(broken["damage"]) == 1 and broken["damage"][0]["kind"] == "frames"
    assert broken["records"] < found["records"]
    text = _tidemill("journal", "check", gatherer.data)
    assert text.returncode == 1 and f"offset {broken['damage'][0]['offset']}" in text.stdout
    before = {path.name: path.read_bytes() for path in gatherer.data.glob("*.seg")}
    dry = _tidemill("journal", "repair", gatherer.data, "--dry-run")
    assert dry.returncode == 0 and "nothing was changed" in dry.stdout
    assert before == {path.name: path.read_bytes() for path in gatherer.data.glob("*.seg")}
    done = _tidemill("journal", "repair", gatherer.data, "--json")
    assert done.returncode == 0, done.stderr
    action = _lines(done)[0]
    kept = gatherer.data / action["kept"]
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        name: before[name] for name in {one["file"] for one in action["actions"]}}
    status, mended = _check(gatherer.data)
    assert status == 0 and mended["records"] == broken["records"] and mended["epoch"] == found["epoch"]

    store.start()
    gatherer.start()  # what is left goes into the store, under the numbers it always had
    wait_until("the rest of the journal is stored",
               lambda: store.value("SELECT max(seq) FROM trades") >= dumped[-1]["seq"], 30.0, gatherer.process.log_tail)
    held = {seq for seq, in store.query("SELECT seq FROM trades")}
    lost = {row["seq"] for row in dumped if row["offset"] == broken["damage"][0]["offset"]}
    assert lost and {row["seq"] for row in dumped} - held == lost
    told = "SELECT first_seq, last_seq, rows FROM tidemill.absent WHERE stream = 'trades' AND reason = 'missing'"
    assert store.query(told) == [(min(lost), max(lost), len(lost))]
    wait_until("production is told what it will never get", lambda: lab.production.query(told) == store.query(told), 30.0)


def _sent_trades(lab: Lab) -> dict[str, str]:
    """trade_id -> ticker, from the exchange's ledger."""
    lab.verify()  # loads it
    return dict(lab.production.query("SELECT trade_id::text, ticker FROM truth.ledger WHERE trade_id IS NOT NULL"))


def _damage(directory: Path, row: dict[str, Any]) -> None:
    path = directory / row["file"]
    with open(path, "r+b") as file:
        file.seek(row["offset"] + 24)
        byte = file.read(1)[0]
        file.seek(row["offset"] + 24)
        file.write(bytes([byte ^ 0x40]))


# ---- quarantine ----


def _quarantine(daemon: Daemon, verb: str, *more: Any) -> subprocess.CompletedProcess[str]:
    return _tidemill("quarantine", verb, ROOT / daemon.script, *more, daemon=daemon)


def test_rows_that_production_refused_are_retried(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=2, exchange=_options(5), expected_errors=("a row goes to tidemill.quarantine",))
    lab.start()
    lab.production.execute("ALTER TABLE trades ADD CONSTRAINT poison CHECK (price % 3 <> 0) NOT VALID")
    lab.wait_emitted()
    lab.drain()
    assert lab.verify().faults() > 0, "nothing was refused, so this proves nothing"
    waiting = lab.production.value("SELECT count(*) FROM tidemill.quarantine")
    listed = _lines(_quarantine(lab.deduplicator, "list", "--json"))
    assert len(listed) == waiting > 5
    assert all(row["stream"] == "trades" and row["sqlstate"] == "23514" and row["row"]["price"] % 3 == 0 for row in listed)
    text = _quarantine(lab.deduplicator, "list", "--stream", "trades")
    assert text.returncode == 0 and text.stdout.endswith(f"{waiting} rows\n") and "poison" in text.stdout

    again = _quarantine(lab.deduplicator, "retry", "--all", "--json")  # it is refused still
    assert again.returncode == 1 and _lines(again) == [{"stored": 0, "duplicate": 0, "refused": waiting}]
    assert lab.production.value("SELECT count(*) FROM tidemill.quarantine") == waiting
    lab.production.execute("ALTER TABLE trades DROP CONSTRAINT poison")
    one = _quarantine(lab.deduplicator, "retry", listed[0]["id"], "--json")
    assert one.returncode == 0 and _lines(one) == [{"stored": 1, "duplicate": 0, "refused": 0}]
    rest = _quarantine(lab.deduplicator, "retry", "--all", "--json")
    counts = _lines(rest)[0]
    assert rest.returncode == 0, rest.stderr
    # each gatherer brought each row: the second copy is a duplicate
    assert counts["refused"] == 0 and counts["stored"] + counts["duplicate"] == waiting - 1 and counts["duplicate"] > 0
    assert lab.production.value("SELECT count(*) FROM tidemill.quarantine") == 0
    verdict = lab.verify()
    assert verdict.clean, str(verdict)


def test_rows_that_a_local_store_refused_are_retried_or_dropped(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange=_options(5), expected_errors=("a row can never be stored", "tidemill.absent says why"))
    lab.start()
    store, gatherer = lab.stores["g1"], lab.gatherers["g1"]
    lab.deduplicator.process.stop()  # the cursor stays before all that follows
    store.execute("ALTER TABLE trades ADD CONSTRAINT poison CHECK (price % 3 <> 0) NOT VALID")
    lab.wait_emitted()
    wait_until("everything is stored", lambda: not lab.unstored(), 30.0, gatherer.process.log_tail)
    store.execute("ALTER TABLE trades DROP CONSTRAINT poison")
    listed = _lines(_quarantine(gatherer, "list", "--json"))
    assert len(listed) > 8
    assert gatherer.metrics().sum("tidemill_store_quarantine_rows") >= 0

    unclear = _quarantine(gatherer, "drop")
    assert unclear.returncode == 2 and "expected ids or --all" in unclear.stderr
    victims = listed[:3]
    dropped = _quarantine(gatherer, "drop", *[row["id"] for row in victims], "--json")
    assert dropped.returncode == 0 and [row["row"] for row in _lines(dropped)] == [row["row"] for row in victims]
    absent = store.query("SELECT stream, first_seq, last_seq, rows, reason FROM tidemill.absent ORDER BY first_seq")
    assert absent == [("trades", row["seq"], row["seq"], 1, "dropped") for row in victims]
    kept = _quarantine(gatherer, "retry", "--all", "--json")
    assert _lines(kept) == [{"stored": len(listed) - 3, "duplicate": 0, "refused": 0}], kept.stderr

    wait_until("the metric of the quarantine has seen it",
               lambda: gatherer.metrics().sum("tidemill_store_quarantine_rows") == 0, 30.0)
    lab.deduplicator.process.start()
    lab.drain()  # the hole of a dropped row does not stop the stream
    missing = lab.verify()
    assert missing.faults() == 3 == missing.streams["trades"].missing, str(missing)
    shown = {trade for trade, in lab.production.query("SELECT trade_id::text FROM trades")}
    assert not shown & {row["row"]["trade_id"] for row in victims}
