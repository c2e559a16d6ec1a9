"""examples/08-another-exchange: an adapter in Lua alone, against its small simulator, to production, row by row."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable

from harness import Deduplicator, Gatherer, PostgresCluster, Process, wait_until
from harness.paths import ROOT, free_port

EXAMPLE = ROOT / "examples/08-another-exchange"
MATCHES = """SELECT product_id, trade_id, (extract(epoch FROM exchange_ts) * 1000000)::int8, price, size, maker_side
    FROM matches ORDER BY 1, 2"""
CHANGES = """SELECT product_id, (extract(epoch FROM exchange_ts) * 1000000)::int8, side, price, size
    FROM book_changes ORDER BY 1, 2, 3"""
MINIMUM = 200  # trades: enough for some before, while and after the connection is cut


def _ledger(path: Path) -> list[tuple[str, int, int, int, int, str]]:
    rows = (line.split("\t") for line in path.read_text(encoding="ascii").splitlines())
    return sorted((product, int(number), int(micros), int(price), int(size), side)
                  for product, number, micros, price, size, side in rows)


def test_another_exchange_needs_only_lua(directory: Path, make_cluster: Callable[[str], PostgresCluster]) -> None:
    store, production = make_cluster("store"), make_cluster("production")
    port, ledger = free_port(), directory / "ledger.tsv"
    exchange = Process("coinbase", [sys.executable, EXAMPLE / "simulator.py", "--port", str(port), "--rate", "60",
                                    "--seconds", "5", "--linger", "120", "--ledger", str(ledger), "--drop-after", "100"],
                       directory)
    urls = {"COINBASE_WS_URL": f"ws://127.0.0.1:{port}", "COINBASE_REST_URL": f"http://127.0.0.1:{port}"}
    gatherer = Gatherer("g1", directory, store=store.conninfo(), ws_url="", rest_url="", env=urls,
                        script=EXAMPLE / "gatherer.lua")
    deduplicator = Deduplicator("dedup", directory, gatherers={"g1": store.conninfo()},
                                production=production.conninfo(), script=EXAMPLE / "deduplicator.lua")
    daemons = (gatherer, deduplicator)
    try:
        exchange.start()
        for daemon in daemons:
            daemon.start()
        wait_until("the exchange has made all trades", lambda: "trades " in exchange.log(), 60, gatherer.process.log_tail)
        truth = _ledger(ledger)
        assert len(truth) >= MINIMUM
        wait_until("production has as many trades", lambda: production.value("SELECT count(*) FROM matches") == len(truth),
                   30, gatherer.process.log_tail)
        # the trades made while the connection was cut came by REST; nothing is there twice
        assert production.query(MATCHES) == truth
        assert "missed trades were fetched" in gatherer.process.log()
        heard = {(product, micros, side, price, size) for product, micros, side, price, size in production.query(CHANGES)}
        made = {(product, micros, "buy", price, size) for product, _, micros, price, size, _ in truth}
        made |= {(product, micros, "sell", 10001000000, 0) for product, _, micros, _, _, _ in truth}
        assert heard <= made and len(heard) >= len(made) // 2
        assert production.value("SELECT count(*) FROM quotes WHERE volume_24h = '123456789012345678901.5'") > 0
        assert production.value("SELECT count(*) FROM book_snapshots") >= 4  # two products, twice connected
        assert production.value("SELECT count(*) FROM unknown_frames") == 0
    finally:
        for daemon in daemons:
            daemon.process.stop()
        exchange.stop()
    assert [line for daemon in daemons for line in daemon.process.complaints()] == []
