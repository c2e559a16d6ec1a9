"""Scripts that cannot hurt (FAILURES c2): every attack runs in a real gatherer while the exchange sends; the gatherer stays,
policy goes on, no row is lost. The table at the end is what `scripts/test script-safety` shows."""
from __future__ import annotations

import http.server
import json
import re
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple
from urllib.parse import parse_qs, urlparse

import pytest

from harness import Lab, wait_until
from harness.paths import ROOT, program

pytestmark = [pytest.mark.slow, pytest.mark.alone]

MakeLab = Callable[..., Lab]

BUDGET_MS = 200  # CPU time of a step; what an attack takes on the wall depends on the machine as well
PATIENCE = 60.0
RATE = 600
STALL_MS = 2000  # the feed never waits for policy; on a busy machine everything waits a little for everything

KILLED = r"stopped: used up its budget"
MEMORY = r"not enough memory under its cap|used up its budget"


class Attack(NamedTuple):
    """What is tried, and how it has to end: a pattern of the error of its task, or None when it does no harm at all."""

    name: str
    ends: str | None
    source: str


ATTACKS = [
    Attack("endless loop", KILLED, "while true do end"),
    Attack("endless loop in pcall", KILLED, "while true do pcall(function() while true do end end) end"),
    Attack("spinning xpcall handler", KILLED,
           "while true do xpcall(error, function() while true do end end) end"),
    Attack("coroutine.wrap in pcall", KILLED,
           "while true do pcall(coroutine.wrap(function() while true do end end)) end"),
    Attack("__gc that spins", "'__gc' is not supported",
           "setmetatable({}, { __gc = function() while true do end end })"),
    Attack("recursion through pcall", r"stopped: (recursion|used up)",
           "local function f() pcall(f) f() end while true do pcall(f) end"),
    Attack("pathological pattern", KILLED, "('a'):rep(3e5):find(('.-'):rep(9) .. 'b')"),
    Attack("pathological gsub in pcall", KILLED,
           "while true do pcall(string.gsub, ('a'):rep(3e5), ('.*'):rep(9) .. 'b', '') end"),
    Attack("unbalanced %b over 1 MB", KILLED, "while true do local _ = ('('):rep(1e6):find('%b()') end"),
    Attack("string.rep of 2 GB", MEMORY, "return ('x'):rep(2e9)"),
    Attack("table balloon", MEMORY, "local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end"),
    Attack("doubling string", MEMORY, "local s = 'x' while true do s = s .. s end"),
    Attack("metatable of strings", "attempt to index|index", "getmetatable('').__index = function() end"),
    Attack("poisoned library", "read-only", "string.find = function() end"),
    Attack("poisoned library, raw", "read-only", "rawset(string, 'find', nil)"),
    Attack("replaced global", "cannot be replaced", "pairs = nil"),
    Attack("bytecode", "is not defined", "return load('\\27LJ\\2')"),
    Attack("os.execute", "is not granted", "os.execute('true')"),
    Attack("io", "is not granted", "io.open('/etc/passwd')"),
    Attack("ffi", "is not granted", "require 'ffi'"),
    Attack("nested coroutines (C stack)", "C stack overflow|stopped",
           "local function f() local ok, e = coroutine.resume(coroutine.create(f)) if not ok then error(e, 0) end end f()"),
    Attack("nested gsub (C stack)", "stopped|C stack overflow",
           "local function g() ('x'):gsub('x', function()"
           " local ok, e = coroutine.resume(coroutine.create(g)) if not ok then error(e, 0) end end) end g()"),
    Attack("table.insert at -2^31", "position", "table.insert({}, -2147483647, 1)"),
    Attack("sort made quadratic", KILLED,
           "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.sort(t, function() return true end) end"),
    Attack("comparing huge strings", KILLED,
           "local a = ('x'):rep(8e6) local b, c = a .. 'b', a .. 'c' while true do local _ = b < c end"),
    Attack("tonumber of huge strings", KILLED, "local a = (' '):rep(2e7) while true do tonumber(a) end"),
    Attack("error with looping __tostring", r"error\(table value\)",
           "error(setmetatable({}, { __tostring = function() while true do end end }))"),
    Attack("unpack and char of huge counts", "too many|stack overflow", "string.char(unpack({}, 1, 1e7))"),
    Attack("1,000,000 tasks", "handlers are waiting already|used up its budget",
           "for _ = 1, 1e6 do tm.spawn(function() tm.sleep '1s' end) end"),
    Attack("1,000,000 timers", "timers are waiting already|used up its budget",
           "for _ = 1, 1e6 do tm.after('1s', function() end) end"),
    Attack("1,000,000 metrics", "metric|series|used up its budget",
           "for i = 1, 1e6 do tm.counter('flood_total', 'x', ('n=\"%d\"'):format(i)) end"),
    Attack("log flood", KILLED, "while true do tm.log.info('flood', { n = 1 }) end"),
    Attack("JSON nested 1,000,000 deep", "levels", "tm.json.decode(('['):rep(1e6))"),
    Attack("JSON of a table in itself", "levels", "local t = {} t.t = t tm.json.encode(t)"),
    Attack("waiting inside a coroutine", "only a handler", "coroutine.wrap(function() tm.sleep '1h' end)()"),
]

DRIVER = """
local rest = tm.rest { url = tm.env "SAFETY_URL", per_second = 100 }
local attacks = {
%s
}
tm.on("start", function()
  local last = ""
  while true do
    local answer = rest:get("/next", { last = last })
    local number = tonumber(answer.body)
    if number then
      last = answer.body
      -- after a flood there may be no room for a while
      while not pcall(require "tidemill.host".spawn, "attack " .. last, attacks[number]) do tm.sleep "50ms" end
    else
      tm.sleep "20ms"
    end
  end
end)
"""


def _script(directory: Path, settings: str, more: str) -> Path:
    """The stock gatherer with settings of its role and code of the test."""
    stock = (ROOT / "lua/kalshi/gatherer.lua").read_text(encoding="utf-8")
    assert "tm.gatherer {" in stock
    path = directory / "safety.lua"
    path.write_text(stock.replace("tm.gatherer {", "tm.gatherer { " + settings) + more, encoding="utf-8")
    path.chmod(0o644)
    return path


class Orders:
    """Hands out attacks over HTTP, one at a time, and notes when policy asks again."""

    def __init__(self) -> None:
        orders = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """GET /next?last=N -> the number of the next attack, or "none"."""

            def do_GET(self) -> None:  # pylint: disable=invalid-name
                """Answer."""
                body = orders.next(parse_qs(urlparse(self.path).query).get("last", [""])[0]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:  # pylint: disable=arguments-differ
                """Silence."""

        self.lock = threading.Lock()
        self.waiting = ""
        self.given: dict[str, float] = {}
        self.returned: dict[str, float] = {}
        self.asked = 0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self, last: str) -> str:
        """What the driver is to do; its asking says that what it began last is over."""
        with self.lock:
            self.asked += 1
            if last in self.given and last not in self.returned:
                self.returned[last] = time.time()
            number, self.waiting = self.waiting, ""
            if not number:
                return "none"
            self.given[number] = time.time()
            return number

    def order(self, number: str) -> None:
        """What the driver gets when it asks next."""
        with self.lock:
            self.waiting = number

    def run(self, number: str, log_tail: Callable[[], str]) -> tuple[float, float]:
        """Order an attack; from when to when policy was busy with it."""
        self.order(number)
        wait_until(f"attack {number} is over", lambda: number in self.returned, PATIENCE, log_tail)
        return self.given[number], self.returned[number]

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def orders() -> Iterator[Orders]:
    """The attacks' server."""
    made = Orders()
    yield made
    made.close()


@dataclass
class Result:
    """A line of the table."""

    attack: str
    happened: str
    contained_ms: float
    before_ms: float
    during_ms: float
    verdict: str


def _p99_ms(lab: Lab, begin: float, end: float) -> float:
    """From the exchange's clock to ours, of the deltas that came in that time."""
    value = lab.stores["g1"].value(
        "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM received_at - exchange_ts) * 1000)"
        " FROM orderbook_deltas WHERE received_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)", (begin, end))
    return float("nan") if value is None else float(value)


def _received_after(lab: Lab, moment: float) -> int:
    return int(lab.stores["g1"].value("SELECT count(*) FROM orderbook_deltas WHERE received_at > to_timestamp(%s)",
                                      (moment,)))


def _wait_rows(lab: Lab, moment: float) -> None:
    wait_until("rows go on arriving", lambda: _received_after(lab, moment) > RATE / 10, PATIENCE,
               lab.gatherers["g1"].process.log_tail)


def _ask(lab: Lab, command: str) -> Any:
    """One command over the control socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(lab.gatherers["g1"].socket))
        client.sendall(command.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += client.recv(65536)
    return json.loads(answer)["result"]


def _error_of(lab: Lab, number: str) -> str:
    """What the process says of the attack's task."""
    return next((str(c["last_error"]) for c in _ask(lab, "status")["callbacks"] if c["name"] == f"attack {number}"), "")


def _attempt(lab: Lab, orders: Orders, number: int, attack: Attack) -> Result:
    quiet_since = time.time()
    _wait_rows(lab, quiet_since)
    begin, end = orders.run(str(number), lab.gatherers["g1"].process.log_tail)
    _wait_rows(lab, end)
    error = _error_of(lab, str(number))
    before, during = _p99_ms(lab, quiet_since, begin), _p99_ms(lab, begin, end + 0.2)
    faults = []
    if attack.ends is not None and not re.search(attack.ends, error):
        faults.append("not as expected")
    if not lab.gatherers["g1"].process.running:
        faults.append("the process ended")
    if during > STALL_MS:
        faults.append("the feed waited")
    happened = re.sub(r"^\S*?:\d+: ", "", error)[:60] or "nothing"
    return Result(attack.name, happened, (end - begin) * 1000, before, during, ", ".join(faults) or "contained")


def _print_table(results: list[Result]) -> None:
    print(f"\n{'attack':32} {'what happened':60} {'contained':>10} {'budget':>7} {'p99 before':>10} {'during':>7}  verdict")
    for r in results:
        print(f"{r.attack:32} {r.happened:60} {r.contained_ms:7.0f} ms {BUDGET_MS:4d} ms {r.before_ms:7.1f} ms"
              f" {r.during_ms:4.1f} ms  {r.verdict}")
    print(f"budget: CPU time; contained: on the wall, until policy went on; p99: exchange to gatherer, {RATE} events/s\n")


def test_attacks_are_contained_while_the_feed_goes_on(make_lab: MakeLab, orders: Orders) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 5, "markets": 30, "rate": RATE, "seconds": 3600},
                   gatherer_env={"SAFETY_URL": orders.url},
                   expected_errors=("policy failed", "callback disabled"))
    body = DRIVER % "\n".join(f"  function() {attack.source} end," for attack in ATTACKS)
    settings = f'limits = {{ step = "{BUDGET_MS}ms", memory = "64MiB" }}, '
    lab.gatherers["g1"].process.argv[-1] = str(_script(lab.directory, settings, body))
    lab.start()
    pid = lab.gatherers["g1"].process.pid
    results = [_attempt(lab, orders, number, attack) for number, attack in enumerate(ATTACKS, 1)]
    _print_table(results)
    lab.exchange.control("stop")
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    assert [f"{r.attack}: {r.happened}: {r.verdict}" for r in results if r.verdict != "contained"] == []
    assert lab.gatherers["g1"].process.pid == pid and lab.gatherers["g1"].is_healthy()
    assert lab.gatherers["g1"].metrics().get("tidemill_script_errors_total") >= len(ATTACKS) - 1
    gaps = lab.stores["g1"].query("SELECT DISTINCT reason FROM gaps WHERE reason NOT IN"
                                  " ('start', 'stopped', 'whole', 'unsubscribed')")
    assert gaps == [], "the gatherer has lost frames or connections"


HANGING = """
local rest = tm.rest { url = tm.env "SAFETY_URL", per_second = 100 }
tm.on("start", function()
  while rest:get("/next").body ~= "hang" do tm.sleep "20ms" end
  os.execute("sleep 5")
  tm.log.info("hangs no more")
end)
tm.every("50ms", function() error("every time") end, { failures = 4 })
"""


def _status(lab: Lab) -> str:
    """What `tidemill status` prints."""
    done = subprocess.run([program("tidemill"), "status", "--socket", lab.gatherers["g1"].socket], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_health_tells_of_a_policy_thread_that_hangs_and_the_feed_goes_on(make_lab: MakeLab, orders: Orders) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 6, "markets": 30, "rate": RATE, "seconds": 3600},
                   gatherer_env={"TIDEMILL_GRANT": "os", "SAFETY_URL": orders.url},
                   expected_errors=("policy failed", "the policy thread hangs", "callback disabled"))
    gatherer = lab.gatherers["g1"]
    gatherer.process.argv[-1] = str(_script(lab.directory, 'policy_stuck = "500ms", ', HANGING))
    lab.start()
    orders.order("hang")
    wait_until("health says that policy hangs", lambda: gatherer.health()["policy"] == "stuck", PATIENCE,
               gatherer.process.log_tail)
    answer = gatherer.health_answer()
    assert answer.status == 200 and answer.json()["status"] == "degraded" and "policy" in answer.json()["reason"]
    assert gatherer.metrics().get("tidemill_policy_stuck_seconds") > 0
    assert gatherer.metrics().get("tidemill_engine_alerts_total", alert="PolicyStuck") == 1
    begun = time.time()
    _wait_rows(lab, begun)
    assert "hangs no more" not in gatherer.process.log(), "the feed was seen to go on only after the hang"
    wait_until("policy turns again", lambda: gatherer.health()["policy"] == "running", PATIENCE,
               gatherer.process.log_tail)
    assert "the policy thread turns again" in gatherer.process.log()
    assert gatherer.metrics().get("tidemill_policy_stuck_seconds") == 0
    shown = _status(lab)
    assert re.search(r"every time", shown) and re.search(r"tm\.every at \S*safety\.lua:\d+", shown), shown
    assert gatherer.metrics().get("tidemill_callbacks_disabled") == 1
    assert gatherer.metrics().get("tidemill_callback_failures_total", kind="timer") == 4
    assert gatherer.process.log().count("callback disabled") == 1
    lab.exchange.control("stop")
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)


@pytest.mark.parametrize("source, message", [
    ("while true do end", "used up its budget of CPU time"),
    ("while true do pcall(function() while true do end end) end", "used up its budget of CPU time"),
    ("local s = ('a'):rep(3e5):find(('.-'):rep(9) .. 'b')", "used up its budget of CPU time"),
    ("local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end", "memory|budget"),
    ("return io.open('x')", "'io' is not granted to scripts: start with --grant io"),
])
def test_a_file_that_hurts_while_it_is_loaded_is_refused(tmp_path: Path, source: str, message: str) -> None:
    script = tmp_path / "hurts.lua"
    script.write_text('local tm = require "tidemill"\ntm.gatherer { id = "g1", store = "x", data = "y", '
                      'limits = { load = "300ms", memory = "64MiB" } }\n' + source + "\n", encoding="ascii")
    done = subprocess.run([program("tidemill"), "check", script], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 78 and re.search(message, done.stderr), done.stderr
    assert "hurts.lua" in done.stderr


def test_grants_are_the_operators(tmp_path: Path) -> None:
    script = tmp_path / "granted.lua"
    script.write_text('local tm = require "tidemill"\nassert(io.open and os.getenv "PATH")\n'
                      'tm.gatherer { id = "g1", store = "dbname=x", data = "y" }\n', encoding="ascii")

    def check(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program("tidemill"), "check", *options, script], capture_output=True, text=True,
                              timeout=60, check=False)

    refused = check()
    assert refused.returncode == 78 and "granted.lua:2: 'io' is not granted" in refused.stderr, refused.stderr
    granted = check("--grant", "io,os")
    assert granted.returncode == 0, granted.stderr
    unknown = check("--grant", "io,network")
    assert unknown.returncode == 2 and "'network'" in unknown.stderr, unknown.stderr
