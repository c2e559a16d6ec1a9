"""`tidemill check` and start agree: what one rejects the other rejects, with file and line, and neither for the other's
reasons. Start is `tidemill run --probe`: everything is started, nothing is connected, then it stops."""
from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from harness.paths import NO_EXCHANGE, ROOT, program
from policy_scripts import Call, deduplicator, gatherer, mutate, source

MUTANTS = 25  # of each script and seed
BAD_CONFIGURATION = 78
ENVIRONMENT = re.compile("does not have that address|permission denied")  # another machine would start it


def check(path: Path) -> dict[str, Any]:
    done = subprocess.run([program("tidemill"), "check", "--json", path], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, BAD_CONFIGURATION), done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert verdict["ok"] == (done.returncode == 0)
    return verdict


def probe(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("tidemill"), "run", "--probe", path], capture_output=True, text=True, timeout=60)


def write(directory: Path, calls: list[Call], name: str = "script.lua") -> Path:
    path = directory / name
    path.write_text(source(calls), encoding="utf-8")
    return path


@pytest.mark.parametrize("make", [gatherer, deduplicator])
def test_the_good_scripts_start(directory: Path, make: Callable[[str], list[Call]]) -> None:
    path = write(directory, make(str(directory / "data")))
    assert check(path)["problems"] == []
    done = probe(path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("make", [gatherer, deduplicator])
def test_mutants(directory: Path, make: Callable[[str], list[Call]], seed: int) -> None:
    rng = random.Random(seed)
    good = bad = 0
    for number in range(MUTANTS):
        calls, what = mutate(rng, make(str(directory / f"data{number}")))
        path = write(directory, calls)
        verdict, done = check(path), probe(path)
        if verdict["ok"] and done.returncode == 1 and ENVIRONMENT.search(done.stderr):
            continue
        assert done.returncode == (0 if verdict["ok"] else BAD_CONFIGURATION), \
            f"{what}: check says {verdict['problems']}, start {done.returncode}: {done.stderr}\n{path.read_text()}"
        for problem in verdict["problems"]:
            assert re.fullmatch(r".*script\.lua(:\d+)?", problem["at"]), f"{what}: {problem}"
            assert len(problem["message"]) > 10, f"{what}: {problem}"
        good, bad = good + verdict["ok"], bad + (not verdict["ok"])
    assert good > 0 and bad > 8, f"the mutants were no test: {good} good, {bad} bad"


def problems_of(directory: Path, text: str) -> list[str]:
    path = directory / "s.lua"
    path.write_text(text, encoding="utf-8")
    return [f"{p['at'].rsplit(':', 1)[-1]}: {p['message']}" for p in check(path)["problems"]]


def test_all_problems_at_once_and_nothing_that_follows_from_them(directory: Path) -> None:
    """One problem for each mistake: a misspelt key is not also missing, a broken stream breaks no kind."""
    found = problems_of(directory, """local tm = require "tidemill"
tm.gatherer { id = "g", stor = "dbname=x", data = "d", health = "localhost:80", journal = "10MB" }
tm.protocol { tag = "type" }
tm.stream "a" { columns = { { "x", "int5" } }, key = { "x" } }
tm.kind "a" { stream = "a", from = { x = "msg.x" } }
tm.stream "b" { columns = { { "x", "int4", not_null = true } }, key = { "x" } }
tm.kind "b" { stream = "b", from = { x = "msg..x" } }
tm.kind "c" { stream = "b", form = { x = "msg.x" } }
tm.stream "d" { columns = { { "x", "int4" }, { "select", "int4" } }, key = { "x" } }
tm.kind "d" { stream = "d", from = { x = "msg.x" } }
tm.feed { url = "ws://10.0.0.1/" }
tm.registry("b", { "x" })
tm.registry("bb", { "x" })
""")
    text = "\n".join(found)
    for line, part in ((2, 'unknown key "stor", did you mean "store"?'), (2, "numeric address"), (2, "a size like"),
                       (4, 'unknown value "int5"'), (7, "msg..x"), (8, 'unknown key "form", did you mean "from"?'),
                       (9, "select"), (11, "loopback only")):
        assert any(p.startswith(f"{line}: ") and part in p for p in found), f"no {part!r} on line {line} in\n{text}"
    assert not any(p.startswith(("5: ", "10: ")) for p in found), text
    assert 'missing key "store"' not in text
    assert len([p for p in found if p.startswith("2: ")]) == 3, text


def test_what_only_start_used_to_find(directory: Path) -> None:
    head = 'local tm = require "tidemill"\n'
    role = 'tm.gatherer { id = "g", store = "dbname=x", data = "d"%s }\n'
    wide = 'tm.stream "s" {{ columns = {{ {} }}, key = {{ "{}" }} }}\n'.format(
        ", ".join('{ "%s", "text" }' % (chr(97 + i) * 60) for i in range(9)), "a" * 60)
    table = 'tm.stream "s" { columns = { { "x", "text", not_null = true } }, key = { "x" }%s }\n'
    for text, expected in (
        (role % ', segment = "1KiB"', "segment_bytes"),
        (role % ', journal = "1MiB"', "at least two segments"),
        (role % ', segment = "4KiB", journal = "1MiB"' + wide, "use larger segments"),
        (role % ', health = "localhost:8080"', "numeric address"),
        (role % ', health = "127.0.0.1:81", metrics = "0.0.0.0:81"', "same port as health"),
        (role.replace("dbname=x", "dbname") % "", "conninfo"),
        (role % "" + table % ', memory = "1KiB"', 'stream "s": seen-set: memory'),
        (role % "" + 'tm.registry("s", { "x" })\n', "there is no stream"),
        (role % "" + table % "" + 'tm.registry("s", { "x" })\n', "expected an upsert stream"),
        (role % "" + 'tm.feed { url = "wss://example.com/", ca_file = "/nonexistent" }\n', "/nonexistent"),
        (role % "" + 'tm.signer { key_id = "k", key_file = "/nonexistent", message = "m", headers = { A = "{signature}" } }\n', "/nonexistent"),
        (role % "" + 'tm.gatherrer {}\n', 'tm.gatherrer is not there, did you mean "gatherer"?'),
    ):
        found = problems_of(directory, head + text)
        assert len(found) == 1 and expected in found[0], f"{text}: {found}"


def test_the_environment_is_no_configuration(directory: Path) -> None:
    """A directory that cannot be made is start's to find: check does not look, so that it can run anywhere."""
    (directory / "file").write_text("")
    path = write(directory, gatherer(str(directory / "file" / "data")))
    assert check(path)["ok"]
    done = probe(path)
    assert done.returncode == 1 and "cannot start" in done.stderr, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
def test_root_runs_no_script_of_others(directory: Path) -> None:
    """nobody could write what root runs (FAILURES c10); check, run and a required file say so and what to do."""
    path = write(directory, [*gatherer(str(directory / "data"))])
    shutil.chown(path, "nobody", "nogroup")
    path.chmod(0o664)
    expected = f"{path}: belongs to user 65534, and root runs it: expected root: chown root {path}"
    problems = check(path)["problems"]
    assert len(problems) == 1 and expected in f"{path}: {problems[0]['message']}", problems
    done = probe(path)
    assert done.returncode == BAD_CONFIGURATION and expected in done.stderr, done.stderr
    shutil.chown(path, 0, 0)
    assert check(path)["ok"]
    (directory / "mine.lua").write_text("return {}\n", encoding="utf-8")
    path.write_text('require "mine"\n' + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert check(path)["ok"]
    shutil.chown(directory / "mine.lua", "nobody")
    assert "mine.lua: belongs to user 65534" in check(path)["problems"][0]["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
def test_a_checkout_of_another_user(directory: Path) -> None:
    """Mounted into a container where root runs it: who owns the library is believed, somebody else is not."""
    shutil.copytree(ROOT / "lua", directory / "lua")
    subprocess.run(["chown", "-R", "12345:12345", directory / "lua"], check=True)
    path = directory / "lua" / "kalshi" / "gatherer.lua"
    command = [program("tidemill"), "check", path]
    environment = {**os.environ, **NO_EXCHANGE, "TIDEMILL_LUA": str(directory / "lua")}
    subprocess.run(command, env=environment, check=True, timeout=60)
    os.chown(path, 12346, 12346)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == BAD_CONFIGURATION and "belongs to user 12346" in done.stdout + done.stderr


def test_several_files(directory: Path) -> None:
    good = write(directory, gatherer("d"), "good.lua")
    (directory / "bad.lua").write_text("tm = 1\n")
    done = subprocess.run([program("tidemill"), "check", "--json", good, directory / "bad.lua"], capture_output=True, text=True, timeout=20)
    assert done.returncode == BAD_CONFIGURATION
    assert [json.loads(line)["ok"] for line in done.stdout.splitlines()] == [True, False]
