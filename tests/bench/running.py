"""Running a benchmark and writing down what came out."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Iterator, Mapping, Sequence

from harness import paths

from . import machine, results
from .catalogue import Bench
from .results import Result

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
TIMEOUT_S = 1800.0
NOTES_CHARS = 2000  # of a failure
SYMBOLS = 12  # of a profile
LIBRARIES = 8
_SAMPLES = re.compile(r"^\s*(\d+\.\d+%)\s+(\S+)\s+(\S+)(?:\s+(?:\[[.k]\]\s+)?(\S.*?))??(?:\s+-\s+-)?\s*$")


def argv(bench: Bench, build: Path, *options: str, root: Path = paths.ROOT) -> list[str]:
    """The command, of a build tree and a source tree."""
    arguments = [word.format(build=build) for word in bench.arguments]
    program = [str(build / "tests" / bench.program)]
    if bench.program.endswith(".py"):
        program = [sys.executable, str(root / "tests" / "bench" / bench.program)]
    return [*program, *arguments, *options]


def run(bench: Bench, *, quick: bool, alone: bool = False, build: Path | None = None,
        root: Path = paths.ROOT) -> Iterator[Result | str]:
    """Its results as they come; a text for what went wrong. `alone`: without peers, and without what it says for people."""
    limits = {f"{bench.name}/{what}": limit for what, limit in bench.limits.items()}
    command = f"scripts/bench {bench.name}{' --quick' if quick else ''}"
    build = (build or paths.build_dir()).resolve()
    options = ["--json", *(["--quick"] if quick else []), *(["--alone"] if alone and bench.program.endswith(".py") else [])]
    env = {**os.environ, "TIDEMILL_BUILD": str(build), "PYTHONPATH": str(root / "tests"), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory(prefix="tidemill-") as scratch, tempfile.TemporaryFile("w+") as notes, \
            subprocess.Popen(argv(bench, build, *options, root=root), stdout=subprocess.PIPE, text=True, env=env, cwd=scratch,
                             stderr=notes if alone else None) as child:
        assert child.stdout
        late = threading.Timer(TIMEOUT_S, child.kill)
        late.start()
        count = 0
        try:
            for line in child.stdout:
                try:
                    yield results.parse(line, limits, command)
                    count += 1
                except ValueError as error:
                    yield str(error)
            status = child.wait()
        finally:
            late.cancel()
            if child.poll() is None:
                child.terminate()
        notes.seek(0)
        said = notes.read()[-NOTES_CHARS:]
    if status or not count:
        yield f"ended with status {status} and {count} results\n{said}".rstrip()


def write(every: Sequence[Result], profiles: Mapping[str, list[str]], load_before: float) -> None:
    """RESULTS.md, from this run alone."""
    lines = ["# Results", "", "Written by `scripts/bench --write`; not to be changed by hand. README.md says what is measured.", "",
             f"- machine: {machine.describe()}", f"- load of the machine before: {load_before:.1f}",
             f"- date: {time.strftime('%Y-%m-%d')}", f"- commit: {machine.commit(paths.ROOT)}", ""]
    for command in dict.fromkeys(result.command for result in every):
        lines += [f"## `{command}`", "", "| result | figure | floor | ratio | limit | floor is |", "|---|---:|---:|---:|---|---|"]
        lines += [results.markdown(result) for result in every if result.command == command] + [""]
    for name, symbols in profiles.items():
        lines += [f"## `scripts/bench {name} --profile`", "", "```", *symbols, "```", ""]
    RESULTS.write_text("\n".join(lines), encoding="utf-8")


def profile(bench: Bench) -> list[str]:
    """Where its time goes: threads and libraries, then functions, those with most samples first. Of programs in Python that of
    the daemon which they measure. Nothing for one that cannot be profiled."""
    if not bench.profiled:
        return []
    with tempfile.TemporaryDirectory(prefix="tidemill-") as scratch:
        data = Path(scratch) / "samples"
        words = argv(bench, paths.build_dir().resolve(), *(word.format(samples=data) for word in bench.profiled))
        if str(data) not in words:
            words = ["perf", "record", "-q", "-F", "999", "-o", str(data), "--", *words]
        done = subprocess.run(words, cwd=scratch, stdout=sys.stderr, check=False)
        if done.returncode or not data.exists():
            return []
        return [*_samples(data, "comm,dso")[:LIBRARIES], "", *_samples(data, "comm,dso,symbol")[:SYMBOLS]]


def _samples(data: Path, by: str) -> list[str]:
    text = subprocess.run(["perf", "report", "-i", str(data), "--stdio", "--no-children", "-g", "none", "-s", by,
                           "-w", "12,24,0"], capture_output=True, text=True, check=False).stdout
    found = (_SAMPLES.match(line) for line in text.splitlines())
    return [f"{m[1]:>7}  {m[2]:<12} {m[3]:<24} {m[4] or ''}".rstrip() for m in found if m]
