"""scripts/drill."""
from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from typing import Sequence

from ..lab import Lab
from . import figures as table
from . import archive_drills, exchange_drills, journal_drills, production_drills, shard_drills, store_drills  # noqa: F401  (they fill the catalogue)
from .catalogue import CATALOGUE, Drill
from .figures import Figures
from .run import Run


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/drill", description="Break the system on purpose and measure it.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="ids of drills; all when none is named")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="run each with seeds 1 to N")
    parser.add_argument("--json", action="store_true", help="one JSON object a run on stdout, all else on stderr")
    parser.add_argument("--list", action="store_true", help="name the drills")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in CATALOGUE:
            parser.error(f"there is no drill {name}; expected one of {', '.join(CATALOGUE)}")
    if options.seeds < 1:
        parser.error("--seeds: expected at least 1")
    return options


def run(drill: Drill, seed: int) -> Figures:
    """One drill with one seed. What fails on the way is an invariant too: the system did not do what it had to."""
    with Lab(drill.options(seed)) as lab:
        one = Run(drill.id, seed, lab)
        try:
            drill.prepare(lab)
            one.begin()
            drill.act(one)
            result = one.finish()
        except AssertionError as error:
            one.expect(False, str(error))
            result = one.figures
        for name, most in drill.limit.items():
            value = getattr(result, name)
            one.expect(value is not None and value <= most, f"{name} is {value}, expected at most {most:g}")
        for complaint in lab.sweep():
            one.expect(False, complaint)
        return result


def _order(name: str) -> tuple[str, int]:
    return name[0], int("".join(filter(str.isdigit, name)))


def main(argv: Sequence[str]) -> int:
    """Exit statuses: 0 every invariant held, 1 one did not, 2 usage."""
    options = parse(argv)
    if options.list:
        for drill in sorted(CATALOGUE.values(), key=lambda one: _order(one.id)):
            print(f"{drill.id:<5} {drill.title:<70} {drill.target}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = sys.stderr if options.json else sys.stdout
    print(table.head(), file=out, flush=True)
    failed = passed = 0
    for name in options.names or sorted(CATALOGUE, key=_order):
        runs = []
        for seed in range(1, options.seeds + 1):
            result = run(CATALOGUE[name], seed)
            runs.append(result)
            passed += result.passed
            failed += not result.passed
            print(table.line(result, CATALOGUE[name].target), file=out, flush=True)
            if options.json:
                print(json.dumps({**asdict(result), "target": CATALOGUE[name].target}), flush=True)
        if len(runs) > 1:
            print("\n".join(table.summary(runs, CATALOGUE[name].target)), file=out, flush=True)
    print(f"{passed} passed, {failed} failed", file=out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
