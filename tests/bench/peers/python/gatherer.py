"""A gatherer as a user of Python would write it: websockets, json, a dict against duplicates, and asyncpg's binary COPY.

    gatherer.py '{"ws": URL, "rest": URL, "label": "python", "connections": 1,
                  "store": {"host", "port", "user", "database"} or "journal": FILE, "idle_ms": 1000}'

Into `store` it writes by COPY, a transaction a batch; into `journal` it appends lines and calls fdatasync a batch. It ends by
SIGTERM, or when nothing came for idle_ms after something had, and prints one line of JSON.
"""
from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
import time
import urllib.request
import uuid
from datetime import datetime, timezone
from typing import Any

import asyncpg
import websockets

FLUSH_S = 0.05
SEEN_MAX = 2_000_000  # keys of one generation; two are kept

COLUMNS = {
    "orderbook_deltas": ("ticker", "exchange_ts", "side", "price", "delta", "occurrence", "received_at", "seq"),
    "trades": ("trade_id", "exchange_ts", "received_at", "ticker", "price", "count", "taker_side", "is_block_trade", "seq"),
    "tickers": ("ticker", "exchange_ts", "price", "yes_bid", "yes_ask", "yes_bid_size", "yes_ask_size", "last_trade_size",
                "volume", "open_interest", "dollar_volume", "dollar_open_interest", "received_at", "seq"),
}
options: dict[str, Any] = json.loads(sys.argv[1])


class Seen:
    """Keys seen, in two generations, so that memory is bounded."""

    def __init__(self) -> None:
        self.young: dict[Any, Any] = {}
        self.old: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        return self.young.get(key) or self.old.get(key)

    def set(self, key: Any, value: Any) -> None:
        self.young[key] = value
        if len(self.young) >= SEEN_MAX:
            self.old, self.young = self.young, {}


def micros(text: str) -> int:
    return round(float(text) * 1e6)


def hundredths(text: str) -> int:
    return round(float(text) * 100)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text[:-1] + "+00:00")


class Gatherer:
    """All connections, the rows that wait, and where they go."""

    def __init__(self) -> None:
        self.batches: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}
        self.deltas, self.trades, self.tickers = Seen(), Seen(), Seen()
        self.seq = self.frames = self.rows = 0
        self.first_ms = self.last_ms = self.heard_ms = 0.0
        self.store: asyncpg.Connection | None = None
        self.journal = os.open(options["journal"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if "journal" in options else -1
        self.over = asyncio.Event()

    def on_message(self, data: str) -> None:
        self.heard_ms = time.time() * 1e3
        self.first_ms = self.first_ms or self.heard_ms
        self.frames += 1
        frame = json.loads(data)
        kind = frame["type"]
        if kind == "orderbook_delta":
            self.on_delta(frame, frame["msg"])
        elif kind == "ticker":
            self.on_ticker(frame["msg"])
        elif kind == "trade":
            self.on_trade(frame["msg"])

    def received_at(self) -> datetime:
        return datetime.fromtimestamp(self.heard_ms / 1e3, timezone.utc)

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def on_delta(self, frame: dict[str, Any], m: dict[str, Any]) -> None:
        key = (m["market_ticker"], m["ts"], m["side"], m["price_dollars"], m["delta_fp"])
        last = self.deltas.get(key)  # the sequence of the subscription tells a repeat from a redelivery
        if last and last[1] == frame["sid"] and frame["seq"] <= last[2]:
            return
        occurrence = last[0] if last else 0
        self.deltas.set(key, (occurrence + 1, frame["sid"], frame["seq"]))
        self.batches["orderbook_deltas"].append((m["market_ticker"], moment(m["ts"]), m["side"], micros(m["price_dollars"]),
                                                 hundredths(m["delta_fp"]), occurrence, self.received_at(), self.next_seq()))

    def on_trade(self, m: dict[str, Any]) -> None:
        if self.trades.get(m["trade_id"]):
            return
        self.trades.set(m["trade_id"], True)
        self.batches["trades"].append((uuid.UUID(m["trade_id"]), datetime.fromtimestamp(m["ts_ms"] / 1e3, timezone.utc),
                                       self.received_at(), m["market_ticker"], micros(m["yes_price_dollars"]),
                                       hundredths(m["count_fp"]), m["taker_outcome_side"], m["is_block_trade"], self.next_seq()))

    def on_ticker(self, m: dict[str, Any]) -> None:
        values = (micros(m["price_dollars"]), micros(m["yes_bid_dollars"]), micros(m["yes_ask_dollars"]),
                  hundredths(m["yes_bid_size_fp"]), hundredths(m["yes_ask_size_fp"]), hundredths(m["last_trade_size_fp"]),
                  hundredths(m["volume_fp"]), hundredths(m["open_interest_fp"]), m["dollar_volume"],
                  m["dollar_open_interest"])
        key = (m["market_ticker"], m["time"], values)
        if self.tickers.get(key):
            return
        self.tickers.set(key, True)
        self.batches["tickers"].append((m["market_ticker"], moment(m["time"]), *values, self.received_at(), self.next_seq()))

    async def flush(self) -> None:
        taken = {table: rows for table, rows in self.batches.items() if rows}
        if not taken:
            return
        for table in taken:
            self.batches[table] = []
        if self.store:
            async with self.store.transaction():
                for table, rows in taken.items():
                    await self.store.copy_records_to_table(table, records=rows, columns=COLUMNS[table])
        else:
            text = "".join("\t".join(map(str, row)) + "\n" for rows in taken.values() for row in rows)
            os.write(self.journal, text.encode())
            await asyncio.to_thread(os.fdatasync, self.journal)
        self.rows += sum(map(len, taken.values()))
        self.last_ms = time.time() * 1e3

    async def listen(self, channels: list[str], tickers: list[str] | None) -> None:
        context = ssl.create_default_context(cafile=options["ca"]) if options.get("ca") else None
        async with websockets.connect(f"{options['ws']}?label={options['label']}", compression=None, max_size=2**24,
                                      max_queue=4096, ping_interval=None, ssl=context) as socket:
            params: dict[str, Any] = {"channels": channels, "use_yes_price": False, "skip_ticker_ack": True}
            if tickers is not None:
                params["market_tickers"] = tickers
            await socket.send(json.dumps({"id": 1, "cmd": "subscribe", "params": params}))
            async for message in socket:
                self.on_message(message)

    async def keep_flushing(self) -> None:
        idle_ms = options.get("idle_ms")
        while not self.over.is_set():
            await asyncio.sleep(FLUSH_S)
            await self.flush()
            if idle_ms and self.rows and time.time() * 1e3 - max(self.heard_ms, self.last_ms) > idle_ms:
                self.over.set()
        await self.flush()


def market_tickers() -> list[str]:
    tickers: list[str] = []
    cursor = ""
    while True:
        with urllib.request.urlopen(f"{options['rest']}/markets?limit=1000&status=open{cursor}") as reply:
            page = json.load(reply)
        tickers += [market["ticker"] for market in page["markets"]]
        if not page["cursor"]:
            return tickers
        cursor = f"&cursor={page['cursor']}"


async def main() -> None:
    gatherer = Gatherer()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, gatherer.over.set)
    if "store" in options:
        gatherer.store = await asyncpg.connect(**options["store"])
        await gatherer.store.execute("SET synchronous_commit = off")
    tickers = market_tickers()
    share = -(-len(tickers) // options["connections"])
    listeners = [asyncio.create_task(gatherer.listen(["orderbook_delta"], tickers[i * share:(i + 1) * share]))
                 for i in range(options["connections"])]
    listeners.append(asyncio.create_task(gatherer.listen(["trade", "ticker"], None)))
    flusher = asyncio.create_task(gatherer.keep_flushing())
    done, _ = await asyncio.wait([flusher, *listeners], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    print(json.dumps({"frames": gatherer.frames, "rows": gatherer.rows, "first_ms": gatherer.first_ms,
                      "last_ms": gatherer.last_ms, "cpu_s": time.process_time()}), flush=True)
    os._exit(0)


asyncio.run(main())
