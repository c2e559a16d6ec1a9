"""Every example runs: against the simulator, with a PostgreSQL of its own, and does what its README says."""
from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import pytest
import yaml

from harness import Deduplicator, Exchange, Gatherer, PostgresCluster, wait_until
from harness.paths import NO_EXCHANGE, ROOT, program

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
    listed = (EXAMPLES / "README.md").read_text()
    for text in (listed, (ROOT / "README.md").read_text()):
        assert [folder.name for folder in NUMBERED if f"`{folder.name}`" not in text and f"[{folder.name}]" not in text] == []
    without = [folder.name for folder in NUMBERED if not any(script.parent == folder for script in SCRIPTS)]
    assert f"Each folder but {' and '.join(f'`{name}`' for name in without)}," in listed


class _Template(yaml.SafeLoader):  # pylint: disable=too-many-ancestors
    """YAML with the short forms of CloudFormation: !Ref X, !GetAtt X.Y."""


_Template.add_multi_constructor("!", lambda loader, tag, node: {tag: loader.construct_scalar(node)})


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("Ref", "GetAtt"):
                yield item.partition(".")[0]
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_the_stack_is_whole_and_has_the_owner_s_numbers() -> None:
    text = (EXAMPLES / "09-watching/aws.yaml").read_text(encoding="utf-8")
    stack = yaml.load(text, _Template)  # noqa: S506: a safe loader, with tags
    resources = stack["Resources"]
    assert set(_references(resources)) <= set(resources) | set(stack["Parameters"])
    assert set(stack["Parameters"]) <= set(_references(resources))
    group = resources["AutoScalingGroup"]["Properties"]
    assert [group[key] for key in ("MinSize", "MaxSize", "DesiredCapacity", "HealthCheckType", "HealthCheckGracePeriod")] == [
        "3", "4", "3", "EC2", 300]
    alarm = resources["GathererDownAlarm"]["Properties"]
    assert [alarm[key] for key in ("MetricName", "Threshold", "ComparisonOperator", "AlarmActions")] == [
        "HealthyHostCount", 2, "LessThanThreshold", [{"Ref": "SNSTopic"}]]
    boot = resources["LaunchTemplate"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]
    done = subprocess.run(["shellcheck", "-"], input=boot, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=_name)
def test_check_finds_nothing(script: Path) -> None:
    done = subprocess.run([program("tidemill"), "check", script], capture_output=True, text=True, timeout=30, check=False,
                          env={**os.environ, **NO_EXCHANGE})
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

    def run(name: str, script: str | Path = "gatherer.lua", feed: Mapping[str, Any] | None = None, **env: str) -> Run:
        exchange = Exchange(directory, {**FEED, **(feed or {})})
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


@pytest.mark.slow
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


def _listening(exchange: Exchange, channel: str) -> tuple[Counter[str], Counter[str], int]:
    """Markets by how often they were subscribed and taken off, and how many connections there have been."""
    exchange.flush_ledger()
    channels: dict[tuple[str, str], str] = {}
    told: Counter[str] = Counter()
    off: Counter[str] = Counter()
    connects = 0
    for line in exchange.ledger.read_text(encoding="utf-8").splitlines():
        what, about, ticker, client, sid = (line.split("\t")[i] for i in (0, 3, 4, 11, 13))
        connects += what == "connect"
        if what == "open":
            channels[client, sid] = about
        elif what in ("listen", "unlisten") and channels[client, sid] == channel:
            (told if what == "listen" else off)[ticker] += 1
    return told, off, connects


@pytest.mark.slow
def test_03_markets_follow_the_rules_and_a_reload_sends_the_difference(run_example: Callable[..., Run],
                                                                       directory: Path) -> None:
    script = directory / "gatherer.lua"
    text = (EXAMPLES / "03-choosing-markets/gatherer.lua").read_text(encoding="utf-8")
    script.write_text(text, encoding="utf-8")
    run = run_example("03-choosing-markets", script, SERIES="KXSIM00", TICKER="KXSIM02-E000002-T19")
    first = {f"KXSIM00-E000000-{end}" for end in ("T0", "T1", "T2", "T3", "T4", "T5", "T6", "B7.5")}

    def subscribed(channel: str, count: int) -> None:
        wait_until(f"{count} markets of {channel}", lambda: run.gatherer.metrics().sum(
            "market_subscriptions", channel=channel) == count, TIMEOUT, run.gatherer.process.log_tail)
        wait_until(f"the exchange was told of {channel}", lambda: sum(
            _listening(run.exchange, channel)[0].values()) >= count, TIMEOUT, run.gatherer.process.log_tail)

    subscribed("trade", 9)
    subscribed("ticker", 20)
    wait_until("depth is subscribed", lambda: run.gatherer.metrics().sum(
        "market_subscriptions", channel="orderbook_delta") == len(first), TIMEOUT, run.gatherer.process.log_tail)
    told, off, connects = _listening(run.exchange, "trade")
    assert told == Counter(first | {"KXSIM02-E000002-T19"}) and not off

    assert text.count('series .. "*",') == 1
    script.write_text(text.replace('series .. "*",', 'series .. "*", "KXSIM01*-B*",').replace(
        "KXETH-26NOV05-T1", "unused").replace('tm.env("TICKER", "unused")', '"KXSIM02-E000002-T18"'), encoding="utf-8")
    assert run.gatherer.reload().returncode == 0
    wait_until("the other market is taken off", lambda: _listening(run.exchange, "trade")[1], TIMEOUT,
               run.gatherer.process.log_tail)
    now, off, connects_now = _listening(run.exchange, "trade")
    assert now - told == Counter({"KXSIM01-E000001-B15.5", "KXSIM02-E000002-T18"})
    assert off == Counter({"KXSIM02-E000002-T19"}) and connects_now == connects

    run.begin()
    run.emitted("trades")
    run.until("SELECT count(*) > 0 FROM orderbook_deltas")
    run.until("SELECT count(DISTINCT ticker) > 8 FROM tickers")
    assert run.store.value("SELECT count(*) FROM orderbook_deltas WHERE ticker NOT LIKE 'KXSIM00-%'") == 0
    assert run.store.value("SELECT count(*) FROM trades WHERE ticker NOT LIKE 'KXSIM00-%' AND ticker NOT IN"
                           " ('KXSIM01-E000001-B15.5', 'KXSIM02-E000002-T18')") == 0


def test_04_a_key_from_a_moment_on(run_example: Callable[..., Run],
                                   make_cluster: Callable[[str], PostgresCluster], directory: Path) -> None:
    begin = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1)
    moment = (begin + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    run = run_example("04-dedup-keys", KEYS_FROM=moment, feed={
        "start_time": begin.strftime("%Y-%m-%dT%H:%M:%SZ"), "repeat_bursts": 0.2,
        "mix": "deltas=90,tickers=6,trades=4"})
    production = make_cluster("production")
    merger = Deduplicator("dedup", directory, gatherers={"g1": run.store.conninfo()},
                          production=production.conninfo(), script=EXAMPLES / "04-dedup-keys/deduplicator.lua",
                          env={"KEYS_FROM": moment})
    try:
        merger.start()
        run.begin()
        trades, deltas = run.emitted("trades"), run.emitted("orderbook_deltas")
        run.until(f"SELECT count(*) = {trades} FROM trades", production)
        run.until(f"SELECT count(*) = {deltas} FROM orderbook_deltas", production)
        level = "ticker, exchange_ts, side, price"
        twice = (f"SELECT count(*) FROM (SELECT FROM orderbook_deltas WHERE exchange_ts {{}} '{moment}'"
                 f" GROUP BY {level}, occurrence HAVING count(*) > 1) AS levels")
        for cluster in (run.store, production):
            assert cluster.value(twice.format("<")) > 0, "no two amounts at one level, so this run proves nothing"
            assert cluster.value(twice.format(">=")) == 0
            assert cluster.value(f"SELECT count(*) FROM orderbook_deltas WHERE exchange_ts >= '{moment}'"
                                 " AND occurrence > (SELECT min(occurrence) FROM orderbook_deltas)") > 0
    finally:
        merger.process.stop()
    assert merger.process.complaints() == []


def test_05_own_stream(run_example: Callable[..., Run]) -> None:
    run = run_example("05-own-stream", STATUS_EVERY="200ms")
    run.begin()
    trades = run.emitted("trades")
    run.until(f"SELECT count(*) = {trades} FROM trades")
    # yes and no are two sides of one dollar
    assert run.store.value("SELECT count(*) FROM trades WHERE price + no_price <> 1000000 OR no_price IS NULL") == 0
    run.until("SELECT count(*) > 2 FROM exchange_status WHERE exchange_active AND document ? 'trading_active'")


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A URL on loopback, and the messages that were posted to it."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        """Takes every message."""

        def do_POST(self) -> None:  # pylint: disable=invalid-name
            """Keep it."""
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/messages", messages
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_06_alerts_are_told(run_example: Callable[..., Run], inbox: tuple[str, list[dict[str, Any]]]) -> None:
    url, messages = inbox
    run = run_example("06-alerts", OPS_URL=url, DISCONNECTED_FOR="1s",
                      feed={"seconds": 15, "mix": "deltas=50,tickers=30,trades=20"})

    def told(alert: str, state: str) -> dict[str, Any]:
        found = wait_until(f"{alert} is {state}", lambda: [message for message in list(messages) if message["fields"].get(
            "alert") == alert and message["fields"]["state"] == state], TIMEOUT, run.gatherer.process.log_tail)
        return found[0]

    run.begin()
    run.until("SELECT count(*) > 5 FROM trades")  # what follows a hole is told from what was before it
    run.exchange.fault("kind=gap,count=2,channel=trade")
    message = told("FeedGaps", "firing")
    assert message["id"] == "g1" and "trade/1" in message["text"] and message["fields"]["severity"] == "warning"
    metrics = run.gatherer.metrics()
    assert metrics.get("feed_gaps_total", connection="trade/1") >= 1
    assert metrics.get("tidemill_alert_state", alert="FeedGaps") == 2
    assert metrics.get("tidemill_alert_state", alert="Disconnected") == 0

    run.exchange.fault("kind=handshake,status=503,for=5s")
    run.exchange.fault("kind=disconnect,how=fin")
    assert told("Disconnected", "firing")["fields"]["severity"] == "critical"
    told("Disconnected", "resolved")
    assert run.gatherer.metrics().get("tidemill_notify_sent_total", target="ops") >= 3


def test_07_recovery_offline() -> None:
    done = subprocess.run([program("tidemill"), "test", EXAMPLES / "07-recovery"], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and "4 passed, 0 failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_07_books_are_read_after_an_outage(run_example: Callable[..., Run]) -> None:
    run = run_example("07-recovery", feed={"seconds": 8})
    run.begin()
    run.until("SELECT count(DISTINCT ticker) >= 20 FROM orderbook_snapshots WHERE source = 'ws'")
    assert run.store.value("SELECT count(*) FROM orderbook_snapshots WHERE source = 'rest'") == 0
    run.exchange.fault("kind=disconnect,how=fin")
    run.until("SELECT count(*) = 1 FROM recovery_runs WHERE routine = 'check_books' AND state = 'done'")
    run.until("SELECT count(DISTINCT ticker) >= 15 FROM orderbook_snapshots WHERE source = 'rest'")
    trades = run.emitted("trades")
    run.until(f"SELECT count(*) = {trades} FROM trades")  # those of the outage have come from REST
    assert run.gatherer.metrics().get("tidemill_recovery_runs_total", routine="check_books", result="done") == 1
