"""The archive: production goes into Parquet hour by hour and comes back row by row; what is missing there is named."""
from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

from harness import Lab, wait_until
from harness.paths import ROOT, program

MakeLab = Callable[..., Lab]

STREAMS = ("trades", "orderbook_deltas", "tickers")  # with the exchange's time, which is some hours ago here
TIME = "exchange_ts"


def _hours_ago(hours: int) -> datetime:
    """The last minutes of an hour, so that the events go on into the next one."""
    return datetime.now(timezone.utc).replace(minute=59, second=57, microsecond=0) - timedelta(hours=hours + 1)


def _lab(make_lab: MakeLab, archive: Path, **more: Any) -> Lab:
    environment = {"TIDEMILL_ARCHIVE": f"file://{archive}", "TIDEMILL_ARCHIVE_LAG": "0s"}
    return make_lab(gatherers=1, deduplicator_env=environment, **{
        "exchange": {"seed": 11, "markets": 30, "rate": 2000, "seconds": 6,
                     "start-time": _hours_ago(3).strftime("%Y-%m-%dT%H:%M:%SZ")}, **more})


def tidemill(lab: Lab, *arguments: str, production: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command with the deduplicator's environment."""
    daemon = lab.deduplicator
    environment = {**os.environ, **daemon.process.env, **({"TIDEMILL_PRODUCTION": production} if production else {})}
    return subprocess.run([str(program("tidemill")), *arguments], env=environment, cwd=daemon.directory,
                          capture_output=True, text=True, timeout=100, check=False)


def _script(lab: Lab) -> str:
    return str(lab.options.deduplicator_script or ROOT / lab.deduplicator.script)


def answer(done: subprocess.CompletedProcess[str], status: int = 0) -> dict[str, Any]:
    """What a command with --json says."""
    assert done.returncode == status, f"exit status {done.returncode}: {done.stdout}{done.stderr}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _exported(lab: Lab) -> dict[str, int]:
    return {stream: int(rows) for stream, rows in lab.production.query(
        "SELECT stream, sum(archived_rows) FROM tidemill.exports GROUP BY 1")}


def _rows(lab: Lab) -> dict[str, int]:
    return {stream: lab.production.value(f"SELECT count(*) FROM {stream}") for stream in STREAMS}


def _wait_archived(lab: Lab) -> None:
    rows = _rows(lab)
    wait_until("all of production is in the archive",
               lambda: all(_exported(lab).get(stream, 0) == rows[stream] for stream in STREAMS) and not lab.production.value(
                   "SELECT count(*) FROM tidemill.export_late"), 60, lambda: f"{_exported(lab)} of {rows}")


def test_production_goes_out_and_comes_back(make_lab: MakeLab, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    lab = _lab(make_lab, archive)
    lab.start()
    lab.wait_emitted()
    lab.drain()
    assert lab.verify().clean
    _wait_archived(lab)
    objects = sorted(archive.glob("raw/*/year=*/month=*/day=*/hour=*/*.parquet"))
    assert len(objects) >= 2 * len(STREAMS), objects
    begin = _hours_ago(4).strftime("%Y-%m-%dT%H:%M:%SZ")
    span = ("--since", begin, "--until", datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "--json")
    whole = answer(tidemill(lab, "archive", "verify", _script(lab), "--deep", "--json"))
    assert whole["gaps"] == [] and whole["rows"] >= sum(_rows(lab).values())
    # into an empty database, twice
    lab.production.execute("CREATE DATABASE copy")
    copy = lab.production.conninfo("copy")
    dry = answer(tidemill(lab, "restore", _script(lab), *span, "--dry-run", production=copy))
    assert dry["dry_run"] and dry["rows"] == whole["rows"]
    first = answer(tidemill(lab, "restore", _script(lab), *span, production=copy))
    assert first["stored"] == first["rows"] == whole["rows"], first
    again = answer(tidemill(lab, "restore", _script(lab), *span, production=copy))
    assert again["stored"] == 0 and again["duplicate"] == again["rows"], again
    for stream in STREAMS:
        text = f"SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {stream} t"
        assert lab.production.query(text, database="copy") == lab.production.query(text), stream
