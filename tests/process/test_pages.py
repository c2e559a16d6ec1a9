"""Man pages and completions: made from the programs' own words, so each command and option must be in all of them."""
from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.paths import ROOT, program

_DIRECTORY = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with  # as long as the module
PAGES = Path(_DIRECTORY.name)
subprocess.run([ROOT / "scripts/share/pages", program("tidemill"), program("tidemill-exchange"), PAGES], check=True)


class Command(NamedTuple):
    """What `tidemill help` says of a command."""

    name: str
    options: list[str]
    words: list[str]  # that the first argument may be


def _run(*argv: str | Path, **more: object) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, **more).stdout


def _commands() -> list[Command]:
    found = []
    for name in re.findall(r"^  tidemill (\S+)", _run(program("tidemill"), "help"), re.MULTILINE):
        text = _run(program("tidemill"), "help", name)
        usage = re.sub(r"\[--[^]]*\]", "", text.splitlines()[0].removeprefix(f"usage: tidemill {name}")).split()
        words = usage[0].split("|") if usage and re.fullmatch(r"[a-z|]+", usage[0]) else []
        found.append(Command(name, re.findall(r"^  (--[\w-]+)", text, re.MULTILINE), words))
    return found


COMMANDS = _commands()


def test_there_is_something_to_look_for() -> None:
    assert {"run", "check", "journal", "alerts"} <= {c.name for c in COMMANDS}
    assert next(c for c in COMMANDS if c.name == "journal").words == ["check", "dump", "repair"]


# ---- man ----

@pytest.mark.parametrize("name", ["tidemill.1", "tidemill-exchange.1"])
def test_man_has_no_complaint(name: str) -> None:
    done = subprocess.run(["groff", "-man", "-ww", "-z", PAGES / name], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def _man(name: str) -> str:
    text = _run("groff", "-man", "-Tascii", "-P-cbou", "-rLL=2000n", PAGES / name)
    return text


def test_man_names_every_command_and_option() -> None:
    sections = re.split(r"^   tidemill (?=\S)", _man("tidemill.1"), flags=re.MULTILINE)
    by_name = {section.split()[0]: section for section in sections[1:]}
    assert list(by_name) == [c.name for c in COMMANDS]
    for command in COMMANDS:
        for option in command.options:
            assert re.search(rf"^ +{option}\b", by_name[command.name], re.MULTILINE), f"{command.name} {option}"


def test_man_names_every_option_of_the_exchange() -> None:
    options = re.findall(r"^  (--[\w-]+)", _run(program("tidemill-exchange"), "--help"), re.MULTILINE)
    text = _man("tidemill-exchange.1")
    assert len(options) > 30
    for option in options:
        assert re.search(rf"^ +{option}\b", text, re.MULTILINE), option


def test_man_names_every_fault_of_the_exchange() -> None:
    help_text = _run(program("tidemill-exchange"), "--help")
    kinds = re.findall(r"^  (kind=\w+)", help_text, re.MULTILINE)
    text = _man("tidemill-exchange.1")
    refused = subprocess.run([program("tidemill-exchange"), "--fault", "kind=x"], capture_output=True, text=True, check=False)
    named = re.search(r"expected a kind of ([\w, ]+), got", refused.stderr)
    assert named and [f"kind={name}" for name in named[1].split(", ")] == kinds
    for kind in kinds:
        assert re.search(rf"^ +{kind}$", text, re.MULTILINE), kind
    for parameter in ("delay=TIME (1s)", "pings=yes|no (yes)", "path=PREFIX", "what=CASE|huge (0)"):
        assert parameter in text and parameter in help_text
    assert not re.search(r"\b\w+\.h\b", help_text), "an installed package has no headers"


# ---- completions: each shell is asked as by the tab key ----

def _bash(*words: str) -> list[str]:
    script = f"""
    source {PAGES}/tidemill.bash
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _tidemill
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return _run("bash", "-c", script, "bash", *words, cwd="/").split()


def _zsh(*words: str) -> list[str]:
    script = f"""
    _describe() {{ print -l -- ${{(P)4}} }}
    _files() {{ print FILES }}
    _message() {{ : }}
    source {PAGES}/_tidemill 2>/dev/null
    words=("$@") CURRENT=$#
    _tidemill
    """
    lines = _run("zsh", "-f", "-c", script, "zsh", *words, cwd="/").splitlines()
    return [line.partition(":")[0] for line in lines]


def _fish(*words: str) -> list[str]:
    script = f"source {PAGES}/tidemill.fish; complete -C (string join ' ' -- $argv)"
    with tempfile.TemporaryDirectory() as home:  # it leaves things there
        lines = _run("fish", "--no-config", "-c", script, *words, cwd="/",
                     env={"HOME": home, "PATH": "/usr/bin:/bin", "TERM": "dumb"}).splitlines()
    return [line.partition("\t")[0] for line in lines]


SHELLS = pytest.mark.parametrize("ask", [_bash, _zsh, _fish], ids=["bash", "zsh", "fish"])


@SHELLS
def test_commands_are_completed(ask) -> None:  # type: ignore[no-untyped-def]
    everything = {c.name for c in COMMANDS}
    assert everything | {"help"} == {word for word in ask("tidemill", "") if not word.startswith("-")}
    assert everything <= set(ask("tidemill", "help", ""))


@SHELLS
def test_options_and_words_are_completed(ask) -> None:  # type: ignore[no-untyped-def]
    for command in COMMANDS:
        if command.options:
            offered = set(ask("tidemill", command.name, "--"))
            assert set(command.options) <= offered, command.name
            others = {option for c in COMMANDS for option in c.options} - set(command.options)
            assert not others & offered, command.name
        if command.words:
            assert set(command.words) <= set(ask("tidemill", command.name, "")), command.name


@SHELLS
def test_files_are_completed_where_they_belong(ask) -> None:  # type: ignore[no-untyped-def]
    files = {"FILES", "etc", "etc/"}
    assert files & set(ask("tidemill", "run", ""))
    assert files & set(ask("tidemill", "status", "--socket", ""))
    assert not files & set(ask("tidemill", "version", ""))
    assert not files & set(ask("tidemill", "test", "--seed", ""))
