"""Every fault that tidemill-exchange can commit, as its victim sees it and as the ledger tells it."""
from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import websockets

from exchange_client import (Connect, FeedClient, Frame, MakeExchange, connect, delivered_all, get, make_exchange,
                             read_ledger, stats, tickers)
from harness import paths
from harness.daemons import Exchange
from harness.waiting import wait_until

__all__ = ["connect", "make_exchange"]

BUSY = {"markets": 10, "rate": 3000, "wait_clients": 1, "mix": "lifecycle=0"}


def subscribed(exchange: Exchange, connect: Connect, **options: Any) -> FeedClient:
    """A client that gets deltas and trades of all markets."""
    client = connect(exchange, **options)
    client.subscribe(["orderbook_delta", "trade"], market_tickers=tickers(exchange))
    return client


def settle(exchange: Exchange, client: FeedClient) -> None:
    """Stop generation and take in all that is under way."""
    exchange.control("stop")
    client.ask("list_subscriptions")


def holes(sequence: list[int]) -> list[int]:
    """The numbers that a sequence leaves out."""
    return sorted(set(range(1, max(sequence) + 1)) - set(sequence))


def next_data(client: FeedClient) -> None:
    """Wait for more data on both subscriptions."""
    had = client.received(1), client.received(2)
    wait_until("data comes", lambda: client.received(1) > had[0] and client.received(2) > had[1], 10)


def test_gap(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client, spared = subscribed(exchange, connect, label="victim"), subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=gap,count=3,channel=orderbook_delta,label=victim")
    wait_until("frames are lost", lambda: holes(client.sequence(1)), 10)
    settle(exchange, client)
    settle(exchange, spared)
    lost = [line for line in read_ledger(exchange) if line.what == "withheld"]
    assert [int(line.seq) for line in lost] == holes(client.sequence(1)) and len(lost) == 3
    assert {(line.client, line.sid, json.loads(line.detail)["fault"]) for line in lost} == {("1", "1", "gap")}
    assert holes(client.sequence(2)) == holes(spared.sequence(1)) == holes(spared.sequence(2)) == []


def test_duplicate(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=duplicate,count=5,sid=1")
    wait_until("five came twice", lambda: len(client.sequence(1)) - len(set(client.sequence(1))) == 5, 10)
    settle(exchange, client)
    twice = [line.seq for line in read_ledger(exchange) if line.what == "injected" and line.stream == "duplicate"]
    sequence = client.sequence(1)
    assert [str(seq) for at, seq in enumerate(sequence) if seq in sequence[:at]] == twice
    pairs = [frames for frames in zip(client.frames, client.frames[1:]) if frames[0] == frames[1]]
    assert len(pairs) == 5


def test_renumber(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=renumber,channel=orderbook_delta")
    next_data(client)
    settle(exchange, client)
    sequence = client.sequence(1)
    begins = [at for at, seq in enumerate(sequence) if seq == 1]
    assert len(begins) == 2 and begins[0] == 0 and begins[1] > 1
    assert sequence == [*range(1, begins[1] + 1), *range(1, len(sequence) - begins[1] + 1)]
    assert holes(client.sequence(2)) == [], "the other subscription counts on"


def test_reorder(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=reorder,count=4,channel=orderbook_delta")
    wait_until("four pairs are swapped", lambda: sum(
        a > b for a, b in zip(client.sequence(1), client.sequence(1)[1:])) == 4, 10)
    settle(exchange, client)
    sequence = client.sequence(1)
    assert sorted(sequence) == list(range(1, len(sequence) + 1))
    assert all(abs(seq - place) <= 1 for place, seq in enumerate(sequence, 1))


def test_clear_ends_faults_that_count(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=gap,count=1000000000,sid=1")
    exchange.fault("kind=reorder,count=1000000000,sid=2")
    wait_until("trades are swapped", lambda: client.sequence(2) != sorted(client.sequence(2)), 10)
    exchange.control("clear")
    next_data(client)
    settle(exchange, client)
    lost = [int(line.seq) for line in read_ledger(exchange) if line.what == "withheld"]
    assert lost == holes(client.sequence(1)) and lost == list(range(lost[0], lost[-1] + 1))
    assert holes(client.sequence(2)) == [] and len(client.sequence(2)) == len(set(client.sequence(2)))


def test_late(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=late,count=7,delay=300ms,channel=orderbook_delta")
    wait_until("seven are missing", lambda: len(holes(client.sequence(1))) == 7, 10)
    missing = holes(client.sequence(1))
    wait_until("they have come", lambda: not holes(client.sequence(1)), 10)
    settle(exchange, client)
    sequence = client.sequence(1)
    assert [seq for place, seq in enumerate(sequence) if place and seq < sequence[place - 1]][0] == missing[0]
    assert not [line for line in read_ledger(exchange) if line.what == "withheld"]


def test_frames_that_are_late_at_the_end_were_withheld(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=late,count=7,delay=1h,channel=orderbook_delta")
    wait_until("seven are missing", lambda: len(holes(client.sequence(1))) == 7, 10)
    exchange.fault("kind=disconnect,how=fin")
    assert client.closed.wait(10)
    lost = [line for line in read_ledger(exchange) if line.what == "withheld"]
    assert [int(line.seq) for line in lost] == holes(client.sequence(1))


def test_fragments_make_the_same_messages(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    exchange.fault("kind=fragment,count=300")
    wait_until("many have come", lambda: client.received(1) > 600, 10)
    settle(exchange, client)
    assert holes(client.sequence(1)) == [] and not client.of("none")


@pytest.mark.parametrize("code, text", [(25, "Subscription buffer overflow"), (10, "Channel error")])
def test_error_then_silence_then_a_new_sid(make_exchange: MakeExchange, connect: Connect, code: int, text: str) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault(f"kind=error,code={code},channel=orderbook_delta")
    error = client.wait(lambda frame: frame["type"] == "error")
    assert error["msg"] == {"code": code, "msg": text} and error["sid"] == 1
    assert error["seq"] == client.sequence(1)[-1] == len(client.sequence(1))
    had = client.received(1)
    wait_until("trades go on", lambda: client.received(2) > 20, 10)
    assert client.received(1) == had
    assert client.subscribe(["orderbook_delta"], market_tickers=tickers(exchange)) == {"orderbook_delta": 3}
    client.wait(lambda frame: frame.get("sid") == 3 and frame["type"] == "orderbook_delta")


def test_an_error_on_a_channel_without_seq_has_none(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(hold=True)
    client = connect(exchange)
    client.subscribe(["ticker", "market_lifecycle_v2"])
    exchange.fault("kind=error,code=28")
    client.wait(lambda frame: frame.get("sid") == 2)
    assert client.of("error") == [
        {"type": "error", "sid": 1, "msg": {"code": 28, "msg": "Underlying tickers required"}},
        {"type": "error", "sid": 2, "seq": 1, "msg": {"code": 28, "msg": "Underlying tickers required"}}]


def test_a_slow_reader_gets_error_25(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(markets=5, rate=100000, wait_clients=1, client_buffer=300000, mix="lifecycle=0,tickers=90")
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        peer.connect(("127.0.0.1", exchange.port))
        peer.sendall(b"GET /trade-api/ws/v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        text = json.dumps({"id": 1, "cmd": "subscribe", "params": {"channels": ["ticker", "trade"]}}).encode()
        peer.sendall(b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text)
        wait_until("both subscriptions have ended", lambda: stats(exchange)["emitted"]["total"] > 1000
                   and stats(exchange)["clients"][0]["subscriptions"] == 0, 30)
        exchange.control("stop")
        peer.settimeout(2)
        received = b""
        try:
            while chunk := peer.recv(1 << 20):
                received += chunk
        except TimeoutError:
            pass
    assert received.count(b'"code":25,"msg":"Subscription buffer overflow"') == 2
    closes = [line for line in read_ledger(exchange) if line.what == "close"]
    assert [json.loads(line.detail)["reason"] for line in closes] == ["error 25"] * 2


def test_stall_with_pings_keeps_or_loses_the_data(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    keeps, loses = subscribed(exchange, connect, label="keeps"), subscribed(exchange, connect, label="loses")
    next_data(loses)
    exchange.fault("kind=stall,label=keeps")
    exchange.fault("kind=stall,label=loses,keep=no")
    for client in (keeps, loses):
        client.ping(b"still there")
        client.ask("list_subscriptions")
    before = (keeps.received(1), loses.received(1))
    emitted = stats(exchange)["emitted"]["total"]
    wait_until("much happens", lambda: stats(exchange)["emitted"]["total"] > emitted + 1000, 10)
    assert (keeps.received(1), loses.received(1)) == before
    exchange.control("clear")
    for client in (keeps, loses):
        next_data(client)
    for client in (keeps, loses):
        settle(exchange, client)
    assert holes(keeps.sequence(1)) == []
    lost = [line for line in read_ledger(exchange) if line.what == "withheld" and line.sid == "1"]
    assert [int(line.seq) for line in lost] == holes(loses.sequence(1)) != []


def test_half_open_answers_nothing(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=stall,pings=no,for=600ms")
    with pytest.raises(TimeoutError):
        client._call(lambda: _pong(client), 0.3)  # pylint: disable=protected-access
    assert not client.closed.is_set()
    client.ping(b"after the stall")
    settle(exchange, client)
    assert holes(client.sequence(1)) == []


async def _pong(client: FeedClient) -> None:
    await (await client._socket.ping(b"during it"))  # pylint: disable=protected-access


@pytest.mark.alone
def test_slow_delays_everything(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=slow,delay=500ms")
    client.ask("list_subscriptions")
    asked = time.monotonic()
    client.ask("list_subscriptions")
    assert 0.4 < time.monotonic() - asked < 5
    exchange.control("clear")
    settle(exchange, client)
    assert holes(client.sequence(1)) == []


@pytest.mark.parametrize("fault, code", [("kind=disconnect", 1006), ("kind=disconnect,how=fin", 1006),
                                         ("kind=close,code=1012,text=restart", 1012), ("kind=close,code=0", 1005),
                                         ("kind=close", 1001),
                                         ("kind=maintenance,disconnect=yes", 1001)])
def test_connections_end(make_exchange: MakeExchange, connect: Connect, fault: str, code: int) -> None:
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect, label="x")
    next_data(client)
    exchange.fault(fault)
    assert client.closed.wait(10) and client.close_code == code
    ends = [line for line in read_ledger(exchange) if line.what == "disconnect"]
    assert [(line.client, line.label) for line in ends] == [("1", "x")]


def test_who_is_met(make_exchange: MakeExchange, connect: Connect) -> None:
    """By number, label, key and agent; and by lot, the same for the same seed."""
    exchange = make_exchange(hold=True)
    clients = [connect(exchange, label="g1"), connect(exchange, headers={"KALSHI-ACCESS-KEY": "k2"}),
               connect(exchange, headers={"User-Agent": "probe/3"}), connect(exchange)]
    assert [entry["label"] for entry in stats(exchange)["clients"]][:3] == ["g1", "k2", "probe/3"]
    for place, selector in enumerate(("label=g1", "key=k2", "agent=probe", "client=4")):
        exchange.fault(f"kind=disconnect,{selector}")
        assert clients[place].closed.wait(10)
        assert [client.closed.is_set() for client in clients] == [n <= place for n in range(4)]
    many = [connect(exchange) for _ in range(40)]
    exchange.fault("kind=disconnect,fraction=0.5")
    ended = wait_until("half of them are gone", lambda: sum(c.closed.is_set() for c in many) == len(many)
                       - stats(exchange)["connections"] and sum(c.closed.is_set() for c in many), 10)
    assert 8 < ended < 32


def test_unknown_malformed_and_poisoned_frames(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(hold=True, markets=5)
    client = connect(exchange)
    client.subscribe(["trade"])
    exchange.fault("kind=unknown,count=2,what=weather")
    exchange.fault("kind=malformed,count=4")
    exchange.fault("kind=poison,count=14")
    client.ask("list_subscriptions")
    assert [frame["seq"] for frame in client.of("weather")] == [1, 2]
    bad = [text for text, frame in zip(client.texts, client.frames) if frame["type"] is None]
    assert len(bad) == 4, "python accepts none of these"
    poison = client.of("trade", "orderbook_delta")
    assert [frame["seq"] for frame in poison] == list(range(3, 17))
    assert "\x00" in poison[0]["msg"]["market_ticker"]
    injected = [line for line in read_ledger(exchange) if line.what == "injected"]
    assert [line.stream for line in injected] == ["unknown"] * 2 + ["malformed"] * 4 + ["poison"] * 14
    raw = [bytes.fromhex(line.detail[2:]) for line in injected]
    assert raw[0] == client.texts[1].encode()


def help_text() -> str:
    """What the exchange says of its options."""
    return subprocess.run([paths.program("tidemill-exchange"), "--help"], capture_output=True, text=True, timeout=20,
                          check=True).stdout


def test_every_breach_and_poison_that_help_names_is_known(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(hold=True)
    listed = re.search(r"what=(masked\|\S+)", help_text())
    assert listed
    for number, what in enumerate(listed[1].split("|"), 1):
        connect(exchange).subscribe(["trade"])
        exchange.fault(f"kind=protocol,what={what},client={number}")
    connect(exchange).subscribe(["trade"])
    exchange.fault(f"kind=poison,what=13,count=2,client={number + 1}")
    injected = [line.stream for line in read_ledger(exchange) if line.what == "injected"]
    assert injected == [*listed[1].split("|"), "poison", "poison"] and len(injected) == 14


@pytest.mark.parametrize("what", ["masked", "rsv", "opcode", "huge", "continuation", "interleaved", "control_long",
                                  "control_fragment", "bad_utf8", "close_code"])
def test_breaches_of_the_protocol_are_noticed(make_exchange: MakeExchange, connect: Connect, what: str) -> None:
    exchange = make_exchange(hold=True)
    client = connect(exchange)
    client.subscribe(["trade"])
    exchange.fault(f"kind=protocol,what={what},sid=1")
    assert client.closed.wait(10)
    assert client.close_code in (1002, 1006, 1007, 1009)


def refused_with(exchange: Exchange) -> tuple[int, Any]:
    """Status and headers of a refused handshake."""
    with pytest.raises(websockets.InvalidStatusCode) as caught:
        FeedClient(exchange.ws_url)
    return caught.value.status_code, caught.value.headers


def test_handshakes_are_refused(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(hold=True)
    for status in (401, 429, 503):
        exchange.fault(f"kind=handshake,status={status},count=2")
        assert [refused_with(exchange)[0] for _ in range(2)] == [status] * 2
        exchange.control("clear")
    exchange.fault("kind=handshake,status=502,shape=html")
    assert refused_with(exchange)[1]["Content-Type"] == "text/html"
    exchange.control("clear")
    connect(exchange).subscribe(["trade"])


def test_rest_fails_in_many_shapes(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True)
    url = exchange.rest_url + "/markets"
    bodies: list[tuple[str, int, Any]] = [
        ("status=429", 429, {"error": {"code": "too_many_requests", "message": "too many requests"}}),
        ("status=429,shape=flat", 429, {"error": "too many requests"}),
        ("status=500,shape=flat", 500, {"code": "internal_error", "message": "internal error"}),
        ("status=503", 503, {"error": {"code": "internal_error", "message": "internal error"}})]
    for text, status, body in bodies:
        exchange.fault(f"kind=rest,{text},path=/trade-api/v2/markets")
        assert (get(url).status, get(url).body) == (status, body)
        assert get(exchange.rest_url + "/exchange/status").status == 200, "another path"
        exchange.control("clear")
    exchange.fault("kind=rest,status=502,shape=html,count=1")
    assert get(url).text.startswith("<html>")
    assert get(url).status == 200, "once only"


def test_refuse_and_silence(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True)
    where = ("127.0.0.1", exchange.port)
    exchange.fault("kind=silence,count=1")
    with socket.create_connection(where, timeout=0.3) as mute:
        mute.sendall(b"GET /trade-api/v2/exchange/status HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            mute.recv(1)
    exchange.fault("kind=refuse,count=1")
    with pytest.raises(ConnectionResetError):
        with socket.create_connection(where, timeout=5) as peer:
            peer.recv(1)
    assert get(exchange.rest_url + "/exchange/status").status == 200
    for kind in ("refuse", "silence"):
        exchange.fault(f"kind={kind},for=200ms")
        assert not exchange.reachable()
        wait_until("control answers again", exchange.reachable, 10)


def test_maintenance_pauses_trading_and_says_so(make_exchange: MakeExchange, connect: Connect) -> None:
    """On Thursdays trading is paused; the whole exchange only rarely is."""
    exchange = make_exchange(**BUSY)
    client = subscribed(exchange, connect)
    next_data(client)
    exchange.fault("kind=maintenance")
    client.ask("list_subscriptions")
    status = get(exchange.rest_url + "/exchange/status").body
    assert (status["exchange_active"], status["trading_active"]) == (True, False)
    assert [(s["exchange_active"], s["trading_active"]) for s in status["exchange_index_statuses"]] == [(True, False)]
    assert status["exchange_estimated_resume_time"] is None
    assert stats(exchange)["state"] == "maintenance"
    emitted = stats(exchange)["emitted"]["total"]
    client.ping(b"connections stay")
    assert stats(exchange)["emitted"]["total"] == emitted
    exchange.control("clear")
    next_data(client)
    assert get(exchange.rest_url + "/exchange/status").body["trading_active"] is True


def test_maintenance_with_an_end_says_when(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True)
    before = datetime.now(timezone.utc)
    exchange.fault("kind=maintenance,what=exchange,for=1h")
    status = get(exchange.rest_url + "/exchange/status").body
    assert (status["exchange_active"], status["trading_active"]) == (False, False)
    resume = datetime.fromisoformat(status["exchange_estimated_resume_time"])
    assert timedelta(hours=1) <= resume - before < timedelta(hours=1, minutes=1)
    exchange.fault("kind=maintenance")
    assert get(exchange.rest_url + "/exchange/status").body["exchange_estimated_resume_time"] is None, "no end to that one"
    exchange.control("clear")
    status = get(exchange.rest_url + "/exchange/status").body
    assert status["exchange_active"] is status["trading_active"] is True


@pytest.mark.alone
def test_faults_of_the_command_line_wait_for_their_time(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(hold=True, markets=5, fault="at=200ms,kind=close,code=1013")
    client = connect(exchange)
    client.ask("list_subscriptions")
    assert stats(exchange)["faults"] == 1 and not client.closed.is_set()
    started = time.monotonic()
    exchange.control("start")
    assert client.closed.wait(10) and client.close_code == 1013
    assert time.monotonic() - started > 0.15


@pytest.mark.parametrize("text, reason", [
    ("kind=gapp", "expected a kind"), ("count=3", "kind= is missing"), ("kind=gap,count=0", "expected a number"),
    ("kind=gap,fraction=2", "expected 0 to 1"), ("kind=gap,at=soon", "expected a duration"),
    ("kind=gap,chanel=x", "unknown parameter"), ("kind=stall,pings=maybe", r"expected yes\|no"),
    ("kind=gap,channel=x", "expected a channel"), ("x" * 600, "longer than"),
    ("kind=protocol,what=typo", r"what: expected one of masked\|rsv.*got .*typo"),
    ("kind=rest,shape=typo", r"shape: expected one of nested\|flat\|html\|none"),
    ("kind=poison,what=abc", "expected huge or a number from 0 to 13"), ("kind=poison,what=14", "from 0 to 13"),
    ("kind=unknown,what=a b", "expected letters"),
    ("kind=close,code=99999", "expected a number from 1000 to 4999, or 0"), ("kind=close,code=999", "from 1000 to 4999"),
    ("kind=close,code=0,text=x", "expected none with code=0"),
    ("kind=error,code=0", "expected a number from 1"), ("kind=rest,status=0", "expected a number from 200 to 599"),
    ("kind=rest,status=9999", "expected a number from 200 to 599"), ("kind=handshake,status=100", "from 200 to 599"),
    ("kind=gap,status=503", "unknown parameter .*status.*kind=gap takes count=, at=, label="),
    ("kind=gap,for=3s", "unknown parameter"), ("kind=rest,label=g1", "unknown parameter"),
    ("kind=handshake,fraction=0.5", "unknown parameter"), ("kind=error,count=2", "unknown parameter"),
    ("kind=stall,for=0", "expected a duration above zero"),
    ("kind=rest,path=/markets", "expected a whole path such as /trade-api/v2/markets, or its beginning, got"),
    ("kind=maintenance,label=g1", "expected disconnect=yes"),
    ("kind=refuse", "expected for=TIME or count=N.*/control/clear"), ("kind=silence", "expected for=TIME or count=N")])
def test_a_fault_that_is_not_understood_is_refused(make_exchange: MakeExchange, text: str, reason: str) -> None:
    exchange = make_exchange(hold=True)
    with pytest.raises(RuntimeError, match=reason):
        exchange.fault(text)
    assert stats(exchange)["faults"] == 0
    refused = subprocess.run([paths.program("tidemill-exchange"), "--fault", text], capture_output=True, text=True,
                             timeout=20, check=False)
    assert refused.returncode == 2 and re.search(reason, refused.stderr)


def test_control_says_what_there_is(make_exchange: MakeExchange) -> None:
    answer = get(make_exchange(hold=True).control_url + "/no-such")
    assert answer.status == 404 and "expected GET /control/stats or ledger-flush, POST /control/start" in answer.text


def test_delivered_is_what_was_emitted_less_what_was_withheld(make_exchange: MakeExchange, connect: Connect) -> None:
    """Many faults at once; the ledger still accounts for every event."""
    exchange = make_exchange(markets=10, rate=5000, events=20000, wait_clients=1, mix="lifecycle=0")
    client = subscribed(exchange, connect)
    for text in ("kind=gap,count=20", "kind=duplicate,count=15", "kind=reorder,count=30", "kind=late,count=25,delay=50ms",
                 "kind=fragment,count=20", "kind=stall,keep=no,for=100ms"):
        exchange.fault(text)
    delivered_all(exchange, client)
    wait_until("late ones are there", lambda: stats(exchange)["clients"][0]["backlog"] == 0, 10)
    lines = read_ledger(exchange)
    first = {line.ticker: line.number for line in lines if line.what == "snapshot"}
    opened = next(line.number for line in lines if line.what == "open" and line.sid == "2")
    lost = {line.number for line in lines if line.what == "withheld"}
    due = [line for line in lines if line.what == "emit" and line.number not in lost and (
        (line.stream == "orderbook_deltas" and line.number > first[line.ticker])
        or (line.stream == "trades" and line.number > opened))]
    wait_until("all is there", lambda: len({(f["sid"], f["seq"]) for f in client.of("orderbook_delta", "trade")})
               == len(due), 10, lambda: f"{len(client.of('orderbook_delta', 'trade'))} of {len(due)}")
    got: dict[tuple[int, int], Frame] = {(f["sid"], f["seq"]): f for f in client.of("orderbook_delta", "trade")}
    trades = {frame["msg"]["trade_id"] for frame in got.values() if frame["type"] == "trade"}
    assert trades == {line.trade_id for line in due if line.stream == "trades"}
