"""The REPL as people and programs use it: through a terminal, by pipes, by frames, politely and not."""
from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from harness import PostgresCluster, wait_until
from harness.console import Console, Refused
from harness.daemons import Exchange, Gatherer
from harness.paths import ROOT, program
from rude_peers import rude

MakeCluster = Callable[[str], PostgresCluster]

NOBODY = 65534


class Terminal:
    """`tidemill repl` on a pseudo-terminal, and somebody who types and reads."""

    def __init__(self, path: Path, home: Path) -> None:
        env = {**os.environ, "TERM": "xterm", "HOME": str(home), "TIDEMILL_SOCKET": str(path)}
        env.pop("NO_COLOR", None)
        env.pop("XDG_STATE_HOME", None)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(str(program("tidemill")), ["tidemill", "repl"], env)
        self.raw = ""

    def _read(self) -> bool:
        readable, _, _ = select.select([self.fd], [], [], 0.1)
        if not readable:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side has gone
            data = b""
        self.raw += data.decode(errors="replace")
        return bool(data)

    @property
    def seen(self) -> str:
        """What has been printed since the last question, without colours and the editor's movements."""
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.raw).replace("\r", "")

    def expect(self, text: str, timeout: float = 30.0) -> str:
        """Read until the text comes; all that was read."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            assert self._read() and time.monotonic() < deadline, f"{text!r} did not come, only\n{self.seen}"
        return self.seen

    def type(self, text: str) -> None:
        """Keys, as they are."""
        self.raw = ""
        os.write(self.fd, text.encode())

    def ask(self, line: str, prompt: str = "g1> ") -> str:
        """A line and what comes of it, to the next prompt."""
        self.type(line + "\r")
        deadline = time.monotonic() + 60
        while not self.seen.endswith("\n" + prompt):
            assert self._read() and time.monotonic() < deadline, f"no prompt after {line!r}, only\n{self.seen}"
        return self.seen.split("\n", 1)[1][: -len(prompt)]

    def leave(self) -> int:
        """Ctrl-D; the exit status."""
        os.write(self.fd, b"\x04")
        while self._read():
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def tidemill(daemon: Gatherer, *words: str, text: str | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command line of a person."""
    env = {**os.environ, "TIDEMILL_SOCKET": str(daemon.socket)}
    return subprocess.run([program("tidemill"), *words], env=env, input=text, capture_output=True, text=True, timeout=60,
                          check=False, **more)


@pytest.fixture
def gatherer(directory: Path) -> Iterator[Gatherer]:
    """A gatherer without a database that hears an exchange: enough for most of what a session shows."""
    exchange = Exchange(directory, {"seed": 3, "markets": 30, "rate": 300, "seconds": 600, "hold": True})
    script = directory / "g.lua"
    script.write_text((ROOT / "lua/kalshi/gatherer.lua").read_text().replace(
        'socket     = tm.env "TIDEMILL_SOCKET",',
        f'socket     = tm.env "TIDEMILL_SOCKET", control = {{ read = "{NOBODY}", operate = "@{NOBODY - 1}", cpu = "300ms" }},'))
    one = Gatherer("g1", directory, store="host=127.0.0.1 port=1 dbname=x connect_timeout=1",
                   ws_url=f"{exchange.ws_url}?label=g1", rest_url=exchange.rest_url, script=script)
    exchange.start()
    one.start()
    wait_until("it hears all markets", lambda: exchange.has_all_markets("g1"), 60, one.process.log_tail)
    exchange.control("start")
    wait_until("it knows its connections", lambda: (feed := one.status()["feed"])["links"] == feed["links_up"] > 0, 30)
    yield one
    one.process.kill()  # to stop it would wait for the database
    exchange.process.stop()
    complaints = one.process.complaints(("cannot connect", "production", "policy failed")) + exchange.process.complaints(())
    assert not complaints, "\n".join(complaints)


def test_a_person_on_call(directory: Path, make_cluster: MakeCluster) -> None:
    """Finds the sick parts, reads why, tries what a routine would do, runs it, sees the books fresh again."""
    exchange = Exchange(directory, {"seed": 5, "markets": 40, "rate": 500, "seconds": 600, "hold": True})
    store = make_cluster("store")
    g1 = Gatherer("g1", directory, store=store.conninfo(), ws_url=f"{exchange.ws_url}?label=g1", rest_url=exchange.rest_url)
    exchange.start()
    g1.start()
    wait_until("it hears all markets", lambda: g1.is_healthy() and exchange.has_all_markets("g1"), 60, g1.process.log_tail)
    exchange.control("start")
    terminal = Terminal(g1.socket, directory)
    terminal.expect("g1> ")
    assert re.search(r"wrong +nothing", terminal.ask("status"))

    # the local store goes: the person sees what is sick, and why
    store.stop("immediate")
    wait_until("the gatherer notices", lambda: g1.health()["status"] != "healthy", 30)
    sick = terminal.ask("problems")
    assert re.search(r"health +(degraded|unhealthy) +the local store is away", sick), sick
    assert re.search(r"store +disconnected +\S", sick), sick
    store.start()
    wait_until("the store is back", g1.is_healthy, 60)
    assert "(nothing)" in terminal.ask("problems")

    # a hole in the sequence, which makes the books of its connection suspect
    exchange.fault("kind=gap,count=3,label=g1")
    gap = wait_until("the ledger has a hole", lambda: next(
        (gap for gap in json.loads(tidemill(g1, "eval", "--json", "gaps { n = 50 }").stdout)
         if gap["reason"] == "sequence" and "orderbook" in gap["connection"]), None), 30)
    name = gap["connection"]
    assert "sequence" in terminal.ask("gaps { n = 3 }")
    assert re.search(rf"{name} +up", terminal.ask(f'links "{name}"'))

    # the routine has begun by itself; the person lets it end, and does it all again by hand: first dry. Completion helps
    wait_until("the books are fresh", lambda: (
        lambda recovery: not recovery["running"] and not recovery["waiting"] and any(
            run["subject"] == name for run in recovery["recent"]))(g1.status()["recovery"]), 60)
    before = int(store.value("SELECT count(*) FROM orderbook_snapshots"))
    terminal.type('dry("resy\t')
    terminal.expect('dry("resync')
    dry = terminal.ask(f'", "{name}")')
    assert "would send" in dry and re.search(r"state +done", dry), dry
    run = terminal.ask(f'run("resync", "{name}")')
    assert "all books are fresh" in run and re.search(r"state +done", run), run
    wait_until("fresh books are stored", lambda: int(store.value("SELECT count(*) FROM orderbook_snapshots")) > before, 30)
    assert re.search(rf"resync +{name} +done", terminal.ask("runs"))
    assert {(dry, state) for dry, state in store.query(
        "SELECT dry, state FROM recovery_runs WHERE routine = 'resync' AND subject = %s", (name,))} >= {(True, "done")}

    # live, until Ctrl-C, which ends the command and not the session
    terminal.type('tap "orderbook_deltas" { n = 0, fields = { "ticker", "price" } }\r')
    terminal.expect("ticker=KXSIM")
    terminal.type("\x03")
    terminal.expect("cancelled\ng1> ")
    assert terminal.ask("21 * 2").endswith("42\n")
    terminal.type("sleep(600)\r")
    wait_until("it runs", lambda: "sleep(600)" in tidemill(g1, "eval", "--json", "sessions()").stdout, 30)
    terminal.type("\x03")
    terminal.expect("cancelled\ng1> ")
    terminal.type("half a li\x03")
    terminal.expect("g1> ")
    terminal.ask("for i = 1, 2 do", "..> ")
    terminal.ask("  print(i)", "..> ")
    assert terminal.ask("end").endswith("1\n2\n")
    assert terminal.leave() == 0
    history = directory / ".local/state/tidemill/history"
    assert "problems" in history.read_text() and history.stat().st_mode & 0o777 == 0o600
    g1.process.stop()
    exchange.process.stop()
    complaints = g1.process.complaints(("store", "connect")) + exchange.process.complaints(())
    assert not complaints, "\n".join(complaints)


def test_command_lines_and_pipes(gatherer: Gatherer) -> None:
    """eval, tap, alerts and repl by pipes: values on stdout, failures on stderr with status 1, no colours."""
    assert tidemill(gatherer, "eval", "1 + 1").stdout == "2\n"
    answer = tidemill(gatherer, "eval", "--json", "links()")
    assert {link["state"] for link in json.loads(answer.stdout)} == {"up"}
    answer = tidemill(gatherer, "eval", "-", text="local s = 0\nfor i = 1, 10 do s = s + i end\nreturn s\n")
    assert (answer.returncode, answer.stdout) == (0, "55\n")
    answer = tidemill(gatherer, "eval", "x = = 1")
    assert answer.returncode == 1 and answer.stderr.startswith("tidemill eval: command:1:") and not answer.stdout
    rows = tidemill(gatherer, "tap", "trades", "ticker=KX*", "-n", "3", "--json", "fields=ticker,price")
    assert [set(json.loads(line)) for line in rows.stdout.splitlines()] == [{"ticker", "price"}] * 3
    assert "3 rows" in tidemill(gatherer, "tap", "trades", "-n", "3").stdout
    assert tidemill(gatherer, "tap", "nothing").returncode == 1
    assert tidemill(gatherer, "tap", "trades", "colour=red").returncode == 2
    assert "RowsExpired" in tidemill(gatherer, "alerts").stdout
    told = json.loads(tidemill(gatherer, "alerts", "--json").stdout)["result"]["alerts"]
    assert {a["name"] for a in told} >= {"StoreNearlyFull", "RowsExpired"}
    piped = tidemill(gatherer, "repl", text="x = 20\nfor i = 1, 2 do\n  print(x + i)\nend\nlinks()[1].state\n")
    assert (piped.returncode, piped.stdout) == (0, "21\n22\nup\n")
    piped = tidemill(gatherer, "repl", text="print(1)\nboom()\nprint(2)\n")
    assert (piped.returncode, piped.stdout) == (1, "1\n") and "boom" in piped.stderr
    assert "tm.alert(name)" in tidemill(gatherer, "eval", 'help "tm.alert"').stdout
    assert "Look" in tidemill(gatherer, "eval", "help").stdout
    assert tidemill(gatherer, "eval", 'help "nothing of that name"').returncode == 1
    nobody = subprocess.run([program("tidemill"), "eval", "1", "--socket", "/tmp/no/such/socket"], capture_output=True,
                            text=True, check=False)
    assert nobody.returncode == 1 and "is it running?" in nobody.stderr


def test_a_session_survives_a_reload(gatherer: Gatherer) -> None:
    """Variables and the connection stay; changes by hand are listed, and hold until the reload."""
    with Console(gatherer.socket) as console:
        console.eval("mine = { 1, 2, 3 }")
        console.eval('window("trades", "1h")')
        console.eval('alert("RowsExpired", { hold = "2m", severity = "info" })')
        console.eval('log_level("debug")')
        ticker = console.eval('markets("*", 1)[1].ticker')
        carried = "orderbook_delta"
        assert console.eval(f'market("{ticker}").connections')[carried].startswith("orderbook_delta/")
        console.eval(f'unsubscribe("{carried}", "{ticker}")')
        wait_until("the exchange sends it no longer", lambda: console.eval(f'market("{ticker}").connections')[carried] == "none", 20)
        streams = {s["name"]: s for s in console.eval("streams()")}
        assert streams["trades"]["window_us"] == 3600e6
        assert {a["name"]: a["severity"] for a in console.eval("alerts()")}["RowsExpired"] == "info"
        script = console.show("changes()")
        assert 'window("trades", "1h")' in script and f'unsubscribe("{carried}", "{ticker}")' in script
        assert 'tm.dedup("trades", { window = "1h" })' in script  # how to keep it

        frames = gatherer.metrics().sum("tidemill_frames_total")
        assert console.eval("reload()")["generation"] == 2
        assert console.eval("mine[3]") == 3
        assert {s["name"]: s for s in console.eval("streams()")}["trades"]["window_us"] == 48 * 3600e6
        assert {a["name"]: a["severity"] for a in console.eval("alerts()")}["RowsExpired"] == "critical"
        assert "holds no longer" in console.show("changes()")
        wait_until("the rule has it again",
                   lambda: console.eval(f'market("{ticker}").connections')[carried] != "none", 30)
        wait_until("frames come", lambda: gatherer.metrics().sum("tidemill_frames_total") > frames, 20)

        # what was printed does it again
        assert tidemill(gatherer, "eval", "-", text=script).returncode == 0
        assert {s["name"]: s for s in console.eval("streams()")}["trades"]["window_us"] == 3600e6
    assert gatherer.process.log().count('event="changed by hand"') == 8


ASK = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
try:
    peer.sendall(b"eval " + sys.argv[2].encode() + b"\\n")
except BrokenPipeError:
    pass  # it was refused already
print(peer.makefile().readline())
"""


def test_roles(gatherer: Gatherer) -> None:
    """Peers by uid and gid: read looks, operate acts, others are refused; every command is in the log."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    for parent in (gatherer.socket.parent, gatherer.socket.parent.parent):
        os.chmod(parent, 0o711)

    def ask(uid: int, gid: int, text: str) -> dict[str, Any]:
        done = subprocess.run(["/usr/bin/python3", "-c", ASK, gatherer.socket, text], user=uid, group=gid, extra_groups=[],
                              capture_output=True, text=True, timeout=60, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    assert ask(NOBODY, 7, "#links()")["result"] > 0
    for text in ("reload()", 'reconnect("trade/1")', "kill(1)", 'log_level("debug")', 'run("resync", "trade/1")'):
        assert "more rights" in ask(NOBODY, 7, text)["error"], text
    assert ask(7, NOBODY - 1, 'log_level("debug")')["ok"]
    for text in ('window("trades", "1h")', "policy [[ return 1 ]]", 'sql "SELECT 1"', 'subscribe("trade", "X")',
                 'alert("RowsExpired", { hold = "1m" })'):
        assert "more rights" in ask(7, NOBODY - 1, text)["error"], text
    assert "not allowed" in ask(7, 7, "1")["error"]
    log = gatherer.process.log()
    assert re.search(rf'event=command uid={NOBODY} pid=\d+ session=\d+ role=read command="eval #links\(\)"', log), log[-2000:]
    assert re.search(r'event="peer refused" uid=7', log)


def test_a_stuck_command_is_killed_from_another_session(gatherer: Gatherer) -> None:
    """By its number, as sessions() shows it; the session itself lives on."""
    with Console(gatherer.socket) as stuck, Console(gatherer.socket) as other:
        number = stuck.send(op="eval", text='sleep(600)')
        row = wait_until("it is seen", lambda: next(
            (s for s in other.eval("sessions()") if s["session"] == stuck.session and s["running"]), None), 10)
        assert row["running"] == "sleep(600)" and row["role"] == "admin"
        other.eval(f"kill({stuck.session})")
        with pytest.raises(Refused, match="ended by another session"):
            stuck.finish(number)
        assert stuck.eval("1") == 1
        other.eval(f"kill({stuck.session}, true)")
        with pytest.raises((EOFError, OSError)):
            stuck.eval("1")


def test_rude_peers(gatherer: Gatherer) -> None:
    """The feed goes on, memory and files stay bounded, a person gets in, and the process answers at the end."""
    before = gatherer.status()["process"]
    rows = gatherer.metrics().sum("tidemill_frames_total")
    peers = rude(gatherer.socket) + rude(gatherer.socket)
    try:
        time.sleep(1.5)
        for peer in peers[:9]:
            peer.close()  # in the middle of a long answer
        with wait_until("a person gets in", lambda: try_console(gatherer.socket), 30) as console:
            assert console.eval("1 + 1") == 2
        during = gatherer.metrics()
        assert during.sum("tidemill_frames_total") > rows
    finally:
        for peer in peers:
            peer.close()
    wait_until("the sessions are gone", lambda: try_sessions(gatherer.socket) == 1, 30)
    after = gatherer.status()["process"]
    assert after["open_fds"] <= before["open_fds"] + 5
    assert after["resident_bytes"] < before["resident_bytes"] + (300 << 20)
    assert gatherer.status()["callbacks"] and not [c for c in gatherer.status()["callbacks"] if c["disabled"]]


def try_console(path: Path) -> Console | None:
    """A session, or None while there is no room."""
    try:
        return Console(path)
    except (OSError, EOFError, Refused):
        return None


def try_sessions(path: Path) -> int:
    """How many sessions there are, the one that asks among them."""
    console = try_console(path)
    if not console:
        return -1
    with console:
        return len(console.eval("sessions()"))


def test_ctrl_c_of_a_command_line(gatherer: Gatherer) -> None:
    """A tap that goes on until Ctrl-C ends its command in the process, and itself."""
    env = {**os.environ, "TIDEMILL_SOCKET": str(gatherer.socket)}
    with subprocess.Popen([program("tidemill"), "tap", "orderbook_deltas", "--json"], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as tap:
        assert tap.stdout and json.loads(tap.stdout.readline())["ticker"]
        tap.send_signal(signal.SIGINT)
        _, errors = tap.communicate(timeout=20)
        assert "cancelled" in errors
    assert try_sessions(gatherer.socket) == 1
