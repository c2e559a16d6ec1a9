"""The runner of the benchmarks: what it takes for a result, when a limit is kept, when a build is slower. What the figures are
is for scripts/bench on a quiet machine to say."""
from __future__ import annotations

import ast
import json
import random
from pathlib import Path

import pytest

from bench import compare, machine, results, running
from bench.catalogue import BENCHES, CATALOGUE, Bench
from bench.compare import Paired
from bench.results import Limit
from harness import paths

HERE = paths.ROOT / "tests" / "bench"


def test_every_program_is_there_and_every_program_is_in_the_catalogue() -> None:
    sources = {path.name.removesuffix(".c") for path in HERE.glob("bench_*")}
    assert {bench.program for bench in BENCHES} == sources
    assert len(CATALOGUE) == len(BENCHES)


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_every_limit_is_of_a_result_that_the_program_names(bench: Bench) -> None:
    text = (HERE / (bench.program if bench.program.endswith(".py") else bench.program + ".c")).read_text(encoding="utf-8")
    if bench.program.endswith(".py"):
        ast.parse(text)
    for what in bench.limits:
        whole, part = f"{bench.name}/{what}" in text, what.split("-")[0] in text
        assert whole or (f'"{bench.name}/{{' in text and part), what


def test_what_a_program_prints_becomes_a_result() -> None:
    limits = {"x/rate": Limit(least=10, least_ratio=0.5)}
    line = json.dumps({"name": "x/rate", "figure": 12, "unit": "rows/s", "floor": 16, "floor_is": "COPY"})
    result = results.parse(line, limits, "scripts/bench x")
    assert result.ratio == 0.75 and result.kept
    assert json.loads(result.as_json()) == {
        "name": "x/rate", "figure": 12, "unit": "rows/s", "floor": 16, "floor_is": "COPY", "ratio": 0.75,
        "limit": ">= 10, ratio >= 0.5", "kept": True, "command": "scripts/bench x"}
    assert not results.parse(line.replace("12", "9"), limits, "").kept
    assert not results.parse(line.replace("16", "30"), limits, "").kept
    assert not results.parse(line.replace('16, "floor_is": "COPY"', "null"), limits, "").kept  # a ratio is asked for
    assert "**missed**" in results.markdown(results.parse(line.replace("12", "9"), limits, ""))


@pytest.mark.parametrize("line", ["", "12 rows", "[]", "{}", '{"name": "x/y"}',
                                  '{"name": "x", "figure": 1, "unit": "s", "floor": null}',
                                  '{"name": "x/y", "figure": "fast", "unit": "s", "floor": null}',
                                  '{"name": "x/y", "figure": 1, "unit": "s", "floor": 2}'])
def test_what_is_no_result_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="got"):
        results.parse(line, {}, "")


# Ranks (from 1) of the 95 % interval of a median in samples of n, as tables of the sign test have them.
@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (8, 1, 8), (9, 2, 8), (12, 3, 10), (15, 4, 12), (20, 6, 15)])
def test_the_interval_of_a_median(n: int, low: int, high: int) -> None:
    assert compare.spread(list(range(1, n + 1))) == (low, high)


def _paired(unit: str, factor: float, noise: float, pairs: int = 9) -> Paired:
    chance = random.Random(7)
    base = [100 * chance.uniform(1 - noise, 1 + noise) for _ in range(pairs)]
    return Paired("x/y", unit, base, [100 * factor * chance.uniform(1 - noise, 1 + noise) for _ in range(pairs)])


def test_a_slower_build_is_told_and_noise_is_not() -> None:
    assert _paired("rows/s", 0.9, 0.02).worse and _paired("ms", 1 / 0.9, 0.02).worse
    assert _paired("rows/s", 1.1, 0.02).better and _paired("ms", 1 / 1.1, 0.02).better
    for one in (_paired("rows/s", 1.0, 0.2), _paired("rows/s", 0.985, 0.001), _paired("rows/s", 0.97, 0.3)):
        assert not one.worse and not one.better


def test_a_benchmark_runs_and_names_its_floor() -> None:
    found = [one for one in running.run(CATALOGUE["decode"], quick=True)]
    assert not [one for one in found if isinstance(one, str)]
    by_name = {one.name: one for one in found if not isinstance(one, str)}
    directed = by_name["decode/directed"]
    assert directed.floor and directed.floor_is == "directed scanner" and directed.unit == "msg/s"
    assert directed.command == "scripts/bench decode --quick"


def test_a_program_that_fails_is_told(tmp_path: Path) -> None:
    program = tmp_path / "tests" / "bench" / "bench_bad.py"
    program.parent.mkdir(parents=True)
    program.write_text("print('nonsense')\nraise SystemExit(1)\n", encoding="utf-8")
    said = list(running.run(Bench("bad", "", "bench_bad.py"), quick=True, root=tmp_path))
    assert "nonsense" in str(said[0]) and said[1] == "ended with status 1 and 0 results"


def test_the_machine_is_told_without_its_name() -> None:
    text = machine.describe()
    assert "cores" in text and "GiB" in text and str(paths.ROOT) not in text
    assert Path("/proc/sys/kernel/hostname").read_text(encoding="ascii").strip() not in text
