"""tidemill-exchange's REST side: lists, cursors, filters, error bodies, rate limits."""
from __future__ import annotations

import http.client
import urllib.parse
from datetime import datetime
from typing import Any

import pytest

from exchange_client import (Connect, MakeExchange, connect, delivered_all, emitted_all, get, make_exchange, tickers)
from harness.daemons import Exchange

__all__ = ["connect", "make_exchange"]

TOO_MANY_NESTED = {"error": {"code": "too_many_requests", "message": "too many requests"}}


def pages(exchange: Exchange, path: str, key: str, **params: Any) -> list[list[dict[str, Any]]]:
    """All pages of a list."""
    found: list[list[dict[str, Any]]] = []
    cursor = ""
    while True:
        body = get(f"{exchange.rest_url}{path}?{urllib.parse.urlencode({**params, 'cursor': cursor})}").body
        found.append(body[key])
        cursor = body["cursor"]
        if not cursor:
            return found


def unix_us(text: str) -> int:
    """RFC 3339 with trimmed zeros to microseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.fromisoformat(whole + "+00:00").timestamp()
    return int(seconds) * 1_000_000 + int(fraction.ljust(6, "0"))


def test_pages_of_markets_are_complete_and_without_overlap(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True, markets=1050)
    listed = pages(exchange, "/markets", "markets", limit=100)
    assert [len(page) for page in listed] == [100] * 10 + [50]
    names = [market["ticker"] for page in listed for market in page]
    assert len(set(names)) == 1050
    assert names == tickers(exchange) + names[1000:], "1000 is the largest page, and the default is 100"
    assert len(get(exchange.rest_url + "/markets").body["markets"]) == 100


def test_an_exact_last_page_has_no_cursor(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True, markets=200)
    assert [len(page) for page in pages(exchange, "/markets", "markets", limit=100)] == [100, 100]


def test_garbage_cursor_is_page_one(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True, markets=30)
    first = get(exchange.rest_url + "/markets?limit=7").body
    for garbage in ("%21%21", "AAAA", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "CA", first["cursor"][:-3], "x" * 300):
        assert get(f"{exchange.rest_url}/markets?limit=7&cursor={garbage}").body == first
    assert get(f"{exchange.rest_url}/markets?limit=7&cursor={first['cursor']}").body != first


def test_bad_limits_are_refused_as_the_real_exchange_does(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True)
    answer = get(exchange.rest_url + "/markets?limit=1001")
    assert answer.status == 400
    assert answer.body["msg"] == ("Parameter validation failed for GetMarkets: Key: 'GetMarketsParams.Limit' "
                                  "Error:Field validation for 'Limit' failed on the 'lte' tag")
    answer = get(exchange.rest_url + "/markets?limit=abc")
    assert (answer.status, answer.body["msg"]) == (
        400, "Invalid format for parameter limit: error binding string parameter")


def test_filters_of_markets(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True, markets=400, combo_every=5)
    markets = get(exchange.rest_url + "/markets?limit=1000").body["markets"]
    assert len(markets) == 400

    def listed(**params: Any) -> list[dict[str, Any]]:
        return [market for page in pages(exchange, "/markets", "markets", limit=9, **params) for market in page]

    event = markets[200]["event_ticker"]
    assert listed(event_ticker=event) == [m for m in markets if m["event_ticker"] == event] != []
    series = event.split("-")[0]
    assert listed(series_ticker=series) == [m for m in markets if m["ticker"].startswith(series + "-")] != []
    wanted = [markets[5]["ticker"], "KXNOSUCH-1", markets[77]["ticker"]]
    assert [m["ticker"] for m in listed(tickers=",".join(wanted))] == [wanted[0], wanted[2]]
    assert listed(mve_filter="only") == [m for m in markets if m["ticker"].startswith("KXMVE")] != []
    assert listed(mve_filter="exclude") == [m for m in markets if not m["ticker"].startswith("KXMVE")] != []
    assert listed(status="open") == markets and listed(status="settled") == [] == listed(status="paused,closed")
    moment = sorted(m["close_time"] for m in markets)[200]
    seconds = int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp())
    assert listed(min_close_ts=seconds) == [m for m in markets if m["close_time"] >= moment]
    assert listed(max_close_ts=seconds - 1) == [m for m in markets if m["close_time"] < moment] != []
    assert get(exchange.rest_url + "/markets?min_close_ts=1&min_created_ts=1").status == 400


def test_statuses_follow_the_lives_of_markets(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(markets=60, rate=0, events=30000, created_404="0", mix="deltas=80,lifecycle=20")
    emitted_all(exchange)
    groups = {"open": {"active"}, "paused": {"inactive"}, "closed": {"closed", "determined"}, "settled": {"finalized"}}
    total = 0
    for group, statuses in groups.items():
        found = [m for page in pages(exchange, "/markets", "markets", limit=1000, status=group) for m in page]
        assert {m["status"] for m in found} <= statuses
        assert all((m["result"] != "") == (m["status"] in ("determined", "finalized")) for m in found)
        total += len(found)
    assert total == sum(len(page) for page in pages(exchange, "/markets", "markets", limit=1000)) > 60


def test_one_market_and_its_book(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(markets=10, rate=0, events=5000, mix="lifecycle=0")
    emitted_all(exchange)
    for market in get(exchange.rest_url + "/markets").body["markets"]:
        url = f"{exchange.rest_url}/markets/{market['ticker']}"
        assert get(url).body["market"] == market
        book = get(url + "/orderbook").body["orderbook_fp"]
        assert all(side == sorted(side) for side in book.values()), "ascending, the best bid last"
        yes, no = book["yes_dollars"], book["no_dollars"]
        assert market["yes_bid_dollars"] == (yes[-1][0] if yes else "0.0000")
        assert float(market["yes_ask_dollars"]) == pytest.approx(1 - float(no[-1][0]) if no else 1)
        assert market["yes_bid_size_fp"] == (yes[-1][1] if yes else "0.00")
        assert float(market["yes_bid_dollars"]) < float(market["yes_ask_dollars"])
        assert get(url + "/orderbook?depth=2").body["orderbook_fp"] == {k: v[-2:] for k, v in book.items()}
    assert get(f"{exchange.rest_url}/markets/KXNOSUCH-1").body == {"error": {"code": "not_found", "message": "not found"}}
    assert get(f"{exchange.rest_url}/markets/KXNOSUCH-1/orderbook").status == 404


def test_batch_of_books_takes_repeated_parameters(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True, markets=150)
    names = tickers(exchange)
    answer = get(f"{exchange.rest_url}/markets/orderbooks?tickers={names[0]}&tickers={names[1]}").body
    assert [book["ticker"] for book in answer["orderbooks"]] == names[:2]
    assert answer["orderbooks"][1]["orderbook_fp"] == get(
        f"{exchange.rest_url}/markets/{names[1]}/orderbook").body["orderbook_fp"]
    comma = get(f"{exchange.rest_url}/markets/orderbooks?tickers={names[0]},{names[1]}").body
    assert len(comma["orderbooks"]) == 1
    query = "&".join(f"tickers={name}" for name in names[:101])
    assert get(f"{exchange.rest_url}/markets/orderbooks?{query}").status == 400
    assert get(f"{exchange.rest_url}/markets/orderbooks").status == 400


def test_trades_equal_those_of_the_feed_newest_first(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=10, rate=10000, events=15000, wait_clients=1)
    client = connect(exchange)
    client.subscribe(["trade"])
    delivered_all(exchange, client)
    feed = [frame["msg"] for frame in client.of("trade")]
    rest = [trade for page in pages(exchange, "/markets/trades", "trades", limit=37) for trade in page]
    assert [trade["trade_id"] for trade in rest] == [trade["trade_id"] for trade in reversed(feed)]
    for ours, theirs in zip(reversed(feed), rest):
        assert theirs["ticker"] == ours["market_ticker"]
        for name in ("count_fp", "yes_price_dollars", "no_price_dollars", "taker_side", "is_block_trade"):
            assert ours[name] == theirs[name]
        assert unix_us(theirs["created_time"]) // 1000 == ours["ts_ms"]
    name = rest[0]["ticker"]
    mine = [trade for page in pages(exchange, "/markets/trades", "trades", ticker=name, limit=5) for trade in page]
    assert mine == [trade for trade in rest if trade["ticker"] == name]
    assert get(exchange.rest_url + "/markets/trades?ticker=KXNOSUCH-1").body == {"trades": [], "cursor": ""}
    assert get(exchange.rest_url + "/markets/trades?is_block_trade=true").body["trades"] == []
    assert get(exchange.rest_url + "/markets/trades?cursor=garbage").body["trades"] == rest[:100]


def test_trades_between_two_seconds(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(markets=10, rate=1000, events=10000, start_time="2026-11-05T14:00:00Z",
                             historical_age="3000d")
    exchange.control("start")
    emitted_all(exchange)
    start = 1793887200
    everything = [t for page in pages(exchange, "/markets/trades", "trades", limit=1000) for t in page]
    some = [t for page in pages(exchange, "/markets/trades", "trades", limit=10, min_ts=start + 3, max_ts=start + 5)
            for t in page]
    assert some == [t for t in everything if "2026-11-05T14:00:03" <= t["created_time"] < "2026-11-05T14:00:05.000001"]
    assert 0 < len(some) < len(everything)


def test_old_trades_move_to_the_historical_endpoint(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(markets=10, rate=0, events=5000, historical_age="0", cache="0")
    emitted_all(exchange)
    assert get(exchange.rest_url + "/markets/trades").body["trades"] == []
    old = [t for page in pages(exchange, "/historical/trades", "trades", limit=50) for t in page]
    assert len(old) == len({t["trade_id"] for t in old}) > 100
    assert set(get(exchange.rest_url + "/historical/cutoff").body) == {
        "market_settled_ts", "trades_created_ts", "orders_updated_ts", "market_positions_last_updated_ts"}


def test_settled_markets_move_to_the_historical_endpoint(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(markets=40, rate=0, events=40000, historical_age="0", created_404="0",
                             mix="deltas=80,lifecycle=20")
    emitted_all(exchange)
    old = [m["ticker"] for page in pages(exchange, "/historical/markets", "markets", limit=7) for m in page]
    live = tickers(exchange)
    assert old and live and not set(old) & set(live)
    for path, there, elsewhere in (("/historical/markets", old, live), ("/markets", live, old)):
        named = get(f"{exchange.rest_url}{path}?tickers={elsewhere[0]},{there[1]},{there[0]}").body["markets"]
        assert [market["ticker"] for market in named] == [there[1], there[0]]
        assert [get(f"{exchange.rest_url}{path}/{name}").status for name in (there[0], elsewhere[0])] == [200, 404]


def test_events_and_series_agree_with_markets(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True, markets=500)
    markets = [m for page in pages(exchange, "/markets", "markets", limit=1000) for m in page]
    events = [e for page in pages(exchange, "/events", "events", limit=11) for e in page]
    assert {e["event_ticker"] for e in events} == {m["event_ticker"] for m in markets}
    assert len(events) == 63
    nested = get(exchange.rest_url + "/events?with_nested_markets=true&limit=200").body["events"]
    assert {m["ticker"] for e in nested for m in e["markets"]} == {m["ticker"] for m in markets}
    one = get(f"{exchange.rest_url}/events/{events[3]['event_ticker']}").body
    assert one["event"] == events[3] and [m["event_ticker"] for m in one["markets"]] == [events[3]["event_ticker"]] * 8
    assert get(exchange.rest_url + "/events/KXNOSUCH").status == 404
    assert get(exchange.rest_url + "/events?limit=201").status == 400
    series = get(exchange.rest_url + "/series").body["series"]
    assert {s["ticker"] for s in series} == {e["series_ticker"] for e in events}
    assert get(f"{exchange.rest_url}/series/{series[0]['ticker']}").body["series"] == series[0]
    assert get(exchange.rest_url + "/series/KXNOSUCH").status == 404


def test_status_schedule_limits_and_unrouted_paths(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True)
    status = get(exchange.rest_url + "/exchange/status").body
    assert status["exchange_active"] is status["trading_active"] is True
    hours = get(exchange.rest_url + "/exchange/schedule").body["schedule"]["standard_hours"][0]
    assert hours["thursday"] == [{"open_time": "00:00", "close_time": "03:00"}, {"open_time": "05:00", "close_time": "00:00"}]
    assert get(exchange.rest_url + "/account/limits").body["read"] == {"refill_rate": 200, "bucket_capacity": 400}
    answer = get(exchange.rest_url + "/no/such/path")
    assert answer.status == 404 and answer.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize("shape, body", [("nested", TOO_MANY_NESTED), ("flat", {"error": "too many requests"})])
def test_token_bucket_runs_out_in_both_shapes(make_exchange: MakeExchange, shape: str, body: Any) -> None:
    exchange = make_exchange(hold=True, rate_limit=0.1, rate_burst=500, rate_shape=shape)
    answers = [get(exchange.rest_url + "/exchange/status") for _ in range(7)]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 2, "50 tokens are 5 requests"
    assert answers[-1].body == body
    assert "Retry-After" not in answers[-1].headers
    other = get(exchange.rest_url + "/exchange/status", {"KALSHI-ACCESS-KEY": "another"})
    assert other.status == 200, "every key has a bucket of its own"


def test_keep_alive_head_pipelining_and_close(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True)
    connection = http.client.HTTPConnection("127.0.0.1", exchange.port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/trade-api/v2/exchange/status")
        reply = connection.getresponse()
        body = reply.read()
        socket = connection.sock
        assert reply.status == 200 and socket is not None, "the connection stays"
    connection.request("HEAD", "/trade-api/v2/exchange/status")
    reply = connection.getresponse()
    assert (reply.read(), reply.headers["Content-Length"]) == (b"", str(len(body)))
    assert connection.sock is socket
    socket.sendall(b"GET /trade-api/v2/series HTTP/1.1\r\n\r\nGET /trade-api/v2/series HTTP/1.1\r\nConnection: close\r\n\r\n")
    text = b""
    while chunk := socket.recv(65536):
        text += chunk
    assert text.count(b"HTTP/1.1 200 OK") == 2 and text.count(b"Connection: close") == 1


@pytest.mark.parametrize("text, status", [
    (b"nonsense\r\n\r\n", 400), (b"GET relative HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/2.0\r\n\r\n", 400),
    (b"POST /control/stop HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
    (b"POST /control/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * 20000, 431)])
def test_requests_that_cannot_be_read_are_answered_and_closed(make_exchange: MakeExchange, text: bytes,
                                                              status: int) -> None:
    import socket  # pylint: disable=import-outside-toplevel
    exchange = make_exchange(hold=True)
    with socket.create_connection(("127.0.0.1", exchange.port), timeout=10) as peer:
        peer.sendall(text)
        answer = b""
        while chunk := peer.recv(4096):
            answer += chunk
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_stale_markets_are_served_from_the_cache(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True, markets=3, cache="1h")
    first = get(exchange.rest_url + "/markets")
    assert first.headers["Cache-Control"] == "public, max-age=15"
    name = first.body["markets"][0]["ticker"]
    exchange.control("start")
    from harness.waiting import wait_until  # pylint: disable=import-outside-toplevel
    wait_until("a market has moved", lambda: any(
        float(get(f"{exchange.rest_url}/markets/{m['ticker']}").body["market"]["volume_fp"]) > 0
        for m in first.body["markets"]), 20)
    assert get(exchange.rest_url + "/markets").text == first.text
    assert get(exchange.rest_url + f"/markets?tickers={name}").text != first.text
