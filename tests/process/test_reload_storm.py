"""Many reloads in a row under load: good, broken, changed; nothing is lost, doubled, dropped or leaked.

In a normal run 60 reloads at 2,000 messages a second; TIDEMILL_RELOADS=1000 (scripts/test --all) makes it the full thing
at 20,000, and compares the time from the exchange's send to durable in the journal with that before the reloads. The key of
the tickers changes as often as a stream may have another one, each time from a moment on when both sides know it.
"""
from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import Lab, wait_until
from harness.http import Metrics
from harness.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.alone]

MakeLab = Callable[..., Lab]

RELOADS = int(os.environ.get("TIDEMILL_RELOADS", "60"))
FULL = RELOADS >= 1000
RATE = 20_000 if FULL else 2_000
KEY_CHANGES = range(RELOADS // 4, RELOADS, RELOADS // 4)  # a stream has four keys at most
KEY_BEGINS_S = 8  # key_margin and what the machine takes
SECONDS_PER_RELOAD = 0.2 if FULL else 0.5

RSS_SLOPE_MB = 24.0  # buffers grow with the load; a leaked generation each time would be 0.5 MB
RELOAD_P99_MS = 100  # of the full run: the small one shares its machine with other tests
QUIET_S = 20 if FULL else 1  # without reloads, to compare with
WORSE_MS = 10.0  # of the full run: 99 of 100 records are received and durable not later than that because of reloads

RECEIVED = """
SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM p.received_at - t.emitted_at) * 1000)
FROM orderbook_deltas p JOIN truth.orderbook_deltas t USING (ticker, exchange_ts, side, price, delta, occurrence)
WHERE t.emitted_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)
"""

SUBSCRIBE = 'exchange:subscribe("ticker")'


@dataclass(frozen=True)
class Kind:
    """One way to change a script; `text` is what becomes of the stock script, `count` the number of the reload."""

    name: str
    text: Callable[[str, int], str]
    good: bool
    role: str = "both"


KINDS = [
    Kind("good", lambda stock, count: f'{stock}\ntm.every("{count + 1}h", function() end)\n', True),
    Kind("syntax error", lambda stock, count: f"{stock}\nlocal x = = {count}\n", False),
    Kind("runtime error", lambda stock, count: f"{stock}\nerror('number {count}')\n", False),
    Kind("endless loop", lambda stock, count: f"{stock}\nwhile true do pcall(error) end -- {count}\n", False),
    Kind("changed subscription", lambda stock, count: stock.replace(
        SUBSCRIBE, 'exchange:subscribe("ticker", { connections = 2 })') + f"-- {count}\n", True, "gatherer"),
    Kind("changed window", lambda stock, count: f'{stock}\ntm.dedup("trades", {{ window = "{count + 24}h" }})\n', True),
]

# Tickers are the same records by each of these: who has traded as much has paid as much.
TICKER_KEY = ["ticker", "exchange_ts", "price", "yes_bid", "yes_ask", "yes_bid_size", "yes_ask_size", "last_trade_size",
              "volume", "open_interest", "dollar_open_interest"]
TICKER_KEYS = [TICKER_KEY, [*TICKER_KEY, "dollar_volume"]]


def _another_key(number: int) -> str:
    """A line for both scripts."""
    begins = datetime.now(timezone.utc) + timedelta(seconds=KEY_BEGINS_S)
    return f'\ntm.dedup("tickers", {{ key = {{ {str(TICKER_KEYS[number % 2])[1:-1]} }}, from = "{begins:%Y-%m-%dT%H:%M:%SZ}" }})\n'


class Target:
    """A daemon, the script it runs, and what its reloads were like."""

    def __init__(self, daemon: Any, script: Path, role: str) -> None:
        self.daemon, self.script, self.role = daemon, script, role
        self.stock = script.read_text(encoding="utf-8")
        self.kinds = [kind for kind in KINDS if kind.role in ("both", role)]
        self.durations: list[int] = []
        self.outcomes: Counter[str] = Counter()
        self.baseline: tuple[float, float] | None = None

    def change_key(self, line: str) -> None:
        """From now on every script has it: a key that production knows is not taken back."""
        self.stock += line
        self._run_stock()

    def _run_stock(self) -> None:
        self.script.write_text(self.stock, encoding="utf-8")
        answer = self.daemon.command("reload")
        assert answer["ok"], answer

    def reload(self, count: int) -> None:
        """The next kind in turn."""
        kind = self.kinds[count % len(self.kinds)]
        self.script.write_text(kind.text(self.stock, count), encoding="utf-8")
        answer = self.daemon.command("reload")
        assert answer["ok"] is kind.good, f"{kind.name}, number {count}: {json.dumps(answer)}"
        self.outcomes[kind.name] += 1
        if kind.good:  # an endless loop takes its whole budget
            self.durations.append(self.daemon.status()["policy"]["last_duration_ms"])

    def usage(self) -> tuple[float, float]:
        """Resident megabytes, without the keys that the load leaves in the seen-sets, and open descriptors."""
        metrics = self.daemon.metrics()
        seen_mb = metrics.sum("tidemill_seen_bytes") / (1 << 20)
        return self.daemon.process.rss_mb - seen_mb, metrics.get("process_open_fds")

    def settle(self) -> None:
        """Back to the stock script; older generations and connections that nobody wants go."""
        self._run_stock()
        wait_until("older generations are closed", lambda: self.daemon.status()["policy"]["draining"] == 0, 90)


class Latency:
    """From send to received, by the rows themselves, and from there to durable, by the metric; without and with reloads."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._times = [time.time()]
        self._scrapes = [self._scrape()]

    def _scrape(self) -> Metrics:
        return self._lab.gatherers["g1"].metrics()

    def _mark(self) -> None:
        self._times.append(time.time())
        self._scrapes.append(self._scrape())

    def quiet_ends(self) -> None:
        """The first reload comes now."""
        self._mark()

    def reloads_end(self) -> None:
        """The last one has come."""
        self._mark()

    def judge(self) -> None:
        """Both halves of the way, in milliseconds."""
        received = [float(self._lab.production.value(RECEIVED, self._times[i:i + 2])) for i in range(2)]
        durable = [1000 * self._scrapes[i + 1].quantile("tidemill_append_to_durable_seconds", 0.99, self._scrapes[i])
                   for i in range(2)]
        print(f"p99 without and with reloads: sent to received {received[0]:.1f} and {received[1]:.1f} ms, "
              f"received to durable {durable[0]:.1f} and {durable[1]:.1f} ms")
        if FULL:
            worse = received[1] - received[0] + durable[1] - durable[0]
            assert worse < WORSE_MS, f"records are durable {worse:.1f} ms later because of reloads"


def _own_script(directory: Path, name: str) -> Path:
    path = directory / f"{name}.lua"
    path.write_text((ROOT / f"lua/kalshi/{name}.lua").read_text(encoding="utf-8"), encoding="utf-8")
    return path


def _connections(lab: Lab) -> Counter[str]:
    """Connections in the ledger by what became of them, without those that the script opened and closed."""
    lab.exchange.flush_ledger()
    with open(lab.exchange.ledger, encoding="utf-8") as ledger:
        return Counter(line.split("\t", 1)[0] for line in ledger)


def _percentile(values: list[int], share: float) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def test_reloads_in_a_row_under_load(make_lab: MakeLab, tmp_path: Path) -> None:
    seconds = QUIET_S + int(RELOADS * SECONDS_PER_RELOAD) + 5
    gatherer_script, deduplicator_script = _own_script(tmp_path, "gatherer"), _own_script(tmp_path, "deduplicator")
    lab = make_lab(gatherers=1, gatherer_script=gatherer_script, deduplicator_script=deduplicator_script,
                   exchange={"seed": 7, "markets": 200, "rate": RATE, "seconds": seconds},
                   expected_errors=(r"room=policy .*(problem in the script|not reloaded)",))
    lab.start()
    gatherer = Target(lab.gatherers["g1"], gatherer_script, "gatherer")
    deduplicator = Target(lab.deduplicator, deduplicator_script, "deduplicator")
    wanted = gatherer.daemon.health()["ws_connections"]
    before = _connections(lab)
    latency = Latency(lab)
    lab.wait_emitted(QUIET_S * RATE)
    latency.quiet_ends()
    for count in range(RELOADS):
        lab.wait_emitted(int((QUIET_S + (count + 1) * SECONDS_PER_RELOAD) * RATE))
        line = _another_key(KEY_CHANGES.index(count)) if count in KEY_CHANGES else ""
        for target in (gatherer, deduplicator):
            if line:
                target.change_key(line)
            target.reload(count)
            if count == RELOADS // 5:
                target.baseline = target.usage()
    latency.reloads_end()
    for target in (gatherer, deduplicator):
        target.settle()
    wait_until("only the connections of the stock script are there",
               lambda: gatherer.daemon.health()["ws_connections"] == wanted, 60, gatherer.daemon.process.log_tail)
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    began = lab.production.value("SELECT count(*) FROM tidemill.keys k WHERE stream = 'tickers' AND from_ts > '-infinity' AND "
                                 "EXISTS (SELECT FROM tickers t WHERE t.exchange_ts > k.from_ts)")
    assert began == len(KEY_CHANGES)
    _assert_sockets_kept(lab, before, gatherer)
    latency.judge()
    for target in (gatherer, deduplicator):
        print(f"{target.role}: reloads p50 {_percentile(target.durations, 0.5)} ms, "
              f"p99 {_percentile(target.durations, 0.99)} ms")
    for target in (gatherer, deduplicator):
        _assert_flat(target)


def _assert_sockets_kept(lab: Lab, before: Counter[str], gatherer: Target) -> None:
    """Every connection made since is the one that a changed subscription asked for, and it was closed again."""
    after = _connections(lab)
    asked = gatherer.outcomes["changed subscription"]
    made = after["connect"] - before["connect"]
    assert made <= asked, f"{made} connections were made for {asked} changed subscriptions"
    assert after["disconnect"] - before["disconnect"] == made


def _assert_flat(target: Target) -> None:
    assert target.baseline is not None and sum(target.outcomes.values()) == RELOADS
    rss, fds = target.usage()
    assert rss - target.baseline[0] < RSS_SLOPE_MB, f"{target.role}: RSS {target.baseline[0]:.1f} -> {rss:.1f} MB"
    assert abs(fds - target.baseline[1]) <= 4, f"{target.role}: descriptors {target.baseline[1]} -> {fds}"
    if FULL:
        good = _percentile(target.durations, 0.99)
        assert good < RELOAD_P99_MS, f"{target.role}: 99 of 100 reloads took up to {good} ms"
