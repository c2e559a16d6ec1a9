"""What a benchmark ran on: nothing that names a host or a path."""
from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def _match(path: str, pattern: str) -> str:
    found = re.search(pattern, Path(path).read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def describe() -> str:
    """CPU model, cores, memory, kernel, system."""
    cpu = _match("/proc/cpuinfo", r"^model name\s*:\s*(.+)$")
    memory = _match("/proc/meminfo", r"^MemTotal:\s*(\d+)")
    gib = f"{int(memory) / 2**20:.0f} GiB" if memory.isdigit() else memory
    cores = len(os.sched_getaffinity(0))
    system = _match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]+)')
    return f"{cpu}, {cores} cores, {gib} RAM, Linux {platform.release().split('-')[0]}, {system}"


def load() -> float:
    """How many threads wanted the machine in the last minute."""
    return os.getloadavg()[0]


def commit(root: Path) -> str:
    """The commit that is measured, and whether the tree differs from it."""
    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!tests/bench/RESULTS.md")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (" and changes" if changed else "")
