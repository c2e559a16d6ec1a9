"""The Python part of scripts/demo: the whole system in a private directory, shown live or measured."""
from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Sequence

from .daemons import Daemon
from .lab import Lab, LabOptions
from .table import Rates, Row, Table
from .verifier import Verdict
from .waiting import wait_until

RATE = 2000
REDRAW_SECONDS = 0.5
DRAIN_TIMEOUT = 120.0
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=(
        "Run a simulated exchange, gatherers, deduplicator and production database on this machine. With --seconds or "
        "--replay it ends by itself, compares production with the exchange's ledger row by row and exits 1 unless "
        "they are equal; without, it runs until Ctrl-C."))
    parser.add_argument("--seconds", type=_positive, metavar="N", help="send for so long, then drain and verify")
    parser.add_argument("--markets", type=_positive, default=500, metavar="N", help="markets (%(default)s)")
    parser.add_argument("--rate", type=_positive, metavar="N",
                        help=f"events a second that the exchange emits, each to every gatherer ({RATE}; with --replay: "
                             "as recorded)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the simulated exchange (%(default)s)")
    parser.add_argument("--gatherers", type=_positive, default=3, metavar="N", help="(%(default)s)")
    parser.add_argument("--late-gatherers", type=int, default=0, metavar="N", help="so many of them start half-way")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="send recorded frames instead")
    parser.add_argument("--json", action="store_true", help="print one JSON line, all else goes to stderr")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave databases, journals, ledger and logs in DIR")
    options = parser.parse_args(argv)
    if not options.rate and not options.replay:
        options.rate = RATE
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not 0 <= options.late_gatherers < options.gatherers:
        parser.error(f"--late-gatherers {options.late_gatherers}: expected 0 to {options.gatherers - 1}, as at least "
                     f"one of {options.gatherers} gatherers must be there from the start")
    if options.late_gatherers and not options.seconds:
        parser.error("--late-gatherers needs --seconds: half-way of what?")
    if options.json and not (options.seconds or options.replay):
        parser.error("--json needs --seconds or --replay: without, the demo runs until Ctrl-C and verifies nothing")
    if options.replay and not options.replay.is_file():
        parser.error(f"--replay {options.replay}: no such file")
    if options.keep and options.keep.exists():
        parser.error(f"--keep {options.keep}: exists already; name a directory that does not")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text}")
    return number


class Demo:
    """One run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.lab = Lab(self._lab_options())
        self.out = sys.stderr if options.json else sys.stdout
        self.rates = Rates()

    def _lab_options(self) -> LabOptions:
        options = self.options
        exchange: dict[str, Any] = {"seed": options.seed, "markets": options.markets}
        if options.seconds:
            exchange["seconds"] = options.seconds
        if options.replay:
            exchange["replay"] = options.replay.resolve()
            exchange["replay_pace"] = options.rate or "recorded"
        else:
            exchange["rate"] = options.rate
        # A recording may be of any age; the deduplicator would set aside what is older than a week.
        env = dict.fromkeys(("TIDEMILL_ACCEPT_PAST", "TIDEMILL_RETAIN_DELTAS", "TIDEMILL_RETAIN_TICKERS"), "36500d") if options.replay else {}
        return LabOptions(gatherers=options.gatherers, late=options.late_gatherers, exchange=exchange,
                          deduplicator_env=env, keep=options.keep)

    def run(self) -> int:
        """The exit status."""
        with self.lab:
            self._say(f"starting in {self.lab.directory} ...")
            self.lab.start()
            table = Table(self.out, self._addresses())
            try:
                self._watch(table)
            finally:
                table.close()
            if not (self.options.seconds or self.options.replay):
                return 0
            self._say("draining ...")
            self.lab.drain(DRAIN_TIMEOUT)
            self._say("comparing production with the ledger ...")
            return self._report(self.lab.verify())

    def _watch(self, table: Table) -> None:
        """Show the system until the exchange has sent everything, or for ever."""
        late = bool(self.options.late_gatherers)
        half = time.monotonic() + (self.options.seconds or 0) / 2
        next_picture = 0.0
        while True:
            wait_until("the next picture is due or the exchange is done",
                       lambda: time.monotonic() >= next_picture or self.lab.exchange.is_finished(), 60)
            if self.lab.exchange.is_finished():
                return
            if late and time.monotonic() >= half:
                self.lab.start_late()
                late = False
            next_picture = time.monotonic() + REDRAW_SECONDS
            table.draw(self._rows())

    def _rows(self) -> list[Row]:
        lab = self.lab
        stats = lab.exchange.stats()
        rows = [Row("exchange", stats["state"], stats["emitted"]["total"])]
        rows += [self._daemon_row(gatherer, gatherer.name in lab.late_names) for gatherer in lab.gatherers.values()]
        rows.append(self._daemon_row(lab.deduplicator, False))
        rows.append(Row("production", "running" if lab.production.process.running else "down", self._production_rows()))
        now = time.monotonic()
        for row in rows:
            row.per_second = self.rates.of(row.part, row.rows, now)
        return rows

    def _daemon_row(self, daemon: Daemon, is_late: bool) -> Row:
        if not daemon.process.running:
            return Row(daemon.name, "waiting" if is_late else "down")
        health = daemon.try_health()
        if health is None:
            return Row(daemon.name, "silent")
        lag_ms = health.get("lag_ms", health.get("last_durable_age_ms"))
        return Row(daemon.name, str(health["status"]), rows=health.get("stored"),
                   lag=None if lag_ms is None else lag_ms / 1000)

    def _production_rows(self) -> int:
        """The server's own statistics, which cost nothing, unlike counting."""
        return int(self.lab.production.value(
            "SELECT coalesce(sum(n_live_tup), 0) FROM pg_stat_user_tables WHERE schemaname = 'public'"))

    def _addresses(self) -> list[str]:
        """Where each part is: the console is at the root of its health address."""
        lab = self.lab
        lines = _named("exchange", lab.exchange.ws_url)
        for name, gatherer in lab.gatherers.items():
            lines += _named(name, _urls(gatherer), lab.stores[name].psql())
        lines += _named(lab.deduplicator.name, _urls(lab.deduplicator))
        lines += _named("production", lab.production.psql())
        lines += _named("logs", str(lab.directory))
        return lines + ["lag: age of a gatherer's newest durable record; of what production still lacks"]

    def _report(self, verdict: Verdict) -> int:
        for line in verdict.explain():
            self._say(line)
        if self.options.json:
            print(json.dumps(asdict(verdict.figures())), flush=True)
        else:
            self._say("  ".join(f"{name} {value}" for name, value in asdict(verdict.figures()).items()))
        return 0 if verdict.clean else 1

    def _say(self, text: str) -> None:
        print(text, file=self.out, flush=True)


def _urls(daemon: Daemon) -> str:
    return f"http://{daemon.health_address}/health http://{daemon.metrics_address}/metrics"


def _named(name: str, *lines: str) -> list[str]:
    return [f"{name if number == 0 else '':<12}{line}" for number, line in enumerate(lines)]


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Every way of being told to end takes the same path out, through all the clean-up, which a second Ctrl-C must
    not cut short."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(argv: Sequence[str]) -> int:
    """Exit statuses: 0 fine, 1 rows differ or something failed, 130 interrupted before the result."""
    options = parse(argv)
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    try:
        return Demo(options).run()
    except KeyboardInterrupt:
        return 130 if options.seconds or options.replay else 0
    except (AssertionError, OSError, RuntimeError, ValueError) as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
