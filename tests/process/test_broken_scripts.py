"""`tidemill check` on the broken scripts of tests/broken: each error names file, line and remedy, and no other comes.

They are checked in a folder of the test's own: a checkout for everybody to write would be refused before it is read, and
the path is longer than the 59 characters to which LuaJIT cuts the names in its messages.

A script says what is expected of it: `--> text` behind a line means one problem at that line whose message holds the
text; a line may have several. `--! text` means one of the file as a whole.
"""
from __future__ import annotations

import json
import os
import re
import shutil
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
    return subprocess.run([program("tidemill"), "check", *options, script], capture_output=True, text=True, timeout=30,
                          check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("a-folder-whose-name-alone-is-longer-than-messages-of-luajit-can-hold")
    for script in SCRIPTS:
        shutil.copyfile(script, copy / script.name)
        os.chmod(copy / script.name, 0o644)
    return copy


def test_there_are_fifty() -> None:
    assert len(SCRIPTS) >= 50


@pytest.mark.parametrize("name", [script.name for script in SCRIPTS])
def test_errors_name_file_line_and_remedy(folder: Path, name: str) -> None:
    script = folder / name
    marks = _expected(script)
    assert marks, "the script does not say what is expected"
    text = _check(script)
    assert text.returncode == EXIT_CONFIG, text.stdout + text.stderr
    told = json.loads(_check(script, "--json").stdout)
    assert told["ok"] is False and len(told["problems"]) == len(marks), told["problems"]
    for at, fragment in marks:
        assert [p for p in told["problems"] if p["at"] == at and fragment in p["message"]], (at, fragment, told["problems"])
        assert re.search(rf"^{re.escape(at)}: .*{re.escape(fragment)}", text.stderr, re.MULTILINE), text.stderr
