"""What the record room writes is what PostgreSQL reads: its schema runs, twice, and decoded tuples load and come back."""
from __future__ import annotations

import os
import subprocess
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable

import psycopg2
import pytest

from harness import PostgresCluster, paths

RECEIVED = datetime(2026, 11, 7, 14, 0, 1, 234567, tzinfo=timezone.utc)  # RECEIVED_US of tests/unit/record/support.h


@pytest.fixture
def dump(directory: Path) -> Path:
    """The SQL of both stores and the COPY files that the unit test of the schema writes."""
    path = directory / "dump"
    path.mkdir()
    subprocess.run([paths.program("tests/record_test_schema")], check=True, capture_output=True,
                   env={**os.environ, "TIDEMILL_DUMP": str(path)})
    return path


@pytest.fixture
def cluster(make_cluster: Callable[[str], PostgresCluster]) -> PostgresCluster:
    """One empty database."""
    return make_cluster("pg")


def rows(cluster: PostgresCluster, sql: str) -> list[tuple[Any, ...]]:
    """Shorthand."""
    return cluster.query(sql)


def kinds_of(cluster: PostgresCluster, *tables: str) -> dict[str, str]:
    """pg_class.relkind: "r" a table, "p" a partitioned one."""
    return {table: cluster.value("SELECT relkind FROM pg_class WHERE oid = %s::regclass", (table,)) for table in tables}


def load(cluster: PostgresCluster, dump: Path, stream: str) -> None:
    """COPY a stream's file in, as the store room does."""
    columns = dict(line.split(" ") for line in (dump / "columns.txt").read_text().splitlines())[stream]
    connection = cluster.connect()
    with connection.cursor() as cursor, (dump / f"{stream}.copy").open("rb") as file:
        data = file.read() + b"\xff\xff"  # the trailer, which is the store room's business
        cursor.copy_expert(f"COPY {stream} ({columns}) FROM STDIN (FORMAT binary)", _Reader(data))
    connection.close()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int) -> bytes:
        """psycopg2 wants a file."""
        part, self.data = self.data[:size], self.data[size:]
        return part


def test_local_store(cluster: PostgresCluster, dump: Path) -> None:
    """Every type comes back with the value that the frame had; epochs are told apart by the partition key."""
    sql = (dump / "local.sql").read_text()
    cluster.execute(sql)
    cluster.execute(sql)
    for stream in ("trades", "orderbook_deltas", "orderbook_snapshots", "tickers", "lifecycle", "unknown_frames"):
        cluster.execute(f"CREATE TABLE {stream}_e0_0 PARTITION OF {stream} FOR VALUES FROM (0, 1) TO (0, 1000)")
        load(cluster, dump, stream)

    exchange_ts = datetime(2026, 11, 5, 14, 0, 0, 640173, tzinfo=timezone.utc)
    assert rows(cluster, "SELECT * FROM orderbook_deltas") == [
        ("KXSIM-26NOV05-T1", exchange_ts, "yes", 470000, -990, 0, RECEIVED, 1, 2, 1, 0)]
    assert rows(cluster, "SELECT * FROM readable.orderbook_deltas") == [
        ("KXSIM-26NOV05-T1", exchange_ts, "yes", Decimal("0.470000"), Decimal("-9.90"), 0, RECEIVED)]
    assert str(rows(cluster, "SELECT price FROM readable.orderbook_deltas")[0][0]) == "0.470000"
    assert rows(cluster, "SELECT trade_id::text, exchange_ts, ticker, price, count, taker_side, is_block_trade, sid, "
                         "exchange_seq, seq FROM trades") == [
        ("d17a9849-e50c-44eb-455a-eb6e1098773f", exchange_ts.replace(microsecond=640000), "caf\u00e9 \U0001f600", 470000, 990,
         "no", True, 2, 172193, 2)]
    assert rows(cluster, "SELECT yes_levels -> 1 ->> 0, no_levels, best_bid, best_ask, gatherer, epoch::text, seq "
                         "FROM orderbook_snapshots") == [
        ("0.4700", [["0.4900", "1239.73"]], 470000, 510000, "g1", "e0010203-0405-0607-0809-0a0b0c0d0e0f", 3)]
    assert rows(cluster, "SELECT price, yes_bid, yes_ask, volume, dollar_volume, exchange_seq FROM tickers") == [
        (None, 470000, None, 3389612, -16948, None)]
    assert rows(cluster, "SELECT kind, floor_strike, open_ts, content -> 'additional_metadata' ->> 'name' "
                         "FROM lifecycle") == [
        ("market_lifecycle_v2", 95000.5, datetime.fromtimestamp(1794050000, timezone.utc), "\U0001f600")]
    assert rows(cluster, "SELECT reason, convert_from(raw, 'UTF8'), sid, exchange_seq FROM unknown_frames ORDER BY seq") == [
        ("unknown", '{"type":"new","sid":5,"seq":6,"msg":"\\u0000"}', 5, 6),
        ("malformed", '{"type":"trade",', None, None)]


def test_production_store(cluster: PostgresCluster, dump: Path) -> None:
    """The keys keep what they promise, and a table that lacks a column gets it."""
    sql = (dump / "production.sql").read_text()
    cluster.execute(sql)
    cluster.execute("ALTER TABLE tickers DROP COLUMN volume CASCADE; ALTER TABLE trades DROP COLUMN count CASCADE")
    cluster.execute(sql)
    cluster.execute(sql)
    kinds = kinds_of(cluster, "trades", "orderbook_deltas", "lifecycle", "markets", "trades_h0")
    assert kinds == {"trades": "p", "orderbook_deltas": "p", "lifecycle": "r", "markets": "r", "trades_h0": "r"}
    assert len(rows(cluster, "SELECT volume FROM tickers")) == 0
    cluster.execute("CREATE TABLE tickers_p20261105 PARTITION OF tickers FOR VALUES FROM ('2026-11-05') TO ('2026-11-06')")
    insert = ("INSERT INTO tickers (ticker, exchange_ts, price, volume, received_at) VALUES "
              "('A', '2026-11-05 14:00:00+00', NULL, 1, now())")
    cluster.execute(insert)
    with pytest.raises(psycopg2.errors.UniqueViolation):  # although price is NULL in both
        cluster.execute(insert)
    trade = "INSERT INTO trades (trade_id, exchange_ts, received_at, ticker, price) VALUES (%s, %s, now(), 'A', 1)"
    for number in range(40):
        cluster.query(trade, (f"00000000-0000-0000-0000-{number:012d}", "2026-11-05 14:00:00+00"))
    with pytest.raises(psycopg2.errors.UniqueViolation):  # the id decides, whatever the time
        cluster.query(trade, ("00000000-0000-0000-0000-000000000007", "2026-12-05 14:00:00.5+00"))
    assert len(rows(cluster, "SELECT DISTINCT tableoid FROM trades")) > 1
    assert rows(cluster, "SELECT collname FROM pg_attribute a JOIN pg_collation c ON c.oid = attcollation "
                         "WHERE attrelid = 'tickers'::regclass AND attname = 'ticker'") == [("C",)]


def test_production_store_with_timescaledb(cluster: PostgresCluster, dump: Path) -> None:
    """The extension is not at hand, so a stand-in records what it would be asked to do."""
    cluster.execute("""
        CREATE TABLE asked (relation regclass, time_column name, every interval);
        CREATE FUNCTION create_hypertable(regclass, name, chunk_time_interval interval, create_default_indexes bool)
            RETURNS void LANGUAGE sql AS 'INSERT INTO asked VALUES ($1, $2, $3)';
        SET allow_system_table_mods = on;
        INSERT INTO pg_extension SELECT 60000, 'timescaledb', 10, 2200, true, '2.14', NULL, NULL""")
    sql = (dump / "production.sql").read_text()
    cluster.execute(sql)
    cluster.execute(sql)
    assert rows(cluster, "SELECT relation::text, time_column, every::text FROM asked ORDER BY 1") == [
        ("orderbook_deltas", "exchange_ts", "1 day"), ("orderbook_snapshots", "snapshot_ts", "1 day"),
        ("tickers", "exchange_ts", "1 day")]
    assert kinds_of(cluster, "tickers", "trades") == {"tickers": "r", "trades": "p"}


def test_production_store_with_citus(cluster: PostgresCluster, dump: Path) -> None:
    """Nor is Citus: a stand-in refuses what Citus does, a unique key without the distribution column."""
    cluster.execute("""
        CREATE TABLE distributed (relation regclass, by text, beside text);
        CREATE FUNCTION create_distributed_table(relation regclass, by text, colocate_with text DEFAULT 'default') RETURNS void
            LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM pg_index i WHERE i.indrelid = relation AND i.indisunique AND NOT EXISTS (SELECT FROM
                pg_attribute a WHERE a.attrelid = relation AND a.attname = by AND a.attnum = ANY (i.indkey))) THEN
                RAISE EXCEPTION '% has a unique key without %', relation, by;
            END IF;
            INSERT INTO distributed VALUES (relation, by, colocate_with);
        END $$""")
    cluster.execute((dump / "production.sql").read_text())
    sql = (paths.ROOT / "examples/11-scale/citus.sql").read_text()
    with pytest.raises(psycopg2.errors.RaiseException, match="expected the extension citus"):
        cluster.execute(sql)
    cluster.execute("""SET allow_system_table_mods = on;
        INSERT INTO pg_extension SELECT 60001, 'citus', 10, 2200, true, '12.1', NULL, NULL""")
    cluster.execute(sql)
    assert rows(cluster, "SELECT relation::text, by, beside FROM distributed ORDER BY 1") == [
        ("orderbook_deltas", "ticker", "default"), ("tickers", "ticker", "orderbook_deltas"), ("trades", "trade_id", "none")]
    cluster.execute("ALTER TABLE trades DROP COLUMN count CASCADE;"
                    "INSERT INTO trades (trade_id, exchange_ts, received_at, ticker, price) VALUES"
                    " (gen_random_uuid(), now(), now(), 'A', 1)")
    with pytest.raises(psycopg2.errors.RaiseException, match="expected empty tables"):
        cluster.execute(sql)
