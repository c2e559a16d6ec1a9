"""Secrets that must not come out again: where a program of ours shows one that it was given (FAILURES c7).

Every conninfo of the harness carries its server's password, random and needed or not, so each lab is a test of it: its
sweep looks into command lines, logs, journals and whatever else the daemons leave in their directories. Scripts are left
out, for tests write conninfos into them.
"""
from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Iterable

from .daemons import Daemon


def given(daemons: Iterable[Daemon]) -> set[str]:
    """The passwords in the conninfos that these were told."""
    return {password for daemon in daemons for text in daemon.env.values()
            for password in re.findall(r"password=([0-9a-f]{16,})", text)}


def in_command_lines(secrets: Iterable[str], daemons: Iterable[Daemon]) -> list[str]:
    """Of those that run."""
    return [f"{daemon.name} shows a secret on its command line" for daemon in daemons if daemon.process.running
            for secret in secrets if secret.encode() in Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()]


def in_files(secrets: Iterable[str], daemons: Iterable[Daemon]) -> list[str]:
    """Under the directories of daemons, running or not."""
    patterns = "\n".join(secrets)
    argv = ["grep", "-rlaF", "-D", "skip", "--exclude=*.lua", "-f", "-", *(str(daemon.directory) for daemon in daemons)]
    done = subprocess.run(argv, input=patterns, capture_output=True, text=True, check=False)  # 2: a file went meanwhile
    return [f"a secret stands in {name}" for name in done.stdout.splitlines()]


def in_text(secrets: Iterable[str], name: str, text: str) -> list[str]:
    """Of an answer, a transcript, an output."""
    return [f"{name} shows a secret: {line[:500]}" for secret in secrets for line in text.splitlines() if secret in line]
