"""The columns that every drill reports."""
from __future__ import annotations

from dataclasses import dataclass, field


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
    catchup_rows_per_s: float | None = None
    peak_rss_mb: float = 0.0
    max_lag_s: float = 0.0
    broken: list[str] = field(default_factory=list)  # invariants that failed, in words

    @property
    def passed(self) -> bool:
        """Whether every invariant held."""
        return not self.broken


COLUMNS = ("t_detect_s", "rto_first_s", "rto_full_s", "rows", "rows_lost", "rows_dup", "rows_gap_flagged",
           "rows_gap_silent", "gap_edge_ms", "catchup_rows_per_s", "peak_rss_mb", "max_lag_s")
WIDTH = {"rows": 9, "catchup_rows_per_s": 10, "rows_gap_flagged": 8, "rows_gap_silent": 7}
HEADS = {"t_detect_s": "t_detect", "rto_first_s": "RTO_first", "rto_full_s": "RTO_full", "rows_lost": "lost",
         "rows_dup": "dup", "rows_gap_flagged": "flagged", "rows_gap_silent": "silent", "gap_edge_ms": "edge ms",
         "catchup_rows_per_s": "catch-up/s", "peak_rss_mb": "RSS MB", "max_lag_s": "max lag"}


def head() -> str:
    """The table's first line."""
    cells = [HEADS.get(column, column).rjust(WIDTH.get(column, 9)) for column in COLUMNS]
    return f"{'drill':<6} {'seed':>4} {' '.join(cells)}  target"


def line(figures: Figures, target: str) -> str:
    """One run as a line of the table."""
    cells = [_cell(getattr(figures, column)).rjust(WIDTH.get(column, 9)) for column in COLUMNS]
    verdict = "ok" if figures.passed else "FAILED: " + "; ".join(figures.broken)
    return f"{figures.drill:<6} {figures.seed:>4} {' '.join(cells)}  {target}  {verdict}"


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) and value < 1000 else f"{value:.0f}"
