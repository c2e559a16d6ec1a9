"""examples/10-archive: its queries against archives that DuckDB itself has written, its rules and tables against the layout."""
from __future__ import annotations

import json
import re
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.paths import ROOT, program

EXAMPLE = ROOT / "examples" / "10-archive"
NODE = ROOT / "tests" / "node"
DAY = "year=2026/month=11/day=26"

# (ticker, microseconds of the day, price, count), by hour; two objects in the second one, as late rows make them.
TRADES = {5: [("KXA", 18000_000001, "0.550000", "10.00"), ("KXA", 18299_999999, "0.600000", "2.50"),
              ("KXA", 18300_000000, "0.500000", "1.00"), ("KXB", 18000_000000, "0.010000", "100.00")],
          6: [("KXA", 21600_000000, "0.700000", "1.00"), ("KXA", 21600_000001, "0.650000", "3.00")]}
# (ticker, side, price, delta)
DELTAS = [("KXA", "yes", "0.550000", "10.00"), ("KXA", "yes", "0.550000", "10.00"), ("KXA", "yes", "0.550000", "-5.00"),
          ("KXA", "no", "0.400000", "-1.00")]


def duckdb(*statements: str) -> list[list[list[Any]]]:
    """The rows of each statement, by tests/node/parquet.mjs."""
    if not (NODE / "node_modules").is_dir():
        pytest.fail(f"{NODE}/node_modules is not there: 'scripts/setup --test' installs it; see what it says")
    questions = "".join(json.dumps({"sql": statement}) + "\n" for statement in statements)
    done = subprocess.run(["node", NODE / "parquet.mjs"], input=questions, capture_output=True, text=True, timeout=120,
                          check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [one for one in answers if isinstance(one, dict)], answers
    return answers


def _copy(values: list[str], columns: str, path: Path, order: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    return (f"COPY (SELECT {order} FROM (VALUES {', '.join(values)}) AS v({columns})) TO '{path}' "
            f"(FORMAT parquet, COMPRESSION zstd)")


def _write(tmp_path: Path) -> list[str]:
    """Manifests; and the statements that make the objects, by DuckDB, so that nothing of ours has a part in it."""
    statements = []
    number = 0
    for hour, rows in TRADES.items():
        for part in range(len(rows) // 2):
            values = []
            for ticker, us, price, count in rows[2 * part:2 * part + 2]:
                number += 1
                values.append(f"('00000000-0000-0000-0000-{number:012}', {us}, '{ticker}', {price}, {count})")
            name = f"raw/trades/{DAY}/hour={hour:02}/trades-20261126T{hour:02}-{part:04}"
            statements.append(_copy(values, "i, us, t, p, c", tmp_path / (name + ".parquet"),
                                    "i::UUID AS trade_id, make_timestamp(1795651200000000 + us)::TIMESTAMPTZ AS exchange_ts, "
                                    "t AS ticker, p::DECIMAL(10, 6) AS price, c::DECIMAL(18, 2) AS count"))
            _promise(tmp_path, name, len(values))
    name = f"raw/orderbook_deltas/{DAY}/hour=05/orderbook_deltas-20261126T05-0000"
    statements.append(_copy([f"('{t}', '{s}', {p}, {d})" for t, s, p, d in DELTAS], "t, s, p, d",
                            tmp_path / (name + ".parquet"),
                            "t AS ticker, s AS side, p::DECIMAL(10, 6) AS price, d::DECIMAL(18, 2) AS delta"))
    _promise(tmp_path, name, len(DELTAS))
    _promise(tmp_path, f"raw/orderbook_deltas/{DAY}/hour=06/orderbook_deltas-20261126T06-0000", 0, empty=True)
    return statements


def _promise(archive: Path, name: str, rows: int, *, empty: bool = False) -> None:
    """The manifest of an object."""
    path = archive / "manifest" / (name + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"version": 1, "kind": "production", "stream": name.split("/")[1], "rows": rows,
            **({} if empty else {"object": name + ".parquet"})}
    path.write_text(json.dumps(said), encoding="ascii")


def _ask(archive: Path, *queries: str, before: list[str] | None = None) -> list[list[list[Any]]]:
    """The answers to some of the example's queries, in one session."""
    texts = [(EXAMPLE / "duckdb" / query).read_text(encoding="utf-8") for query in queries]
    return duckdb("SET TimeZone = 'UTC'", *(before or []), f"SET VARIABLE archive = '{archive}'", *texts)[-len(queries):]


def _numbers(row: list[Any]) -> list[Any]:
    return [Decimal(str(v)) if re.fullmatch(r"-?\d+(\.\d+)?", str(v)) else v for v in row]


def test_the_queries_say_what_was_put_there(tmp_path: Path) -> None:
    by_hour, candles, changes, incomplete = _ask(tmp_path, "trades_by_hour.sql", "candles.sql", "book_changes.sql",
                                                 "completeness.sql", before=_write(tmp_path))
    hours = [[2026, 11, 26, hour, len(rows), sum(Decimal(c) for *_, c in rows),
              sum(Decimal(p) * Decimal(c) for *_, p, c in rows)] for hour, rows in TRADES.items()]
    assert [_numbers(row) for row in by_hour] == hours
    d = Decimal
    assert [[row[0], *_numbers(row[2:])] for row in candles] == [
        ["KXA", d("0.55"), d("0.6"), d("0.55"), d("0.6"), d("12.5")],
        ["KXA", d("0.5"), d("0.5"), d("0.5"), d("0.5"), d(1)],
        ["KXA", d("0.7"), d("0.7"), d("0.65"), d("0.65"), d(4)],
        ["KXB", d("0.01"), d("0.01"), d("0.01"), d("0.01"), d(100)]]
    assert [row[1] for row in candles][:2] == ["2026-11-26 05:00:00", "2026-11-26 05:05:00"]
    assert [_numbers(row) for row in changes] == [
        [2026, 11, 26, 5, "KXA", "no", d("0.4"), d(0), d(-1), d(1)],
        [2026, 11, 26, 5, "KXA", "yes", d("0.55"), d(20), d(-5), d(3)]]
    assert not incomplete
    name = f"raw/trades/{DAY}/hour={{0:02}}/trades-20261126T{{0:02}}-{{1:04}}"
    _promise(tmp_path, name.format(5, 0), 3)
    (tmp_path / (name.format(5, 1) + ".parquet")).unlink()
    (tmp_path / "manifest" / (name.format(6, 0) + ".json")).unlink()
    incomplete = _ask(tmp_path, "completeness.sql")[0]
    assert [[row[0], *_numbers(row[1:])] for row in incomplete] == [
        [name.format(5, 0) + ".parquet", 3, 2], [name.format(5, 1) + ".parquet", 2, None],
        [name.format(6, 0) + ".parquet", None, 2]]


# ---- Athena, rules, policy: what can be said of them without Amazon ----

TYPES = {"text": {"string"}, "jsonb": {"string"}, "timestamptz": {"timestamp"}, "bool": {"boolean"}, "int2": {"smallint"},
         "int4": {"int", "decimal(10, 6)"}, "int8": {"bigint", "decimal(18, 2)"}}


def test_athena_s_tables_have_the_columns_of_the_streams() -> None:
    schema = subprocess.run([program("tidemill"), "schema", ROOT / "lua/kalshi/deduplicator.lua"], capture_output=True,
                            text=True, check=True).stdout
    streams = {name: dict(re.findall(r"^ +(\w+) (\w+)", body, re.M))
               for name, body in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+) \(\n(.*?)\n\)", schema, re.S)}
    text = (EXAMPLE / "athena.sql").read_text(encoding="utf-8")
    tables = re.findall(r"CREATE EXTERNAL TABLE (\w+) \(\n(.*?)\n\)\nPARTITIONED BY \((.*?)\)\n.*?template' =\s+'(.*?)'", text,
                        re.S)
    assert {table for table, *_ in tables} == {"trades", "orderbook_deltas", "tickers", "orderbook_snapshots"}
    for table, body, parts, template in tables:
        columns = dict(re.findall(r"^  `(\w+)` (.*?),?$", body, re.M))
        expected = {name: kind for name, kind in streams[table].items() if kind != "uuid"}
        assert list(columns) == list(expected), table
        assert all(columns[name] in TYPES[kind] for name, kind in expected.items()), (table, columns)
        names = re.findall(r"`(\w+)` int", parts)
        assert names == ["year", "month", "day"] + (["hour"] if table != "orderbook_snapshots" else [])
        assert template == f"s3://tide-archive/kalshi/raw/{table}/" + "".join(f"{n}=${{{n}}}/" for n in names)


def test_rules_and_policy_are_for_what_the_archive_does() -> None:
    rules = json.loads((EXAMPLE / "lifecycle.json").read_text(encoding="utf-8"))["Rules"]
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
    for rule in rules:
        assert rule["Status"] == "Enabled"
        prefix = rule["Filter"].get("Prefix") or rule["Filter"]["And"]["Prefix"]
        assert prefix.startswith("kalshi/") and prefix.endswith("/")
        assert "Days" not in rule.get("Expiration", {}), "nothing in an archive ends by itself"
        classes = [step["StorageClass"] for step in rule.get("Transitions", [])]
        assert set(classes) <= {"STANDARD_IA", "GLACIER_IR"}, "restore reads objects at once"
        assert not classes or "manifest" not in prefix
    statements = json.loads((EXAMPLE / "policy.json").read_text(encoding="utf-8"))["Statement"]
    actions = {action for statement in statements for action in statement["Action"]}
    assert actions == {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListBucket",
                       "s3:ListBucketMultipartUploads"}  # of what core/archive/target_s3*.c asks; no DeleteObject
