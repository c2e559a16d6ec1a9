"""The tools that make faults do what they say: a drill whose fault never came proves nothing."""
from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Iterator

import pytest

from harness import wait_until
from harness.netns import Network
from harness.proxy import Proxy
from harness.shim import Shim

# ---- the shim ----


def run_python(shim: Shim, where: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A program that uses the file system, with the shim in front."""
    return subprocess.run([sys.executable, "-c", "import errno, os\n" + code], env={**os.environ, **shim.env}, cwd=where,
                          text=True, capture_output=True, timeout=30, check=False)


@pytest.fixture(name="shim")
def _shim(tmp_path: Path) -> Shim:
    (tmp_path / "disk").mkdir()
    return Shim(tmp_path / "disk", tmp_path / "control")


WRITE = """
fd = os.open("disk/a", os.O_RDWR | os.O_CREAT)
for n in range(4):
    try:
        print(os.pwrite(fd, b"12345678", 8 * n))
    except OSError as e:
        print(errno.errorcode[e.errno])
"""


@pytest.mark.parametrize("order, expected", [
    ("", ["8", "8", "8", "8"]),
    ("do=enospc on=pwrite nth=2 count=1", ["8", "ENOSPC", "8", "8"]),
    ("do=eio on=pwrite nth=3", ["8", "8", "EIO", "EIO"]),
    ("do=eintr on=pwrite", ["8", "8", "8", "8"]),  # Python asks again by itself
    ("do=short on=fsync,pwrite count=2", ["4", "4", "8", "8"]),
    ("do=enospc on=fsync,rename", ["8", "8", "8", "8"]),
])
def test_the_nth_call_fails_as_ordered(shim: Shim, tmp_path: Path, order: str, expected: list[str]) -> None:
    shim.order(order)
    assert run_python(shim, tmp_path, WRITE).stdout.split() == expected
    assert len(shim.met()) == (4 if "eintr" in order else sum(word != "8" for word in expected))


def test_other_directories_are_left_alone(shim: Shim, tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    shim.order("do=enospc")
    assert run_python(shim, tmp_path, WRITE.replace("disk/", "disk2/")).stdout.split() == ["8"] * 4


@pytest.mark.parametrize("call, code", [
    ("rename", 'os.rename("disk/b", "disk/c")'), ("unlink", 'os.unlink("disk/b")'),
    ("ftruncate", 'os.ftruncate(os.open("disk/b", os.O_RDWR), 1)'),
    ("fdatasync", 'os.fdatasync(os.open("disk/b", os.O_RDWR))'), ("fsync", 'os.fsync(os.open("disk/b", os.O_RDWR))'),
    ("write", 'os.write(os.open("disk/b", os.O_RDWR), b"x")')])
def test_every_call_can_fail_and_kill(shim: Shim, tmp_path: Path, call: str, code: str) -> None:
    (tmp_path / "disk/b").write_bytes(b"old")
    shim.order(f"do=eio on={call}")
    failed = run_python(shim, tmp_path, code)
    assert f"[Errno {errno.EIO}]" in failed.stderr
    shim.order(f"do=kill on={call}")
    assert run_python(shim, tmp_path, code).returncode == -signal.SIGKILL
    assert (tmp_path / "disk/b").read_bytes() == b"old"


def test_a_power_loss_takes_what_was_not_synced(shim: Shim, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "old").write_bytes(b"0123456789")
    (disk / "gone").write_bytes(b"still needed")
    (disk / "target").write_bytes(b"before")
    shim.order("do=power on=fsync nth=3")
    done = run_python(shim, tmp_path, """
fd = os.open("disk/kept", os.O_RDWR | os.O_CREAT)
os.write(fd, b"synced")
os.fsync(fd)
os.fsync(os.open("disk", os.O_RDONLY))          # kept and its bytes are safe from here on
os.write(fd, b" and not synced")
os.pwrite(fd, b"XX", 0)
old = os.open("disk/old", os.O_RDWR)
os.ftruncate(old, 3)
os.pwrite(old, b"abc", 0)
new = os.open("disk/new", os.O_RDWR | os.O_CREAT)
os.write(new, b"after")
os.rename("disk/new", "disk/target")
os.unlink("disk/gone")
os.fsync(new)
print("not reached")
""")
    assert done.returncode == -signal.SIGKILL and not done.stdout
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == {
        "kept": b"synced", "old": b"0123456789", "gone": b"still needed", "target": b"before"}


# ---- the proxy ----


@pytest.fixture(name="echo")
def _echo() -> Iterator[tuple[str, int]]:
    server = socket.create_server(("127.0.0.1", 0))

    def answer(peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(65536):
                    peer.sendall(data)
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            Thread(target=answer, args=(peer,), daemon=True).start()

    Thread(target=serve, daemon=True).start()
    yield server.getsockname()
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def dial(port: int, timeout: float = 10.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def read(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        assert more, f"it ended after {data!r}"
        data += more
    return data


def test_the_proxy_passes_on_and_is_slow_when_asked(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy, dial(proxy.port) as peer:
        peer.sendall(b"hello")
        assert read(peer, 5) == b"hello"
        proxy.latency = 0.15
        since = time.monotonic()
        peer.sendall(b"again")
        assert read(peer, 5) == b"again"
        assert time.monotonic() - since >= 0.3
        proxy.latency, proxy.bandwidth = 0.0, 10_000
        since = time.monotonic()
        peer.sendall(b"x" * 5000)
        read(peer, 5000)
        assert time.monotonic() - since >= 0.5
        proxy.bandwidth, proxy.one_byte = 0, True
        peer.sendall(b"bytes")
        assert read(peer, 5) == b"bytes"
        assert len(proxy.attempts) == 1 and proxy.connections() == 1


def test_the_proxy_stalls_holds_and_resumes(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy, dial(proxy.port) as peer:
        peer.sendall(b"1")
        assert read(peer, 1) == b"1"
        for trouble in (proxy.stall, proxy.hold_replies):
            trouble()
            peer.sendall(b"2")
            peer.settimeout(0.4)
            with pytest.raises(TimeoutError):
                peer.recv(1)
            proxy.resume()
            peer.settimeout(10)
            assert read(peer, 1) == b"2"


def test_the_proxy_cuts_refuses_and_stays_silent(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy:
        with dial(proxy.port) as peer:
            peer.sendall(b"1")
            assert read(peer, 1) == b"1"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                peer.recv(1)
        proxy.refuse = True
        with pytest.raises(ConnectionError), dial(proxy.port) as peer:
            peer.recv(1)
            raise ConnectionError("an end without a reset is no refusal") from None
        proxy.refuse, proxy.silent = False, True
        with dial(proxy.port) as peer:
            peer.sendall(b"anybody?")
            peer.settimeout(0.3)
            with pytest.raises(TimeoutError):
                peer.recv(1)
            proxy.resume()
            peer.settimeout(10)
            with pytest.raises(ConnectionResetError):
                peer.recv(1)
        wait_until("no connection is left", lambda: proxy.connections() == 0, 10)
        assert len(proxy.attempts) == 3


# ---- networks ----

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@needs_root
def test_a_network_of_its_own_drops_and_resets() -> None:
    outside = socket.create_server(("127.0.0.1", 0))
    with Network() as network:
        with pytest.raises(ConnectionRefusedError):
            dial(outside.getsockname()[1])  # another loopback
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with dial(port) as peer:
                ours, _ = server.accept()
                network.drop(port)
                peer.sendall(b"lost")
                ours.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    ours.recv(4)
                with pytest.raises(TimeoutError):
                    dial(port, 0.3)
                network.clear()
                ours.settimeout(10)
                assert read(ours, 4) == b"lost"  # TCP sends it again
                network.reset(port)
                with pytest.raises(ConnectionRefusedError):
                    dial(port)
                ours.close()
    dial(outside.getsockname()[1]).close()
    outside.close()


@needs_root
def test_a_second_host_is_behind_a_cable() -> None:
    with Network() as network, network.side("far") as far:
        program = subprocess.Popen(far.run([sys.executable, "-c", f"""
import socket
peer, _ = socket.create_server(({far.address!r}, 4000)).accept()
peer.sendall(b"here")
peer.recv(1)
"""]))
        try:
            def arrives() -> bool:
                try:
                    # A cable that was just plugged in may lose the first packet, and TCP waits a second to send it again.
                    with socket.create_connection((far.address, 4000), timeout=10) as peer:
                        return read(peer, 4) == b"here"
                except ConnectionRefusedError:
                    return False

            wait_until("the other side answers", arrives, 20)
            far.unplug()
            with pytest.raises(OSError):
                socket.create_connection((far.address, 4000), timeout=0.3)
        finally:
            program.kill()
            program.wait()
    assert "far" not in os.listdir("/sys/class/net")
