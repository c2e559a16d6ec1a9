"""The ledger against what clients received, equal seeds, and recordings sent again."""
from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exchange_client import (CHANNELS, Connect, FeedClient, Frame, Line, MakeExchange, connect, delivered_all,
                             emitted_all, fold, get, make_exchange, read_ledger, stats, tickers)
from harness import paths
from harness.daemons import Exchange
from harness.waiting import wait_until

__all__ = ["connect", "make_exchange"]

Row = tuple[Any, ...]


def unix_us(text: str) -> int:
    """RFC 3339 to microseconds, without the exchange's own arithmetic."""
    from calendar import timegm  # pylint: disable=import-outside-toplevel
    from time import strptime  # pylint: disable=import-outside-toplevel
    whole, _, fraction = text.rstrip("Z").partition(".")
    return timegm(strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 1_000_000 + int(fraction.ljust(6, "0"))


def scaled(text: str, factor: int) -> int:
    """A decimal of the wire as an exact integer."""
    value = Decimal(text) * factor
    assert value == int(value)
    return int(value)


def as_row(frame: Frame) -> Row:
    """What a receiver knows of an event, in the ledger's units."""
    msg = frame["msg"]
    if frame["type"] == "orderbook_delta":
        return ("orderbook_deltas", msg["market_ticker"], unix_us(msg["ts"]), msg["side"],
                scaled(msg["price_dollars"], 1000000), scaled(msg["delta_fp"], 100))
    if frame["type"] == "trade":
        return ("trades", msg["market_ticker"], msg["ts_ms"] * 1000, msg["taker_side"],
                scaled(msg["yes_price_dollars"], 1000000), scaled(msg["count_fp"], 100), msg["trade_id"])
    return ("tickers" if frame["type"] == "ticker" else "lifecycle", json.dumps(msg))


def from_line(line: Line) -> Row:
    """The same from a line of the ledger."""
    if line.stream == "orderbook_deltas":
        return (line.stream, line.ticker, int(line.ts_us), line.side, int(line.price), int(line.amount))
    if line.stream == "trades":
        return (line.stream, line.ticker, int(line.ts_us), line.side, int(line.price), int(line.amount), line.trade_id)
    return (line.stream, json.dumps(json.loads(line.detail)))


def test_the_ledger_says_what_the_client_received(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=20, rate=10000, events=20000, wait_clients=1, repeat_bursts=0.05)
    client = connect(exchange, label="g1", headers={"User-Agent": 'a "probe" \\ 1'})
    names = tickers(exchange)
    client.subscribe(CHANNELS, market_tickers=names)
    delivered_all(exchange, client)
    lines = read_ledger(exchange)
    data = [f for f in client.frames if f["type"] not in ("subscribed", "ok", "orderbook_snapshot")]
    due = [line for line in lines if line.what == "emit" and (line.stream == "lifecycle" or line.ticker in names)]
    assert [as_row(frame) for frame in data] == [from_line(line) for line in due]
    equal: Counter[Row] = Counter()
    for line in due:
        if line.stream == "orderbook_deltas":
            assert int(line.occurrence) == equal[from_line(line)]
            equal[from_line(line)] += 1
    snapshots = [line for line in lines if line.what == "snapshot"]
    assert [(s.ticker, int(s.seq), json.loads(s.detail)) for s in snapshots] == [
        (f["msg"]["market_ticker"], f["seq"], f["msg"]) for f in client.of("orderbook_snapshot")]
    joined = next(line for line in lines if line.what == "connect")
    assert (joined.client, joined.label) == ("1", "g1")
    assert json.loads(joined.detail) == {"agent": 'a "probe" \\ 1', "key": ""}
    assert [(line.stream, line.sid) for line in lines if line.what == "open"] == [
        (channel, str(sid)) for sid, channel in enumerate(CHANNELS, 1)]
    assert {line.ticker for line in lines if line.what == "listen" and line.sid == "3"} == set(names)
    walls = [line.wall_us for line in lines]
    assert walls == sorted(walls)
    numbers = [line.number for line in lines if line.what == "emit"]
    assert numbers == list(range(1, len(numbers) + 1))


def test_equal_seeds_make_equal_ledgers(make_exchange: MakeExchange) -> None:
    options = {"rate": 0, "events": 50000, "start_time": "2026-11-05T14:00:00Z", "repeat_bursts": 0.05}
    texts = []
    for seed in (5, 5, 6):
        exchange = make_exchange(seed=seed, **options)
        emitted_all(exchange)
        get(exchange.control_url + "/ledger-flush")
        texts.append(exchange.ledger.read_bytes())
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].count(b"\n") >= 50000


def test_events_do_not_depend_on_clients_or_pace(make_exchange: MakeExchange, connect: Connect) -> None:
    def content(exchange: Any) -> list[Row]:
        return [(line.stream, line.ticker, line.side, line.price, line.amount, line.occurrence, line.trade_id)
                for line in read_ledger(exchange) if line.what == "emit"]

    alone = make_exchange(seed=9, rate=8000, events=8000)
    emitted_all(alone)
    watched = make_exchange(seed=9, rate=8000, events=8000, wait_clients=1)
    client = connect(watched)
    client.subscribe(CHANNELS, market_tickers=tickers(watched))
    watched.fault("kind=gap,count=50")
    delivered_all(watched, client)
    assert content(alone) == content(watched)


def test_flat_out_nothing_is_lost(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(markets=100, rate=0, events=100000, wait_clients=2, mix="lifecycle=0")
    clients = [connect(exchange), connect(exchange)]
    for client in clients:
        client.subscribe(CHANNELS[:3], market_tickers=tickers(exchange))
    for client in clients:
        delivered_all(exchange, client)
        assert not client.of("error")
    emitted = stats(exchange)["emitted"]["total"]
    for client in clients:
        started = sum(1 for frame in client.of("orderbook_delta", "trade", "ticker"))
        assert started <= emitted
    assert len(clients[0].of("trade")) > 1000
    ends = [len(client.of("orderbook_delta", "trade", "ticker")) for client in clients]
    assert max(ends) == emitted, "the first subscriber, who began it all, has had everything"


def test_the_pace_is_kept(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(rate=5000, seconds=2)
    emitted_all(exchange)
    lines = [line for line in read_ledger(exchange) if line.what == "emit"]
    assert 10000 <= len(lines) < 10050
    span = (lines[-1].wall_us - lines[0].wall_us) / 1e6
    assert 1.8 < span < 4, "two seconds, or a little more on a busy machine"


def test_memory_for_a_million_markets(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(markets=1000000, rate=20000, events=20000)
    emitted_all(exchange)
    assert stats(exchange)["markets"] >= 1000000
    assert exchange.process.rss_mb < 300
    assert get(f"{exchange.rest_url}/markets/KXSIM39-E124999-B999999.5").status == 200


RECORDED: list[Frame] = [
    {"type": "subscribed", "id": 1, "msg": {"channel": "orderbook_delta", "sid": 7}},
    {"type": "orderbook_snapshot", "sid": 7, "seq": 1, "msg": {
        "market_ticker": "KXREAL-26NOV05-T1", "market_id": "3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90",
        "yes_dollars_fp": [["0.0100", "275.00"], ["0.4700", "31.54"]]}},
    {"type": "orderbook_delta", "sid": 7, "seq": 2, "msg": {
        "market_ticker": "KXREAL-26NOV05-T1", "market_id": "3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90",
        "price_dollars": "0.4700", "delta_fp": "-9.90", "side": "yes", "ts": "2026-11-05T14:00:00.640173Z",
        "ts_ms": 1793887200640, "novel_field": {"kept": [1, 2]}}},
    {"type": "orderbook_delta", "sid": 7, "seq": 3, "msg": {
        "market_ticker": "KXREAL-26NOV05-T1", "market_id": "3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90",
        "price_dollars": "0.4700", "delta_fp": "-9.90", "side": "yes", "ts": "2026-11-05T14:00:00.640173Z",
        "ts_ms": 1793887200640}},
    {"type": "trade", "sid": 8, "seq": 44, "msg": {
        "trade_id": "d17a9849-e50c-44eb-455a-eb6e1098773f", "market_ticker": "KXREAL-26NOV05-T1",
        "yes_price_dollars": "0.4700", "no_price_dollars": "0.5300", "count_fp": "9.90", "taker_side": "no",
        "ts": 1793887200, "ts_ms": 1793887200640}},
    {"type": "market_lifecycle_v2", "sid": 9, "seq": 1, "msg": {
        "event_type": "deactivated", "market_ticker": "KXOTHER-2", "is_deactivated": True}},
]


def write_recording(path: Path, form: str) -> None:
    """The recorded frames as plain lines, wrapped, or compressed."""
    lines = [json.dumps(frame, separators=(",", ":")) for frame in RECORDED]
    if form == "wrapped":
        lines = [f'{{"recv_ms":{1793887200000 + 20 * n},"event":{line}}}' for n, line in enumerate(lines)]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.mark.parametrize("form, name, pace", [("plain", "r.ndjson", "flat"), ("plain", "r.ndjson.gz", "200"),
                                              ("wrapped", "r.ndjson", "recorded"), ("wrapped", "r.ndjson.gz", "flat")])
def test_replay(make_exchange: MakeExchange, connect: Connect, directory: Path, form: str, name: str,
                pace: str) -> None:
    write_recording(directory / name, form)
    exchange = make_exchange(replay=directory / name, replay_pace=pace, hold=True)
    assert sorted(tickers(exchange)) == ["KXOTHER-2", "KXREAL-26NOV05-T1"]
    client = connect(exchange)
    client.subscribe(CHANNELS, market_tickers=["KXREAL-26NOV05-T1"])
    client.wait(lambda frame: frame["type"] == "orderbook_snapshot")
    exchange.control("start")
    delivered_all(exchange, client)
    sent = [(f["type"], f["msg"]) for f in client.frames if f["type"] not in ("subscribed", "ok")][1:]
    assert sent[1:] == [(f["type"], f["msg"]) for f in RECORDED[2:]], "messages are as they were, new fields and all"
    assert sent[0][0] == "orderbook_snapshot"
    assert sent[0][1]["yes_dollars_fp"] == RECORDED[1]["msg"]["yes_dollars_fp"]
    assert client.sequence(1) == [1, 2, 3, 4] and client.sequence(2) == [1]
    deltas = [line for line in read_ledger(exchange) if line.what == "emit" and line.stream == "orderbook_deltas"]
    assert [(line.ts_us, line.price, line.amount, line.occurrence) for line in deltas] == [
        ("1793887200640173", "470000", "-990", "0"), ("1793887200640173", "470000", "-990", "1")]
    late = connect(exchange)
    late.subscribe(["orderbook_delta"], market_tickers=["KXREAL-26NOV05-T1"])
    snapshot = late.wait(lambda frame: frame["type"] == "orderbook_snapshot")
    assert fold([snapshot])["KXREAL-26NOV05-T1"].rest() == {
        "yes_dollars": [["0.0100", "275.00"], ["0.4700", "11.74"]], "no_dollars": []}


def delta(price: str, sid: int = 7) -> Frame:
    """A recorded delta of the yes side."""
    return {"type": "orderbook_delta", "sid": sid, "seq": 9, "msg": {
        "market_ticker": "KXREAL-26NOV05-T1", "price_dollars": price, "delta_fp": "2.00", "side": "yes",
        "ts": "2026-11-05T14:00:01Z", "ts_ms": 1793887201000}}


def play(make_exchange: MakeExchange, connect: Connect, path: Path) -> tuple[Exchange, FeedClient]:
    """All of a recording, to a client that listens to its market."""
    exchange = make_exchange(replay=path, replay_pace="flat", hold=True)
    client = connect(exchange)
    client.subscribe(CHANNELS, market_tickers=["KXREAL-26NOV05-T1"])
    client.wait(lambda frame: frame["type"] == "orderbook_snapshot")
    exchange.control("start")
    delivered_all(exchange, client)
    return exchange, client


def test_every_line_of_a_recording_is_sent_or_accounted_for(make_exchange: MakeExchange, connect: Connect,
                                                            directory: Path) -> None:
    """The wire's type for prices has six decimals, and types of frames appear without notice."""
    odd = {"type": "market_sentiment", "sid": 7, "seq": 4, "novel": [1], "msg": {
        "market_ticker": "KXREAL-26NOV05-T1", "score": 0.75}}
    of_all = {"type": "exchange_notice", "sid": 8, "msg": {"text": "a \"quoted\" word"}}
    lines = [*(json.dumps(frame) for frame in RECORDED), json.dumps(delta("0.47125")), json.dumps(odd), json.dumps(of_all),
             "", "not json", '{"sid":7}', '{"type":"trade","sid":8}', json.dumps(delta("0.4712345")),
             json.dumps({**odd, "sid": 99}), '{"type":"unsubscribed","sid":7,"seq":10}',
             json.dumps({"type": "trade", "sid": 8, "msg": {**RECORDED[4]["msg"], "trade_id": "x"}})]
    path = directory / "r.ndjson"
    path.write_text("\n".join(lines), encoding="utf-8")
    exchange, client = play(make_exchange, connect, path)
    came = [f for f in client.frames if f["type"] not in ("subscribed", "ok")][1:]  # the first book, empty, is not of the file
    assert [f["type"] for f in came] == [f["type"] for f in RECORDED[1:]] + ["orderbook_delta", "market_sentiment",
                                                                             "exchange_notice"]
    assert came[5]["msg"] == delta("0.47125")["msg"]
    assert came[6] == {**odd, "sid": 1, "seq": client.sequence(1)[-1]}
    assert came[7] == {**of_all, "sid": 2, "seq": 2}
    late = connect(exchange)
    late.subscribe(["orderbook_delta"], market_tickers=["KXREAL-26NOV05-T1"])
    book = fold([late.wait(lambda frame: frame["type"] == "orderbook_snapshot")])["KXREAL-26NOV05-T1"]
    assert book.sides["yes"][Decimal("0.47125")] == Decimal("2.00")
    ledger = read_ledger(exchange)
    assert [line.price for line in ledger if line.stream == "orderbook_deltas"] == ["470000", "470000", "471250"]
    unknown = [line for line in ledger if line.what == "injected"]
    assert [(line.stream, line.sid) for line in unknown] == [("unknown", "1"), ("unknown", "2")]
    texts = [text for text, frame in zip(client.texts, client.frames) if frame["type"] in ("market_sentiment", "exchange_notice")]
    assert [bytes.fromhex(line.detail[2:]).decode() for line in unknown] == texts
    exchange.process.stop()
    log = exchange.process.log()
    closed = dict(re.findall(r"(\w+)=(\d+)", next(line for line in log.splitlines() if "replay closed" in line)))
    assert {name: int(count) for name, count in closed.items() if name != "time"} == {
        "frames": len(came), "of_unknown_types": 2, "skipped": 8, "acknowledgement": 2, "not_json": 1, "no_type": 1, "no_msg": 1,
        "bad_price": 1, "unknown_type": 1, "bad_trade_id": 1}
    warned = re.findall(r"a recorded line is not sent.* line=(\d+) reason=(\w+) cause=", log)
    assert warned == [("11", "not_json"), ("12", "no_type"), ("13", "no_msg"), ("14", "bad_price"), ("15", "unknown_type"),
                      ("17", "bad_trade_id")]


def big_recording(path: Path) -> bytes:
    """A recording of several hundred kilobytes, gzip; as bytes."""
    lines = [json.dumps(RECORDED[1])] + [json.dumps({**delta("0.4700"), "noise": str(hash((n, n)))}) for n in range(20000)]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    return path.read_bytes()


@pytest.mark.parametrize("part", [0.5, 0.9999])
def test_a_recording_that_was_cut_is_refused(directory: Path, part: float) -> None:
    path = directory / "cut.ndjson.gz"
    whole = big_recording(path)
    path.write_bytes(whole[:int(len(whole) * part)])
    done = subprocess.run([str(paths.program("tidemill-exchange")), "--replay", str(path)], capture_output=True,
                          text=True, timeout=20, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert re.search(r"cut.ndjson.gz: expected a whole gzip file, but behind line \d+ \(\d+ bytes, unpacked\)", done.stderr)
    assert "gzip -dc" in done.stderr


def test_a_recording_that_is_cut_while_it_is_played_ends_in_an_error(directory: Path) -> None:
    path = directory / "cut.ndjson.gz"
    whole = big_recording(path)
    exchange = Exchange(directory, {"replay": path, "replay_pace": "flat", "hold": True})
    exchange.start()
    path.write_bytes(whole[:len(whole) // 2])
    exchange.control("start")
    emitted_all(exchange)
    assert exchange.process.stop() == 1
    assert "level=error" in exchange.process.log()
    assert exchange.process.complaints(("the replay ends before its recording does.*it was cut",)) == []


@pytest.mark.parametrize("text", [b"", b"not json\n", b'{"type":"subscribed","msg":{}}\n'])
def test_a_recording_without_frames_is_refused(directory: Path, text: bytes) -> None:
    path = directory / "empty.ndjson"
    path.write_bytes(text)
    done = subprocess.run([str(paths.program("tidemill-exchange")), "--replay", str(path)], capture_output=True,
                          text=True, timeout=20, check=False)
    assert done.returncode == 1 and "no frame of a known type" in done.stderr


def test_quit_and_a_ledger_that_is_whole_at_the_end(make_exchange: MakeExchange, connect: Connect) -> None:
    exchange = make_exchange(rate=2000, wait_clients=1)
    client = connect(exchange)
    client.subscribe(["trade"])
    client.wait(lambda frame: frame["type"] == "trade")
    exchange.control("quit")
    assert exchange.process.wait_end(10) == 0
    wait_until("the client sees the end", client.closed.is_set, 10)
    lines = exchange.ledger.read_text(encoding="utf-8").splitlines()
    assert all(line.count("\t") == 15 for line in lines)
    trades = [line for line in lines if line.startswith("emit") and "\ttrades\t" in line]
    assert len(trades) >= len(client.of("trade")) > 0
    assert lines[-1].startswith("disconnect")
