"""The offline commands: replay against a decoder of its own in Python, plan against arithmetic and a real PostgreSQL, test
with its output formats, and the command line itself."""
from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import uuid
import xml.etree.ElementTree
from collections import Counter, defaultdict
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import PostgresCluster
from harness.paths import NO_EXCHANGE, ROOT, program

GATHERER = ROOT / "lua/kalshi/gatherer.lua"
DEDUPLICATOR = ROOT / "lua/kalshi/deduplicator.lua"
REPEAT_WINDOW_US = 10_000_000


def tidemill(*arguments: Any, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("tidemill"), *arguments], capture_output=True, text=True, timeout=60, cwd=cwd,
                          env={**os.environ, **NO_EXCHANGE})


# ---- a recording, and what it holds by another decoder ----

def iso(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{us % 1_000_000:06d}Z"


def make_recording(rng: random.Random, count: int) -> list[str]:
    """Two connections that mostly hear the same events, each with its own holes, repeats and reordered frames."""
    lines: list[str] = []
    start_ms = 1_786_622_400_000
    sequence: Counter[tuple[str, int]] = Counter()
    kept_back: dict[tuple[str, int], str] = {}

    def send(conn: str, ms: int, sid: int | None, event: dict[str, Any]) -> None:
        if sid is not None:
            sequence[conn, sid] += 1
            event = {**event, "sid": sid, "seq": sequence[conn, sid]}
        line = json.dumps({"recv_ms": ms, "conn": conn, "event": event})
        dice = rng.random()
        if sid is not None and dice < 0.01:
            return  # lost: a hole
        if sid is not None and dice < 0.02 and (conn, sid) not in kept_back:
            kept_back[conn, sid] = line  # late: it fills its hole after the next one
            return
        lines.append(line)
        if sid is not None and dice > 0.99:
            lines.append(line)  # the same frame again
        if sid is not None and (conn, sid) in kept_back and dice > 0.5:
            lines.append(kept_back.pop((conn, sid)))

    for conn in ("a", "b"):
        for sid, channel in ((1, "orderbook_delta"), (2, "trade")):
            send(conn, start_ms, sid, {"type": "subscribed", "id": sid, "msg": {"channel": channel, "sid": sid}})
    trades: list[dict[str, Any]] = []
    for i in range(count):
        ms, ticker = start_ms + i, f"M{rng.randrange(6)}"
        kind = rng.choices(["delta", "trade", "ticker", "lifecycle", "snapshot", "odd"], [60, 15, 15, 3, 3, 4])[0]
        event: dict[str, Any]
        sid: int | None = None
        if kind == "delta":
            at = ms * 1000 + rng.randrange(3) * 100 - (ms * 1000) % 2000  # few different times: repeats
            event, sid = {"type": "orderbook_delta", "msg": {
                "market_ticker": ticker, "price_dollars": f"0.{rng.randrange(1, 4)}0", "delta_fp": f"{rng.choice(['', '-'])}{rng.randrange(1, 3)}.5",
                "side": rng.choice(["yes", "no"]), "ts": iso(at)}}, 1
        elif kind == "trade":
            msg = {"trade_id": str(uuid.UUID(int=rng.getrandbits(128))), "market_ticker": ticker, "yes_price_dollars": "0.4700",
                   "count_fp": "12.00", "taker_side": "yes", "ts_ms": ms}
            if trades and rng.random() < 0.1:
                msg = dict(rng.choice(trades))  # the same trade again
                if rng.random() < 0.5:
                    msg["count_fp"] = "13.00"  # ... with other content
            trades.append(msg)
            event, sid = {"type": "trade", "msg": msg}, 2
        elif kind == "ticker":
            event = {"type": "ticker", "msg": {"market_ticker": ticker, "price_dollars": f"0.{rng.randrange(1, 3)}", "volume_fp": "1.00",
                                               "time": iso((ms - ms % 100) * 1000)}}
        elif kind == "lifecycle":
            event = {"type": "market_lifecycle_v2", "msg": {"event_type": "created", "market_ticker": f"N{i}", "open_ts": ms // 1000}}
        elif kind == "snapshot":
            event = {"type": "orderbook_snapshot", "msg": {"market_ticker": ticker, "yes_dollars_fp": [["0.1", "2.00"], ["0.25", "1.00"]]}}
        else:
            event = rng.choice([{"type": "new_kind", "msg": {}}, {"type": "trade", "msg": {"trade_id": "no"}},
                                {"type": "ok", "id": 3}, {"msg": {}}])
        for conn in ("a", "b"):
            if rng.random() < 0.95:
                send(conn, ms, sid, dict(event))
    lines += ["not json", '{"type":', '{"type":"ok"} x']
    return lines


class Model:
    """What the engine should make of a recording: written from DESIGN.md, not from its code."""

    def __init__(self) -> None:
        self.frames = self.control = self.unknown = self.malformed = self.repeated = 0
        self.rows: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.collisions: Counter[str] = Counter()
        self.occurrences: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.deltas: list[dict[str, Any]] = []
        self.subscriptions: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        self._last: dict[tuple[str, int], int] = {}
        self._holes: dict[tuple[str, int], set[int]] = defaultdict(set)
        self._seen: set[Any] = set()
        self._content: dict[Any, Any] = {}
        self._counts: dict[Any, tuple[int, int]] = {}
        self._now = 0

    def _sequence(self, conn: str, frame: dict[str, Any]) -> bool:
        """False: the frame came before."""
        if not isinstance(frame.get("seq"), int):
            return True
        key, number = (conn, frame["sid"]), frame["seq"]
        counts = self.subscriptions[key]
        counts["frames"] += 1
        last = self._last.setdefault(key, number - 1)
        if number <= last:
            if number not in self._holes[key]:
                counts["repeated"] += 1
                self.repeated += 1
                return False
            self._holes[key].remove(number)
            counts["late"] += 1
            counts["missing"] -= 1
            return True
        if number > last + 1:
            counts["gaps"] += 1
            counts["missing"] += number - last - 1
            self._holes[key].update(range(last + 1, number))
        self._last[key] = number
        return True

    def _row(self, stream: str, key: Any, content: Any, extra: Any = None) -> bool:
        """Count a row; whether it is kept."""
        self.rows[stream] += 1
        if key is None:
            self.kept[stream] += 1
            return True
        if self._content.setdefault((stream, key), content) != content:
            self.collisions[stream] += 1
        if (stream, key, extra) in self._seen:
            return False
        self._seen.add((stream, key, extra))
        self.kept[stream] += 1
        return True

    def _delta(self, conn: str, msg: dict[str, Any], us: int) -> None:
        key = (msg["market_ticker"], msg["ts"], msg["side"], Decimal(msg["price_dollars"]), Decimal(msg["delta_fp"]))
        before, at = self._counts.get((conn, key), (-1, us))
        number = before + 1 if us - at < REPEAT_WINDOW_US else 0
        self._counts[conn, key] = (number, us)
        if self._row("orderbook_deltas", key, None, number):
            self.occurrences[number] += 1
            self.deltas.append({"ticker": key[0], "exchange_ts": msg["ts"], "side": key[2], "price": int(key[3] * 1_000_000),
                                "delta": int(key[4] * 100), "occurrence": number, "received_at": iso(us)})

    def frame(self, line: str) -> None:
        try:
            outer = json.loads(line)
        except ValueError:
            self.frames, self.malformed = self.frames + 1, self.malformed + 1
            self._row("unknown_frames", None, None)
            return
        frame, conn = outer["event"], outer["conn"]
        us = self._now = max(self._now, outer["recv_ms"] * 1000)  # recorded time never goes back
        self.frames += 1
        if not self._sequence(conn, frame):
            return
        kind, msg = frame.get("type"), frame.get("msg", {})
        if kind in ("subscribed", "ok"):
            self.control += 1
            self.kinds[kind] += 1
        elif kind == "orderbook_delta":
            self.kinds[kind] += 1
            self._delta(conn, msg, us)
        elif kind == "trade" and "market_ticker" in msg:
            self.kinds[kind] += 1
            self._row("trades", msg["trade_id"], (msg["ts_ms"], msg["market_ticker"], msg["count_fp"]))
        elif kind == "ticker":
            self.kinds[kind] += 1
            self._row("tickers", (msg["market_ticker"], msg["time"], msg["price_dollars"]), None)
        elif kind == "market_lifecycle_v2":
            self.kinds[kind] += 1
            self._row("lifecycle", (msg["market_ticker"],), None)  # each ticker is created once
        elif kind == "orderbook_snapshot":
            self.kinds[kind] += 1
            self._row("orderbook_snapshots", None, None)
        else:
            if kind == "trade":
                self.kinds[kind] += 1  # its kind is known, its shape is wrong
            self.unknown += 1
            self._row("unknown_frames", None, None)

    def streams(self) -> dict[str, dict[str, Any]]:
        result = {name: {"rows": n, "kept": self.kept[name], "duplicates": n - self.kept[name],
                         "collisions": self.collisions[name]} for name, n in self.rows.items()}
        if self.occurrences:
            result["orderbook_deltas"]["occurrences"] = [self.occurrences[i] for i in range(max(self.occurrences) + 1)]
        return result


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    lines = make_recording(random.Random(20260813), 4000)
    path = tmp_path_factory.mktemp("recording") / "frames.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with gzip.open(path.with_suffix(".jsonl.gz"), "wt") as f:
        f.write("\n".join(lines) + "\n")
    return path, lines


@pytest.fixture(scope="module")
def model(recording: tuple[Path, list[str]]) -> Model:
    m = Model()
    for line in recording[1]:
        m.frame(line)
    return m


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_replay_counts_what_the_model_counts(recording: tuple[Path, list[str]], model: Model, suffix: str) -> None:
    done = tidemill("replay", recording[0].with_suffix(suffix), "--script", GATHERER, "--json")
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert {name: got[name] for name in ("frames", "control", "unknown", "malformed", "repeated", "rows")} == {
        "frames": model.frames, "control": model.control, "unknown": model.unknown, "malformed": model.malformed,
        "repeated": model.repeated, "rows": sum(model.rows.values())}
    for stream in got["streams"].values():
        del stream["frames"]
    assert got["streams"] == model.streams()
    assert got["kinds"] == dict(model.kinds)
    assert {(s["conn"], s["sid"]): {k: s[k] for k in ("frames", "gaps", "missing", "late", "repeated")} for s in got["subscriptions"]
            } == {key: {k: counts[k] for k in ("frames", "gaps", "missing", "late", "repeated")} for key, counts in model.subscriptions.items()}
    assert sum(r["count"] for r in got["reasons"]) == model.unknown + model.malformed
    for part in (model.collisions["trades"], model.repeated, sum(c["late"] for c in model.subscriptions.values()), model.occurrences[1]):
        assert part > 0, "the recording is no test of this"


def test_replay_shows_rows(recording: tuple[Path, list[str]], model: Model) -> None:
    done = tidemill("replay", recording[0], "--script", GATHERER, "--rows", "orderbook_deltas")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        del row["sid"], row["exchange_seq"], row["seq"]
    assert rows == model.deltas
    assert "orderbook_deltas" in done.stderr  # the counts
    limited = tidemill("replay", recording[0], "--script", GATHERER, "--rows", "orderbook_deltas", "--limit", "3")
    assert len(limited.stdout.splitlines()) == 3
    assert "expected one of trades" in tidemill("replay", recording[0], "--script", GATHERER, "--rows", "tradez").stderr


def _priced(kind: str, **fields: Any) -> str:
    usual = {
        "trade": {"trade_id": str(uuid.UUID(int=1)), "market_ticker": "A", "yes_price_dollars": "0.4700", "count_fp": "9.90",
                  "taker_side": "no", "ts_ms": 1794060000640},
        "orderbook_delta": {"market_ticker": "A", "price_dollars": "0.4700", "delta_fp": "-9.90", "side": "yes",
                            "ts_ms": 1794060000640},
        "orderbook_snapshot": {"market_ticker": "A", "yes_dollars_fp": [["0.0100", "1.00"]], "no_dollars_fp": [["0.4900", "1.00"]]},
        "ticker": {"market_ticker": "A", "price_dollars": "0.4700", "yes_bid_dollars": "0.4700", "yes_ask_dollars": "0.5100",
                   "volume_fp": "1.00", "open_interest_fp": "1.00", "yes_bid_size_fp": "1.00", "yes_ask_size_fp": "1.00",
                   "last_trade_size_fp": "1.00", "dollar_volume": 1, "dollar_open_interest": 1, "ts_ms": 1794060000640}}[kind]
    return json.dumps({"type": kind, "sid": 1, "msg": {**usual, **fields}})


PRICES = [("trade", "yes_price_dollars"), ("orderbook_delta", "price_dollars"), ("ticker", "price_dollars"),
          ("ticker", "yes_bid_dollars"), ("ticker", "yes_ask_dollars")]
COUNTS = [("trade", "count_fp"), *(("ticker", f"{name}_fp") for name in (
    "volume", "open_interest", "yes_bid_size", "yes_ask_size", "last_trade_size"))]


def test_prices_and_counts_of_the_stock_streams_have_a_range(directory: Path) -> None:
    """A price is from nothing to a dollar, a count is not negative; a change of a book may be."""
    good = [_priced(kind, **{name: price}) for kind, name in PRICES for price in ("0.0000", "1.0000")]
    good += [_priced(kind, **{name: count}) for kind, name in COUNTS for count in ("0.00", "123456789.01")]
    good += [_priced("orderbook_delta", delta_fp="-123456789.01"), _priced("ticker", dollar_volume=-1)]
    good += [_priced("orderbook_snapshot", **{f"{side}_dollars_fp": [[price, "1.00"]]}) for side in ("yes", "no")
             for price in ("0.0000", "1.0000")]
    bad = [(_priced(kind, **{name: price}), f"{kind}: msg.{name}: expected 0 to 1, got") for kind, name in PRICES
           for price in ("-0.0001", "1.0001", "-0.4700", "470.0")]
    bad += [(_priced(kind, **{name: "-0.01"}), f"{kind}: msg.{name}: expected at least 0, got") for kind, name in COUNTS]
    bad += [(_priced("orderbook_snapshot", **{f"{side}_dollars_fp": [[price, "1.00"]]}), "orderbook_snapshot: msg.") for side in
            ("yes", "no") for price in ("-0.0001", "1.0001")]
    path = directory / "frames.jsonl"
    path.write_text("\n".join(good) + "\n")
    got = json.loads(tidemill("replay", path, "--script", GATHERER, "--json").stdout)
    assert (got["frames"], got["unknown"]) == (len(good), 0), got["reasons"]
    for frame, reason in bad:
        path.write_text(frame + "\n")
        got = json.loads(tidemill("replay", path, "--script", GATHERER, "--json").stdout)
        assert (got["unknown"], list(got["streams"])) == (1, ["unknown_frames"]), frame
        assert got["reasons"][0]["example"].startswith(reason), got["reasons"]


def test_replay_without_wrapping_takes_the_exchanges_time(directory: Path) -> None:
    frames = [{"type": "ok", "id": 1}] + [{"type": "trade", "msg": {
        "trade_id": str(uuid.UUID(int=i)), "market_ticker": "M", "yes_price_dollars": "0.5", "count_fp": "1", "taker_side": "yes",
        "ts_ms": 1_786_622_400_000 + i * 500}} for i in range(5)]
    path = directory / "plain.jsonl"
    path.write_text("".join(json.dumps(f) + "\n" for f in frames))
    got = json.loads(tidemill("replay", path, "--script", GATHERER, "--json").stdout)
    assert (got["first"], got["last"], got["recorded_seconds"]) == ("2026-08-13T12:00:00.000000Z", "2026-08-13T12:00:02.000000Z", 2.0)
    slow = json.loads(tidemill("replay", path, "--script", GATHERER, "--json", "--speed", "10x").stdout)
    assert slow["replay_seconds"] >= 0.19


def test_replay_errors(directory: Path, recording: tuple[Path, list[str]]) -> None:
    cut = directory / "cut.gz"
    cut.write_bytes(recording[0].with_suffix(".jsonl.gz").read_bytes()[:5000])
    assert tidemill("replay", cut, "--script", GATHERER).returncode == 1
    assert tidemill("replay", directory / "none", "--script", GATHERER).returncode == 1
    assert tidemill("replay", recording[0]).returncode == 2
    assert tidemill("replay", recording[0], "--script", GATHERER, "--speed", "fast").returncode == 2
    (directory / "bad.lua").write_text("x")
    assert tidemill("replay", recording[0], "--script", directory / "bad.lua").returncode == 78


# ---- plan ----

def plan(*arguments: Any) -> dict[str, Any]:
    done = tidemill("plan", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def named(lines: list[dict[str, Any]], unit: str) -> dict[str, Any]:
    return {line["name"]: line[unit] for line in lines}


def test_plan_of_the_stock_gatherer() -> None:
    """Against numbers worked out by hand from the documented bounds."""
    got = plan(GATHERER, "--rate", "trades=100,orderbook_deltas=1000", "--disk", "200GiB")
    assert (got["role"], got["id"]) == ("gatherer", "g1")
    assert [(c["name"], c["count"], c["markets"]) for c in got["connections"]] == [
        ("ticker", 1, None), ("trade", 1, None), ("market_lifecycle_v2", 1, None), ("multivariate_market_lifecycle", 1, None),
        ("orderbook_delta", 16, "kalshi.open_markets")]
    streams = {s["name"]: s for s in got["streams"]}
    assert streams["orderbook_deltas"]["key"] == ["exchange_ts", "ticker", "side", "price", "delta", "occurrence"]
    assert streams["orderbook_deltas"]["counted"] and streams["orderbook_deltas"]["window_seconds"] == 24 * 3600
    assert streams["trades"]["partition"] == "hash" and streams["trades"]["key"] == ["trade_id"]
    assert streams["orderbook_snapshots"]["observer"] and streams["lifecycle"]["within_seconds"] == 300
    # a tuple: 2 bytes of count, each field 4 bytes and its own; sid, exchange_seq NULL; an item's head in a segment: 6
    trade = 2 + (4 + 16) + 2 * (4 + 8) + (4 + 24) + (4 + 4) + (4 + 8) + (4 + 3) + (4 + 1) + 4 + 4 + (4 + 8) + 6
    delta = 2 + (4 + 24) + (4 + 8) + (4 + 3) + (4 + 4) + (4 + 8) + (4 + 2) + (4 + 8) + 4 + 4 + (4 + 8) + 6
    assert (streams["trades"]["journal_row_bytes"], streams["orderbook_deltas"]["journal_row_bytes"]) == (trade, delta)
    memory, mib = named(got["memory"], "bytes"), 1 << 20
    for name in ("trades", "orderbook_deltas", "tickers", "lifecycle"):
        assert memory[f"seen-set {name}"] == 256 * mib
    assert memory["occurrence counters"] == 20 * 64 * mib  # 20 links, one counted stream
    assert (memory["journal buffer"], memory["policy VM"], memory["HTTP answers"]) == (64 * mib, 256 * mib, 8 * 64 * mib)
    assert memory["messages"] == 20 * 4 * mib
    assert 50 * mib < memory["registry markets"] < 400 * mib
    assert got["memory_bytes"] == pytest.approx(sum(memory.values()))
    outages = named(got["outages"], "seconds")
    assert outages["local store away"] == pytest.approx((8 << 30) / (100 * trade + 1000 * delta), rel=1e-3)
    growth = 100 * streams["trades"]["store_row_bytes"] + 1000 * streams["orderbook_deltas"]["store_row_bytes"]
    assert outages["production away"] == outages["deduplicator away"] == pytest.approx((192 << 30) / growth, rel=1e-3)
    assert outages["exchange away"] is None
    assert (got["keep_seconds"], got["store_room_bytes"]) == (7 * 86400, 192 << 30)
    assert got["kept_bytes"] == pytest.approx(growth * 7 * 86400, rel=1e-3)


def test_plan_follows_the_script(directory: Path) -> None:
    (directory / "s.lua").write_text("""local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g9", store = "dbname=x", data = "d", journal = "1GiB", buffer = "16MiB", keep = "1h", store_limit = "2GiB" }
local ex = kalshi.exchange { ws_url = "ws://127.0.0.1:1/", rest_url = "http://127.0.0.1:1/" }
ex:subscribe("trade", { connections = 3, markets = { "A", "B" } })
ex:subscribe("orderbook_delta", { connections = 7, markets = function(market) return market.ticker == "A" end })
tm.dedup("trades", { window = "1h", memory = "32MiB" })
""")
    got = plan(directory / "s.lua", "--rate", "trades=1000")
    assert [(c["name"], c["count"]) for c in got["connections"]] == [("trade", 3), ("orderbook_delta", 7)]
    assert got["connections"][0]["markets"] == "2 named markets"
    assert re.fullmatch(r"the function at .*s\.lua:6", got["connections"][1]["markets"])
    memory = named(got["memory"], "bytes")
    assert memory["seen-set trades"] == 32 << 20 and memory["journal buffer"] == 16 << 20 and memory["occurrence counters"] == 10 * 64 << 20
    assert got["journal_bytes"] == 1 << 30
    assert (got["keep_seconds"], got["store_room_bytes"]) == (3600, 2 << 30)
    assert {s["name"]: s["window_seconds"] for s in got["streams"]}["trades"] == 3600
    text = tidemill("plan", directory / "s.lua").stdout
    for part in ("gatherer g9", "orderbook_delta", "local store away", "assumed:", "2000 records a second"):
        assert part in text


def test_plan_of_the_deduplicator() -> None:
    got = plan(DEDUPLICATOR)
    assert got["role"] == "deduplicator" and got["connections"] == []
    assert named(got["outages"], "seconds") == {"production away": None, "a gatherer away": None}
    assert named(got["memory"], "bytes")["poll queue"] == 64 << 20


def test_plan_refuses(directory: Path) -> None:
    assert tidemill("plan", GATHERER, "--rate", "many").returncode == 2
    assert tidemill("plan", GATHERER, "--rate", "tradez=5").returncode == 2
    assert tidemill("plan", GATHERER, "--disk", "5 parsecs").returncode == 2
    assert tidemill("plan", directory / "none.lua").returncode == 78


def test_rows_are_as_large_in_postgresql_as_the_plan_says(make_cluster: Callable[[str], PostgresCluster]) -> None:
    cluster = make_cluster("size")
    rows = 20000
    typical = {"uuid": "gen_random_uuid()", "boolean": "true", "smallint": "1", "integer": "1", "bigint": "1", "double precision": "1",
               "timestamp with time zone": "to_timestamp(0)"}
    streams = {s["name"]: s for s in plan(GATHERER)["streams"]}
    with cluster.connect() as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(tidemill("schema", "--local", GATHERER).stdout)
        for name in ("trades", "orderbook_deltas", "tickers", "orderbook_snapshots"):
            cursor.execute("SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND "
                           "table_name = %s ORDER BY ordinal_position", (name,))
            columns, values = [], []
            for column, data_type in cursor.fetchall():
                if column in ("sid", "exchange_seq"):
                    continue
                columns.append(column)
                if column == "seq":
                    values.append("i")
                elif column in ("side", "taker_side", "source", "gatherer"):
                    values.append({"source": "'rest'", "gatherer": "'g1'"}.get(column, "'yes'"))
                elif data_type in ("text", "character varying"):
                    values.append(f"repeat('x', {24 if column == 'ticker' else 12})")
                elif data_type == "jsonb":
                    values.append("to_jsonb(repeat('x', 254))")
                else:
                    values.append(typical.get(data_type, "0"))
            cursor.execute(f"CREATE TABLE part_{name} PARTITION OF {name} FOR VALUES FROM (0, 0) TO (9, 0)")
            cursor.execute(f"INSERT INTO {name} ({', '.join(columns)}) SELECT {', '.join(values)} FROM generate_series(1, {rows}) i")
            cursor.execute(f"SELECT pg_relation_size('part_{name}') + pg_relation_size('part_{name}_pkey')")
            measured = cursor.fetchone()[0] / rows
            assert streams[name]["store_row_bytes"] == pytest.approx(measured, rel=0.04), name


# ---- test ----

POLICY = """local tm = require "tidemill"
tm.gatherer { id = tm.env("ID", "g1"), store = "dbname=x", data = "d" }
tm.every("10s", function() tm.log.info "tick" end)
tm.test("own", function(t) t.equal(1, %s) end)
"""

TESTS = """local t = require "tidemill.test"
t.test("passes", function()
  t.load("policy.lua", { env = { ID = "g7" } })
  t.start()
  t.advance "1m"
  t.equal(#t.logs(), 6)
end)
t.test("fails & <says> \\"so\\"", function() t.equal(math.random(1e9), -1) end)
"""


def test_test_prints_for_people(directory: Path) -> None:
    (directory / "policy.lua").write_text(POLICY % 1)
    (directory / "sub").mkdir()
    (directory / "sub" / "policy.lua").write_text(POLICY % 1)
    (directory / "a_test.lua").write_text(TESTS)
    (directory / "sub" / "b_test.lua").write_text('local t = require "tidemill.test"\nt.test("loads beside itself", function() '
                                                   't.equal(t.load "policy.lua".problems, {}) end)\n')
    done = tidemill("test", directory, "--seed", "11")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[-1] == "2 passed, 1 failed" and "seed 11: repeat with --seed 11" in lines
    assert "\033" not in done.stdout
    assert f"        {directory}/a_test.lua:8" in lines
    assert done.stdout == tidemill("test", directory, "--seed", "11").stdout  # deterministic
    assert done.stdout != tidemill("test", directory, "--seed", "12").stdout
    good = tidemill("test", directory / "a_test.lua", "--filter", "passes")
    assert good.returncode == 0 and good.stdout.endswith("\n1 passed, 0 failed\n") and "seed" not in good.stdout
    assert tidemill("test", directory / "sub" / "..", "--filter", "nothing has this name").returncode == 1
    assert tidemill("test", directory / "none").returncode == 1


def test_test_prints_tap_and_junit(directory: Path) -> None:
    (directory / "policy.lua").write_text(POLICY % 1)
    (directory / "a_test.lua").write_text(TESTS)
    done = tidemill("test", "--tap", "--junit", directory / "out.xml", directory / "a_test.lua")
    lines = done.stdout.splitlines()
    assert lines[0] == "TAP version 13" and "1..2" in lines
    assert [line.split(" - ")[0] for line in lines if re.match(r"(not )?ok ", line)] == ["ok 1", "not ok 2"]
    suites = xml.etree.ElementTree.parse(directory / "out.xml").getroot()
    assert suites.attrib == {"tests": "2", "failures": "1"}
    cases = suites.findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == ["passes", 'fails & <says> "so"']
    failure = cases[1].find("failure")
    assert failure is not None and "a_test.lua:8: expected -1, got" in str(failure.get("message"))
    assert tidemill("test", directory / "a_test.lua", "--junit", directory / "no" / "such.xml").returncode == 1


def test_a_scripts_own_tests(directory: Path) -> None:
    path = directory / "policy.lua"
    path.write_text(POLICY % 1)
    assert tidemill("test", path).stdout.endswith("\n1 passed, 0 failed\n")
    assert tidemill("check", "--tests", path).returncode == 0
    path.write_text(POLICY % 2)
    assert tidemill("check", path).returncode == 0
    done = tidemill("check", "--tests", path)
    assert done.returncode == 78 and f'{path}:4: test "own": expected 2, got 1' in done.stderr


# ---- the command line ----

def test_help_and_mistakes() -> None:
    everything = tidemill("help").stdout
    for command in ("run", "check", "schema", "migrate", "plan", "test", "replay", "coverage", "status", "top", "version"):
        assert f"tidemill {command}" in everything
        one = tidemill("help", command)
        assert one.returncode == 0 and f"usage: tidemill {command}" in one.stdout
        assert tidemill(command, "--help").stdout == one.stdout
    for arguments, expected in ((["chek", "x"], "did you mean check?"), (["check", "--jsn", "x"], "did you mean --json?"),
                                ([], "expected a command"), (["check"], "expected FILE"), (["plan", "a", "b"], "unexpected argument b"),
                                (["schema", "--local", "--production", "x"], "not both"), (["test", "--seed", "x", "y"], "--seed")):
        done = tidemill(*arguments)
        assert done.returncode == 2 and expected in done.stderr, (arguments, done.stderr)
