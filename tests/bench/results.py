"""One shape of result for all benchmarks, and how it is shown."""
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Mapping


@dataclass(frozen=True)
class Limit:
    """What a result has to keep; what is None does not matter."""

    least: float | None = None  # of the figure
    most: float | None = None
    least_ratio: float | None = None  # of figure / floor
    most_ratio: float | None = None

    def kept(self, figure: float, ratio: float | None) -> bool:
        """Whether it is."""
        pairs = ((figure, self.least, self.most), (ratio, self.least_ratio, self.most_ratio))
        return all((least is None and most is None) or (value is not None and (least is None or value >= least)
                                                        and (most is None or value <= most))
                   for value, least, most in pairs)

    def __str__(self) -> str:
        parts = ((">= {}", self.least), ("<= {}", self.most), ("ratio >= {}", self.least_ratio),
                 ("ratio <= {}", self.most_ratio))
        return ", ".join(text.format(f"{value:,g}") for text, value in parts if value is not None)


@dataclass(frozen=True)
class Result:
    """One line of a benchmark's output, with what the catalogue knows."""

    name: str
    figure: float
    unit: str
    floor: float | None
    floor_is: str
    limit: Limit | None
    command: str

    @property
    def ratio(self) -> float | None:
        """Figure to floor."""
        return self.figure / self.floor if self.floor else None

    @property
    def kept(self) -> bool:
        """Whether it is within its limit."""
        return self.limit is None or self.limit.kept(self.figure, self.ratio)

    def as_json(self) -> str:
        """The shape that scripts/bench --json prints."""
        return json.dumps({"name": self.name, "figure": self.figure, "unit": self.unit, "floor": self.floor,
                           "floor_is": self.floor_is or None, "ratio": self.ratio,
                           "limit": str(self.limit) if self.limit else None, "kept": self.kept, "command": self.command})


def more_is_better(unit: str) -> bool:
    """Rates; all else is time or memory."""
    return unit.endswith("/s")


def parse(line: str, limits: Mapping[str, Limit], command: str) -> Result:
    """What a benchmark printed. ValueError says what is wrong with it."""
    try:
        raw: dict[str, Any] = json.loads(line)
        floor = raw["floor"]
        result = Result(str(raw["name"]), float(raw["figure"]), str(raw["unit"]), None if floor is None else float(floor),
                        str(raw["floor_is"]) if floor is not None else "", limits.get(str(raw["name"])), command)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'expected {{"name", "figure", "unit", "floor", "floor_is"}} on one line, got {line[:200]!r}'
                         f" ({error})") from None
    if "/" not in result.name or not result.unit:
        raise ValueError(f"expected a name BENCH/what and a unit, got {line[:200]!r}")
    return result


def shown(value: float | None) -> str:
    """Four digits are more than any of these is worth."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


COLUMNS = f"{'result':<28} {'figure':>14} {'unit':<10} {'floor':>14} {'ratio':>8}  {'limit':<28} floor is"


def line(result: Result) -> str:
    """For a terminal, under COLUMNS."""
    limit = "" if result.limit is None else f"{result.limit} {'kept' if result.kept else 'MISSED'}"
    return (f"{result.name:<28} {shown(result.figure):>14} {result.unit:<10} {shown(result.floor):>14} "
            f"{'' if result.ratio is None else f'{result.ratio:.2f}':>8}  {limit:<28} {result.floor_is}").rstrip()


def markdown(result: Result) -> str:
    """A row of RESULTS.md."""
    limit = "" if result.limit is None else f"{result.limit}{'' if result.kept else ' **missed**'}"
    cells = (result.name, f"{shown(result.figure)} {result.unit}", shown(result.floor),
             "" if result.ratio is None else f"{result.ratio:.2f}", limit, result.floor_is)
    return "| " + " | ".join(cells) + " |"
