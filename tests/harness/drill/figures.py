"""The columns that every drill reports."""
from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Sequence


@dataclass
class Figures:
    """One run. None: the drill has no such moment (nothing stopped, so nothing came back)."""

    drill: str
    seed: int
    t_detect_s: float | None = None  # from the fault to the first health or metric that shows it
    rto_first_s: float | None = None  # from its end to the first new row in production
    rto_full_s: float | None = None  # from its end to a lag below a second
    rows: int = 0  # of the exchange's own streams in production
    rows_lost: int = 0  # that a living gatherer was sent
    rows_dup: int = 0  # stored twice, or never sent
    rows_gap_flagged: int = 0  # that nobody could hear, where coverage() says so
    rows_gap_silent: int = 0  # likewise, where it says that all is there
    gap_edge_ms: float = 0.0  # how far a gap that coverage() tells reaches into what was delivered to a living gatherer
    catchup_rows_per_s: float | None = None  # offered: rows that cursors passed
    catchup_unique_per_s: float | None = None  # of those, stored
    peak_rss_mb: float = 0.0
    max_lag_s: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)  # a drill's own figures
    broken: list[str] = field(default_factory=list)  # invariants that failed, in words

    @property
    def passed(self) -> bool:
        """Whether every invariant held."""
        return not self.broken


COLUMNS = ("t_detect_s", "rto_first_s", "rto_full_s", "rows", "rows_lost", "rows_dup", "rows_gap_flagged",
           "rows_gap_silent", "gap_edge_ms", "catchup_rows_per_s", "catchup_unique_per_s", "peak_rss_mb", "max_lag_s")
WIDTH = {"rows": 9, "catchup_rows_per_s": 10, "catchup_unique_per_s": 8, "rows_gap_flagged": 8, "rows_gap_silent": 7}
MORE_IS_BETTER = ("rows", "catchup_rows_per_s", "catchup_unique_per_s")
HEADS = {"t_detect_s": "t_detect", "rto_first_s": "RTO_first", "rto_full_s": "RTO_full", "rows_lost": "lost",
         "rows_dup": "dup", "rows_gap_flagged": "flagged", "rows_gap_silent": "silent", "gap_edge_ms": "edge ms",
         "catchup_rows_per_s": "catch-up/s", "catchup_unique_per_s": "unique/s",
         "peak_rss_mb": "RSS MB", "max_lag_s": "max lag"}


def head() -> str:
    """The table's first line."""
    cells = [HEADS.get(column, column).rjust(WIDTH.get(column, 9)) for column in COLUMNS]
    return f"{'drill':<6} {'seed':>4} {' '.join(cells)}  target"


def line(figures: Figures, target: str) -> str:
    """One run as a line of the table."""
    cells = [_cell(getattr(figures, column)).rjust(WIDTH.get(column, 9)) for column in COLUMNS]
    verdict = "ok" if figures.passed else "FAILED: " + "; ".join(figures.broken)
    more = "".join(f"  {name}={value}" for name, value in figures.more.items())
    return f"{figures.drill:<6} {figures.seed:>4} {' '.join(cells)}  {target}  {verdict}{more}"


def summary(runs: Sequence[Figures], target: str) -> list[str]:
    """Median and worst over the seeds of one drill, as two lines of the table."""
    lines = []
    for name, choose in (("median", median), ("worst", max)):
        cells = []
        for column in COLUMNS:
            values = [value for value in (getattr(one, column) for one in runs) if value is not None]
            if name == "worst" and column in MORE_IS_BETTER:
                values = [-value for value in values]
            cells.append(_cell(abs(choose(values)) if values else None).rjust(WIDTH.get(column, 9)))
        failed = sum(not one.passed for one in runs)
        lines.append(f"{runs[0].drill:<4} {name:>6} {' '.join(cells)}  {target}  {failed} of {len(runs)} failed")
    return lines


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) and value < 1000 else f"{value:.0f}"
