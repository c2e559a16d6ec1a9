"""A proxy that knows PostgreSQL's protocol, between a program and its database: it cuts or holds at an exact message.

    proxy = PgProxy(port, only="tidemill deduplicator")
    proxy.start()
    hit = proxy.arm(Point("COMMIT was sent", "client", "Q", "COMMIT", after=True), "hold")
    hit.wait(10)          # the server has the message, its answer stays here
    proxy.cut()           # both sides see a reset

Messages are counted and compared as they pass; nothing is changed. Only sessions whose application_name is `only` are
looked into, the others pass as they are. One point is armed at a time, and is good for one hit. Encrypted sessions are
refused as a server without certificates does.
"""
from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass

SSL_REQUESTS = (80877103, 80877104)  # SSLRequest, GSSENCRequest
CANCEL_REQUEST = 80877102
CHUNK = 65536


@dataclass(frozen=True)
class Point:
    """A moment of a session: the nth message of a side and kind that holds a text passes."""

    name: str
    side: str  # who sends it: "client" or "server"
    kind: str  # the message's type: "Q" query, "P" parse, "B" bind, "d" COPY data, "c" COPY done, "C" complete, "T" ...
    text: str = ""  # in it, or in the statement that it binds
    after: bool = False  # it is passed on, and then it happens; else it never arrives
    nth: int = 1

    def matches(self, side: str, kind: str, body: bytes) -> bool:
        """Whether a message is of this point's sort."""
        return side == self.side and kind == self.kind and self.text.encode() in body


# The steps of a merger's transaction: what is lost with the connection differs at each. Names as in core/engine/merger.c.
STEPS = (
    Point("before BEGIN", "client", "Q", "BEGIN"),
    Point("BEGIN sent", "client", "Q", "BEGIN", after=True),
    Point("BEGIN done, unanswered", "server", "C", "BEGIN"),
    Point("before COPY", "client", "Q", "FROM STDIN"),
    Point("COPY begun", "server", "G"),
    Point("in COPY's rows", "client", "d", nth=1),
    Point("rows sent", "client", "d", nth=1, after=True),
    Point("before the end of COPY", "client", "c"),
    Point("COPY done, unanswered", "server", "C", "COPY"),
    Point("before the cursors move", "client", "B", "tidemill.cursors"),
    Point("cursors moved, unanswered", "server", "C", "SELECT"),
    Point("before COMMIT", "client", "Q", "COMMIT"),
    Point("COMMIT sent", "client", "Q", "COMMIT", after=True),
    Point("COMMIT done, unanswered", "server", "C", "COMMIT"),
    Point("COMMIT answered", "server", "C", "COMMIT", after=True),
)


class Hit(threading.Event):
    """Set when the armed point was met."""

    def __init__(self, point: Point, action: str) -> None:
        super().__init__()
        self.point, self.action, self.left = point, action, point.nth


class _Session:
    """One connection through the proxy: a thread each way."""

    def __init__(self, proxy: "PgProxy", client: socket.socket) -> None:
        self.proxy, self.client = proxy, client
        self.server = socket.create_connection(("127.0.0.1", proxy.server_port), timeout=10)
        for end in (self.client, self.server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.watched = False
        self.statements: dict[bytes, bytes] = {}  # by name, what was prepared under it
        self.held = threading.Event()  # set: may pass
        if not proxy.frozen:
            self.held.set()

    def start(self) -> None:
        """Both ways."""
        threading.Thread(target=self._run, args=(self._from_client,), daemon=True).start()

    def cut(self) -> None:
        """A reset to both sides; what is held is dropped."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD)
            with suppress(OSError):
                end.close()
        self.held.set()

    def _run(self, way: "object") -> None:
        with suppress(OSError, EOFError):
            way()  # type: ignore[operator]
        self.proxy.forget(self)
        self.cut()

    # ---- bytes ----

    @staticmethod
    def _read(end: socket.socket, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = end.recv(min(CHUNK, count - len(parts)))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def _from_client(self) -> None:
        if not self._start_up():
            return
        threading.Thread(target=self._run, args=(self._from_server,), daemon=True).start()
        self._messages("client", self.client, self.server)

    def _from_server(self) -> None:
        self._messages("server", self.server, self.client)

    def _start_up(self) -> bool:
        while True:
            head = self._read(self.client, 8)
            length, code = struct.unpack("!ii", head)
            self.held.wait()
            if code in SSL_REQUESTS:
                self.client.sendall(b"N")
                continue
            body = self._read(self.client, length - 8)
            self.server.sendall(head + body)
            fields = body.split(b"\0")
            names = dict(zip(fields[::2], fields[1::2]))
            self.watched = names.get(b"application_name", b"").decode() == self.proxy.only
            return code != CANCEL_REQUEST

    def _messages(self, side: str, source: socket.socket, sink: socket.socket) -> None:
        while True:
            head = self._read(source, 5)
            kind, length = head[:1].decode("latin-1"), struct.unpack("!i", head[1:])[0]
            body = self._read(source, length - 4)
            hit = self.proxy.meets(side, kind, self._text_of(side, kind, body)) if self.watched else None
            if hit and hit.point.after:
                sink.sendall(head + body)
            if hit:
                self._happen(hit)
            self.held.wait()
            if not (hit and hit.point.after):
                sink.sendall(head + body)

    def _text_of(self, side: str, kind: str, body: bytes) -> bytes:
        if side != "client" or kind not in ("P", "B"):
            return body
        name, _, rest = body.partition(b"\0") if kind == "P" else body.partition(b"\0")[2].partition(b"\0")
        if kind == "P":
            self.statements[name] = rest
            return body
        return self.statements.get(name, b"") + body

    def _happen(self, hit: Hit) -> None:
        if hit.action == "hold":
            self.held.clear()
        hit.set()  # before the client can notice
        if hit.action != "hold":
            self.cut()
            raise EOFError


class PgProxy:
    """Listens on a free loopback port and connects on to `server_port`."""

    def __init__(self, server_port: int, only: str) -> None:
        self.server_port, self.only = server_port, only
        self._listener = socket.create_server(("127.0.0.1", 0))  # now: a port that is only chosen may be lost again
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._sessions: set[_Session] = set()
        self._armed: Hit | None = None
        self.frozen = False

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut(all_sessions=True)

    def arm(self, point: Point, action: str = "cut") -> Hit:
        """The next time that this point is met: "cut" the connection, or "hold" it still in both directions."""
        hit = Hit(point, action)
        with self._lock:
            self._armed = hit
        return hit

    def disarm(self) -> None:
        """Nothing happens any more."""
        with self._lock:
            self._armed = None

    def cut(self, all_sessions: bool = False) -> None:
        """Reset the watched sessions, or all."""
        with self._lock:
            sessions = [one for one in self._sessions if one.watched or all_sessions]
        for session in sessions:
            session.cut()

    def freeze(self) -> None:
        """The network is gone without a word: nothing passes, of no session, and new ones get no answer."""
        self.frozen = True
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.held.clear()

    def release(self) -> None:
        """What was held or frozen goes on."""
        self.frozen = False
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.held.set()

    def meets(self, side: str, kind: str, body: bytes) -> Hit | None:
        """Called by the sessions for each message."""
        with self._lock:
            hit = self._armed
            if hit is None or not hit.point.matches(side, kind, body):
                return None
            hit.left -= 1
            if hit.left:
                return None
            self._armed = None
            return hit

    def forget(self, session: _Session) -> None:
        """Called by a session that ends."""
        with self._lock:
            self._sessions.discard(session)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                session = _Session(self, client)
            except OSError:  # the server is away: so are we
                client.close()
                continue
            with self._lock:
                self._sessions.add(session)
            session.start()
