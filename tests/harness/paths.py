"""Where things are: the source tree, the programs built from it, and the ports that are free."""
from __future__ import annotations

import os
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POSTGRES_BIN = Path(os.environ.get("TIDEMILL_POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))

_given_ports: set[int] = set()


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
    """A port on loopback that nobody listens on now and that was not given out before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given_ports:
            _given_ports.add(port)
            return port
