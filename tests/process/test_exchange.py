"""tidemill-exchange as its clients see it: subscriptions, sequence numbers, snapshots, errors."""
from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from exchange_client import (CHANNELS, Connect, FeedClient, MakeExchange, connect, delivered_all, fold, get,
                             make_exchange, tickers)

__all__ = ["connect", "make_exchange"]

HELD = {"hold": True, "markets": 20}


def test_acknowledgements_give_sids_in_channel_order(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    client = connect(exchange)
    assert client.subscribe(CHANNELS, market_tickers=tickers(exchange)[:3]) == {
        "orderbook_delta": 1, "trade": 2, "ticker": 3, "market_lifecycle_v2": 4}
    client.wait(lambda frame: frame["type"] == "orderbook_snapshot" and frame["seq"] == 3)
    assert [frame["seq"] for frame in client.of("orderbook_snapshot")] == [1, 2, 3]
    assert all(text.endswith("}\n") for text in client.texts)
    assert client.ask("list_subscriptions")["msg"] == [
        {"channel": channel, "sid": sid} for sid, channel in enumerate(CHANNELS, 1)]


def test_sequences_count_per_sid_and_deltas_fold_to_the_rest_book(make_exchange: MakeExchange,
                                                                  connect: Connect) -> None:
    exchange = make_exchange(markets=20, rate=20000, events=20000, wait_clients=1, mix="lifecycle=0")
    client = connect(exchange)
    sids = client.subscribe(CHANNELS, market_tickers=tickers(exchange))
    delivered_all(exchange, client)
    for channel in ("orderbook_delta", "trade"):
        sequence = client.sequence(sids[channel])
        assert sequence == list(range(1, len(sequence) + 1))
    assert not any("seq" in frame for frame in client.of("ticker"))
    query = "&".join(f"tickers={ticker}" for ticker in tickers(exchange))
    books = get(f"{exchange.rest_url}/markets/orderbooks?{query}").body["orderbooks"]
    assert {book["ticker"]: book["orderbook_fp"] for book in books} == {
        ticker: book.rest() for ticker, book in fold(client.frames).items()}
    for frame in client.of("orderbook_delta"):
        msg = frame["msg"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?Z", msg["ts"])
        assert re.fullmatch(r"0\.\d{4}", msg["price_dollars"]) and re.fullmatch(r"-?\d+\.\d\d", msg["delta_fp"])


def test_a_book_keeps_its_prices_when_the_structure_changes(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=200, rate=20000, events=4000, wait_clients=1,
                             mix="deltas=50,tickers=1,trades=1,lifecycle=48")
    client = connect(exchange)
    client.subscribe(CHANNELS, market_tickers=tickers(exchange))
    delivered_all(exchange, client)
    first_delta, changed = {}, {}
    for at, frame in enumerate(client.frames):
        if frame["type"] == "orderbook_delta":
            first_delta.setdefault(frame["msg"]["market_ticker"], at)
        elif frame["type"] == "market_lifecycle_v2" and frame["msg"]["event_type"] == "price_level_structure_updated":
            changed.setdefault(frame["msg"]["market_ticker"], at)
    open_now = [market["ticker"] for market in get(f"{exchange.rest_url}/markets?status=open&limit=1000").body["markets"]]
    seen = fold(client.frames)
    compared = [ticker for ticker in open_now if ticker in seen]
    assert any(changed.get(ticker, at) < at for ticker, at in first_delta.items() if ticker in compared)
    for ticker in compared:
        assert get(f"{exchange.rest_url}/markets/{ticker}/orderbook").body["orderbook_fp"] == seen[ticker].rest(), ticker


def test_every_trade_has_its_equal_makers_delta(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=10, rate=20000, events=20000, wait_clients=1, mix="trades=15,deltas=80,lifecycle=0")
    client = connect(exchange)
    client.subscribe(["orderbook_delta", "trade"], market_tickers=tickers(exchange))
    delivered_all(exchange, client)
    makers: Counter[tuple[Any, ...]] = Counter()
    overtaking = 0
    for frame in client.of("orderbook_delta", "trade"):
        msg = frame["msg"]
        if frame["type"] == "orderbook_delta":
            makers[msg["market_ticker"], msg["ts_ms"], msg["side"], msg["price_dollars"], Decimal(msg["delta_fp"])] += 1
    seen: Counter[tuple[Any, ...]] = Counter()
    for frame in client.of("orderbook_delta", "trade"):
        msg = frame["msg"]
        if frame["type"] == "orderbook_delta":
            seen[msg["market_ticker"], msg["ts_ms"], msg["side"], msg["price_dollars"], Decimal(msg["delta_fp"])] += 1
            continue
        maker = "no" if msg["taker_side"] == "yes" else "yes"
        key = (msg["market_ticker"], msg["ts_ms"], maker, msg[f"{maker}_price_dollars"], -Decimal(msg["count_fp"]))
        assert makers[key] >= 1
        overtaking += seen[key] == 0
        assert Decimal(msg["yes_price_dollars"]) + Decimal(msg["no_price_dollars"]) == 1
        assert msg["taker_outcome_side"] == msg["taker_side"] and msg["is_block_trade"] is False
        assert msg["taker_book_side"] == {"yes": "bid", "no": "ask"}[msg["taker_side"]]
    trades = len(client.of("trade"))
    assert trades > 1000
    assert 0.02 < overtaking / trades < 0.09, "about one in twenty trades comes before its delta"


def test_bursts_repeat_a_key_and_the_whole_delta(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=50, rate=30000, events=60000, wait_clients=1, repeat_bursts=0.05,
                             mix="lifecycle=0")
    client = connect(exchange)
    client.subscribe(["orderbook_delta"], market_tickers=tickers(exchange))
    delivered_all(exchange, client)
    keys: Counter[tuple[str, ...]] = Counter()
    whole: Counter[tuple[str, ...]] = Counter()
    for frame in client.of("orderbook_delta"):
        key = tuple(frame["msg"][name] for name in ("market_ticker", "ts", "side", "price_dollars"))
        keys[key] += 1
        whole[key + (frame["msg"]["delta_fp"],)] += 1
    repeats = sum(keys.values()) - len(keys)
    assert 0.03 < repeats / sum(keys.values()) < 0.08
    assert sum(whole.values()) - len(whole) > 500
    assert 5 < max(keys.values()) <= 31


def test_stamps_never_run_backwards_within_a_sid(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=5, rate=20000, events=10000, wait_clients=1)
    client = connect(exchange)
    client.subscribe(CHANNELS[:3], market_tickers=tickers(exchange))
    delivered_all(exchange, client)
    last: dict[int, int] = defaultdict(int)
    for frame in client.of("orderbook_delta", "trade", "ticker"):
        assert frame["msg"]["ts_ms"] >= last[frame["sid"]]
        last[frame["sid"]] = frame["msg"]["ts_ms"]
    moments = [(frame["msg"]["market_ticker"], frame["msg"]["time"]) for frame in client.of("ticker")]
    assert len(moments) == len(set(moments)) > 100


def test_repeated_subscribe_merges_without_a_snapshot_of_what_is_there(make_exchange: MakeExchange,
                                                                      connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    names = tickers(exchange)
    client = connect(exchange)
    client.subscribe(["orderbook_delta"], market_tickers=names[:2])
    reply = client.ask("subscribe", channels=["orderbook_delta"], market_tickers=names[1:3])
    assert reply == {"id": 2, "sid": 1, "seq": 3, "type": "ok", "msg": {"market_tickers": names[:3]}}
    client.wait(lambda frame: frame["type"] == "orderbook_snapshot" and frame["msg"]["market_ticker"] == names[2])
    assert Counter(frame["msg"]["market_ticker"] for frame in client.of("orderbook_snapshot")) == dict.fromkeys(names[:3], 1)
    assert client.sequence(1) == [1, 2, 3, 4]


def test_legacy_repeat_is_error_6(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(legacy_error_6=True, **HELD)
    client = connect(exchange)
    client.subscribe(["ticker"])
    assert client.ask("subscribe", channels=["ticker"])["msg"] == {"code": 6, "msg": "Already subscribed"}


def test_get_snapshot_comes_in_stream_with_the_id(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=4, rate=2000, wait_clients=1, mix="lifecycle=0")
    name = tickers(exchange)[0]
    client = connect(exchange)
    client.subscribe(["orderbook_delta"], market_tickers=tickers(exchange))
    client.wait(lambda frame: frame["type"] == "orderbook_delta")
    reply = client.ask("update_subscription", sids=[1], action="get_snapshot", market_tickers=[name])
    assert reply["type"] == "orderbook_snapshot" and reply["msg"]["market_ticker"] == name and reply["sid"] == 1
    exchange.control("stop")
    delivered = client.ask("update_subscription", sid=1, action="get_snapshot", market_tickers=[name])
    before = [frame for frame in client.frames[:client.frames.index(delivered)]]
    expected = fold([delivered])[name].rest()
    assert fold(before)[name].rest() == expected, "the snapshot says what the deltas have made"
    sequence = client.sequence(1)
    assert sequence == list(range(1, len(sequence) + 1))


def test_markets_are_added_and_removed(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=6, rate=3000, wait_clients=1, mix="lifecycle=0")
    names = tickers(exchange)
    client = connect(exchange)
    client.subscribe(["orderbook_delta"], market_tickers=names[:2])
    added = client.ask("update_subscription", sids=[1], action="add_markets", market_tickers=names[2:4])
    assert added["type"] == "ok" and added["msg"]["market_tickers"] == names[:4]
    client.wait(lambda frame: frame["type"] == "orderbook_delta" and frame["msg"]["market_ticker"] == names[3])
    removed = client.ask("update_subscription", sid=1, action="delete_markets", market_ticker=names[0])
    assert removed["msg"]["market_tickers"] == names[1:4]
    place = client.frames.index(removed)
    client.wait(lambda frame: frame["type"] == "orderbook_delta" and frame["seq"] > removed["seq"] + 500)
    assert names[0] not in {f["msg"]["market_ticker"] for f in client.frames[place + 1:]}
    gone = client.ask("unsubscribe", sids=[1])
    assert (gone["type"], gone["sid"]) == ("unsubscribed", 1)
    assert client.ask("list_subscriptions")["msg"] == []
    sequence = client.sequence(1)
    assert sequence == list(range(1, len(sequence) + 1)), "acknowledgements spend numbers too"
    assert client.subscribe(["orderbook_delta"], market_tickers=names[:1]) == {"orderbook_delta": 2}


def test_skip_ticker_ack_leaves_the_list_out(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    names = tickers(exchange)
    client = connect(exchange)
    client.subscribe(["orderbook_delta"], market_tickers=names[:1], skip_ticker_ack=True)
    assert client.ask("update_subscription", sids=[1], action="add_markets", market_tickers=names[1:2])["msg"] == {}


def test_skip_ticker_ack_holds_for_the_subscription_until_a_subscribe_says_otherwise(make_exchange: MakeExchange,
                                                                                     connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    names = tickers(exchange)
    client = connect(exchange)

    def again(**params: Any) -> Any:
        return client.ask("subscribe", channels=["orderbook_delta"], market_tickers=names[:1], **params)["msg"]

    client.subscribe(["orderbook_delta"], market_tickers=names[:1])
    assert again() == {"market_tickers": names[:1]}
    assert again(skip_ticker_ack=True) == again() == {}
    assert client.ask("update_subscription", sid=1, action="add_markets", market_tickers=names[1:2])["msg"] == {}
    assert again(skip_ticker_ack=False) == {"market_tickers": names[:2]}


def test_use_yes_price_mirrors_the_no_side(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=8, rate=5000, events=5000, wait_clients=2, mix="lifecycle=0")
    plain, mirrored = connect(exchange), connect(exchange)
    plain.subscribe(["orderbook_delta"], market_tickers=tickers(exchange))
    mirrored.subscribe(["orderbook_delta"], market_tickers=tickers(exchange), use_yes_price=True)
    for client in (plain, mirrored):
        delivered_all(exchange, client)
    books, yes_leg = fold(plain.frames), fold(mirrored.frames)
    assert any(book.sides["no"] for book in books.values())
    for name, book in books.items():
        assert yes_leg[name].sides["yes"] == book.sides["yes"]
        assert yes_leg[name].sides["no"] == {1 - price: size for price, size in book.sides["no"].items()}


def test_first_ticker_on_request(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    names = tickers(exchange)
    market = get(f"{exchange.rest_url}/markets/{names[0]}").body["market"]
    client = connect(exchange)
    client.subscribe(["ticker"], market_tickers=names[:2], send_initial_snapshot=True)
    first = client.wait(lambda frame: frame["type"] == "ticker" and frame["msg"]["market_ticker"] == names[0])
    assert first["msg"]["yes_bid_dollars"] == market["yes_bid_dollars"]
    assert first["msg"]["yes_ask_size_fp"] == market["yes_ask_size_fp"]
    by_id = connect(exchange)
    by_id.subscribe(["ticker"], market_ids=[first["msg"]["market_id"]], send_initial_snapshot=True)
    assert by_id.wait(lambda frame: frame["type"] == "ticker")["msg"] == first["msg"]


MARKET_ID = "3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90"

BAD_COMMANDS: list[tuple[str, int]] = [
    ('{"id":1,"cmd":', 1),
    ('{"id":1,"cmd":"subscribe","params":{"channels":[7]}}', 1),
    ('{"id":1,"cmd":"subscribe"}', 2),
    ('{"id":1,"cmd":"subscribe","params":{}}', 3),
    ('{"id":1,"cmd":"subscribe","params":{"channels":[]}}', 3),
    ('{"id":1,"cmd":"unsubscribe","params":{}}', 4),
    ('{"id":1,"cmd":"dance"}', 5),
    ('{"id":1,"cmd":"unsubscribe","params":{"sids":[9]}}', 7),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["multivariate"]}}', 8),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["ticker"],"market_ids":["no-uuid"]}}', 11),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["trade"],"market_ticker":"A","market_tickers":["B"]}}', 11),
    (f'{{"id":1,"cmd":"subscribe","params":{{"channels":["trade"],"market_ids":["{MARKET_ID}"]}}}}', 11),
    (f'{{"id":1,"cmd":"subscribe","params":{{"channels":["ticker","trade"],"market_id":"{MARKET_ID}"}}}}', 11),
    (f'{{"id":1,"cmd":"subscribe","params":{{"channels":["orderbook_delta"],"market_ids":["{MARKET_ID}"]}}}}', 11),
    (f'{{"id":1,"cmd":"subscribe","params":{{"channels":["fill"],"market_ids":["{MARKET_ID}"]}}}}', 11),
    (f'{{"id":1,"cmd":"subscribe","params":{{"channels":["ticker"],"market_ids":["{MARKET_ID}"],"market_ticker":"A"}}}}', 11),
    (f'{{"id":1,"cmd":"update_subscription","params":{{"sid":2,"action":"add_markets","market_ids":["{MARKET_ID}"]}}}}', 11),
    (f'{{"id":1,"cmd":"update_subscription","params":{{"sid":2,"action":"delete_markets","market_id":"{MARKET_ID}"}}}}', 11),
    (f'{{"id":1,"cmd":"update_subscription","params":{{"sid":2,"action":"get_snapshot","market_ids":["{MARKET_ID}"]}}}}', 11),
    ('{"id":1,"cmd":"update_subscription","params":{"sid":2,"action":"get_snapshot"}}', 14),
    ('{"id":1,"cmd":"update_subscription","params":{"action":"add_markets","market_tickers":["A"]}}', 12),
    ('{"id":1,"cmd":"update_subscription","params":{"sids":[1,2],"action":"add_markets"}}', 12),
    ('{"id":1,"cmd":"update_subscription","params":{"sid":1,"action":"sing","market_tickers":["A"]}}', 13),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["orderbook_delta"]}}', 14),
    ('{"id":1,"cmd":"update_subscription","params":{"sid":1,"action":"add_markets"}}', 14),
    ('{"id":1,"cmd":"update_subscription","params":{"sid":1,"market_tickers":["A"]}}', 15),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["communications"],"shard_factor":0}}', 19),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["communications"],"shard_key":0}}', 20),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["communications"],"shard_factor":3,"shard_key":3}}', 21),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["communications"],"shard_factor":3,"shard_key":-1}}', 21),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["communications"],"shard_factor":101,"shard_key":3}}', 22),
    ('{"id":1,"cmd":"subscribe","params":{"channels":["cfbenchmarks_value"],"index_ids":[7]}}', 1),
    ('{"id":1,"cmd":"update_subscription","params":{"sid":3,"action":"subscribe_indices"}}', 24),
    ('{"id":1,"cmd":"update_subscription","params":{"sid":3,"action":"unsubscribe_indices","index_ids":[]}}', 24),
    ('{"id":1,"cmd":"update_subscription","params":{"sid":3,"action":"add_markets","market_ticker":"A"}}', 13),
    ('{"id":1,"cmd":"update_subscription","params":{"sid":4,"action":"subscribe_underlyings"}}', 28),
]


def test_bad_commands_earn_their_error_codes(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    client = connect(exchange)
    subscribed = [{"channel": "ticker", "sid": 1}, {"channel": "orderbook_delta", "sid": 2},
                  {"channel": "cfbenchmarks_value", "sid": 3}, {"channel": "pyth_value", "sid": 4}]
    client.subscribe(["ticker"])
    client.subscribe(["orderbook_delta"], market_tickers=["KXNOSUCH-1"])
    client.subscribe(["cfbenchmarks_value", "pyth_value"])
    for text, code in BAD_COMMANDS:
        had = len(client.of("error"))
        client.send_text(text)
        client.wait(lambda frame: len(client.of("error")) > had)  # pylint: disable=cell-var-from-loop
        error = client.of("error")[-1]
        assert error["msg"]["code"] == code, (text, error)
        assert error.get("id") == (None if code == 1 and "dance" not in text and text.endswith(":") else 1) or code == 1
    assert client.ask("list_subscriptions")["msg"] == subscribed, "errors change nothing"


def test_channels_of_reference_prices_keep_the_names_that_were_chosen(make_exchange: MakeExchange,
                                                                      connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    client = connect(exchange)
    client.subscribe(["communications"], shard_factor=100, shard_key=99)
    client.subscribe(["cfbenchmarks_value"], index_ids=["BRTI"])
    client.subscribe(["pyth_value"])

    def change(sid: int, action: str, **params: Any) -> Any:
        return client.ask("update_subscription", sid=sid, action=action, **params)

    assert change(2, "subscribe_indices", index_ids=["ETHUSD_RTI", "BRTI"]) == {
        "id": 4, "type": "ok", "sid": 2, "seq": 1, "msg": {"index_ids": ["BRTI", "ETHUSD_RTI"]}}
    assert change(2, "unsubscribe_indices", index_ids=["BRTI"])["msg"] == {"index_ids": ["ETHUSD_RTI"]}
    assert change(2, "indexlist") == {"id": 6, "type": "cfbenchmarks_value_indexlist", "sid": 2, "seq": 3,
                                      "msg": {"index_ids": []}}
    assert change(3, "subscribe_underlyings", underlying_tickers=["Metal.XAU/USD", "all"])["msg"] == {
        "underlying_tickers": ["all"]}
    assert change(3, "unsubscribe_underlyings", underlying_tickers=["all"])["msg"] == {
        "underlying_tickers": ["Metal.XAU/USD"]}
    assert change(3, "underlying_list")["type"] == "pyth_value_underlying_list"


def test_more_markets_than_the_limit_is_error_26(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(subscription_limit=5, **HELD)
    client = connect(exchange)
    names = tickers(exchange)
    assert client.ask("subscribe", channels=["orderbook_delta"], market_tickers=names[:6])["msg"]["code"] == 26
    client.subscribe(["orderbook_delta"], market_tickers=names[:5])
    update = client.ask("update_subscription", sid=1, action="add_markets", market_tickers=names[5:6])
    assert update["msg"]["code"] == 26


def test_an_unknown_ticker_subscribes_cleanly_and_streams_nothing(make_exchange: MakeExchange,
                                                                  connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    client = connect(exchange)
    client.subscribe(["orderbook_delta"], market_tickers=["KXNOSUCH-1"])
    assert client.ask("list_subscriptions")["msg"] == [{"channel": "orderbook_delta", "sid": 1}]
    assert client.of("orderbook_snapshot") == []


def test_id_zero_is_not_echoed(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**HELD)
    client = connect(exchange)
    client.send_text('{"id":0,"cmd":"subscribe","params":{"channels":["ticker"]}}')
    assert client.wait(lambda frame: True) == {"type": "subscribed", "msg": {"channel": "ticker", "sid": 1}}


def test_the_same_events_reach_every_client_with_numbers_of_its_own(make_exchange: MakeExchange,
                                                                    connect: Connect) -> None:
    exchange = make_exchange(markets=10, rate=10000, events=10000, wait_clients=2)
    one, two = connect(exchange), connect(exchange)
    two.subscribe(["market_lifecycle_v2", "trade"])
    one.subscribe(["trade", "ticker", "market_lifecycle_v2"])
    for client in (one, two):
        delivered_all(exchange, client)
    kinds = ("trade", "market_lifecycle_v2", "event_lifecycle", "event_fee_update")
    assert [f["msg"] for f in one.of(*kinds)] == [f["msg"] for f in two.of(*kinds)] != []
    assert {f["sid"] for f in one.of("trade")} == {1} and {f["sid"] for f in two.of("trade")} == {2}


def test_lives_of_markets(make_exchange: MakeExchange, connect: Connect) -> None:
    """At close: some deltas of one moment, then a snapshot without levels; determined, then settled."""
    exchange = make_exchange(markets=40, rate=2000, events=40000, wait_clients=1, mix="deltas=80,lifecycle=20",
                             created_404="0")
    client = connect(exchange)
    client.subscribe(["orderbook_delta", "market_lifecycle_v2"], market_tickers=tickers(exchange))
    delivered_all(exchange, client)
    kinds = Counter(frame["msg"]["event_type"] for frame in client.of("market_lifecycle_v2"))
    assert set(kinds) == {"created", "deactivated", "activated", "close_date_updated", "metadata_updated",
                          "price_level_structure_updated", "determined", "settled"}
    assert client.of("event_lifecycle") and client.of("event_fee_update")
    lives: dict[str, list[str]] = defaultdict(list)
    for frame in client.frames:
        msg = frame.get("msg")
        if frame["type"] in ("orderbook_snapshot", "market_lifecycle_v2") and isinstance(msg, dict):
            empty = "cleared" if not {"yes_dollars_fp", "no_dollars_fp"} & set(msg) else "snapshot"
            lives[msg["market_ticker"]].append(msg.get("event_type", empty))
    subscribed = {frame["msg"]["market_ticker"] for frame in client.of("orderbook_snapshot")}
    closed = [name for name, life in lives.items() if "settled" in life and name in subscribed]
    assert closed
    for name in closed:
        life = [step for step in lives[name] if step in ("close_date_updated", "cleared", "determined", "settled")]
        assert life.index("determined") < life.index("settled")
        assert "cleared" in life[life.index("close_date_updated"):life.index("determined")]
        market = get(f"{exchange.rest_url}/markets/{name}").body["market"]
        assert market["status"] == "finalized" and market["result"] in ("yes", "no")
        last = [datetime.fromisoformat(f["msg"]["ts"]) for f in client.of("orderbook_delta")
                if f["msg"]["market_ticker"] == name]
        assert last[-1] > datetime.fromisoformat(market["close_time"])


def test_a_new_market_is_unknown_to_rest_for_a_while(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=20, rate=500, wait_clients=1, mix="deltas=50,lifecycle=50", created_404="1h")
    client = connect(exchange)
    client.subscribe(["market_lifecycle_v2"])
    created = client.wait(lambda frame: frame.get("msg", {}).get("event_type") == "created")["msg"]
    assert get(f"{exchange.rest_url}/markets/{created['market_ticker']}").status == 404
    assert created["additional_metadata"]["event_ticker"] == created["market_ticker"].rsplit("-", 1)[0]
    assert created["price_ranges"][0]["start"] == "0.0000"


def test_pings_say_heartbeat_and_are_answered(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(ping_interval="50ms", **HELD)
    client = connect(exchange)
    heard: list[bytes] = []
    answer = client._socket.pong  # pylint: disable=protected-access

    async def pong(data: bytes = b"") -> None:
        heard.append(data)
        await answer(data)

    client._socket.pong = pong  # pylint: disable=protected-access
    client.ping(b"are you there")
    from harness.waiting import wait_until  # pylint: disable=import-outside-toplevel
    wait_until("three pings came", lambda: len(heard) >= 3, 10)
    assert set(heard) == {b"heartbeat"}


def test_close_is_answered(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(**HELD)
    client = FeedClient(exchange.ws_url)
    client.close()
    assert client.close_code == 1000


def test_other_eras_of_the_wire(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=10, rate=5000, events=5000, wait_clients=1, structure="linear_cent",
                             legacy_no_seq=True, legacy_no_block_trade=True, legacy_no_trade_ts_ms=True,
                             legacy_no_ts_ms=True, price_decimals=3)
    client = connect(exchange)
    client.subscribe(CHANNELS, market_tickers=tickers(exchange))
    delivered_all(exchange, client)
    trade = client.of("trade")[0]
    assert "seq" not in trade and not {"is_block_trade", "ts_ms"} & set(trade["msg"])
    delta = client.of("orderbook_delta")[0]
    assert "seq" in delta and "ts_ms" not in delta["msg"] and re.fullmatch(r"0\.\d{3}", delta["msg"]["price_dollars"])


def test_a_subscription_to_many_markets_is_one_message(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(hold=True, markets=30000)
    client = connect(exchange)
    names = [f"KXSIM{n // 8 % 40:02d}-E{n // 8:06d}-" + (f"B{n}.5" if n % 8 == 7 else f"T{n}") for n in range(30000)]
    client.subscribe(["orderbook_delta"], market_tickers=names)
    client.wait(lambda frame: frame.get("seq") == 30000, 60)
    assert client.sequence(1) == list(range(1, 30001))
    assert [frame["msg"]["market_ticker"] for frame in client.of("orderbook_snapshot")] == names


@pytest.mark.parametrize("option", [["--no-such"], ["--rate", "fast"], ["--fault", "kind=gap,cuont=3"], ["--markets"],
                                    ["--tls-cert", "x"], ["--auth", "required"], ["--hold=yes"]])
def test_a_wrong_command_line_is_refused(option: list[str]) -> None:
    import subprocess  # pylint: disable=import-outside-toplevel

    from harness import paths  # pylint: disable=import-outside-toplevel
    done = subprocess.run([str(paths.program("tidemill-exchange")), *option], capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("tidemill-exchange: ") and option[0].split("=")[0] in done.stderr + "--fault"
    assert json.dumps(done.stdout) == '""'
