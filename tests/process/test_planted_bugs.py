"""The drills see bugs: each planted one (core/base/planted.h) turns the drill red that is there for its kind."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from harness import paths

# The bug, the drill that must find it, and what it must say.
BUGS = [
    ("skip_row", "X12", "rows were lost"),
    ("keep_memory", "C1b", "rows were lost"),
    ("early_cursor", "X12", "rows were lost"),
    ("double_row", "X12", "rows are there twice"),
    ("silent_gap", "A4", "calls whole"),
    ("lose_market", "X11b", "rows were lost"),
    ("forget_fsync", "X3", "it has lost records that were taken from it|rows were lost|calls whole"),
]


def build(bug: str) -> None:
    """The program with the bug, from the objects that are there."""
    done = subprocess.run(["cmake", "--build", str(paths.build_dir()), "--target", f"tidemill-planted-{bug}"],
                          capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def drill(name: str, bug: str) -> tuple[int, dict[str, Any]]:
    """scripts/drill, with programs that are built already."""
    done = subprocess.run([sys.executable, "-m", "harness.drill", name, "--json"], capture_output=True, text=True,
                          env={**os.environ, "TIDEMILL_PLANTED": bug, "PYTHONPATH": str(paths.ROOT / "tests")},
                          timeout=900, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("bug, name, words", [
    pytest.param(*case, id=case[0], marks=[] if case[0] == "skip_row" else pytest.mark.slow) for case in BUGS])
def test_a_planted_bug_turns_a_drill_red(bug: str, name: str, words: str) -> None:
    build(bug)
    status, figures = drill(name, bug)
    assert status == 1, figures
    assert any(word in broken for word in words.split("|") for broken in figures["broken"]), figures["broken"]
