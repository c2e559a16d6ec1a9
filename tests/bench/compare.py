"""Two builds of the project, the benchmarks of this tree, in turns.

Noise comes in spells that are longer than a run, so the builds take turns and each pair of neighbours gives one ratio; the
median of the ratios counts, and how far they lie apart says what it is worth. One is slower "beyond the noise" if the whole
95 % interval of the median (by order statistics) is on the wrong side, and the median by more than LEAST.
"""
from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from harness import paths

from . import results, running
from .catalogue import Bench

PAIRS_MIN = 6  # from here on the extremes enclose the median 19 times of 20
LEAST = 0.03  # a median that is off by less is nothing that anybody would look for
OVERLAID = ("tests/bench", "tests/harness", "tests/CMakeLists.txt", "tests/unit/record/kalshi_defs.h",
            "tests/process/rude_peers.py")


@dataclass(frozen=True)
class Paired:
    """One result of both builds. Ratios are this one to the base, turned so that less than 1 is worse."""

    name: str
    unit: str
    base: list[float]
    here: list[float]

    @property
    def ratios(self) -> list[float]:
        """Of each pair, sorted."""
        more = results.more_is_better(self.unit)
        return sorted((h / b if more else b / h) for h, b in zip(self.here, self.base) if h > 0 and b > 0)

    @property
    def median(self) -> float:
        """Of the ratios; 1 where nothing can be compared."""
        return middle(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true median lies, 19 times of 20."""
        return spread(self.ratios)

    @property
    def worse(self) -> bool:
        """Beyond the noise."""
        return self.median < 1 - LEAST and self.interval[1] < 1

    @property
    def better(self) -> bool:
        """Likewise."""
        return self.median > 1 + LEAST and self.interval[0] > 1


def middle(ordered: Sequence[float]) -> float:
    """The median of a sorted list."""
    n = len(ordered)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2 if n else 1.0


def spread(ordered: Sequence[float]) -> tuple[float, float]:
    """An interval of at least 95 % for the median by the binomial distribution, of PAIRS_MIN values or more."""
    n = len(ordered)
    if not n:
        return 0.0, math.inf
    outside, rank = 0.0, 0
    while rank < n // 2:
        outside += 2 * math.comb(n, rank) / 2**n
        if outside > 0.05:
            break
        rank += 1
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[n - 1 - rank]


@contextmanager
def base_tree(base: str) -> Iterator[tuple[Path, Path]]:
    """Source and build tree of the base: a build directory as it is, or a commit in a worktree of its own, built here with this
    tree's benchmarks over it."""
    if (Path(base) / "build.ninja").exists():
        yield paths.ROOT, Path(base).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="tidemill-base-") as scratch:
        tree = Path(scratch) / "tree"
        _do("git", "-C", paths.ROOT, "worktree", "add", "--detach", "--quiet", tree, base)
        try:
            for name in OVERLAID:
                source, target = paths.ROOT / name, tree / name
                if source.is_dir():
                    shutil.rmtree(target, ignore_errors=True)
                    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
                else:
                    shutil.copy2(source, target)
            _do("cmake", "--preset", "release", "-DTM_BENCH=ON", cwd=tree)
            _do("cmake", "--build", "--preset", "release", "--target", "tidemill", "tidemill-exchange", "benches", cwd=tree)
            yield tree, tree / "build" / "release"
        finally:
            _do("git", "-C", paths.ROOT, "worktree", "remove", "--force", tree)


def _do(*words: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-4000:] + done.stderr[-4000:], file=sys.stderr)
        raise SystemExit(f"scripts/bench --compare: {' '.join(map(str, words[:4]))} ... failed")


def pair(bench: Bench, trees: Sequence[tuple[Path, Path]], pairs: int, quick: bool) -> list[Paired]:
    """Both builds in turns: base here, here base, base here."""
    figures: list[dict[str, list[float]]] = [{}, {}]
    units: dict[str, str] = {}
    for number in range(pairs):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            root, build = trees[which]
            for result in running.run(bench, quick=quick, alone=True, build=build, root=root):
                if isinstance(result, str):
                    raise SystemExit(f"scripts/bench --compare: {bench.name} of {('the base', 'this tree')[which]} {result}")
                figures[which].setdefault(result.name, []).append(result.figure)
                units[result.name] = result.unit
    return [Paired(name, unit, figures[0].get(name, []), figures[1].get(name, [])) for name, unit in units.items()]


def main(base: str, benches: Sequence[Bench], pairs: int, quick: bool, as_json: bool) -> int:
    """Exit statuses: 0, or 1 when something is slower beyond the noise."""
    out = sys.stderr if as_json else sys.stdout
    worse = 0
    with base_tree(base) as (root, build):
        print(f"{'result':<28} {'base':>14} {'here':>14} {'unit':<10} {'here is':>8}  95 % of the median", file=out, flush=True)
        for bench in benches:
            for one in pair(bench, ((root, build), (paths.ROOT, paths.build_dir().resolve())), pairs, quick):
                low, high = one.interval
                word = "WORSE" if one.worse else "better" if one.better else ""
                base_figure, figure = (results.shown(middle(sorted(values))) for values in (one.base, one.here))
                print(f"{one.name:<28} {base_figure:>14} {figure:>14} {one.unit:<10} {one.median:>7.3f}x"
                      f"  {low:.3f} to {high:.3f}  {word}".rstrip(), file=out, flush=True)
                worse += one.worse
                if as_json:
                    print(json.dumps({"name": one.name, "unit": one.unit, "base": one.base, "here": one.here,
                                      "ratio": one.median, "low": low, "high": high, "worse": one.worse}), flush=True)
    return 1 if worse else 0
