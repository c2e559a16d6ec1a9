"""A small TCP proxy that makes trouble between two parts of the system, steered by the test while it runs.

    with Proxy(("127.0.0.1", 5432)) as proxy:      # proxy.port is what the client is told
        proxy.latency = 0.2                        # seconds, each way
        proxy.bandwidth = 6_000                    # bytes a second, each way
        proxy.one_byte = True                      # each byte in a segment of its own
        proxy.stall()                              # nothing passes either way, connections stay: half-open
        proxy.hold_replies()                       # requests pass, replies are kept ...
        proxy.resume()                             # ... until now; ends stall and silence too
        proxy.cut()                                # every connection ends with a reset
        proxy.refuse = True                        # new ones are reset as they come
        proxy.silent = True                        # new ones are accepted and never spoken to, not even TLS
        proxy.attempts                             # time.monotonic() of each connection that came

One thread with an event loop of its own. What is set counts for the next chunk; a chunk that waits because of stall or
hold waits on. Bytes are not understood: TLS passes as it is.
"""
from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from types import TracebackType

CHUNK = 65536
STEP_S = 0.005  # between looks of those that wait
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close sends RST


class Proxy:
    """Listens on a free port of loopback and passes on to `target`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.latency = 0.0
        self.bandwidth = 0  # 0: no limit
        self.one_byte = False
        self.refuse = False
        self.silent = False
        self.attempts: list[float] = []
        self._stalled = False
        self._held = False
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)

    # ---- life ----

    def start(self) -> None:
        """Begin to listen; clients that came since the proxy was made wait already."""
        self._thread.start()

    def stop(self) -> None:
        """Reset every connection and stop listening. A second call does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._listener.close()

    def __enter__(self) -> "Proxy":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    # ---- trouble ----

    def stall(self) -> None:
        """Nothing passes any more."""
        self._stalled = True

    def hold_replies(self) -> None:
        """What the target says is kept back."""
        self._held = True

    def resume(self) -> None:
        """End of stall, held replies and silence; those that were met with silence are reset."""
        was_silent, self.silent = self.silent, False
        self._stalled = self._held = False
        if was_silent:
            self.cut()

    def cut(self) -> None:
        """Reset every connection that is there."""
        done = threading.Event()

        def reset_all() -> None:
            for writer in list(self._open):
                self._reset(writer)
            done.set()

        self._loop.call_soon_threadsafe(reset_all)
        done.wait(10)

    def connections(self) -> int:
        """Client connections that are open now."""
        return sum(1 for writer in list(self._open) if writer.get_extra_info("sockname")[1] == self.port)

    # ---- the loop's thread ----

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        server.close()
        for writer in list(self._open):
            self._reset(writer)
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        """A client gets RST and not FIN."""
        self._open.discard(writer)
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts.append(time.monotonic())
        self._open.add(writer)
        if self.refuse:
            self._reset(writer)
            return
        if self.silent:
            await self._say_nothing(reader, writer)
            return
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            upstream, downstream = await asyncio.open_connection(*self.target)
            self._open.add(downstream)
            await asyncio.gather(self._pump(reader, downstream, False), self._pump(upstream, writer, True),
                                 return_exceptions=True)
            self._end(downstream)
        self._end(writer)

    async def _say_nothing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the client gives up or the proxy resets it."""
        with contextlib.suppress(OSError):
            while await reader.read(CHUNK):
                pass
        self._end(writer)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool) -> None:
        try:
            while chunk := await reader.read(CHUNK):
                if self.latency:
                    await asyncio.sleep(self.latency)
                while self._stalled or is_reply and self._held:
                    await asyncio.sleep(STEP_S)
                await self._put(writer, chunk)
            if writer.can_write_eof():
                writer.write_eof()
            else:
                writer.close()
        except OSError:
            writer.close()

    async def _put(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        step = 1 if self.one_byte else max(1, self.bandwidth // 100) if self.bandwidth else len(chunk)
        if self.one_byte:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(chunk), step):
            writer.write(chunk[at:at + step])
            await writer.drain()
            if self.bandwidth:
                await asyncio.sleep(step / self.bandwidth)
            elif self.one_byte:
                await asyncio.sleep(0)
