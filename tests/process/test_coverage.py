"""`tidemill coverage`, and what a killed gatherer, a kept-away exchange and a quiet restart leave in the ledger."""
from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Callable

from harness import Lab, wait_until
from harness.drill import coverage as oracle
from harness.paths import ROOT, program

MakeLab = Callable[..., Lab]


def _coverage(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("tidemill"), "coverage", str(ROOT / "lua/kalshi/deduplicator.lua"), *words],
                          env={**os.environ, **lab.deduplicator.env}, capture_output=True, text=True, timeout=120, check=False)


def test_a_person_asks_for_the_coverage_of_a_market(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=2, exchange={"seed": 7, "markets": 20, "rate": 500, "seconds": 12})
    lab.start()
    since = lab.production.value("SELECT now()")
    lab.wait_emitted(2000)
    before = lab.production.value("SELECT now()")
    for gatherer in lab.gatherers.values():
        gatherer.process.kill()
    killed = lab.production.value("SELECT now()")
    lab.wait_emitted(4000)
    started = lab.production.value("SELECT now()")
    for gatherer in lab.gatherers.values():
        gatherer.process.start()
    lab.wait_emitted()
    lab.drain()
    oracle.wait_for_proof(lab.production, list(lab.gatherers))
    until = lab.production.value("SELECT now() - interval '1 s'")
    ticker = lab.production.value("SELECT ticker FROM orderbook_deltas GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")

    asked = _coverage(lab, ticker, str(since), str(until), "--stream", "orderbook_deltas", "--json")
    assert asked.returncode == 1, asked.stderr  # not whole
    pieces: list[dict[str, Any]] = json.loads(asked.stdout)
    assert [piece["whole"] for piece in pieces] == [True, False, True], asked.stdout
    assert set(pieces[1]["reasons"]) == {"g1", "g2"} and "stopped" in pieces[1]["reasons"]["g1"]
    lower, upper = (lab.production.value(f"SELECT '{pieces[1][end]}'::timestamptz") for end in ("from_ts", "to_ts"))
    assert abs((lower - killed).total_seconds()) < 1 and upper > started

    told = _coverage(lab, ticker, str(since), str(until))
    assert told.returncode == 1 and "NOT WHOLE in 1 piece" in told.stdout and "stopped" in told.stdout
    told = _coverage(lab, ticker, str(since), str(before - (killed - before) - (before - since) / 2))
    assert told.returncode == 0 and "whole" in told.stdout and "NOT" not in told.stdout, told.stdout + told.stderr
    assert _coverage(lab, ticker, "no time at all", str(until)).returncode == 1
    assert _coverage(lab, ticker).returncode == 2


def test_heartbeats_do_not_heap_up_in_production(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange={"markets": 5, "rate": 50, "seconds": 3})
    lab.start()
    lab.wait_emitted()
    taken = "SELECT max(seq) FROM tidemill.cursors WHERE stream = 'heartbeats'"
    wait_until("many heartbeats have come", lambda: (lab.production.value(taken) or 0) > 60, 60)
    wait_until("few of them are kept", lambda: lab.production.value("SELECT count(*) FROM heartbeats") < 30, 30)
    assert lab.deduplicator.metrics().sum("tidemill_heartbeats_pruned_total") > 20
