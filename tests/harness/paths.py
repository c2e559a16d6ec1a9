"""Where things are: the source tree, the programs built from it, and the ports that are free."""
from __future__ import annotations

import os
import random
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POSTGRES_BIN = Path(os.environ.get("TIDEMILL_POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))

# For commands that read a gatherer's script and connect to no exchange: one without a key has to be on loopback.
NO_EXCHANGE = {"KALSHI_WS_URL": "ws://127.0.0.1:1/", "KALSHI_REST_URL": "http://127.0.0.1:1/"}

FIRST_EPHEMERAL = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])

_given_ports: set[int] = set()
_chance = random.SystemRandom()


def build_dir() -> Path:
    """The build tree under test; TIDEMILL_BUILD chooses another preset than release."""
    return Path(os.environ.get("TIDEMILL_BUILD", ROOT / "build" / "release"))


def program(name: str) -> Path:
    """The built program `name`, or one clear sentence on how to get it."""
    path = build_dir() / name
    bug = os.environ.get("TIDEMILL_PLANTED")
    if bug and name == "tidemill":  # one with a bug on purpose (core/base/planted.h)
        path = build_dir() / f"planted-{bug}" / name
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is not there; build it with "
                                f"'cmake --preset release && cmake --build --preset release'")
    return path


def library(name: str) -> Path:
    """A library that is built for tests only."""
    path = build_dir() / "tests" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; build the target tidemill-shim (without sanitizers)")
    return path


def free_port() -> int:
    """A port on loopback that nobody listens on now and that was not given out before. Below those that the kernel gives to
    connections, of which there are many in a test: one of them would take it before it is listened on."""
    while True:
        port = _chance.randrange(10000, FIRST_EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given_ports:
            _given_ports.add(port)
            return port
