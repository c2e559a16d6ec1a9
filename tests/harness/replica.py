"""Copies of a PostgreSQL: a standby that can be promoted, and a backup that can be restored.

    standby = Replica("standby", directory, primary)
    standby.create()                  # pg_basebackup of the running primary
    standby.start()
    standby.require()                 # from now on the primary's commits wait for it
    standby.detach(); standby.attach()
    primary.kill(); standby.promote()

    backup = Backup(cluster)          # before the cluster is started: it archives its WAL from then on
    backup.take()
    cluster.kill()
    backup.restore()                  # as it was when the backup was taken
    backup.restore(until=moment)      # with its WAL up to a moment; "latest": all that was archived
"""
from __future__ import annotations

import shutil
from pathlib import Path

from .postgres import SUPERUSER, PostgresCluster
from .waiting import wait_until

TIMEOUT = 60.0


class Replica(PostgresCluster):
    """A streaming standby."""

    def __init__(self, name: str, directory: Path, primary: PostgresCluster) -> None:
        super().__init__(name, directory, primary.database, primary.settings)
        self.primary = primary
        self.password = primary.password

    def create(self) -> None:
        """Copy the running primary."""
        self.password = self.primary.password
        base_backup(self.primary, self, self.data)
        (self.data / "standby.signal").touch()
        self._follow(self.primary.port)

    def _follow(self, port: int) -> None:
        self.settings["primary_conninfo"] = (f"'host={self.primary.home} port={port} user={SUPERUSER}"
                                             f" application_name={self.name}'")

    def require(self, wanted: bool = True) -> None:
        """The primary's commits wait for this standby, or for none."""
        self.primary.settings["synchronous_standby_names"] = f"'{self.name}'" if wanted else "''"
        self.primary.reload()
        wait_until("the primary knows which standby to wait for", lambda: (self.primary.value(
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'") > 0) == wanted,
            TIMEOUT, self.process.log_tail)

    def detach(self) -> None:
        """The network between the two is gone."""
        self._follow(1)
        self.reload()
        wait_until("the standby is cut off",
                   lambda: self.primary.value("SELECT count(*) FROM pg_stat_replication") == 0, TIMEOUT)

    def attach(self) -> None:
        """It is back; returns when the standby follows again."""
        self._follow(self.primary.port)
        self.reload()
        wait_until("the standby follows again", lambda: self.primary.value(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 1, TIMEOUT, self.process.log_tail)

    def promote(self) -> None:
        """It is a primary when this returns."""
        if not self.value("SELECT pg_promote(true, 60)"):
            raise RuntimeError(f"PostgreSQL {self.name} was not promoted\n{self.process.log_tail()}")


def base_backup(source: PostgresCluster, runs_as: PostgresCluster, target: Path) -> None:
    """pg_basebackup of a running cluster, with the WAL that it needs."""
    runs_as.run_tool("pg_basebackup", "-D", str(target), "-h", str(source.home), "-p", str(source.port), "-U", SUPERUSER,
                     "-X", "stream", "-c", "fast", "--no-sync")


class Backup:
    """A base backup, and the WAL that was archived since."""

    def __init__(self, cluster: PostgresCluster) -> None:
        self.cluster = cluster
        self.base = cluster.home / "backup"
        self.archive = cluster.home / "archive"
        self.archive.mkdir(mode=0o700)
        cluster.give(self.archive)
        cluster.settings |= {"archive_mode": "on", "archive_command": f"'cp %p {self.archive}/%f'"}

    def take(self) -> None:
        """Of the running cluster."""
        base_backup(self.cluster, self.cluster, self.base)

    def flush(self) -> None:
        """All that was written until now is in the archive when this returns."""
        segment = self.cluster.value("SELECT pg_walfile_name(pg_switch_wal())")
        wait_until(f"{segment} is archived", (self.archive / str(segment)).exists, TIMEOUT, self.cluster.process.log_tail)

    def restore(self, until: str | None = None) -> None:
        """The cluster does not run; it does, and takes writes, when this returns."""
        data = self.cluster.data
        shutil.rmtree(data)
        shutil.copytree(self.base, data)
        if until:
            (data / "recovery.signal").touch()
            self.cluster.settings |= {"restore_command": f"'cp {self.archive}/%f %p'", "recovery_target_action": "'promote'"}
            if until != "latest":
                self.cluster.settings["recovery_target_time"] = f"'{until}'"
        self.cluster.give(data)
        self.cluster.start()
        wait_until("recovery is over", lambda: not self.cluster.value("SELECT pg_is_in_recovery()"), TIMEOUT,
                   self.cluster.process.log_tail)
        for name in ("restore_command", "recovery_target_action", "recovery_target_time"):
            self.cluster.settings.pop(name, None)
        self.cluster.reload()


def corrupt(cluster: PostgresCluster, file: str) -> None:
    """Flip bytes in the first page of a file of a stopped cluster."""
    path = cluster.data / file
    with open(path, "r+b") as heap:
        heap.seek(64)
        bytes_ = heap.read(64)
        heap.seek(64)
        heap.write(bytes(byte ^ 0xFF for byte in bytes_))
