"""A network of a lab's own, whose packets nftables drops and rejects. Needs root and nft.

    with Network() as network:                 # from here on this thread and all that it starts is inside
        network.drop(port)                     # a black hole: packets to the port vanish, both sides keep waiting
        network.reset(port)                    # every packet to the port is answered with a reset
        network.clear()                        # as if nothing had been
        with network.side("far") as far:       # a second host behind a cable of its own (veth)
            far.run(["python3", "-m", ...])    # argv of a program in there; far.address is where it is found
            far.unplug(); far.plug()

A namespace has no name: it lives as long as somebody is in it, so nothing can be left behind, not even by kill -9. The
loopback of a new namespace is its own; unix sockets are files and reach across.
"""
from __future__ import annotations

import ctypes
import os
import subprocess
from types import TracebackType
from typing import Sequence

CLONE_NEWNET = 0x40000000
TABLE = "inet tidemill"

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _run(*argv: str, stdin: str | None = None) -> None:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} failed with status {done.returncode}: {done.stderr.strip()}")


class Network:
    """A network namespace that this thread enters, and leaves at the end."""

    def __init__(self) -> None:
        self._before = -1

    def __enter__(self) -> "Network":
        self.enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.leave()

    def enter(self) -> None:
        """A new namespace with nothing but a loopback, and an nftables table that accepts everything."""
        self._before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _checked(_libc.unshare(CLONE_NEWNET), "unshare of the network (root is needed)")
        try:
            _run("ip", "link", "set", "lo", "up")
            _run("nft", "-f", "-", stdin=f"add table {TABLE}\n"
                                         f"add chain {TABLE} in {{ type filter hook input priority 0; }}\n")
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Back to where this thread was. A second call does nothing."""
        if self._before >= 0:
            _checked(_libc.setns(self._before, CLONE_NEWNET), "setns")
            os.close(self._before)
            self._before = -1

    def drop(self, *ports: int) -> None:
        """Packets to and from the ports vanish when they arrive, so that no sender learns of it; of all ports at once."""
        _run("nft", "-f", "-", stdin="".join(f"add rule {TABLE} in tcp {end} {port} drop\n"
                                             for port in ports for end in ("dport", "sport")))

    def lose(self, port: int, percent: int) -> None:
        """So many of a hundred packets to and from the port vanish."""
        for end in ("dport", "sport"):
            _run("nft", f"add rule {TABLE} in tcp {end} {port} numgen random mod 100 < {percent} drop")

    def reset(self, port: int) -> None:
        """Packets to the port are answered with a reset."""
        _run("nft", f"add rule {TABLE} in tcp dport {port} reject with tcp reset")

    def clear(self) -> None:
        """No rule is left."""
        _run("nft", f"flush chain {TABLE} in")

    def side(self, name: str, number: int = 1) -> "Side":
        """Another host, at the end of a cable."""
        return Side(name, number)


class Side:
    """A second namespace, joined to this one by a veth pair; 10.77.NUMBER.1 here, 10.77.NUMBER.2 there."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.here, self.address = f"10.77.{number}.1", f"10.77.{number}.2"
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Side":
        # What keeps the namespace is a process that waits for its input to end, so it ends with this one.
        self._holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        if self._holder.stdout is None or not self._holder.stdout.readline():
            raise RuntimeError("unshare --net failed")
        pid = str(self._holder.pid)
        _run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "cable", "netns", pid)
        _run("ip", "address", "add", f"{self.here}/30", "dev", self.name)
        self.plug()
        for command in (["link", "set", "lo", "up"], ["address", "add", f"{self.address}/30", "dev", "cable"],
                        ["link", "set", "cable", "up"]):
            _run(*self.run(["ip", *command]))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._holder is not None:
            self._holder.communicate()
            subprocess.run(["ip", "link", "delete", self.name], capture_output=True, check=False)  # may be gone by now

    def run(self, argv: Sequence[str]) -> list[str]:
        """The argv that runs a program in there."""
        if self._holder is None:
            raise RuntimeError(f"the side {self.name} is not there")
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--", *argv]

    def unplug(self) -> None:
        """The cable is out: packets vanish, and this side knows it."""
        _run("ip", "link", "set", self.name, "down")

    def plug(self) -> None:
        """The cable is in."""
        _run("ip", "link", "set", self.name, "up")
