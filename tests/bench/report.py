"""How a benchmark in Python prints its results: for people, or with --json as one object a line."""
from __future__ import annotations

import argparse
import json
import sys


def parser(doc: str | None) -> argparse.ArgumentParser:
    """With the options that every benchmark has."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--json", action="store_true", help="one JSON object a result on stdout, all else on stderr")
    made.add_argument("--quick", action="store_true", help="a small size, to see that it works")
    made.add_argument("--alone", action="store_true", help="without peers")
    return made


class Report:
    """Prints results as they come."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._json = bool(options.json)

    def note(self, text: str) -> None:
        """For people."""
        print(text, file=sys.stderr if self._json else sys.stdout, flush=True)

    def result(self, name: str, figure: float, unit: str, floor: float | None = None, floor_is: str = "") -> None:
        """One figure, and what it is measured against: of the same unit, from the same run."""
        if self._json:
            one = {"name": name, "figure": figure, "unit": unit, "floor": floor}
            print(json.dumps(one if floor is None else {**one, "floor_is": floor_is}), flush=True)
            return
        against = "" if not floor else f"   {floor_is} {floor:,.6g}: ratio {figure / floor:.2f}"
        print(f"{name:<28} {figure:>14,.6g} {unit}{against}", flush=True)


def median(values: list[float]) -> float:
    """Of some."""
    return quantile(values, 0.5)


def quantile(values: list[float], share: float) -> float:
    """Of a list that need not be sorted."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
