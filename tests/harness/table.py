"""The demo's picture: a table that is redrawn in place on a terminal, plain lines elsewhere.

Lines of the table are cut at the terminal's width. Those below it, addresses for people to copy, are not: they wrap.
"""
from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TextIO

ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen, no cursor: what stood on the terminal comes back afterwards
LEAVE = "\x1b[?25h\x1b[?1049l"
HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
STATE_COLOURS = {"healthy": "32", "running": "32", "degraded": "33", "starting": "33", "waiting": "33",
                 "unhealthy": "31", "down": "31", "silent": "31"}
COLUMNS = (("part", 12), ("state", 10), ("per s", 10), ("rows", 14), ("lag", 10))
PLAIN_EVERY = 5.0


@dataclass
class Row:
    """One part of the system at one moment."""

    part: str
    state: str
    rows: int | None = None
    lag: float | None = None  # seconds
    per_second: float | None = None


class Rates:
    """Turns counters that are read now and then into rates."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}

    def of(self, name: str, count: int | None, now: float) -> float | None:
        """How much the counter grew a second since it was last read; None the first time."""
        if count is None:
            return None
        before = self._last.get(name)
        self._last[name] = (now, count)
        if before is None or now <= before[0]:
            return None
        return max(0.0, (count - before[1]) / (now - before[0]))


class Table:
    """Draws rows on a stream, as that stream can show them."""

    def __init__(self, stream: TextIO, addresses: list[str]) -> None:
        self._stream = stream
        self._addresses = addresses
        self._live = stream.isatty()
        self._begun = self._last_plain = time.monotonic()
        stream.write(ENTER if self._live else "".join(line + "\n" for line in addresses))
        stream.flush()

    def draw(self, rows: list[Row]) -> None:
        """Show this state. The size of the terminal is asked for each time, so a resize is simply the next picture."""
        if self._live:
            width, height = shutil.get_terminal_size()
            self._stream.write(HOME + "".join(self._picture(rows, width, height - 1)) + END_OF_SCREEN)
            self._stream.flush()
        elif time.monotonic() - self._last_plain >= PLAIN_EVERY:
            self._last_plain = time.monotonic()
            self._stream.write(_plain_line(rows) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Give the terminal back."""
        if self._live:
            self._live = False
            self._stream.write(LEAVE)
            self._stream.flush()

    def _picture(self, rows: list[Row], width: int, height: int) -> list[str]:
        seconds = int(time.monotonic() - self._begun)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        head = "".join(_cell(title, size, index > 1) for index, (title, size) in enumerate(COLUMNS))
        body = [_coloured(_line(row)[:width], row.state) + END_OF_LINE for row in rows]
        lines = [f"Tidemill demo  {clock}   Ctrl-C ends it"[:width] + END_OF_LINE, head[:width] + END_OF_LINE, *body]
        left = height - len(lines)
        for number, address in enumerate(self._addresses):
            left -= max(1, -(-len(address) // width))
            if left < (number + 1 < len(self._addresses)):
                lines.append(f"... {len(self._addresses) - number} more lines: make the terminal taller"[:width] + END_OF_LINE)
                break
            lines.append(address + (END_OF_LINE if not address or len(address) % width else ""))  # the last column is its own
        return [line + "\n" for line in lines]


def _cell(text: str, size: int, right: bool) -> str:
    return f"{text:>{size}}" if right else f"{text:<{size}}"


def _line(row: Row) -> str:
    per_second = "" if row.per_second is None else f"{row.per_second:,.0f}"
    count = "" if row.rows is None else f"{row.rows:,}"
    cells = (row.part, row.state, per_second, count, _span(row.lag))
    return "".join(_cell(text, size, index > 1)
                   for index, (text, (_, size)) in enumerate(zip(cells, COLUMNS)))


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def _coloured(line: str, state: str) -> str:
    colour = STATE_COLOURS.get(state)
    return line.replace(state, f"\x1b[{colour}m{state}\x1b[0m", 1) if colour else line


def _plain_line(rows: list[Row]) -> str:
    parts = []
    for row in rows:
        words = [row.part, row.state]
        words += [] if row.per_second is None else [f"{row.per_second:,.0f}/s"]
        words += [] if row.rows is None else [f"{row.rows:,} rows"]
        words += [] if row.lag is None else [f"lag {_span(row.lag)}"]
        parts.append(" ".join(words))
    return time.strftime("%H:%M:%S  ") + " | ".join(parts)
