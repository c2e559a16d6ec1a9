"""Secrets stay inside (FAILURES c7): no output of a process shows one, and only root may look into its memory."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from harness import Lab, LabOptions, canary, paths, wait_until
from harness.console import Console, Refused
from harness.http import request
from policy_scripts import gatherer, source

NOBODY = 65534
CANARY = "canary-5f0c1d7e9b3a4286"
SECRETS = """
local canary = tm.secret { file = tm.env "CANARY_FILE" }
local rest = tm.rest { url = "http://127.0.0.1:1/", signer = tm.signer { headers = { ["X-Canary"] = canary } } }
local elsewhere = tm.sql { conninfo = tm.conninfo { host = "127.0.0.1", port = 1, dbname = "x", password = canary } }
tm.notify "canary" { url = canary, alerts = "info" }
tm.on("start", function()
  tm.log.warn("rest", { said = tm.json.encode { pcall(rest.get, rest, "/x") }, secret = canary })
  tm.log.warn("sql", { said = tostring(select(3, pcall(elsewhere.query, elsewhere, "SELECT 1"))) })
  error(tostring(canary))
end)
"""


@pytest.fixture
def lab(directory: Path) -> Iterator[Lab]:
    """A gatherer with secrets in every place that takes one, each of which leads nowhere; and a deduplicator."""
    secret, key = directory / "secret", directory / "key.pem"
    secret.touch(0o600)
    secret.write_text(f"http://127.0.0.1:1/{CANARY}\n", encoding="ascii")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", key], check=True, capture_output=True)
    key.chmod(0o600)
    with Lab(LabOptions(gatherers=1, exchange={"markets": 3, "rate": 100, "seconds": 60}, expected_errors=("",),
                        gatherer_env={"CANARY_FILE": str(secret), "KALSHI_KEY_ID": "id", "KALSHI_KEY_FILE": str(key)})) as made:
        yield made


def outputs(lab: Lab) -> dict[str, str]:
    """All that can be read of both processes while they run."""
    found: dict[str, str] = {}
    for daemon in (lab.gatherers["g1"], lab.deduplicator):
        for address, path in ((daemon.health_address, "/health"), (daemon.health_address, "/state"),
                              (daemon.metrics_address, "/metrics")):
            found[f"{daemon.name} {path}"] = request(f"http://{address}{path}").text
        found[f"{daemon.name} status"] = str(daemon.command("status"))
        with Console(daemon.socket) as console:
            for line in ("problems()", "streams()", "stores()", "links()", "changes()", "sessions()"):
                found[f"{daemon.name} {line}"] = str(console.ask("eval", line))
        done = daemon.reload()
        found[f"{daemon.name} reload"] = done.stdout + done.stderr
    return found


def test_no_output_shows_one(lab: Lab) -> None:
    """While it works, when databases are away, after reloads good and bad, in the REPL, and of the commands beside it."""
    stock = (paths.ROOT / "lua/kalshi/gatherer.lua").read_text(encoding="utf-8")
    g1 = lab.gatherers["g1"]
    script = g1.directory / "canary.lua"
    script.write_text(stock, encoding="utf-8")
    g1.process.argv[-1] = str(script)
    lab.start()
    key = Path(g1.env["KALSHI_KEY_FILE"]).read_text(encoding="ascii").splitlines()[1]
    secrets = {CANARY, key, *canary.given([g1, lab.deduplicator])}
    assert len(secrets) >= 4
    found = outputs(lab)
    script.write_text(stock + SECRETS, encoding="utf-8")
    assert g1.reload().returncode == 0, g1.process.log_tail()
    with Console(g1.socket) as console:
        for number, text in enumerate(("canary", "tostring(canary)", 'policy [[ return tostring(canary) ]]', 'sql "SELECT nonsense"',
                                       "tm.secret { file = '/etc/shadow' }")):
            try:
                found[f"repl {number}"] = str(console.ask("eval", text))
            except Refused as error:
                found[f"repl {number}"] = str(error)
    wait_until("the script's own attempts have failed", lambda: "event=sql" in g1.process.log(), 30, g1.process.log_tail)
    assert "secret=***" in g1.process.log(), g1.process.log_tail()
    for cluster in (lab.stores["g1"], lab.production):
        cluster.stop("immediate")
    for daemon in (g1, lab.deduplicator):
        wait_until(f"{daemon.name} misses its database", lambda d=daemon: "level=error" in d.process.log() or "level=warn" in d.process.log(), 30)
    found |= {f"{name}, without databases": text for name, text in outputs(lab).items()}
    script.write_text(stock + SECRETS + "error(tostring(canary) .. tm.env 'CANARY_FILE')\n", encoding="utf-8")
    done = g1.reload()
    found["a bad reload"] = done.stdout + done.stderr
    for command in ("check", "plan", "migrate"):
        done = subprocess.run([paths.program("tidemill"), command, script], env={**os.environ, **g1.env}, capture_output=True,
                              text=True, timeout=60, check=False)
        found[command] = done.stdout + done.stderr
    shown = [line for name, text in found.items() for line in canary.in_text(secrets, name, text)]
    shown += canary.in_command_lines(secrets, [g1, lab.deduplicator]) + canary.in_files(secrets, [g1, lab.deduplicator])
    assert not shown, "\n".join(shown)
    assert len(found) > 20 and all(found.values()), found


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
def test_only_root_looks_into_a_process(directory: Path) -> None:
    """Its own user cannot: no core, no ptrace, no /proc/PID/environ. It still counts its files and opens its socket."""
    program = directory / "tidemill"
    shutil.copy(paths.program("tidemill"), program)
    shutil.copytree(paths.ROOT / "lua", directory / "lua")
    home = directory / "home"
    home.mkdir()
    shutil.chown(home, NOBODY, NOBODY)
    calls = gatherer(str(home / "data"))
    health = f"127.0.0.1:{paths.free_port()}"
    calls[0][1] |= {"socket": str(home / "s"), "health": health, "metrics": health, "control": {"read": "7"}}
    script = directory / "script.lua"
    script.write_text(source(calls), encoding="utf-8")
    subprocess.run(["chmod", "-R", "go+rX", directory / "lua", program, script], check=True)
    environment = {"PATH": os.environ["PATH"], "TIDEMILL_LUA": str(directory / "lua")}
    with open(directory / "log", "wb") as log, \
            subprocess.Popen([program, "run", script], user=NOBODY, group=NOBODY, extra_groups=[], env=environment,
                             stdout=log, stderr=log, cwd="/") as child:
        try:
            wait_until("it serves", lambda: (home / "s").exists() and (home / "s").stat().st_mode & 0o777 == 0o666, 30,
                       lambda: (directory / "log").read_text(encoding="utf-8"))
            assert child.poll() is None
            assert Path(f"/proc/{child.pid}/environ").stat().st_uid == 0, "it is dumpable"
            for name in ("environ", "mem", "maps"):
                look = subprocess.run(["cat", f"/proc/{child.pid}/{name}"], user=NOBODY, group=NOBODY, extra_groups=[],
                                      capture_output=True, text=True, check=False)
                assert look.returncode != 0 and "denied" in look.stderr, (name, look)
            page = request(f"http://{health}/metrics").text
            files = [float(line.split()[-1]) for line in page.splitlines() if line.startswith("process_open_fds")]
            assert files and files[0] > 5, page[:2000]
        finally:
            child.terminate()
            child.wait(30)
