"""The proxy that the drills rely on strikes exactly where it is told: asked by psycopg2, answered by the server itself."""
from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Iterator

import psycopg2
import pytest

from harness import PostgresCluster, wait_until
from harness.pgproxy import PgProxy, Point

NAME = "under test"
COMMIT = Point("COMMIT sent", "client", "Q", "COMMIT")
DONE = Point("COMMIT done, unanswered", "server", "C", "COMMIT")


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[PostgresCluster]:
    with tempfile.TemporaryDirectory(prefix="tidemill-") as name:
        Path(name).chmod(0o711)
        cluster = PostgresCluster("server", Path(name), "kalshi")
        cluster.create()
        cluster.start()
        cluster.execute("CREATE TABLE t (n int)")
        yield cluster
        cluster.stop("immediate")


@pytest.fixture(name="proxy")
def _proxy(server: PostgresCluster) -> Iterator[PgProxy]:
    server.execute("TRUNCATE t")
    proxy = PgProxy(server.port, NAME)
    proxy.start()
    yield proxy
    proxy.stop()


def client(server: PostgresCluster, proxy: PgProxy, name: str = NAME) -> psycopg2.extensions.connection:
    """A session through the proxy, in a transaction that has inserted a row."""
    connection = psycopg2.connect(server.conninfo(tcp=True, port=proxy.port), application_name=name)
    connection.cursor().execute("INSERT INTO t VALUES (1)")
    return connection


def rows(server: PostgresCluster) -> int:
    return int(server.value("SELECT count(*) FROM t"))


def test_what_was_cut_before_it_arrived_did_not_happen(server: PostgresCluster, proxy: PgProxy) -> None:
    connection = client(server, proxy)
    hit = proxy.arm(COMMIT)
    with pytest.raises(psycopg2.OperationalError):
        connection.commit()
    assert hit.is_set() and rows(server) == 0


def test_what_was_done_and_not_answered_has_happened(server: PostgresCluster, proxy: PgProxy) -> None:
    connection = client(server, proxy)
    hit = proxy.arm(DONE)
    with pytest.raises(psycopg2.OperationalError):
        connection.commit()
    assert hit.is_set() and rows(server) == 1


def test_what_is_held_goes_on_when_it_is_released(server: PostgresCluster, proxy: PgProxy) -> None:
    connection = client(server, proxy)
    hit = proxy.arm(COMMIT, "hold")
    thread = threading.Thread(target=connection.commit)
    thread.start()
    assert hit.wait(10) and rows(server) == 0 and thread.is_alive()
    proxy.release()
    thread.join(10)
    assert not thread.is_alive() and rows(server) == 1


def test_the_nth_message_and_only_of_the_watched(server: PostgresCluster, proxy: PgProxy) -> None:
    hit = proxy.arm(Point("third insert", "client", "Q", "INSERT", nth=3))
    other = client(server, proxy, "somebody else")
    for _ in range(5):
        other.cursor().execute("INSERT INTO t VALUES (2)")
    other.commit()
    connection = client(server, proxy)
    connection.cursor().execute("INSERT INTO t VALUES (3)")
    assert not hit.is_set()
    with pytest.raises(psycopg2.OperationalError):
        connection.cursor().execute("INSERT INTO t VALUES (4)")
    assert hit.is_set() and rows(server) == 6


def test_a_frozen_network_says_nothing(server: PostgresCluster, proxy: PgProxy) -> None:
    connection = client(server, proxy)
    proxy.freeze()
    failed: list[Exception] = []

    def commit() -> None:
        try:
            connection.commit()
        except psycopg2.Error as error:
            failed.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    thread.join(1)
    assert thread.is_alive() and not failed and rows(server) == 0
    proxy.release()
    thread.join(10)
    assert not failed
    wait_until("the row is there", lambda: rows(server) == 1, 10)
