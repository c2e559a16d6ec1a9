"""Peers of the control socket as nobody wants them (X19)."""
from __future__ import annotations

import json
import os
import socket
from pathlib import Path


def rude(path: Path) -> list[socket.socket]:
    """Peers as nobody wants them: each does its harm once and stays."""
    def dial(data: bytes, frames: bool = False) -> socket.socket | None:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(0.2)
        try:
            peer.connect(str(path))
            peer.sendall((b"frames\n" if frames else b"") + data)
        except OSError:
            pass
        return peer

    def frame(text: str) -> bytes:
        body = json.dumps({"id": 1, "op": "eval", "text": text}).encode()
        return b"%d\n" % len(body) + body

    bodies = ["while true do end", "while true do pcall(function() while true do end end) end",
              'for i = 1, 1e9 do print(("x"):rep(100000)) end', "local function f() return f() + 1 end f()",
              "t = {} for i = 1, 1e9 do t[i] = i .. 'x' end", '("a"):rep(300000):find((".-"):rep(9) .. "b")',
              'tap "orderbook_deltas" { n = 0 }', "status()", 'string.rep("x", 2e9)']
    peers = [dial(frame(text), True) for text in bodies]
    peers += [dial(data) for data in (b"x" * (64 << 20), os.urandom(4096), b"\0" * 4096, b"status", b"frames\n99999999\n",
                                      b"frames\n100\nx", b"GET / HTTP/1.1\r\n\r\n")]
    peers += [dial(b"") for _ in range(40)]
    return [peer for peer in peers if peer]
