"""Running a benchmark and writing down what came out."""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, Sequence

from harness import paths

from . import machine, results
from .catalogue import Bench
from .results import Result

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
TIMEOUT_S = 1800.0
SYMBOLS = 12  # of a profile


def argv(bench: Bench, build: Path, *, quick: bool, root: Path = paths.ROOT) -> list[str]:
    """The command, of a build tree and a source tree."""
    arguments = [word.format(build=build) for word in bench.arguments]
    program = [str(build / "tests" / bench.program)]
    if bench.program.endswith(".py"):
        program = [sys.executable, str(root / "tests" / "bench" / bench.program)]
    return [*program, *arguments, "--json", *(["--quick"] if quick else [])]


def command(bench: Bench, *, quick: bool) -> str:
    """As a person calls it."""
    return f"scripts/bench {bench.name}{' --quick' if quick else ''}"


def run(bench: Bench, *, quick: bool, build: Path | None = None, root: Path = paths.ROOT) -> Iterator[Result | str]:
    """Its results as they come; a text for what went wrong."""
    limits = {f"{bench.name}/{what}": limit for what, limit in bench.limits.items()}
    build = (build or paths.build_dir()).resolve()
    env = {**os.environ, "TIDEMILL_BUILD": str(build), "PYTHONPATH": str(root / "tests"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = argv(bench, build, quick=quick, root=root)
    with tempfile.TemporaryDirectory(prefix="tidemill-") as scratch, \
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env, cwd=scratch) as child:
        assert child.stdout
        deadline, count = time.monotonic() + TIMEOUT_S, 0
        for line in child.stdout:
            try:
                yield results.parse(line, limits, command(bench, quick=quick))
                count += 1
            except ValueError as error:
                yield str(error)
        try:
            status = child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
    if status or not count:
        yield f"ended with status {status} and {count} results"


def write(every: Sequence[Result], load_before: float) -> None:
    """RESULTS.md, from this run alone."""
    lines = ["# Results", "", "Written by `scripts/bench --write`; not to be changed by hand. README.md says what is measured.", "",
             f"- machine: {machine.describe()}", f"- load of the machine before: {load_before:.1f}",
             f"- date: {time.strftime('%Y-%m-%d')}", f"- commit: {machine.commit(paths.ROOT)}", ""]
    for name in dict.fromkeys(result.command for result in every):
        lines += [f"## `{name}`", "", "| result | figure | floor | ratio | limit | floor is |", "|---|---:|---:|---:|---|---|"]
        lines += [results.markdown(result) for result in every if result.command == name] + [""]
    RESULTS.write_text("\n".join(lines), encoding="utf-8")


def profile(benches: Sequence[Bench]) -> int:
    """Where the time of programs in C goes; those in Python profile the daemon that they measure with --profile."""
    with tempfile.TemporaryDirectory(prefix="tidemill-") as scratch:
        for bench in benches:
            data = Path(scratch) / bench.name
            words = [word for word in argv(bench, paths.build_dir().resolve(), quick=True) if word != "--json"]
            if bench.program.endswith(".py"):
                words += ["--profile", str(data)]
            else:
                words = ["perf", "record", "-q", "-F", "999", "-o", str(data), "--", *words]
            done = subprocess.run(words, cwd=scratch, stdout=sys.stderr, check=False)
            if done.returncode or not data.exists():
                print(f"{bench.name}: there is no profile of it", file=sys.stderr)
                continue
            print(f"== {bench.name}", flush=True)
            print("\n".join(symbols(data)), flush=True)
    return 0


def symbols(data: Path) -> list[str]:
    """The functions in which most samples of a perf file are."""
    text = subprocess.run(["perf", "report", "-i", str(data), "--stdio", "--no-children", "-g", "none", "-s", "comm,dso,symbol"],
                          capture_output=True, text=True, check=False).stdout
    return [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("#")][:SYMBOLS]
