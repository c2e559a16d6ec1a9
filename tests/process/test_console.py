"""The console page in a headless browser, `tidemill status` and `tidemill top`: three ways to look at one fleet. The
expected figures are those of /metrics and of the stores; what dies is killed."""
from __future__ import annotations

import asyncio
import fcntl
import http.client
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from typing import Any, Iterator

import pyte
import pytest
import websockets

from harness import Lab, LabOptions, paths
from harness.browser import Browser, Page
from harness.daemons import Daemon
from harness.http import request
from harness.waiting import wait_until

MARKETS = 40
CONSOLES_MAX = 64
PATIENCE = 30.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three gatherers at work; the feed goes on as long as the tests do."""
    options = LabOptions(exchange={"seed": 11, "markets": MARKETS, "rate": 500, "seconds": 3600})
    with Lab(options) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


def _page(browser: Browser, daemon: Daemon, **options: Any) -> Page:
    page = browser.open(f"http://{daemon.health_address}/", **options)
    page.wait("document.body.dataset.live", lambda live: live == "yes", PATIENCE)
    return page


def _light(page: Page, node: str) -> str:
    return str(page.evaluate(f"document.querySelector('[data-node=\"{node}\"]')?.dataset.light"))


def _wait_light(page: Page, node: str, wanted: str) -> None:
    page.wait(f"document.querySelector('[data-node=\"{node}\"]')?.dataset.light", lambda light: light == wanted, PATIENCE)


def _run(*argv: Any, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    return subprocess.run([paths.program("tidemill"), *map(str, argv)], capture_output=True, text=True, timeout=60,
                          check=False, env={**clean, "LC_ALL": "C.UTF-8", **(env or {})})


def _get(daemon: Daemon, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(daemon.health_address, timeout=10)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, reply.headers, body


# ---- the page ----


def test_the_page_shows_the_fleet_and_goes_on(lab: Lab, browser: Browser) -> None:
    page = _page(browser, lab.deduplicator)
    for node in ("x", "g:g1", "g:g2", "g:g3", "s:g1", "s:g2", "s:g3", "d", "p"):
        _wait_light(page, node, "green")
    assert page.evaluate("document.querySelectorAll('#edges path').length") == 10
    page.wait("document.getElementById('alerts').textContent", lambda text: "info firing" in text)  # the watchdog, always
    page.wait("document.getElementById('verdict-word').textContent", lambda word: word == "Healthy")
    page.wait("document.querySelector('#figures').textContent", lambda text: "of 3 heard" in text)
    page.wait("[...document.querySelectorAll('.chart .line.main')].every((p) => p.getAttribute('d').length > 20)")
    cell = "document.querySelector('#streams tbody tr:nth-child(2) td:nth-child(5)')"
    written = f"Number({cell}.textContent.replace(/\\D/g, ''))"
    before, clock = page.evaluate(written), page.evaluate("document.getElementById('clock').textContent")
    page.wait(written, lambda now: now > before)
    page.wait("document.getElementById('clock').textContent", lambda now: now != clock)
    own = f"http://{lab.deduplicator.health_address}"
    assert page.requests == {f"{own}/", f"{own}/console.css", f"{own}/console.js", f"{own}/draw.js", f"{own}/icon.svg",
                             f"{own.replace('http', 'ws')}/live"}, "nothing from elsewhere"
    assert not page.problems


def test_the_page_says_what_the_counters_say(lab: Lab) -> None:
    lab.exchange.control("stop")
    lab.drain()
    state = json.loads(_get(lab.deduplicator, "/state")[2])
    metrics = lab.deduplicator.metrics()
    streams = {stream["name"]: stream for stream in state["streams"]}
    for name in ("trades", "orderbook_deltas"):
        rows = int(lab.production.value(f"SELECT count(*) FROM {name}"))
        assert streams[name]["written"] == rows == metrics.get("tidemill_written_rows_total", stream=name)
        offered = [int(store.value(f"SELECT count(*) FROM {name}")) for store in lab.stores.values()]
        assert streams[name]["polled"] == sum(offered)
    links = lab.gatherers["g1"].metrics().get("ws_client_connected")
    feed = json.loads(_get(lab.gatherers["g1"], "/state")[2])["feed"]
    assert feed["links_up"] == feed["links"] == links
    history = json.loads(_get(lab.deduplicator, "/state?history")[2])["history"]["figures"]
    copies = [value for value in history["copies"] if value]
    assert copies and 2.5 < sorted(copies)[len(copies) // 2] < 3.5
    assert len({len(values) for values in history.values()}) == 1
    lab.exchange.control("start")


def test_a_gatherers_page_dark_on_a_phone_by_keyboard(lab: Lab, browser: Browser) -> None:
    page = _page(browser, lab.gatherers["g1"], width=390, height=800, dark=True)
    links = int(lab.gatherers["g1"].metrics().get("ws_client_connected"))
    page.wait("document.querySelectorAll('#links .cell[data-light=green]').length", lambda count: count == links)
    assert [_light(page, node) for node in "xgjs"] == ["green"] * 4
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing is wider than the phone"
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    ground = f"{colour}.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    assert page.evaluate(ground) < 150, "dark, as the system wants it"
    page.key("t")
    page.wait(ground, lambda sum_: sum_ > 600)
    page.key("t")
    page.wait(ground, lambda sum_: sum_ < 150)
    page.key("j")
    page.key("j")
    assert page.evaluate("document.activeElement.classList.contains('topology')")
    page.evaluate("document.querySelector('.plot').focus()")
    page.key("Home")
    page.wait("!document.querySelector('.tip').hidden")
    page.key("Escape")
    page.wait("document.querySelector('.tip').hidden")
    assert not page.problems


# ---- who may ask ----


def test_pages_are_for_those_who_ask_by_our_name(lab: Lab) -> None:
    daemon = lab.gatherers["g1"]
    status, headers, _ = _get(daemon, "/")
    assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"]
    for name, wanted in (("localhost:1", 200), ("[::1]:8080", 200), ("rebound.example:8080", 421)):
        assert _get(daemon, "/", Host=name)[0] == wanted, name
        assert _get(daemon, "/state", Host=name)[0] == wanted, name
    assert _get(daemon, "/health", Host="any.name")[0] in (200, 503), "health is for all"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
               "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert _get(daemon, "/live")[0] == 426
    assert _get(daemon, "/live", Origin="http://evil.example", **upgrade)[0] == 403
    assert _get(daemon, "/live", Origin="null", **upgrade)[0] == 403


async def _consoles(address: str) -> tuple[list[int], float]:
    """Open consoles until one is refused. Documents that each of them got in 3 s, and the slowest /health meanwhile."""
    sockets: list[Any] = []
    refused = 0
    while not refused:
        try:
            sockets.append(await websockets.connect(f"ws://{address}/live", max_size=2**24, close_timeout=1))
        except websockets.InvalidStatusCode as error:
            refused = error.status_code
    assert refused == 503
    got = [0] * len(sockets)
    slowest = 0.0

    async def read(index: int) -> None:
        async for text in sockets[index]:
            got[index] += 1
            assert json.loads(text)["role"] == "gatherer"

    readers = [asyncio.create_task(read(index)) for index in range(len(sockets))]
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        begun = time.monotonic()
        await asyncio.to_thread(request, f"http://{address}/health", timeout=10.0)
        slowest = max(slowest, time.monotonic() - begun)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*(socket.close() for socket in sockets))
    return got, slowest


def test_many_consoles_and_not_one_too_many(lab: Lab) -> None:
    daemon = lab.gatherers["g1"]
    got, slowest = asyncio.run(_consoles(daemon.health_address))
    assert CONSOLES_MAX - 2 <= len(got) <= CONSOLES_MAX, "but for pages that other tests have open"
    assert min(got) >= 2
    assert slowest < 3.0, f"/health took {slowest:.2f} s beside {len(got)} consoles"
    wait_until("the consoles are gone", lambda: daemon.metrics().get("tidemill_consoles") <= 2, PATIENCE)


# ---- status ----


def test_status_is_the_same_document_in_words(lab: Lab) -> None:
    daemon = lab.gatherers["g1"]
    by_address = _run("status", "--json", "--at", daemon.health_address)
    by_socket = _run("status", "--json", "--socket", daemon.socket)
    for done in (by_address, by_socket):
        state = json.loads(done.stdout)
        assert done.returncode == 0 and (state["role"], state["id"]) == ("gatherer", "g1")
    assert json.loads(by_address.stdout).keys() == json.loads(by_socket.stdout).keys()
    shown = _run("status", env={"TIDEMILL_HEALTH": daemon.health_address})
    assert shown.returncode == 0 and shown.stdout.startswith("✓ g1 gatherer  healthy") and "\x1b" not in shown.stdout
    assert len(shown.stdout.splitlines()) < 50 and max(map(len, shown.stdout.splitlines())) <= 110
    assert _run("status", "--socket", daemon.directory / "none").returncode == 1
    assert _run("status", "--at", "127.0.0.1:1").returncode == 1
    assert _run("status", "--at", "1", "--socket", "2").returncode == 2
    once = _run("top", "--at", lab.deduplicator.health_address)
    assert once.returncode == 0 and "\x1b" not in once.stdout and "g3" in once.stdout, "no terminal: printed once"


# ---- top ----


class Terminal:
    """A program on a pseudo terminal, seen through a terminal emulator."""

    def __init__(self, argv: list[str], rows: int, columns: int, env: dict[str, str]) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **env})
        self.size(rows, columns)

    def size(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def text(self) -> str:
        """What the screen shows now."""
        while select.select([self.fd], [], [], 0)[0]:
            try:
                more = os.read(self.fd, 65536)
            except OSError:  # the other side is closed
                break
            self.raw += more
            self._stream.feed(more)
        return "\n".join(self.screen.display)

    def wait(self, *words: str, timeout: float = PATIENCE) -> str:
        wait_until(f"the terminal shows {words}", lambda: all(word in self.text() for word in words), timeout,
                   self.text)
        return self.text()

    def colours(self) -> set[str]:
        return {cell.fg for row in self.screen.buffer.values() for cell in row.values()}

    def modes(self) -> int:
        return int(termios.tcgetattr(self.fd)[3]) & (termios.ICANON | termios.ECHO)

    def end(self) -> int:
        """Wait for it; its exit status."""
        status: list[int] = []

        def has_ended() -> bool:
            pid, how = os.waitpid(self.pid, os.WNOHANG)
            self.text()  # afterwards, for what it printed last
            if pid:
                status.append(os.waitstatus_to_exitcode(how))
            return bool(pid)

        wait_until("it ends", has_ended, PATIENCE, self.text)
        os.close(self.fd)
        return status[0]


def _top(daemon: Daemon, rows: int = 40, columns: int = 110, **env: str) -> Terminal:
    return Terminal([str(paths.program("tidemill")), "top", "--at", daemon.health_address], rows, columns, env)


def test_top_lives_resizes_and_quits(lab: Lab) -> None:
    top = _top(lab.deduplicator)
    top.wait("dedup deduplicator", "copies", "g1", "g3", "production", "q quit")
    assert "green" in top.colours() and top.modes() == 0
    clock = top.screen.display[0][-12:]
    wait_until("the clock goes on", lambda: top.text() and top.screen.display[0][-12:] != clock, PATIENCE)
    top.size(10, 50)
    wait_until("it fills the smaller screen", lambda: top.text() and "dedup deduplicator" in top.screen.display[0]
               and "lines below" in top.screen.display[9], PATIENCE, top.text)
    os.write(top.fd, b"j\x1b[B")
    wait_until("it scrolls", lambda: "dedup deduplicator" not in top.text(), PATIENCE, top.text)
    top.size(60, 120)
    wait_until("it fills the larger one", lambda: top.text() and "q quit" in top.screen.display[59]
               and "lines below" not in top.screen.display[59], PATIENCE, top.text)
    top.wait("dedup deduplicator", "heartbeats", "rows/s    ")
    os.write(top.fd, b"q")
    modes = termios.ICANON | termios.ECHO
    wait_until("the terminal is given back", lambda: top.modes() == modes or top.text() is None, PATIENCE)
    assert top.end() == 0 and top.raw.rstrip().endswith(b"\x1b[?1049l")


def test_top_without_colour_and_ended_by_a_signal(lab: Lab) -> None:
    top = _top(lab.gatherers["g1"], NO_COLOR="1")
    top.wait("g1 gatherer", "exchange", "journal", "q quit")
    assert top.colours() == {"default"}
    os.write(top.fd, b"\x03")  # Ctrl-C
    assert top.end() == 0 and top.raw.rstrip().endswith(b"\x1b[?1049l")


# ---- a gatherer dies ----


def test_a_gatherer_that_dies_turns_red_everywhere(lab: Lab, browser: Browser) -> None:
    page, top = _page(browser, lab.deduplicator), _top(lab.deduplicator)
    _wait_light(page, "g:g2", "green")
    lab.gatherers["g2"].process.kill()
    _wait_light(page, "g:g2", "red")
    assert "silent" in page.evaluate("document.querySelector('[data-node=\"g:g2\"]').textContent")
    assert {_light(page, node) for node in ("g:g1", "g:g3", "s:g2", "p")} == {"green"}
    page.wait("document.title", lambda title: title.startswith("!"))
    page.wait("!!document.querySelector('.gap[data-reason=unheard]')")
    top.wait("✗ g2", "silent: nothing new in its store")
    assert "✗ g2" in _run("status", "--at", lab.deduplicator.health_address).stdout
    lab.gatherers["g2"].process.start()
    _wait_light(page, "g:g2", "green")
    page.wait("[...document.querySelectorAll('.lane')].find((l) => l.firstChild.textContent === 'g2')"
              ".querySelectorAll('.gap[data-reason=stopped]').length", lambda count: count == 1, PATIENCE)
    top.wait("✓ g2")
    assert not page.problems
    lab.deduplicator.process.stop()
    page.wait("document.body.dataset.live", lambda live: live == "no", PATIENCE)
    assert "Trying again" in page.evaluate("document.getElementById('banner').textContent")
    top.wait("trying again")
    lab.deduplicator.process.start()
    page.wait("document.body.dataset.live", lambda live: live == "yes", PATIENCE)
    top.wait("q quit")
    os.write(top.fd, b"q")
    assert top.end() == 0
