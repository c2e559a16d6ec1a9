"""Which markets a gatherer subscribes to: the exchange's ledger says what it was asked for and on which connection."""
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import Exchange, Gatherer, PostgresCluster, wait_until
from harness.http import request

SCRIPT = """
local tm     = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer {{
  id = tm.env "TIDEMILL_ID", store = tm.env "TIDEMILL_STORE", data = tm.env "TIDEMILL_DATA",
  health = tm.env "TIDEMILL_HEALTH", metrics = tm.env "TIDEMILL_METRICS", socket = tm.env "TIDEMILL_SOCKET",
}}
local exchange = kalshi.exchange {{
  ws_url = tm.env "KALSHI_WS_URL", rest_url = tm.env "KALSHI_REST_URL", sweep = "1s", rest_per_second = 100,
}}
{subscriptions}
"""

Subscriptions = dict[str, dict[str, int]]  # channel -> market -> connection


class Listening:
    """What the ledger says is subscribed now, and what has been."""

    def __init__(self, exchange: Exchange) -> None:
        exchange.flush_ledger()
        self.all: dict[str, set[int]] = {}  # channel -> connections that listen to it without a list
        self.some: Subscriptions = {}
        self.opened: list[tuple[str, int]] = []
        self.removed: Counter[str] = Counter()
        channels: dict[tuple[int, int], str] = {}
        for line in exchange.ledger.read_text(encoding="utf-8").splitlines():
            what, ticker, client, sid, detail = (line.split("\t")[i] for i in (0, 4, 11, 13, 15))
            key = (int(client), int(sid)) if r"\N" not in (client, sid) else (0, 0)
            if what == "open":
                channels[key] = line.split("\t")[3]
                self.opened.append((channels[key], key[0]))
                if json.loads(detail)["all"]:
                    self.all.setdefault(channels[key], set()).add(key[0])
            elif what in ("listen", "snapshot"):
                self.some.setdefault(channels[key], {})[ticker] = key[0]
            elif what == "unlisten":
                self.removed[channels[key]] += 1
                self._drop(channels[key], lambda t, c, k=key, gone=ticker: t == gone and c == k[0])
            elif what == "close":
                self._drop(channels[key], lambda _, c, k=key: c == k[0])
                self.all.get(channels[key], set()).discard(key[0])

    def _drop(self, channel: str, leaves: Callable[[str, int], bool]) -> None:
        markets = self.some.get(channel, {})
        self.some[channel] = {t: c for t, c in markets.items() if not leaves(t, c)}

    def markets(self, channel: str) -> set[str]:
        """Of a channel, over all connections."""
        return set(self.some.get(channel, {}))

    def connections(self, channel: str) -> dict[int, int]:
        """How many markets each connection has."""
        return dict(Counter(self.some.get(channel, {}).values()))


def _markets(exchange: Exchange) -> dict[str, str]:
    """Every market that REST knows and its status: the second source."""
    found: dict[str, str] = {}
    cursor = ""
    while True:
        page = request(f"{exchange.rest_url}/markets?limit=1000&cursor={cursor}").json()
        found.update({market["ticker"]: market["status"] for market in page["markets"]})
        cursor = page["cursor"]
        if not cursor:
            return found


class Setup:
    """An exchange, and a gatherer with a script of its own."""

    def __init__(self, directory: Path, store: PostgresCluster, options: dict[str, object], subscriptions: str) -> None:
        self.exchange = Exchange(directory, {"hold": True, **options})
        script = directory / "gatherer.lua"
        script.write_text(SCRIPT.format(subscriptions=subscriptions), encoding="utf-8")
        self.gatherer = Gatherer("g1", directory, store=store.conninfo(), ws_url=f"{self.exchange.ws_url}?label=g1",
                                 rest_url=self.exchange.rest_url, script=script)

    def start(self) -> None:
        """Both; the exchange sends nothing yet."""
        self.exchange.start()
        self.gatherer.start()

    def wait(self, what: str, condition: Callable[[Listening], bool], timeout: float = 60.0) -> Listening:
        """Until the ledger says so."""
        last: list[Listening] = []

        def holds() -> bool:
            last[:] = [Listening(self.exchange)]
            return condition(last[0])

        wait_until(what, holds, timeout, lambda: f"{last[0].some} {last[0].all}\n{self.gatherer.process.log_tail()}")
        return last[0]


@pytest.fixture
def make_setup(directory: Path, make_cluster: Callable[[str], PostgresCluster]) -> Iterator[Callable[..., Setup]]:
    """Makes a setup; what its logs complain about fails the test, but for `expected` errors."""
    made: list[tuple[Setup, tuple[str, ...]]] = []

    def make(options: dict[str, object], subscriptions: str, expected: tuple[str, ...] = ()) -> Setup:
        setup = Setup(directory, make_cluster("store"), options, subscriptions)
        made.append((setup, expected))
        setup.start()
        return setup

    yield make
    for setup, expected in made:
        setup.gatherer.process.stop()
        setup.exchange.process.stop()
        assert setup.gatherer.process.complaints(expected) == []
        assert setup.exchange.process.complaints() == []


def test_all_of_a_channel_a_list_and_a_pattern(make_setup: Callable[..., Setup]) -> None:
    named = ["KXSIM00-E000000-T0", "KXSIM01-E000001-T9", "KXSIM02-E000002-B23.5"]
    setup = make_setup({"markets": 400}, f"""
        exchange:subscribe("market_lifecycle_v2")
        exchange:subscribe("ticker", {{ connections = 2 }})
        exchange:subscribe("trade", {{ connections = 2, markets = {{ "{'", "'.join(named)}" }} }})
        exchange:subscribe("orderbook_delta", {{ connections = 3, chunk = 7,
                                                 markets = {{ "KXSIM0*", "*-T399", "KXSIM11-E000011-T88" }} }})
    """)
    markets = _markets(setup.exchange)
    matching = {t for t in markets if t.startswith("KXSIM0") or t.endswith("-T399") or t == "KXSIM11-E000011-T88"}
    assert len(markets) == 400 and 80 < len(matching) < 200 and set(named) <= set(markets)
    now = setup.wait("all that was asked for is subscribed",
                     lambda l: l.markets("orderbook_delta") == matching and l.markets("trade") == set(named)
                     and len(l.all.get("ticker", ())) == 2 and len(l.all.get("market_lifecycle_v2", ())) == 1)
    assert max(now.connections("orderbook_delta").values()) - min(now.connections("orderbook_delta").values()) <= 1
    assert sorted(now.connections("trade").values()) == [1, 2]
    assert not now.all.get("trade") and not now.all.get("orderbook_delta") and not now.removed

    # a connection that comes back brings its markets with it
    setup.exchange.fault("kind=disconnect,how=rst,label=g1")
    before = len(now.opened)
    setup.wait("it is all there again", lambda l: len(l.opened) >= 2 * before
               and l.markets("orderbook_delta") == matching and l.markets("trade") == set(named)
               and len(l.all.get("ticker", ())) == 2)


def test_markets_that_appear_and_close_follow_the_rule(make_setup: Callable[..., Setup]) -> None:
    setup = make_setup({"markets": 120, "rate": 400, "seconds": 14, "seed": 3,
                        "mix": "deltas=60,tickers=5,trades=5,lifecycle=30"}, """
        exchange:subscribe("market_lifecycle_v2")
        exchange:subscribe("multivariate_market_lifecycle")
        exchange:subscribe("orderbook_delta", { connections = 2, chunk = 10, markets = kalshi.open_markets })
        exchange:subscribe("ticker", { markets = function(market)
          return market.series_ticker == "KXSIM03" and kalshi.open_markets(market)
        end })
        exchange:subscribe("trade", { markets = "KXSIM0*" })
    """)
    first = set(_markets(setup.exchange))
    setup.wait("the first markets are subscribed", lambda l: l.markets("orderbook_delta") == first)
    setup.exchange.control("start")
    wait_until("the exchange has sent all", setup.exchange.is_finished, 60)

    def follows(listening: Listening) -> bool:
        statuses = _markets(setup.exchange)
        live = {t for t, status in statuses.items() if status in ("active", "inactive")}
        known = {t for t, status in statuses.items() if status != "finalized"}
        return (listening.markets("orderbook_delta") == live
                and listening.markets("ticker") == {t for t in live if t.startswith("KXSIM03-")}
                and listening.markets("trade") == {t for t in known if t.startswith("KXSIM0")})

    now = setup.wait("the subscriptions are those of the markets that there are now", follows)
    after = _markets(setup.exchange)
    created = set(after) - first
    assert created & now.markets("orderbook_delta"), "no market was created, so this run proves nothing"
    assert now.removed["orderbook_delta"] > 0 and now.removed["trade"] > 0
    assert len(now.opened) == 6, "a connection came back, so that more than differences may have been sent"

    # what was taken out stays out when the connections come back
    setup.exchange.fault("kind=disconnect,how=rst,label=g1")
    setup.wait("they are the same after a reconnect", lambda l: len(l.opened) >= 12 and follows(l))
    metrics = setup.gatherer.metrics()
    assert metrics.get("subscription_rule_errors_total", channel="ticker") == 0
    assert metrics.get("market_subscriptions", channel="trade") == len(now.markets("trade"))


def test_a_limit_of_markets_is_approached(make_setup: Callable[..., Setup]) -> None:
    setup = make_setup({"markets": 60, "subscription_limit": 40}, """
        exchange:subscribe("trade", { chunk = 60, markets = "all" })
    """, expected=("takes no more markets on this connection",))
    setup.wait("as many as the exchange takes are subscribed", lambda l: len(l.markets("trade")) == 40, 90)
    wait_until("it says that it was refused the rest", lambda: (setup.gatherer.metrics().get(
        "subscription_limits_total", channel="trade") or 0) > 0, 60, setup.gatherer.process.log_tail)


def test_a_rule_that_fails_costs_nothing_but_itself(make_setup: Callable[..., Setup]) -> None:
    setup = make_setup({"markets": 24}, """
        exchange:subscribe("trade", { every = "1s", markets = function(market)
          if market.ticker == "KXSIM00-E000000-T3" then return market.volum > 0 end
          return market.event_ticker == "KXSIM00-E000000"
        end })
        exchange:subscribe("ticker", { markets = "*-T1*" })
    """, expected=("the choice of markets failed",))
    markets = _markets(setup.exchange)
    wanted = {t for t in markets if t.startswith("KXSIM00-E000000-")} - {"KXSIM00-E000000-T3"}
    setup.wait("the other markets are subscribed", lambda l: l.markets("trade") == wanted
               and l.markets("ticker") == {t for t in markets if "-T1" in t})
    wait_until("it is asked again", lambda: setup.gatherer.metrics().get(
        "subscription_rule_errors_total", channel="trade") >= 3, 30, setup.gatherer.process.log_tail)
    assert 'did you mean \\"volume\\"?' in setup.gatherer.process.log()


# What a reload does, as far as subscriptions go: the old generation's timers stop, a new session object is made and opens
# what it finds in the host. Each begins when the one before it has nothing left to say.
GENERATIONS = """
exchange:subscribe("trade", { connections = 2, chunk = 5, every = "1s", markets = "KXSIM0*" })
local session, rule, frames = require "kalshi.session", require "tidemill.rule", 0
local rules = { "KXSIM0*", { "KXSIM00*", "KXSIM02*", "KXSIM10*" } }

local function next_generation(choice)
  local old = exchange.sessions[1]
  old.flush, old.chooser.step = function() end, function() return false end
  local new = session.new { channel = "trade", connections = 2, chunk = 5, rule = rule.check(choice), every_us = 1e6,
                            commands_per_second = 100 }
  new.exchange, exchange.sessions[1] = exchange, new
  new:open(exchange.feed, exchange.markets)
  for _, link in ipairs(new.links) do
    local send = link.send
    function link:send(bytes) frames = frames + 1 return send(self, bytes) end
  end
end

tm.every("100ms", function()
  local s = exchange.sessions[1]
  local settled = s.spread and s.spread:stats().names > 0 and s.spread:pending() == 0 and s.chooser.passes >= 3
    and exchange.markets.whole and s.links[1]:subscriptions().trade and s.links[2]:subscriptions().trade
  if not settled then return end
  tm.gauge("generation_settled", "test", ('generation="%d"'):format(3 - #rules)):set(1)
  tm.gauge("generation_frames", "test", ('generation="%d"'):format(3 - #rules)):set(frames)
  if #rules > 0 then
    frames = 0
    next_generation(table.remove(rules, 1))
  end
end)
"""


def test_the_next_generation_sends_only_the_difference(make_setup: Callable[..., Setup]) -> None:
    setup = make_setup({"markets": 200}, GENERATIONS)
    markets = _markets(setup.exchange)
    first = {t for t in markets if t.startswith("KXSIM0")}
    last = {t for t in markets if t.startswith(("KXSIM00", "KXSIM02", "KXSIM10"))}
    assert first - last and last - first and first & last
    wait_until("three generations have said all they had to say", lambda: setup.gatherer.metrics().sum(
        "generation_settled", generation="3") == 1, 60, setup.gatherer.process.log_tail)
    now = setup.wait("the third generation's markets are subscribed", lambda l: l.markets("trade") == last)
    assert now.removed["trade"] == len(first - last)
    assert now.opened == [("trade", 1), ("trade", 2)] or now.opened == [("trade", 2), ("trade", 1)]
    frames = {n: setup.gatherer.metrics().get("generation_frames", generation=str(n)) for n in (2, 3)}
    assert frames[2] == 0, "the same rule, and something was sent"
    added, removed = len(last - first), len(first - last)
    assert 0 < frames[3] <= added / 5 + removed / 5 + 4, "no more frames than the difference needs, two connections"
