"""A client of tidemill-exchange that shares no code with it: python3-websockets, urllib, cryptography."""
from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple

import pytest
import websockets
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from harness.daemons import Exchange
from harness.waiting import wait_until

Frame = dict[str, Any]
MakeExchange = Callable[..., Exchange]
Connect = Callable[..., "FeedClient"]

WS_PATH = "/trade-api/ws/v2"
CHANNELS = ["orderbook_delta", "trade", "ticker", "market_lifecycle_v2"]


@pytest.fixture
def make_exchange(directory: Path) -> Iterator[MakeExchange]:
    """Starts exchanges; they end with the test, and what they complained about fails it."""
    made: list[Exchange] = []

    def make(**options: Any) -> Exchange:
        exchange = Exchange(directory, options, f"exchange{len(made)}")
        made.append(exchange)
        exchange.start()
        return exchange

    yield make
    for exchange in made:
        exchange.process.stop()
    complaints = [line for exchange in made for line in exchange.process.complaints()]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects clients; they are closed with the test."""
    made: list[FeedClient] = []

    def make(exchange: Exchange, **options: Any) -> FeedClient:
        made.append(FeedClient(exchange.ws_url, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


class FeedClient:
    """One connection, read by a thread of its own. `frames` holds all that came, in order; None marks what is no JSON."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, label: str = "",
                 context: ssl.SSLContext | None = None) -> None:
        self.frames: list[Frame] = []
        self.texts: list[str] = []
        self.closed = threading.Event()
        self.close_code: int | None = None
        self._changed = threading.Condition()
        self._next_id = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        url += f"?label={label}" if label else ""
        self._socket = self._call(lambda: websockets.connect(
            url, extra_headers=dict(headers or {}), compression=None, ping_interval=None, max_size=2**26,
            max_queue=None, ssl=context, read_limit=2**22))
        self._reader = asyncio.run_coroutine_threadsafe(self._read(), self._loop)

    def _call(self, make: Callable[[], Any], timeout: float = 20) -> Any:
        async def run() -> Any:
            return await make()
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout)

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                with self._changed:
                    self._keep(text)
                    self._changed.notify_all()
        except websockets.ConnectionClosed:
            pass
        finally:
            self.close_code = self._socket.close_code
            self.closed.set()
            with self._changed:
                self._changed.notify_all()

    def _keep(self, text: str) -> None:
        self.texts.append(text)
        try:
            self.frames.append(json.loads(text))
        except json.JSONDecodeError:
            self.frames.append({"type": None, "text": text})

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._call(self._socket.close)
        self._reader.result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def ping(self, payload: bytes) -> None:
        """Send a ping and wait for its pong."""
        async def there_and_back() -> None:
            await (await self._socket.ping(payload))
        self._call(there_and_back)

    def send_text(self, text: str) -> None:
        """Send a message as it is."""
        self._call(lambda: self._socket.send(text))

    def send(self, cmd: str, **params: Any) -> int:
        """Send a command; its id."""
        self._next_id += 1
        command: Frame = {"id": self._next_id, "cmd": cmd}
        self.send_text(json.dumps({**command, "params": params} if params else command))
        return self._next_id

    def ask(self, cmd: str, **params: Any) -> Frame:
        """Send a command and wait for the first frame that echoes its id."""
        number = self.send(cmd, **params)
        return self.wait(lambda frame: frame.get("id") == number)

    def subscribe(self, channels: list[str], **params: Any) -> dict[str, int]:
        """Subscribe; the sid of each channel."""
        number = self.send("subscribe", channels=channels, **params)
        wait_until(f"{channels} are acknowledged", lambda: len(self.acks(number)) == len(channels), 10,
                   lambda: str(self.frames[:5]))
        return {frame["msg"]["channel"]: frame["msg"]["sid"] for frame in self.acks(number)}

    def acks(self, number: int) -> list[Frame]:
        """`subscribed` frames of a command."""
        return [frame for frame in list(self.frames) if frame.get("id") == number and frame["type"] == "subscribed"]

    def wait(self, wanted: Callable[[Frame], bool], timeout: float = 10) -> Frame:
        """The first frame, of all that came and will come, that is wanted."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for frame in self.frames[seen:]:
                    if wanted(frame):
                        return frame
                seen = len(self.frames)
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise AssertionError(f"no such frame in {timeout} s; {seen} frames, the last {self.frames[-3:]}")

    def of(self, *types: str) -> list[Frame]:
        """All frames of these types so far."""
        return [frame for frame in list(self.frames) if frame["type"] in types]

    def sequence(self, sid: int) -> list[int]:
        """The sequence numbers of a subscription in the order of arrival."""
        return [frame["seq"] for frame in list(self.frames) if frame.get("sid") == sid and "seq" in frame]

    def received(self, sid: int) -> int:
        """How many frames a subscription has had."""
        return sum(1 for frame in list(self.frames) if frame.get("sid") == sid)


class Book:
    """A book folded from snapshots and deltas, in Decimal."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {"yes": {}, "no": {}}

    def apply(self, frame: Frame) -> None:
        """Fold a snapshot or a delta; a level must never go below zero."""
        msg = frame["msg"]
        if frame["type"] == "orderbook_snapshot":
            for side in self.sides:
                levels = [(Decimal(p), Decimal(s)) for p, s in msg.get(f"{side}_dollars_fp", [])]
                assert levels == sorted(levels), "levels ascend"
                self.sides[side] = dict(levels)
            return
        change, price, levels = Decimal(msg["delta_fp"]), Decimal(msg["price_dollars"]), self.sides[msg["side"]]
        assert change != 0
        size = levels.pop(price, Decimal(0)) + change
        assert size >= 0, frame
        if size:
            levels[price] = size

    def rest(self) -> dict[str, list[list[str]]]:
        """As REST shows it."""
        return {f"{side}_dollars": [[f"{price:.4f}", f"{size:.2f}"] for price, size in sorted(levels.items())]
                for side, levels in self.sides.items()}


def fold(frames: list[Frame]) -> dict[str, Book]:
    """The books of all markets in a list of frames."""
    books: dict[str, Book] = {}
    for frame in frames:
        if frame["type"] in ("orderbook_snapshot", "orderbook_delta"):
            books.setdefault(frame["msg"]["market_ticker"], Book()).apply(frame)
    return books


class Line(NamedTuple):
    """A line of the ledger."""

    what: str
    number: int
    wall_us: int
    stream: str
    ticker: str
    ts_us: str
    side: str
    price: str
    amount: str
    occurrence: str
    trade_id: str
    client: str
    label: str
    sid: str
    seq: str
    detail: str


def read_ledger(exchange: Exchange) -> list[Line]:
    """The ledger as it is after a flush; NULL is an empty string."""
    get(exchange.control_url + "/ledger-flush")
    lines = []
    for text in exchange.ledger.read_text(encoding="utf-8").splitlines():
        cells = ["" if cell == "\\N" else cell.replace("\\\\", "\\") for cell in text.split("\t")]
        lines.append(Line(cells[0], int(cells[1]), int(cells[2]), *cells[3:]))
    return lines


class Reply(NamedTuple):
    """An HTTP answer of any status."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """The JSON of it."""
        return json.loads(self.text)


def get(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
    """A request without proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=dict(headers or {}), method=method), timeout=10) as reply:
            return Reply(reply.status, reply.headers, reply.read().decode())
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.headers, error.read().decode())


def tickers(exchange: Exchange, limit: int = 1000) -> list[str]:
    """The tickers of the first page of markets."""
    return [market["ticker"] for market in get(f"{exchange.rest_url}/markets?limit={limit}").body["markets"]]


def stats(exchange: Exchange) -> dict[str, Any]:
    """What the exchange says about itself."""
    return dict(get(exchange.control_url + "/stats").body)


def emitted_all(exchange: Exchange) -> None:
    """Wait until generation has ended."""
    wait_until("generation has ended", lambda: stats(exchange)["state"] == "ended", 60)


def delivered_all(exchange: Exchange, client: FeedClient) -> None:
    """Wait until generation has ended and everything sent to the client has come."""
    emitted_all(exchange)
    client.send("list_subscriptions")
    number = client._next_id  # pylint: disable=protected-access
    client.wait(lambda frame: frame.get("id") == number, 30)


def sign(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, key_id: str, *, path: str = WS_PATH, skew_s: float = 0,
         salt: int = 32) -> dict[str, str]:
    """The three headers of a signed GET."""
    stamp = str(int((time.time() + skew_s) * 1000))
    message = f"{stamp}GET{path}".encode()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(message)
    else:
        signature = key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
    return {"KALSHI-ACCESS-KEY": key_id, "KALSHI-ACCESS-TIMESTAMP": stamp,
            "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode()}
