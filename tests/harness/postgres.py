"""A private PostgreSQL cluster: made, started, crashed, restarted and removed by a test.

It listens on a unix socket in its own directory (mode 0700, so it may trust) and on a free loopback port that asks for
a password. PostgreSQL refuses to run as root; then the cluster belongs to the Debian user "postgres".
"""
from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Sequence

import psycopg2
import psycopg2.extensions

from . import paths
from .process import Process
from .waiting import wait_until

OWNER = "postgres"
SUPERUSER = "postgres"
START_TIMEOUT = 60.0
SOCKET_PATH_MAX = 107

SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "shared_buffers": "'64MB'",
    "max_connections": "60",
    "max_wal_size": "'1GB'",
    "min_wal_size": "'64MB'",
    "wal_level": "replica",
    "fsync": "on",
    "track_commit_timestamp": "on",  # the verifier reads from it when a row became visible
    "jit": "off",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "lc_messages": "'C'",
}


class Templates:
    """Clusters that initdb has made, to be copied: a copy takes a tenth of the time. Handed out in turn, so that what
    one test sees has different system identifiers, as separate databases have."""

    COUNT = 8

    def __init__(self, directory: Path) -> None:
        self._made: list[PostgresCluster | None] = [None] * self.COUNT
        self._locks = [threading.Lock() for _ in self._made]
        self._next = 0
        self._directory = directory

    def take(self) -> PostgresCluster:
        """The next one, made when it is first asked for. Any thread."""
        with self._locks[0]:
            index = self._next % self.COUNT
            self._next += 1
        with self._locks[index]:
            made = self._made[index]
            if made is None:
                made = PostgresCluster(f"template-{index}", self._directory, "postgres")
                made.make()
                self._made[index] = made
        return made


class PostgresCluster:
    """One cluster with one database."""

    templates: Templates | None = None  # where create() takes its files from; None: from initdb itself

    def __init__(self, name: str, directory: Path, database: str, settings: dict[str, str] | None = None) -> None:
        self.name = name
        self.checksums = False  # of its pages: set before create()
        self.user: str | None = None  # who owns the database and may be named in conninfo(user=...); None: the superuser
        self.tablespace: Path | None = None  # where the database lies; None: with all else
        self.home = directory / name
        self.data = self.home / "data"
        self.database = database
        self.settings = {**SETTINGS, **(settings or {})}
        self.port = paths.free_port()
        self.password = secrets.token_hex(16)
        self.owner = OWNER if os.geteuid() == 0 else None
        self.home.mkdir(mode=0o700)
        if self.owner:
            shutil.chown(self.home, self.owner, self.owner)
        if len(f"{self.home}/.s.PGSQL.65535") > SOCKET_PATH_MAX:
            raise ValueError(f"{self.home} is too long for a unix socket; set TMPDIR to a shorter directory")
        self.process = Process(name, [paths.POSTGRES_BIN / "postgres", "-D", self.data], self.home,
                               death_signal="QUIT", user=self.owner)

    # ---- life ----

    def create(self) -> None:
        """Make its files. Safe in a helper thread, so that several clusters can be made at once."""
        if self.templates is None:
            self.make()
        else:
            template = self.templates.take()
            self.password = template.password
            subprocess.run(["cp", "-a", "--reflink=auto", template.data, self.data], check=True)
        if self.checksums:
            self.run_tool("pg_checksums", "--enable", "--no-sync", "-D", str(self.data))

    def make(self) -> None:
        """initdb."""
        password_file = self.home / "password"
        password_file.write_text(self.password + "\n", encoding="ascii")
        if self.owner:
            shutil.chown(password_file, self.owner, self.owner)
        self.run_tool("initdb", "-D", str(self.data), "-U", SUPERUSER, "--auth-local=trust",
                       "--auth-host=scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8", "--locale=C.UTF-8",
                       "--no-sync", "--no-instructions")

    def launch(self) -> None:
        """Start the server without waiting for it; always on the same port."""
        self._write_settings()
        self.process.start()

    def reload(self) -> None:
        """What changed in `settings` takes effect, as far as it can without a restart."""
        self._write_settings()
        self.process.send(signal.SIGHUP)

    def give(self, path: Path) -> None:
        """A file or directory, with all in it, to whoever the server runs as."""
        if self.owner:
            subprocess.run(["chown", "-R", f"{self.owner}:{self.owner}", str(path)], check=True)

    def _write_settings(self) -> None:
        settings = {**self.settings, "port": str(self.port), "unix_socket_directories": f"'{self.home}'"}
        conf = self.data / "postgresql.auto.conf"
        conf.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()), encoding="ascii")

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until it accepts connections and its database is there."""
        wait_until(f"PostgreSQL {self.name} accepts connections", self._accepts, timeout, self.process.log_tail)
        if not self.query("SELECT 1 FROM pg_database WHERE datname = %s", (self.database,), database="postgres"):
            self._create_database()

    def _create_database(self) -> None:
        where = ""
        if self.user:
            self.execute(f'CREATE ROLE "{self.user}" LOGIN PASSWORD \'{self.password}\'', database="postgres")
            where += f' OWNER "{self.user}"'
        if self.tablespace:
            self.execute(f"CREATE TABLESPACE space LOCATION '{self.tablespace}'", database="postgres")
            where += " TABLESPACE space"
        self.execute(f'CREATE DATABASE "{self.database}"{where}', database="postgres")

    def start(self) -> None:
        """Start and wait."""
        self.launch()
        self.wait_ready()

    def stop(self, mode: str = "fast") -> None:
        """pg_ctl's modes: "smart", "fast" or "immediate" (a crash without the crash of the machine)."""
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        self.process.stop(number, timeout=60.0)

    def kill(self) -> None:
        """SIGKILL to the postmaster; waits until its children have noticed, else the next start is refused."""
        children = self._children()
        self.process.kill()
        wait_until(f"the children of PostgreSQL {self.name} are gone",
                   lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 30.0)

    def restart(self) -> None:
        """Stop if it runs, start again on the same port."""
        self.stop("fast")
        self.start()

    def destroy(self) -> None:
        """Stop at once and remove everything."""
        self.stop("immediate")
        shutil.rmtree(self.home, ignore_errors=True)

    def _accepts(self) -> bool:
        if not self.process.running:
            raise RuntimeError(f"PostgreSQL {self.name} ended at start\n{self.process.log_tail()}")
        try:
            self.connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def _children(self) -> list[str]:
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()

    def run_tool(self, tool: str, *arguments: str) -> None:
        guard = ["setpriv", "--reuid", self.owner, "--regid", self.owner, "--init-groups", "--"] if self.owner else []
        done = subprocess.run([*guard, str(paths.POSTGRES_BIN / tool), *arguments], cwd=self.home, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{tool} for {self.name} failed with status {done.returncode}:\n{done.stderr}")

    # ---- talking to it ----

    def conninfo(self, database: str | None = None, tcp: bool = False, port: int | None = None,
                 user: str | None = None) -> str:
        """A libpq connection string, by unix socket or by TCP; `port`: of a proxy before it. With the password, which the
        socket does not ask for, so that canary.py can tell who shows it."""
        return f"host={'127.0.0.1' if tcp else self.home} password={self.password} port={port or self.port} user={user or SUPERUSER} dbname={database or self.database}"

    def psql(self) -> str:
        """The command that takes a person into the database; the socket asks for no password."""
        return f"psql 'host={self.home} port={self.port} user={SUPERUSER} dbname={self.database}'"

    def connect(self, database: str | None = None) -> psycopg2.extensions.connection:
        """A new connection in autocommit mode; the caller closes it."""
        connection = psycopg2.connect(self.conninfo(database), connect_timeout=5, application_name="harness")
        connection.autocommit = True
        return connection

    def query(self, sql: str, params: Sequence[Any] = (), database: str | None = None) -> list[tuple[Any, ...]]:
        """Rows of one statement on a connection of its own."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, params or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def execute(self, sql: str, database: str | None = None) -> None:
        """One statement without rows."""
        self.query(sql, database=database)

    def value(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """The single value of one statement."""
        return self.query(sql, params)[0][0]
