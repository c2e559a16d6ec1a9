"""scripts/bench."""
from __future__ import annotations

import argparse
import signal
import sys
from typing import Sequence

from . import compare, machine, results, running
from .catalogue import BENCHES, CATALOGUE

PROFILED = [bench.name for bench in BENCHES if bench.profiled]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure, beside floors and peers of the same run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; all when none is named")
    parser.add_argument("--list", action="store_true", help="name the benchmarks")
    parser.add_argument("--json", action="store_true", help="one JSON object a result on stdout, all else on stderr")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all works; limits do not count")
    parser.add_argument("--write", action="store_true", help="write tests/bench/RESULTS.md")
    parser.add_argument("--compare", metavar="BASE", help="a commit or a build directory: run both builds in turns; exit"
                        " status 1 when this one is slower beyond the noise")
    parser.add_argument("--pairs", type=int, default=9, metavar="N", help="of runs, with --compare (%(default)s)")
    parser.add_argument("--profile", action="store_true", help="where the time goes, by perf")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in CATALOGUE:
            parser.error(f"there is no benchmark {name}; expected one of {', '.join(CATALOGUE)}")
    if options.write and options.quick:
        parser.error("--write: results of --quick are not worth keeping")
    if options.pairs < compare.PAIRS_MIN:
        parser.error(f"--pairs: expected at least {compare.PAIRS_MIN}; fewer cannot tell a difference from noise")
    return options


def measure(options: argparse.Namespace) -> int:
    """Run them one after the other. Exit statuses: 0 fine, 1 something failed or missed its limit."""
    out = sys.stderr if options.json else sys.stdout
    before = machine.load()
    print(f"{machine.describe()}, load {before:.1f}\n{results.COLUMNS}", file=out, flush=True)
    every, failed = [], 0
    for name in options.names or CATALOGUE:
        good = True
        for result in running.run(CATALOGUE[name], quick=options.quick):
            if isinstance(result, str):
                print(f"{name}: {result}", file=sys.stderr, flush=True)
                good = False
                continue
            every.append(result)
            print(results.line(result), file=out, flush=True)
            if options.json:
                print(result.as_json(), flush=True)
            good = good and (options.quick or result.kept)
        failed += not good
    if options.write:
        profiles = {name: running.profile(CATALOGUE[name]) for name in options.names or CATALOGUE if name in PROFILED}
        running.write(every, profiles, before)
    return 1 if failed else 0


def profile(names: Sequence[str]) -> int:
    """Exit statuses: 0, or 1 where there is none."""
    missing = 0
    for name in names:
        symbols = running.profile(CATALOGUE[name])
        missing += not symbols
        print("\n".join([f"== {name}", *(symbols or ["no profile"])]), flush=True)
    return 1 if missing else 0


def main(argv: Sequence[str]) -> int:
    """Exit statuses: 0 fine, 1 failed, missed or slower, 2 usage."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.list:
        for bench in CATALOGUE.values():
            print(f"{bench.name:<10} {bench.title}")
        return 0
    if options.profile:
        return profile(options.names or PROFILED)
    if options.compare:
        return compare.main(options.compare, [CATALOGUE[name] for name in options.names or CATALOGUE], options.pairs,
                            options.quick, options.json)
    return measure(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
