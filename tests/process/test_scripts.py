"""The scripts that a person runs: what they refuse, and when they ask npm."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.paths import ROOT

NPM = """#!/bin/sh
echo "npm $*" >>"$CALLS"
i=0
while [ $i -lt 40 ]; do i=$((i + 1)); echo "npm error line $i" >&2; done
[ -n "${WORKS:-}" ] || exit 243
mkdir -p "$3/node_modules"
"""


@pytest.mark.parametrize("words", [
    ["scripts/setup", "--foo"], ["scripts/setup", "--test", "foo"], ["scripts/test", "--foo"], ["scripts/manual", "--foo"],
    ["scripts/manual", "--check", "foo"], ["scripts/share/pages", "a", "b", "c", "d"],
    # behind what scripts/demo, drill and bench install and build
    [sys.executable, "-m", "harness.demo", "--foo"], [sys.executable, "-m", "harness.drill", "--foo"],
    [sys.executable, "-m", "bench", "--foo"]], ids=" ".join)
def test_what_nobody_knows_is_refused(words: list[str]) -> None:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "tests")})
    assert done.returncode == 2 and done.stdout == ""
    assert "usage: " in done.stderr or f"  {words[0]}" in done.stderr, done.stderr


class Clone:
    """scripts/setup in a clone of its own, where npm is another one."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.calls = directory, directory / "calls"
        for path in ("scripts/setup", "tests/node/package-lock.json", "tests/bench/peers/node/package-lock.json"):
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, directory / path)
        (directory / "bin").mkdir()
        (directory / "bin/npm").write_text(NPM, encoding="ascii")
        (directory / "bin/npm").chmod(0o755)

    def setup(self, *words: str, works: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it."""
        return subprocess.run([self.directory / "scripts/setup", *words], capture_output=True, text=True, timeout=120, env={
            **os.environ, "PATH": f"{self.directory}/bin:{os.environ['PATH']}", "CALLS": str(self.calls),
            "WORKS": "yes" if works else ""}, check=False)

    def asked(self) -> int:
        """How often npm was asked."""
        return len(self.calls.read_text(encoding="ascii").splitlines()) if self.calls.exists() else 0


def test_only_who_needs_npm_asks_it_and_only_once(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    for _ in range(2):
        assert clone.setup().returncode == 0
    assert clone.asked() == 0
    for _ in range(2):
        done = clone.setup("--test")
        assert done.returncode == 0 and "npm error" not in done.stderr, done.stderr
    assert clone.asked() == 1


def test_a_failure_of_npm_is_one_sentence_and_its_last_words(tmp_path: Path) -> None:
    done = Clone(tmp_path).setup("--test", works=False)
    assert done.returncode == 3 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[:2] == [
        "scripts/setup: installing the npm packages of tests/node",
        "scripts/setup: npm could not install the packages of tests/node, so what needs them will fail; its last words:"]
    assert lines[2:] == [f"    npm error line {number}" for number in range(37, 41)]
