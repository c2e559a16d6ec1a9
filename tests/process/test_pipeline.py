"""The main job in small: exchange -> gatherers -> deduplicator -> production, row-exact whatever happens."""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from harness import Deduplicator, Gatherer, Lab, PostgresCluster, wait_until
from harness.paths import NO_EXCHANGE, ROOT, program
from tiny_exchange import TinyExchange

MakeLab = Callable[..., Lab]

IDLE_RSS_MB = 40
RATE = 2000
LARGE_FRAMES, LARGE_BYTES = 60, 200_000  # on each of ten connections


def _options(seconds: int, **more: object) -> dict[str, object]:
    return {"seed": 11, "markets": 60, "rate": RATE, "seconds": seconds, **more}


def _finish(lab: Lab) -> None:
    """Let it run out, and demand that production is what was sent."""
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)


# ---- redundancy ----


def test_three_gatherers_are_row_exact_with_bursts_of_equal_deltas(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=3, exchange=_options(6))
    lab.start()
    _finish(lab)
    repeated = lab.production.value("SELECT count(*) FROM orderbook_deltas WHERE occurrence > 0")
    assert repeated > 0, "the exchange sent no two equal deltas, so this run proves nothing about them"
    # each gatherer has all of it alone, but for moments: each learns by itself that a market came or went
    from_start = [ticker for ticker, in lab.production.query(
        "SELECT DISTINCT ticker FROM truth.ledger WHERE what = 'snapshot' AND coalesce(number, 0) = 0")]
    stored = {name: store.value("SELECT count(*) FROM orderbook_deltas WHERE ticker = ANY (%s)", (from_start,))
              for name, store in lab.stores.items()}
    assert min(stored.values()) > max(RATE, 0.98 * max(stored.values())), stored


def test_two_of_three_gatherers_may_start_late(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=3, late=2, exchange=_options(8))
    lab.start()
    lab.wait_emitted(4 * RATE)
    lab.start_late()
    _finish(lab)
    for name in lab.late_names:
        assert lab.stores[name].value("SELECT count(*) FROM orderbook_deltas") > 0


def test_a_gatherer_is_killed_and_started_again(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=2, exchange=_options(8))
    lab.start()
    lab.wait_emitted(2 * RATE)
    lab.gatherers["g1"].process.kill()
    lab.wait_emitted(4 * RATE)
    lab.gatherers["g1"].start()
    wait_until("the deduplicator reads both gatherers again",
               lambda: set(lab.deduplicator.health()["gatherers"].values()) == {"connected"}, 20)
    _finish(lab)


def test_a_hung_gatherer_delays_nobody(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=2, exchange=_options(6))
    lab.start()
    lab.wait_emitted(RATE)
    lab.gatherers["g1"].process.pause()
    before = lab.production.value("SELECT count(*) FROM orderbook_deltas")
    wait_until("production goes on without it",
               lambda: lab.production.value("SELECT count(*) FROM orderbook_deltas") > before + RATE, 20)
    lab.gatherers["g1"].process.resume()
    _finish(lab)


# ---- faults of the exchange ----


@pytest.mark.parametrize("fault, reason", [
    ("kind=gap,count=3,label=g1,channel=orderbook_delta", "sequence"),
    ("kind=disconnect,how=rst,label=g1", "disconnected"),
    ("kind=error,code=25,label=g1,channel=trade", "exchange error"),
    ("kind=renumber,label=g1", "sequence went back"),
])
def test_a_loss_at_one_gatherer_is_made_good_by_the_other_and_recorded(make_lab: MakeLab, fault: str,
                                                                       reason: str) -> None:
    lab = make_lab(gatherers=2, exchange=_options(6))
    lab.start()
    lab.wait_emitted(2 * RATE)
    lab.exchange.fault(fault)
    told = "SELECT count(*) FROM gaps WHERE reason = %s"
    wait_until("the gap ledger of g1 has it",
               lambda: lab.stores["g1"].value(told, (reason,)), 20, lab.gatherers["g1"].process.log_tail)
    _finish(lab)
    assert lab.stores["g2"].value(told, (reason,)) == 0
    assert lab.production.value(told + " AND gatherer = 'g1'", (reason,)) > 0


@pytest.mark.parametrize("fault", [
    "kind=duplicate,count=5", "kind=late,count=5,delay=200ms", "kind=unknown,count=3",
    *(pytest.param(fault, marks=pytest.mark.slow)
      for fault in ("kind=reorder,count=5", "kind=fragment,count=20", "kind=malformed,count=3"))])
def test_odd_frames_cost_nothing_but_themselves(make_lab: MakeLab, fault: str) -> None:
    lab = make_lab(gatherers=1, exchange=_options(5))
    lab.start()
    lab.wait_emitted(RATE)
    lab.exchange.fault(fault)
    _finish(lab)
    kept = lab.production.value("SELECT count(*) FROM unknown_frames")
    assert (kept > 0) == ("unknown" in fault or "malformed" in fault)


# ---- databases ----


def test_production_is_away_for_some_seconds(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=2, exchange=_options(10))
    lab.start()
    lab.wait_emitted(2 * RATE)
    pid = lab.deduplicator.process.pid
    lab.production.stop("immediate")
    wait_until("/health says that production is away",
               lambda: lab.deduplicator.health()["rds"] == "disconnected", 20)
    assert lab.deduplicator.health_answer().status == 503
    assert lab.deduplicator.metrics().get("dedup_rds_connected") == 0
    lab.wait_emitted(6 * RATE)
    lab.production.start()
    wait_until("/health says that production is back", lambda: lab.deduplicator.health()["rds"] == "connected", 20)
    _finish(lab)
    assert lab.deduplicator.process.pid == pid and lab.deduplicator.process.running
    assert lab.deduplicator.metrics().get("rds_connection_errors_total") > 0


def test_a_local_store_is_killed_and_comes_back(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange=_options(8))
    lab.start()
    lab.wait_emitted(2 * RATE)
    lab.stores["g1"].kill()
    wait_until("/health says that the store is away", lambda: lab.gatherers["g1"].health()["db"] == "disconnected", 20)
    lab.wait_emitted(4 * RATE)
    lab.stores["g1"].start()
    _finish(lab)


# ---- the outside view ----


def test_health_and_metrics_have_the_names_that_people_rely_on(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=2, exchange=_options(4))
    lab.start()
    _finish(lab)
    health = lab.gatherers["g1"].health()
    assert list(health)[:3] == ["status", "ws_connections", "db"]
    assert (health["status"], health["db"]) == ("healthy", "connected") and health["ws_connections"] > 0
    metrics = lab.gatherers["g1"].metrics()
    assert metrics.get("ws_client_connected") == health["ws_connections"]
    assert metrics.get("market_registry_rest_errors_total", endpoint="markets") == 0
    health = lab.deduplicator.health()
    assert list(health)[:3] == ["status", "gatherers", "rds"]
    assert health["gatherers"] == {"g1": "connected", "g2": "connected"} and health["rds"] == "connected"
    metrics = lab.deduplicator.metrics()
    assert [metrics.get("dedup_gatherer_health", gatherer=name) for name in ("g1", "g2")] == [1, 1]
    assert metrics.get("dedup_rds_connected") == 1
    assert metrics.get("rds_connection_errors_total") == 0
    assert 0 <= metrics.get("dedup_sync_lag_seconds") < 5


def test_check_refuses_a_broken_script_with_78_and_the_place(tmp_path: Path) -> None:
    script = tmp_path / "broken.lua"
    script.write_text('local tm = require "tidemill"\ntm.gatherer {\n    idd = "g1",\n}\n', encoding="ascii")
    done = subprocess.run([program("tidemill"), "check", script], capture_output=True, text=True, timeout=20,
                          check=False)
    assert done.returncode == 78, done.stderr
    assert "broken.lua:2" in done.stderr and '"idd"' in done.stderr and '"id"' in done.stderr
    stock = subprocess.run([program("tidemill"), "check", ROOT / "lua/kalshi/gatherer.lua"], capture_output=True,
                           text=True, timeout=20, check=False, env={**os.environ, **NO_EXCHANGE})
    assert stock.returncode == 0, stock.stderr


# ---- an exchange that is not ours ----

TICKERS = ["KXOTHER-26NOV05-T1", "KXOTHER-26NOV05-B2.5"]
TRADE_ID = "d17a9849-e50c-44eb-455a-eb6e1098773f"


def _market(ticker: str) -> dict[str, object]:
    return {"ticker": ticker, "event_ticker": "KXOTHER-26NOV05", "market_type": "binary", "status": "active",
            "title": "t", "yes_sub_title": "y", "no_sub_title": "n", "created_time": "2026-11-01T00:00:00Z",
            "open_time": "2026-11-01T00:00:00Z", "close_time": "2030-11-05T00:00:00Z",
            "latest_expiration_time": "2030-11-06T00:00:00Z", "yes_bid_dollars": "0.4700",
            "yes_ask_dollars": "0.5100", "last_price_dollars": "0.4700", "volume_fp": "10.00",
            "volume_24h_fp": "1.00", "open_interest_fp": "5.00", "result": "", "can_close_early": True,
            "price_level_structure": "linear_cent", "exchange_index": 0}


def _delta(ticker: str, price: str, change: str, side: str, micros: str, millis: int) -> dict[str, object]:
    return {"market_ticker": ticker, "market_id": "3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90", "price_dollars": price,
            "delta_fp": change, "side": side, "ts": micros, "ts_ms": millis}


def _is_set_up(exchange: TinyExchange, store: PostgresCluster) -> bool:
    return (store.value("SELECT to_regclass('unknown_frames')") is not None
            and exchange.is_subscribed("orderbook_delta", TICKERS)
            and all(map(exchange.is_subscribed, ("trade", "ticker", "market_lifecycle_v2"))))


@pytest.fixture
def gatherer_at_tiny(directory: Path, make_cluster: Callable[[str], PostgresCluster]):  # type: ignore[no-untyped-def]
    """A gatherer that listens to the tiny exchange; (exchange, store, gatherer)."""
    store = make_cluster("store")
    books = {TICKERS[0]: {"yes_dollars_fp": [["0.0100", "275.00"], ["0.4700", "31.54"]],
                          "no_dollars_fp": [["0.4900", "1239.73"]]}}
    with TinyExchange([_market(ticker) for ticker in TICKERS], books) as exchange:
        gatherer = Gatherer("g1", directory, store=store.conninfo(), ws_url=exchange.ws_url,
                            rest_url=exchange.rest_url)
        gatherer.start()
        try:
            wait_until("the gatherer has made its tables and its subscriptions",
                       lambda: gatherer.answering() and _is_set_up(exchange, store), 30, gatherer.process.log_tail)
            yield exchange, store, gatherer
        finally:
            gatherer.process.stop()
    assert gatherer.process.complaints() == []


def test_a_gatherer_understands_an_exchange_that_is_not_ours(gatherer_at_tiny) -> None:  # type: ignore[no-untyped-def]
    exchange, store, gatherer = gatherer_at_tiny
    for _ in range(3):  # the same event thrice: not a repeat of the frame, three orders
        exchange.send("orderbook_delta", "orderbook_delta",
                      _delta(TICKERS[0], "0.4700", "-9.90", "yes", "2026-11-07T14:00:00.640173Z", 1794060000640))
    exchange.send("orderbook_delta", "orderbook_delta",
                  _delta(TICKERS[1], "0.001", "12.34", "no", "2026-11-07T14:00:01Z", 1794060001000))
    exchange.send("trade", "trade", {
        "trade_id": TRADE_ID, "market_ticker": TICKERS[0], "yes_price_dollars": "0.4700",
        "no_price_dollars": "0.5300", "count_fp": "9.90", "taker_side": "no", "taker_outcome_side": "no",
        "taker_book_side": "ask", "is_block_trade": False, "ts": 1794060000, "ts_ms": 1794060000640})
    exchange.ping(bytes(range(125)))
    exchange.send_raw('{"type":"novelty","sid":99,"msg":{"a":1}}\n')
    wait_until("all of it is stored", lambda: store.value(
        "SELECT (SELECT count(*) FROM orderbook_deltas) >= 4 AND (SELECT count(*) FROM trades) >= 1"
        " AND (SELECT count(*) FROM unknown_frames) >= 1"), 20, gatherer.process.log_tail)
    deltas = store.query("SELECT ticker, (extract(epoch FROM exchange_ts) * 1000000)::int8, side, price, delta,"
                         " occurrence FROM orderbook_deltas ORDER BY exchange_ts, occurrence")
    assert deltas == [(TICKERS[0], 1794060000640173, "yes", 470000, -990, n) for n in range(3)] + [
        (TICKERS[1], 1794060001000000, "no", 1000, 1234, 0)]
    assert store.query("SELECT trade_id::text, ticker, (extract(epoch FROM exchange_ts) * 1000000)::int8, price, count,"
                       " taker_side, is_block_trade FROM trades") == [
        (TRADE_ID, TICKERS[0], 1794060000640000, 470000, 990, "no", False)]
    raw = store.query("SELECT DISTINCT reason, convert_from(raw, 'UTF8') FROM unknown_frames")
    assert [(reason, json.loads(text)["type"]) for reason, text in raw] == [("unknown", "novelty")]
    assert store.query("SELECT ticker FROM markets ORDER BY ticker") == [(ticker,) for ticker in sorted(TICKERS)]
    assert store.value("SELECT count(*) FROM orderbook_snapshots WHERE ticker = %s AND source = 'ws'",
                       (TICKERS[0],)) >= 1
    assert set(exchange.hang_up(1012, "service restart")) == {1012}
    wait_until("it is back", lambda: _is_set_up(exchange, store), 20, gatherer.process.log_tail)
    lost = [line for line in gatherer.process.log().splitlines() if "connection lost" in line]
    assert lost and all("status=1012" in line and "service restart" in line for line in lost), lost


def _with_queue(directory: Path, size: str) -> Path:
    """The stock deduplicator with another queue."""
    stock = (ROOT / Deduplicator.script).read_text(encoding="utf-8")
    script = directory / "deduplicator.lua"
    script.write_text(stock.replace("tm.deduplicator {", f'tm.deduplicator {{ queue = "{size}",', 1), encoding="utf-8")
    return script


def test_a_backlog_of_large_frames_costs_no_more_than_the_queue(  # type: ignore[no-untyped-def]
        gatherer_at_tiny, directory: Path, make_cluster: Callable[[str], PostgresCluster]) -> None:
    exchange, store, gatherer = gatherer_at_tiny
    production = make_cluster("production")
    deduplicator = Deduplicator("dedup", directory, gatherers={"g1": store.conninfo()},
                                production=production.conninfo(), script=_with_queue(directory, "16MiB"))
    frames = "SELECT count(*) FROM unknown_frames"
    rows = "SELECT seq, reason, md5(raw) FROM unknown_frames ORDER BY seq"
    deduplicator.start()
    try:
        wait_until("it merges", lambda: deduplicator.answering() and deduplicator.is_healthy(), 30,
                   deduplicator.process.log_tail)
        before_mb = deduplicator.process.rss_mb
        deduplicator.process.stop()
        for number in range(LARGE_FRAMES):
            exchange.send_raw(json.dumps({"type": "novelty", "n": number, "x": "y" * LARGE_BYTES}))
            if number % 10 == 9:  # its journal's buffer is not what is to be full
                wait_until("the gatherer has stored them", lambda: store.value(frames) % (number + 1) == 0
                           and store.value(frames) >= 5 * (number + 1), 30, gatherer.process.log_tail)
        assert store.value(frames) * LARGE_BYTES > 100_000_000, "no backlog to speak of"
        deduplicator.start()
        wait_until("production has them", lambda: production.value(frames) == store.value(frames), 60, deduplicator.process.log_tail)
        assert production.query(rows) == store.query(rows)
        # 16 MiB are read, 16 wait, 32 are merged
        assert deduplicator.process.peak_rss_mb - before_mb < 80, deduplicator.process.log_tail()
        assert "fewer are read at once" in deduplicator.process.log()
    finally:
        deduplicator.process.stop()
    assert deduplicator.process.complaints() == []


def test_an_idle_gatherer_is_small(gatherer_at_tiny) -> None:  # type: ignore[no-untyped-def]
    _, _, gatherer = gatherer_at_tiny
    wait_until("it is healthy", lambda: gatherer.health()["status"] == "healthy", 20, gatherer.process.log_tail)
    assert gatherer.process.rss_mb < IDLE_RSS_MB
