"""The whole system in one directory: exchange, gatherers with a store each, deduplicator, production.

    with Lab(LabOptions(exchange={"markets": 50, "rate": 2000, "seconds": 5})) as lab:
        lab.start()
        lab.wait_emitted()
        lab.drain()
        assert lab.verify().clean

Leaving the block stops everything in the order of the data's way, reads every log, and removes the directory. What the
logs complain about fails the test, unless the test itself failed already.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Callable

from . import canary, paths
from .daemons import Deduplicator, Exchange, Gatherer
from .disk import SmallDisk
from .netns import Network
from .pgproxy import PgProxy
from .postgres import SUPERUSER, PostgresCluster
from .proxy import Proxy
from .replica import Backup, Replica
from .shim import Shim
from .verifier import Verdict, Verifier
from .waiting import wait_until

STORE_DATABASE = "kalshi_ts"
PRODUCTION_DATABASE = "kalshi"
SUBSCRIBE_TIMEOUT = 60.0
QUIET_SECONDS = 1.0  # nothing moved for so long, and nothing is left to move: drained


class Complaint(AssertionError):
    """A log, an exit status or a core file says that something went wrong."""


@dataclass
class LabOptions:
    """What a lab consists of."""

    gatherers: int = 3
    late: int = 0  # so many of them are not started by start()
    exchange: dict[str, Any] = field(default_factory=dict)  # options of tidemill-exchange, without the dashes
    gatherer_env: dict[str, str] = field(default_factory=dict)
    deduplicator_env: dict[str, str] = field(default_factory=dict)
    gatherer_script: Path | None = None  # instead of the stock ones
    deduplicator_script: Path | None = None
    store_settings: dict[str, str] = field(default_factory=dict)  # of the gatherers' PostgreSQL
    production_settings: dict[str, str] = field(default_factory=dict)
    expected_errors: tuple[str, ...] = ()  # patterns of level=error lines that the test provokes
    keep: Path | None = None  # a directory to leave everything in
    pg_proxy: bool = False  # the first deduplicator reaches production through one (pgproxy.py)
    standby: bool = False  # production has one, and the deduplicators know both addresses
    tcp: bool = False  # reach the databases by TCP: needed where a proxy stands between


class Lab:
    """All parts of the system, each also usable alone."""

    def __init__(self, options: LabOptions) -> None:
        self.options = options
        paths.program("tidemill")  # before anything is made that would have to be removed
        self.directory = _make_directory(options.keep)
        self.swept = False
        self.resources = contextlib.ExitStack()  # proxies, networks: closed after everything has been stopped
        self.proxies: dict[str, Proxy] = {}  # by gatherer, where a drill has put some
        self.shims: dict[str, Shim] = {}  # likewise
        self.blackouts: list[int] = []  # moments (Unix microseconds) when the network took all connections
        self.network: Network | None = None  # of its own, likewise
        self.disk: SmallDisk | None = None  # of production's, likewise
        self.backup: Backup | None = None  # likewise
        names = [f"g{number}" for number in range(1, options.gatherers + 1)]
        self.late_names = names[len(names) - options.late:]
        self.exchange = Exchange(self.directory, {"hold": True, **options.exchange})
        self.stores = {name: PostgresCluster(f"store-{name}", self.directory, STORE_DATABASE, options.store_settings)
                       for name in names}
        self.production = PostgresCluster("production", self.directory, PRODUCTION_DATABASE,
                                          options.production_settings)
        self.standby = Replica("standby", self.directory, self.production) if options.standby else None
        self._copies = [self.production, *([self.standby] if self.standby else [])]
        self.gatherers = {name: self._gatherer(name) for name in names}
        self.pg_proxy = PgProxy(self.production.port, "tidemill deduplicator")
        self.deduplicator = self._deduplicator()
        self.second: Deduplicator | None = None
        self.more: list[Deduplicator] = []

    def _gatherer(self, name: str) -> Gatherer:
        return Gatherer(name, self.directory, store=self.stores[name].conninfo(tcp=self.options.tcp),
                        ws_url=f"{self.exchange.ws_url}?label={name}", rest_url=self.exchange.rest_url,
                        env=self.options.gatherer_env, script=self.options.gatherer_script)

    def _deduplicator(self, name: str = "dedup", direct: bool = False) -> Deduplicator:
        stores = {name: store.conninfo(tcp=self.options.tcp) for name, store in self.stores.items()}
        production = self.production.conninfo(tcp=self.options.tcp)
        if self.standby:
            production = _either(self.production, self.standby)
        if self.options.pg_proxy and not direct:
            production = self.production.conninfo(tcp=True, port=self.pg_proxy.port)
        return Deduplicator(name, self.directory, gatherers=stores, env=self.options.deduplicator_env,
                            production=production,
                            script=self.options.deduplicator_script)

    def second_deduplicator(self) -> Deduplicator:
        """Another one for the same production, not started, and never behind the proxy."""
        self.second = self.second or self._deduplicator("dedup2", direct=True)
        return self.second

    def add_deduplicator(self) -> Deduplicator:
        """One more for the same production, not started, and never behind the proxy."""
        self.more.append(self._deduplicator(f"dedup{len(self.more) + (3 if self.second else 2)}", direct=True))
        return self.more[-1]

    # ---- start ----

    def start(self) -> None:
        """Everything but the late gatherers; the exchange begins when those have subscribed to everything and
        production is ready, so that what is measured is the work and not the making of tables."""
        self.start_databases()
        self.exchange.start()
        if self.options.pg_proxy:
            self.pg_proxy.start()
        self.deduplicator.process.start()
        early = [name for name in self.gatherers if name not in self.late_names]
        self.start_gatherers(early)
        for name in early:
            wait_until(f"{name} listens to all markets", lambda n=name: self.exchange.has_all_markets(n),
                       SUBSCRIBE_TIMEOUT, self.gatherers[name].process.log_tail)
        wait_until("the deduplicator writes to production", self._is_merging, SUBSCRIBE_TIMEOUT,
                   self.deduplicator.process.log_tail)
        wait_until("the first snapshots are in production", lambda: not self.unstored() and not self.backlog(),
                   SUBSCRIBE_TIMEOUT, lambda: f"not stored: {self.unstored()}, not in production: {self.backlog()}")
        self.exchange.control("start")

    def _is_merging(self) -> bool:
        return self.deduplicator.answering() and self.deduplicator.health()["rds"] == "connected"

    def start_databases(self) -> None:
        """initdb side by side, then start; the servers themselves from this thread (see process.py)."""
        clusters = self.clusters
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda cluster: cluster.create(), clusters))
        for cluster in clusters:
            cluster.launch()
        for cluster in clusters:
            cluster.wait_ready()
        if self.standby:
            self.standby.create()
            self.standby.start()

    def fail_over(self) -> None:
        """The standby is production from here on."""
        if self.standby is None:
            raise RuntimeError("this lab has no standby")
        self.standby.promote()
        self.production, self.standby = self.standby, None

    def start_gatherers(self, names: list[str]) -> None:
        """Start these and wait until each has all its connections."""
        for name in names:
            self.gatherers[name].process.start()
        for name in names:
            wait_until(f"{name} is healthy", self.gatherers[name].is_healthy, SUBSCRIBE_TIMEOUT,
                       self.gatherers[name].process.log_tail)

    def start_late(self) -> None:
        """Start the gatherers that start() left out."""
        self.start_gatherers(self.late_names)

    @property
    def clusters(self) -> list[PostgresCluster]:
        """Every PostgreSQL that something is kept in."""
        return [*self.stores.values(), self.production]

    @property
    def _every_cluster(self) -> list[PostgresCluster]:
        return [*self.stores.values(), *self._copies]

    # ---- progress ----

    def wait_emitted(self, events: int | None = None, timeout: float = 120.0) -> None:
        """Wait until so many events were sent, or all that were ordered."""
        def sent() -> bool:
            return self.exchange.is_finished() if events is None else self.exchange.emitted() >= events

        wait_until(f"the exchange has sent {events or 'all'} events", sent, timeout,
                   lambda: str(self.exchange.stats()))

    def backlog(self) -> dict[str, int]:
        """Rows that a gatherer has stored and whose cursor in production has not passed, by "gatherer/stream"."""
        cursors = {(gatherer, epoch, stream): seq for gatherer, epoch, stream, seq in self.production.query(
            "SELECT gatherer, epoch::text, stream, min(seq) FROM tidemill.cursors GROUP BY 1, 2, 3")}
        found: dict[str, int] = {}
        for name, store in self.stores.items():
            for epoch, stream, seq in _stored(store):
                behind = seq - cursors.get((name, epoch, stream), 0)
                if behind > 0:
                    found[f"{name}/{stream}"] = behind
        return found

    def drain(self, timeout: float = 60.0) -> None:
        """Wait until all that was delivered is in production: no backlog, and nothing moves any more."""
        quiet = _Quiet(self._position)
        wait_until("production has caught up with every gatherer",
                   lambda: quiet.long_enough() and not self.unstored() and not self.backlog(),
                   timeout, lambda: f"not stored: {self.unstored()}, not in production: {self.backlog()}")

    def unstored(self) -> dict[str, int]:
        """Journal bytes that a running gatherer has not brought into its store, where there are any."""
        lags = {name: int((gatherer.try_health() or {}).get("journal_lag_bytes", 0))
                for name, gatherer in self.gatherers.items() if gatherer.process.running}
        return {name: lag for name, lag in lags.items() if lag}

    def _position(self) -> list[tuple[Any, ...]]:
        return [tuple(_stored(store)) for store in self.stores.values()]

    def verify(self) -> Verdict:
        """Compare production with the ledger."""
        if self.exchange.process.running:
            self.exchange.flush_ledger()
        return Verifier(self.production, self.exchange.ledger, self.blackouts).verify()

    # ---- end ----

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        complaints = self.sweep()
        if complaints and kind is None:
            raise Complaint("\n".join(complaints))

    def sweep(self) -> list[str]:
        """Stop everything, collect what the logs complain about, remove the directory. A second call does nothing."""
        if self.swept:
            return []
        self.swept = True
        daemons = [*self.gatherers.values(), *self.deduplicators]
        secrets = canary.given(daemons)
        try:
            shown = canary.in_command_lines(secrets, daemons)
            self._stop()
            return self._complaints() + shown + canary.in_files(secrets, daemons)
        finally:
            for cluster in self._every_cluster:
                cluster.stop("fast" if self.options.keep else "immediate")
            self.resources.close()
            if not self.options.keep:
                shutil.rmtree(self.directory, ignore_errors=True)

    def _stop(self) -> None:
        """In the order of the data's way."""
        for part in (*self.gatherers.values(), *self.deduplicators, self.exchange):
            part.process.stop()
        self.pg_proxy.stop()

    @property
    def deduplicators(self) -> tuple[Deduplicator, ...]:
        """All that there are, whether they run or not."""
        return (self.deduplicator, *([self.second] if self.second else []), *self.more)

    def _complaints(self) -> list[str]:
        parts = (*self.gatherers.values(), *self.deduplicators, self.exchange, *self._every_cluster)
        return [line for part in parts for line in part.process.complaints(self.options.expected_errors)]


def _either(one: PostgresCluster, other: PostgresCluster) -> str:
    """Whichever of the two is the primary."""
    return f"host={one.home},{other.home} port={one.port},{other.port} user={SUPERUSER} dbname={one.database}"


class _Quiet:
    """Tells since when a value has not changed."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read
        self._last: Any = None
        self._since = time.monotonic()

    def long_enough(self) -> bool:
        now = self._read()
        if now != self._last:
            self._last, self._since = now, time.monotonic()
        return time.monotonic() - self._since >= QUIET_SECONDS


def _stored(store: PostgresCluster) -> list[tuple[str, str, int]]:
    """(epoch, stream, last stored seq) of a gatherer; nothing as long as it has not made its schema. Without heartbeats,
    which never end."""
    if store.value("SELECT to_regclass('tidemill.streams')") is None:
        return []
    return [(epoch, stream, int(seq)) for epoch, stream, seq in store.query(
        "SELECT e.epoch::text, s.stream, s.seq FROM tidemill.streams s JOIN tidemill.epochs e USING (epoch_no)"
        " WHERE s.stream <> 'heartbeats' ORDER BY 1, 2")]


def _make_directory(keep: Path | None) -> Path:
    """One directory for everything. Others may pass through it (PostgreSQL runs as another user) but not look."""
    if keep is None:
        directory = Path(tempfile.mkdtemp(prefix="tidemill-"))
    else:
        directory = keep.resolve()
        directory.mkdir(parents=True)
    os.chmod(directory, 0o711)
    return directory
