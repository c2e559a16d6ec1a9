"""A program at the control socket: lines, or frames of JSON (core/control/server.h)."""
from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


class Refused(RuntimeError):
    """The process answered that it will not, or that it failed; `answer` is all of it."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(str(answer.get("error", answer)))
        self.answer = answer


class Console:
    """One session that speaks frames."""

    def __init__(self, path: Path | str, timeout: float = 30.0) -> None:
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.settimeout(timeout)
        self.peer.connect(str(path))
        self._buffer = b""
        self._last_id = 0
        self.peer.sendall(b"frames\n")
        self.hello = dict(json.loads(self._line()))
        if not self.hello["ok"]:
            self.peer.close()
            raise Refused(self.hello)
        self.session = int(self.hello["result"]["session"])
        self.role = str(self.hello["result"]["role"])

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.peer.close()

    def _more(self) -> None:
        data = self.peer.recv(65536)
        if not data:
            raise EOFError("the process hung up")
        self._buffer += data

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            self._more()
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def receive(self) -> dict[str, Any]:
        """The next frame."""
        length = int(self._line())
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return dict(json.loads(body))

    def send(self, **request: Any) -> int:
        """Send a request; its id."""
        self._last_id += 1
        body = json.dumps({"id": self._last_id, **request}).encode()
        self.peer.sendall(b"%d\n" % len(body) + body)
        return self._last_id

    def finish(self, number: int) -> dict[str, Any]:
        """The answer to a request, with all that it printed under "output"; a failure raises Refused."""
        output = ""
        while True:
            frame = self.receive()
            if frame["id"] != number:
                continue
            if "out" in frame:
                output += frame["out"]
                continue
            frame["output"] = output
            if not frame["ok"]:
                raise Refused(frame)
            return frame

    def ask(self, op: str, text: str, **more: Any) -> dict[str, Any]:
        """A request and its answer."""
        return self.finish(self.send(op=op, text=text, **more))

    def eval(self, text: str) -> Any:
        """The value of an expression, as JSON has it."""
        return self.ask("eval", text, json=True).get("result")

    def show(self, text: str, **more: Any) -> str:
        """What a person sees."""
        answer = self.ask("eval", text, **more)
        return answer["output"] + answer.get("text", "")

    def complete(self, text: str) -> list[str]:
        """Words that could stand at the end of the text."""
        return list(self.ask("complete", text)["result"]["words"])
