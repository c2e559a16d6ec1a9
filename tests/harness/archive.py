"""The archive of a lab: a directory, the commands that look at it, and damage to it."""
from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator, Mapping

from .daemons import Deduplicator
from .lab import Lab
from .paths import NO_EXCHANGE, ROOT, program
from .postgres import PostgresCluster
from .waiting import wait_until

TIMED = {"trades": "exchange_ts", "orderbook_deltas": "exchange_ts", "tickers": "exchange_ts"}  # by the exchange's time


@dataclass
class Manifest:
    """What a manifest says, and where it is."""

    path: Path
    text: dict[str, Any]

    @property
    def rows(self) -> int:
        """That the object must have."""
        return int(self.text["rows"])

    @property
    def stream(self) -> str:
        """Of its rows."""
        return str(self.text["stream"])

    def moment(self, name: str) -> datetime:
        """"from" or "to"."""
        return datetime.fromisoformat(str(self.text[name]).replace("Z", "+00:00"))


class Archive:
    """A directory, and production beside it: with the deduplicator's commands, by the stock script or the lab's own."""

    def __init__(self, directory: Path, production: PostgresCluster, environment: Mapping[str, str],
                 script: Path | None = None) -> None:
        self.directory = directory / "archive"
        self.production = production
        self.script = script or ROOT / Deduplicator.script
        self.settings = {"TIDEMILL_ARCHIVE": f"file://{self.directory}", **environment}

    @property
    def environment(self) -> dict[str, str]:
        """Of the commands."""
        return {**os.environ, **NO_EXCHANGE, "TIDEMILL_PRODUCTION": self.production.conninfo(), **self.settings}

    # ---- commands ----

    def run(self, *arguments: str, production: str | None = None) -> subprocess.CompletedProcess[str]:
        """A command; "SCRIPT" stands for the deduplicator's script, `production` is another database, or another store."""
        other = {"TIDEMILL_PRODUCTION": production, "TIDEMILL_STORE": production} if production else {}
        environment = {**self.environment, **other}
        return subprocess.run(self.words(*arguments), env=environment, capture_output=True, text=True, timeout=300, check=False)

    def words(self, *arguments: str) -> list[str]:
        """The same for whoever starts it himself."""
        return [str(program("tidemill")), *(str(self.script) if word == "SCRIPT" else word for word in arguments)]

    def ask(self, *arguments: str, status: int = 0, production: str | None = None) -> dict[str, Any]:
        """What a command says with --json."""
        done = self.run(*arguments, "--json", production=production)
        if done.returncode != status:
            raise AssertionError(f"tidemill {' '.join(arguments)}: exit status {done.returncode}, expected {status}: "
                                 f"{done.stdout}{done.stderr}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    # ---- what is there ----

    def manifests(self, tree: str = "raw") -> Iterator[Manifest]:
        """All of a tree, in the order of their names."""
        for path in sorted(self.directory.glob(f"manifest/{tree}/**/*.json")):
            yield Manifest(path, json.loads(path.read_text()))

    def object_of(self, manifest: Manifest) -> Path:
        """Where its object is."""
        return self.directory / str(manifest.text["object"])

    def wait_whole(self, until: datetime | None = None, timeout: float = 120.0) -> None:
        """Wait until the streams with the exchange's time are there up to a moment (all of production), and nothing is
        noted as late."""
        wait_until("production is in the archive", lambda: not self.behind(until), timeout,
                   lambda: str(self.behind(until)))

    def behind(self, until: datetime | None = None) -> dict[str, tuple[int, int]]:
        """Streams of which production and archive have another number of rows: (production, archive)."""
        production, found = self.production, {}
        for stream, column in TIMED.items():
            rows = production.value(f"SELECT count(*) FROM {stream} WHERE {column} < coalesce(%s::timestamptz, 'infinity')",
                                    (until,))
            there = production.value("SELECT coalesce(sum(archived_rows), 0)::int8 FROM tidemill.exports WHERE stream = %s AND "
                                     "from_ts < coalesce(%s::timestamptz, 'infinity')", (stream, until))
            late = production.value("SELECT count(*) FROM tidemill.export_late WHERE stream = %s", (stream,))
            if rows != there or late:
                found[stream] = (rows, there)
        return found

    # ---- damage ----

    def flip(self, manifest: Manifest) -> None:
        """One bit of its object is another."""
        path = self.object_of(manifest)
        path.chmod(0o600)
        with open(path, "r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0x10]))

    def hide(self, manifest: Manifest) -> None:
        """Its object is not there any more."""
        path = self.object_of(manifest)
        path.rename(path.with_suffix(".hidden"))

    def show(self, manifest: Manifest) -> None:
        """It is there again."""
        path = self.object_of(manifest)
        path.with_suffix(".hidden").rename(path)


class LabArchive(Archive):
    """Of a lab; give it to the processes before they start."""

    def __init__(self, lab: Lab, **environment: str) -> None:
        super().__init__(lab.directory, lab.production, environment, lab.options.deduplicator_script)
        self.lab = lab

    def give(self, gatherers: bool = False) -> None:
        """The deduplicator has it, and the gatherers, too."""
        for daemon in [self.lab.deduplicator, *(self.lab.gatherers.values() if gatherers else ())]:
            daemon.process.env.update(self.settings)


def fingerprint(production: PostgresCluster, stream: str, where: str = "true", database: str | None = None) -> tuple[Any, ...]:
    """The rows as one value."""
    return production.query(f"SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM {stream} t "
                            f"WHERE {where}", database=database)[0]
