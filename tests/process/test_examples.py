"""Every example runs: against the simulator, with a PostgreSQL of its own, and does what its README says."""
from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import Deduplicator, Exchange, Gatherer, PostgresCluster, wait_until
from harness.paths import ROOT, program

EXAMPLES = ROOT / "examples"
NUMBERED = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
SCRIPTS = sorted(path for folder in NUMBERED for path in folder.glob("*.lua")
                 if "tm.gatherer {" in path.read_text() or "tm.deduplicator {" in path.read_text())
FEED = {"markets": 20, "rate": 400, "seconds": 4, "seed": 5, "hold": True}
TIMEOUT = 40.0


def _name(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def test_examples_are_numbered_and_explained() -> None:
    assert [path.name.split("-")[0] for path in NUMBERED] == [f"{n:02d}" for n in range(1, len(NUMBERED) + 1)]
    for folder in NUMBERED:
        assert (folder / "README.md").read_text().startswith("# "), folder


@pytest.mark.parametrize("script", SCRIPTS, ids=_name)
def test_check_finds_nothing(script: Path) -> None:
    done = subprocess.run([program("tidemill"), "check", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


# ---- runs ----

@dataclass
class Run:
    """An example at work."""

    exchange: Exchange
    store: PostgresCluster
    gatherer: Gatherer

    def begin(self) -> None:
        """Let the exchange send, once the gatherer is connected."""
        wait_until("the gatherer is healthy", self.gatherer.is_healthy, TIMEOUT, self.gatherer.process.log_tail)
        self.exchange.control("start")

    def until(self, sql: str, cluster: PostgresCluster | None = None) -> None:
        """Wait for a fact in the local store, or in another one."""
        wait_until(sql, lambda: (cluster or self.store).value(sql), TIMEOUT, self.gatherer.process.log_tail)

    def emitted(self, stream: str) -> int:
        """Events of a stream that the exchange has sent in all."""
        wait_until("the exchange has sent all", self.exchange.is_finished, TIMEOUT)
        self.exchange.flush_ledger()
        lines = self.exchange.ledger.read_text(encoding="utf-8").splitlines()
        return sum(line.split("\t")[0] == "emit" and line.split("\t")[3] == stream for line in lines)


@pytest.fixture
def run_example(directory: Path, make_cluster: Callable[[str], PostgresCluster]) -> Iterator[Callable[..., Run]]:
    """Starts exchange, store and gatherer of an example; all end with the test, and their logs must be clean."""
    parts: list[Exchange | Gatherer] = []

    def run(name: str, script: str = "gatherer.lua", **env: str) -> Run:
        exchange = Exchange(directory, FEED)
        exchange.start()
        parts.append(exchange)
        store = make_cluster("store")
        gatherer = Gatherer("g1", directory, store=store.conninfo(), ws_url=exchange.ws_url, env=env,
                            rest_url=exchange.rest_url, script=EXAMPLES / name / script)
        gatherer.start()
        parts.append(gatherer)
        return Run(exchange, store, gatherer)

    yield run
    for part in reversed(parts):
        part.process.stop()
    assert [line for part in parts for line in part.process.complaints()] == []


def test_01_first_capture(run_example: Callable[..., Run]) -> None:
    run = run_example("01-first-capture")
    run.begin()
    trades = run.emitted("trades")
    assert trades > 0
    run.until(f"SELECT count(*) = {trades} FROM trades")


def test_02_two_of_its_gatherers_make_one_production(run_example: Callable[..., Run], directory: Path,
                                                     make_cluster: Callable[[str], PostgresCluster]) -> None:
    run = run_example("02-three-gatherers")
    second_store, production = make_cluster("store2"), make_cluster("production")
    second = Gatherer("g2", directory, store=second_store.conninfo(), ws_url=run.exchange.ws_url,
                      rest_url=run.exchange.rest_url, script=EXAMPLES / "02-three-gatherers/gatherer.lua")
    stores = {"g1": run.store.conninfo(), "g2": second_store.conninfo()}
    merger = Deduplicator("dedup", directory, gatherers=stores, production=production.conninfo(),
                          script=EXAMPLES / "02-three-gatherers/deduplicator.lua")
    try:
        second.start()
        merger.start()
        wait_until("the second gatherer is healthy", second.is_healthy, TIMEOUT, second.process.log_tail)
        run.begin()
        trades = run.emitted("trades")
        run.until(f"SELECT count(*) = {trades} FROM trades", production)
        assert second_store.value("SELECT count(*) FROM trades") == trades
        assert production.value("SELECT count(*) > 0 FROM orderbook_deltas")
    finally:
        merger.process.stop()
        second.process.stop()
    assert merger.process.complaints() + second.process.complaints() == []


def test_05_own_stream(run_example: Callable[..., Run]) -> None:
    run = run_example("05-own-stream", STATUS_EVERY="200ms")
    run.begin()
    trades = run.emitted("trades")
    run.until(f"SELECT count(*) = {trades} FROM trades")
    # yes and no are two sides of one dollar
    assert run.store.value("SELECT count(*) FROM trades WHERE price + no_price <> 1000000 OR no_price IS NULL") == 0
    run.until("SELECT count(*) > 2 FROM exchange_status WHERE exchange_active AND document ? 'trading_active'")
