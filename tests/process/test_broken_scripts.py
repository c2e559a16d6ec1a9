"""`tidemill check` on the broken scripts of tests/broken: each error names file, line and remedy, and no other comes.

A script says what is expected of it: `--> text` behind a line means one problem at that line whose message holds the
text; a line may have several. `--! text` means one of the file as a whole.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from harness.paths import ROOT, program

SCRIPTS = sorted((ROOT / "tests/broken").glob("*.lua"))
EXIT_CONFIG = 78


def _expected(script: Path) -> list[tuple[str, str]]:
    """(place, text) of each problem that has to come."""
    marks = []
    for number, line in enumerate(script.read_text(encoding="utf-8").splitlines(), 1):
        marks += [(f"{script}:{number}", text.strip()) for text in line.split("-->")[1:]]
        marks += [(str(script), text.strip()) for text in line.split("--!")[1:]]
    return marks


def _check(script: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # the files are the checkout's: a copy for everybody to write would be refused before it is read
    os.chmod(script, 0o644)
    return subprocess.run([program("tidemill"), "check", *options, script], capture_output=True, text=True, timeout=30,
                          check=False)


def test_there_are_fifty() -> None:
    assert len(SCRIPTS) >= 50


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_errors_name_file_line_and_remedy(script: Path) -> None:
    marks = _expected(script)
    assert marks, "the script does not say what is expected"
    text = _check(script)
    assert text.returncode == EXIT_CONFIG, text.stdout + text.stderr
    told = json.loads(_check(script, "--json").stdout)
    assert told["ok"] is False and len(told["problems"]) == len(marks), told["problems"]
    for at, fragment in marks:
        assert [p for p in told["problems"] if p["at"] == at and fragment in p["message"]], (at, fragment, told["problems"])
        assert re.search(rf"^{re.escape(at)}: .*{re.escape(fragment)}", text.stderr, re.MULTILINE), text.stderr
