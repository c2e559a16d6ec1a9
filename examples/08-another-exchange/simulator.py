#!/usr/bin/python3
"""A small Coinbase Exchange for tests: the WebSocket feed and GET /products/{id}/trades, on one loopback port.

    simulator.py --port 8900 --rate 50 --ledger trades.tsv [--drop-after 100]

Trades are made from a counter, so that two runs are equal. Each goes to every subscriber as match, l2update and ticker,
and is written to the ledger whether anybody listens or not: product, trade id, microseconds, price and size in 1e-8,
side. With --drop-after N all connections are cut once, without a word, after so many trades; trades go on meanwhile.
"""
from __future__ import annotations

import argparse
import asyncio
import http
import json
import time
import urllib.parse
from typing import IO, Any

import websockets
from websockets.legacy.server import WebSocketServerProtocol

PRODUCTS = ("BTC-USD", "ETH-USD")
UNIT = 10**8
KEPT = 10_000  # trades that REST still knows


def decimal(units: int) -> str:
    return f"{units // UNIT}.{units % UNIT:08d}"


def rfc3339(micros: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000)) + f".{micros % 1_000_000:06d}Z"


class Exchange:
    def __init__(self, ledger: IO[str]) -> None:
        self.ledger = ledger
        self.sockets: set[WebSocketServerProtocol] = set()
        self.trades: dict[str, list[dict[str, Any]]] = {product: [] for product in PRODUCTS}
        self.sequence = 1000

    # ---- the feed ----

    async def serve(self, socket: WebSocketServerProtocol, _path: str = "/") -> None:
        request = json.loads(await socket.recv())
        assert request["type"] == "subscribe", request
        channels = [{"name": name, "product_ids": request["product_ids"]} for name in request["channels"]]
        await socket.send(json.dumps({"type": "subscriptions", "channels": channels}))
        for product in request["product_ids"]:
            await socket.send(json.dumps({"type": "snapshot", "product_id": product,
                                          "bids": [["100.00", "1.5"]], "asks": [["100.01", "2.25"]]}))
        self.sockets.add(socket)
        try:
            await socket.wait_closed()
        finally:
            self.sockets.discard(socket)

    async def send(self, frame: dict[str, Any]) -> None:
        text = json.dumps(frame)
        for socket in list(self.sockets):
            try:
                await socket.send(text)
            except websockets.ConnectionClosed:
                self.sockets.discard(socket)

    async def trade(self, number: int) -> None:
        product = PRODUCTS[number % len(PRODUCTS)]
        known = self.trades[product]
        micros = time.time_ns() // 1000
        price, size = 100 * UNIT + number, 1 + number * 7919 % UNIT
        self.sequence += 1 + number % 3  # other channels consume numbers too
        trade = {"trade_id": len(known) + 1, "time": rfc3339(micros), "price": decimal(price), "size": decimal(size),
                 "side": ("buy", "sell")[number // 2 % 2]}
        known.append(trade)
        self.ledger.write(f"{product}\t{trade['trade_id']}\t{micros}\t{price}\t{size}\t{trade['side']}\n")
        self.ledger.flush()
        await self.send({"type": "match", "maker_order_id": "m", "taker_order_id": "t", "sequence": self.sequence,
                         "product_id": product, **trade})
        changes = [["buy", trade["price"], trade["size"]], ["sell", "100.01", "0.00000000"]]
        await self.send({"type": "l2update", "product_id": product, "time": trade["time"], "changes": changes})
        await self.send({"type": "ticker", "sequence": self.sequence, "product_id": product, "price": trade["price"],
                         "open_24h": "90", "volume_24h": "123456789012345678901.5", "best_bid": "100.00",
                         "best_bid_size": "1.5", "best_ask": "100.01", "best_ask_size": "2.25",
                         "side": trade["side"], "time": trade["time"], "trade_id": trade["trade_id"],
                         "last_size": trade["size"]})

    async def beat(self) -> None:
        for product in PRODUCTS:
            await self.send({"type": "heartbeat", "sequence": self.sequence, "product_id": product,
                             "last_trade_id": len(self.trades[product]), "time": rfc3339(time.time_ns() // 1000)})

    def cut(self) -> None:
        for socket in list(self.sockets):
            socket.transport.abort()

    # ---- REST ----

    async def answer(self, path: str, _headers: object) -> Any:
        url = urllib.parse.urlsplit(path)
        parts = url.path.strip("/").split("/")
        if len(parts) != 3 or parts[0] != "products":
            return None  # the WebSocket handshake
        query = urllib.parse.parse_qs(url.query)
        known = self.trades.get(parts[1])
        if known is None or parts[2] != "trades":
            return http.HTTPStatus.NOT_FOUND, [("Content-Type", "application/json")], b'{"message":"NotFound"}'
        end = min(int(query.get("after", [str(len(known) + 1)])[0]) - 1, len(known))
        page = known[max(0, len(known) - KEPT):end][::-1][:int(query.get("limit", ["100"])[0])]
        return http.HTTPStatus.OK, [("Content-Type", "application/json")], json.dumps(page).encode()


async def run(options: argparse.Namespace) -> None:
    with open(options.ledger, "w", encoding="ascii") as ledger:
        exchange = Exchange(ledger)
        async with websockets.serve(exchange.serve, "127.0.0.1", options.port, process_request=exchange.answer,
                                    compression=None):
            number, beats = 0, 0
            started = time.monotonic()
            while time.monotonic() - started < options.seconds:
                await asyncio.sleep(1 / options.rate)
                if not exchange.sockets and number == 0:
                    started = time.monotonic()  # nobody has come yet
                    continue
                await exchange.trade(number)
                number += 1
                if time.monotonic() - started >= beats * 0.2:
                    beats += 1
                    await exchange.beat()
                if number == options.drop_after:
                    exchange.cut()
            await exchange.beat()
            print(f"trades {number}", flush=True)
            await asyncio.sleep(options.linger)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument("--rate", type=float, default=50, help="trades a second")
    parser.add_argument("--seconds", type=float, default=3600, help="how long trades are made, from the first client on")
    parser.add_argument("--linger", type=float, default=0, help="how long it stays after the last trade, in seconds")
    parser.add_argument("--ledger", default="trades.tsv")
    parser.add_argument("--drop-after", type=int, default=-1, help="cut all connections after so many trades")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
