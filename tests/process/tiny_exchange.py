"""An exchange that shares no line with tidemill-exchange: python3-websockets, a handful of hand-written frames.

It proves that a gatherer speaks the exchange's protocol and not merely the simulator's. WebSocket and REST share one
port, as websockets lets a plain HTTP request be answered before the upgrade.
"""
from __future__ import annotations

import asyncio
import http
import json
import threading
import urllib.parse
from typing import Any, Iterable

import websockets
from websockets.datastructures import Headers
from websockets.legacy.server import WebSocketServerProtocol

WS_PATH = "/trade-api/ws/v2"
REST_PATH = "/trade-api/v2"
SEQUENCED = {"orderbook_delta", "trade", "market_lifecycle_v2"}

HttpAnswer = tuple[http.HTTPStatus, list[tuple[str, str]], bytes]


class Session:
    """One connection: its subscriptions with a counter each."""

    def __init__(self, socket: WebSocketServerProtocol) -> None:
        self.socket = socket
        self.sids: dict[str, int] = {}
        self.seqs: dict[int, int] = {}
        self.markets: dict[str, set[str]] = {}

    def subscribe(self, channel: str, markets: Iterable[str]) -> bool:
        """Open or widen a subscription; whether it is new."""
        fresh = channel not in self.sids
        self.sids.setdefault(channel, len(self.sids) + 1)
        self.markets.setdefault(channel, set()).update(markets)
        return fresh

    def envelope(self, channel: str, kind: str, msg: dict[str, Any]) -> str:
        """A frame of a channel, with the next sequence number where the channel has one."""
        sid = self.sids[channel]
        frame: dict[str, Any] = {"type": kind, "sid": sid}
        if channel in SEQUENCED:
            self.seqs[sid] = self.seqs.get(sid, 0) + 1
            frame["seq"] = self.seqs[sid]
        return json.dumps({**frame, "msg": msg}) + "\n"


class TinyExchange:
    """Runs in a thread of its own; the public methods may be called from the test's thread."""

    def __init__(self, markets: list[dict[str, Any]], snapshots: dict[str, dict[str, Any]]) -> None:
        self._markets = markets
        self._snapshots = snapshots
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._sessions: list[Session] = []
        self.commands: list[dict[str, Any]] = []
        self.handshakes: list[dict[str, str]] = []
        self.port = 0

    # ---- the test's side ----

    def __enter__(self) -> "TinyExchange":
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def ws_url(self) -> str:
        """Where gatherers connect."""
        return f"ws://127.0.0.1:{self.port}{WS_PATH}"

    @property
    def rest_url(self) -> str:
        """The root of REST."""
        return f"http://127.0.0.1:{self.port}{REST_PATH}"

    def is_subscribed(self, channel: str, tickers: Iterable[str] = ()) -> bool:
        """Whether the connections together listen to the channel for these markets."""
        heard: set[str] = set()
        sessions = [session for session in self._sessions if channel in session.sids]
        for session in sessions:
            heard |= session.markets[channel]
        return bool(sessions) and (heard >= set(tickers) or set() in [s.markets[channel] for s in sessions])

    def send(self, channel: str, kind: str, msg: dict[str, Any]) -> None:
        """The same event to every connection that listens."""
        asyncio.run_coroutine_threadsafe(self._send(channel, kind, msg), self._loop).result(10)

    def send_raw(self, text: str) -> None:
        """The same bytes to every connection, whatever they are."""
        asyncio.run_coroutine_threadsafe(self._send_raw(text), self._loop).result(10)

    def ping(self, payload: bytes) -> None:
        """Every connection answers it with the same payload."""
        asyncio.run_coroutine_threadsafe(self._ping(payload), self._loop).result(10)

    def hang_up(self, code: int, reason: str) -> list[int]:
        """Close every connection; the codes that came back."""
        return asyncio.run_coroutine_threadsafe(self._hang_up(code, reason), self._loop).result(10)

    # ---- the loop's side ----

    async def _serve(self) -> websockets.WebSocketServer:
        server = await websockets.serve(self._session, "127.0.0.1", 0, process_request=self._rest, compression=None)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _send(self, channel: str, kind: str, msg: dict[str, Any]) -> None:
        ticker = msg.get("market_ticker")
        for session in self._sessions:
            markets = session.markets.get(channel)
            if markets is not None and (not markets or ticker in markets):
                text = session.envelope(channel, kind, msg)
                middle = len(text) // 2
                await session.socket.send([text[:middle], text[middle:]])  # a fragment each

    async def _send_raw(self, text: str) -> None:
        for session in self._sessions:
            await session.socket.send(text)

    async def _ping(self, payload: bytes) -> None:
        for session in self._sessions:
            await (await session.socket.ping(payload))

    async def _hang_up(self, code: int, reason: str) -> list[int]:
        sockets = [session.socket for session in self._sessions]
        for socket in sockets:
            await socket.close(code, reason)
        return [socket.close_code for socket in sockets]

    async def _session(self, socket: WebSocketServerProtocol) -> None:
        session = Session(socket)
        self._sessions.append(session)
        try:
            async for message in socket:
                await self._command(session, json.loads(message))
        except websockets.ConnectionClosedError:
            pass  # a client that is killed says no goodbye
        finally:
            self._sessions.remove(session)

    async def _command(self, session: Session, command: dict[str, Any]) -> None:
        self.commands.append(command)
        params = command.get("params", {})
        tickers = params.get("market_tickers") or [t for t in [params.get("market_ticker")] if t]
        if command["cmd"] == "subscribe":
            for channel in params["channels"]:
                await self._subscribe(session, command["id"], channel, tickers)
        elif command["cmd"] == "update_subscription":
            await self._update(session, command, tickers)
        else:
            await session.socket.send(json.dumps({"id": command["id"], "type": "error",
                                                  "msg": {"code": 5, "msg": "Unknown command"}}))

    async def _subscribe(self, session: Session, number: int, channel: str, tickers: list[str]) -> None:
        if session.subscribe(channel, tickers):
            reply = {"type": "subscribed", "id": number, "msg": {"channel": channel, "sid": session.sids[channel]}}
        else:
            reply = json.loads(session.envelope(channel, "ok", {})) | {"id": number}
        await session.socket.send(json.dumps(reply) + "\n")
        if channel == "orderbook_delta":
            await self._snapshot(session, tickers)

    async def _update(self, session: Session, command: dict[str, Any], tickers: list[str]) -> None:
        action = command["params"]["action"]
        if action == "get_snapshot":
            await self._snapshot(session, tickers)
            return
        markets = session.markets["orderbook_delta"]
        (markets.update if action == "add_markets" else markets.difference_update)(tickers)
        reply = json.loads(session.envelope("orderbook_delta", "ok", {})) | {"id": command["id"]}
        await session.socket.send(json.dumps(reply) + "\n")
        if action == "add_markets":
            await self._snapshot(session, tickers)

    async def _snapshot(self, session: Session, tickers: list[str]) -> None:
        for ticker in tickers:
            msg = {"market_ticker": ticker, **self._snapshots.get(ticker, {})}
            await session.socket.send(session.envelope("orderbook_delta", "orderbook_snapshot", msg))

    async def _rest(self, target: str, headers: Headers) -> HttpAnswer | None:
        url = urllib.parse.urlsplit(target)
        if url.path == WS_PATH:
            self.handshakes.append(dict(headers.raw_items()))
            return None
        body = self._document(url.path.removeprefix(REST_PATH), urllib.parse.parse_qs(url.query))
        status = http.HTTPStatus.NOT_FOUND if body is None else http.HTTPStatus.OK
        text = json.dumps(body or {"error": {"code": "not_found", "message": "not found"}})
        return status, [("Content-Type", "application/json")], text.encode()

    def _document(self, path: str, query: dict[str, list[str]]) -> dict[str, Any] | None:
        if path == "/markets":
            wanted = query.get("status", ["open"])[0] == "open" and "cursor" not in query
            return {"markets": self._markets if wanted else [], "cursor": ""}
        if path.startswith("/markets/") and path.count("/") == 2 and path not in ("/markets/trades",
                                                                                  "/markets/orderbooks"):
            found = [market for market in self._markets if market["ticker"] == path.rsplit("/", 1)[1]]
            return {"market": found[0]} if found else None
        return {"/events": {"events": [], "milestones": [], "cursor": ""}, "/series": {"series": []},
                "/markets/trades": {"trades": [], "cursor": ""}, "/markets/orderbooks": {"orderbooks": []},
                "/exchange/status": {"exchange_active": True, "trading_active": True}}.get(path)
