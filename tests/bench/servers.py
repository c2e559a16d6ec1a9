"""What a run needs around the thing that is measured: a directory, servers, a certificate, processor times."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from harness import paths
from harness.daemons import Exchange, Gatherer
from harness.postgres import PostgresCluster
from harness.process import Process
from harness.waiting import wait_until

PEERS = Path(__file__).resolve().parent / "peers"
NO_STORE = "host=127.0.0.1 port=1 dbname=x connect_timeout=1"
MIX = "deltas=90,tickers=6,trades=4,lifecycle=0"  # no market comes or goes, so that every listener gets every event
# Memory enough, and no checkpoint in the middle; what is durable is the journal's part in a store.
POSTGRES = {"shared_buffers": "'1GB'", "max_wal_size": "'4GB'", "synchronous_commit": "off"}


@contextmanager
def directory() -> Iterator[Path]:
    """With a short name, for sockets; PostgreSQL's user may pass through it."""
    path = Path(tempfile.mkdtemp(prefix="tidemill-"))
    os.chmod(path, 0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def cluster(where: Path, name: str, database: str, **settings: str) -> Iterator[PostgresCluster]:
    """A PostgreSQL that runs."""
    made = PostgresCluster(name, where, database, {**POSTGRES, **settings})
    made.create()
    made.start()
    try:
        yield made
    finally:
        made.stop("immediate")


@contextmanager
def running(*parts: Any) -> Iterator[None]:
    """Whatever of these runs at the end is stopped, the last one first."""
    try:
        yield
    finally:
        for part in reversed(parts):
            part.process.stop()


def certificate(where: Path) -> dict[str, Path]:
    """The exchange's options for TLS."""
    key, cert = where / "tls.key", where / "tls.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return {"tls-cert": cert, "tls-key": key}


def gatherer(where: Path, exchange: Exchange, *, store: str = NO_STORE, connections: int = 16, ws_url: str | None = None,
             env: dict[str, str] | None = None, name: str = "g1") -> Gatherer:
    """One that runs the stock script."""
    return Gatherer(name, where, store=store, ws_url=f"{ws_url or exchange.ws_url}?label={name}", rest_url=exchange.rest_url,
                    env={"KALSHI_CONNECTIONS": str(connections), **(env or {})})


def listening(exchange: Exchange, label: str, connections: int, markets: int) -> bool:
    """Whether so many connections with this label are there and listen to the depth of all markets together."""
    clients = [client for client in exchange.stats()["clients"] if client["label"] == label]
    return len(clients) >= connections and sum(client["markets"] for client in clients) >= markets


def ticks(stat: Path) -> float:
    """User and system seconds of a process or thread that lives."""
    fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_cpu_s(pid: int, name: str) -> float:
    """Of the threads of that name: exact to a tick of the kernel's accounting."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text(encoding="utf-8").strip() == name:
            total += float((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    return total


def process_cpu_s(pid: int) -> float:
    """Of all its threads."""
    return ticks(Path(f"/proc/{pid}/stat"))


class Peer:
    """A gatherer or merger that a user would write: reads its options as JSON, prints JSON when it is told to end."""

    def __init__(self, language: str, program: str, where: Path, options: dict[str, Any]) -> None:
        interpreter = {"node": ["node", PEERS / "node" / f"{program}.js"],
                       "python": [sys.executable, PEERS / "python" / f"{program}.py"]}[language]
        name = f"{language}-{program}"
        (where / name).mkdir()
        self.process = Process(name, [*interpreter, json.dumps(options)], where / name)

    def end(self) -> dict[str, Any]:
        """Have it finish what it has; what it says of itself."""
        self.process.stop(signal.SIGTERM, 60)
        return self.said()

    def said(self) -> dict[str, Any]:
        """The last line that it printed."""
        lines = [line for line in self.process.log().splitlines() if line.startswith("{")]
        if not lines:
            raise AssertionError(f"{self.process.name} said nothing:\n{self.process.log_tail()}")
        return dict(json.loads(lines[-1]))

    def wait_end(self, timeout: float) -> dict[str, Any]:
        """Until it ends by itself."""
        wait_until(f"{self.process.name} ends", lambda: not self.process.running, timeout, self.process.log_tail)
        return self.said()


def bench_program(name: str) -> Path:
    """A benchmark in C of the build under test."""
    return paths.build_dir() / "tests" / name
