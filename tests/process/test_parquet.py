"""Parquet files are what others take them for: DuckDB and hyparquet read every value that Python put into them.

Rows are made here and written as COPY's binary format by struct, so what is expected never went through our own code.
"""
from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from harness import paths

NODE = paths.ROOT / "tests" / "node"
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)
PG_EPOCH_US = 946_684_800_000_000  # 2000-01-01 in Unix microseconds
BEGIN_US = 1_794_060_000_123_456

Value = Any
Ask = Callable[..., list[Any]]
Row = tuple[Value, ...]


# ---- what asks the other readers ----

class Readers:
    """DuckDB and hyparquet in one process, tests/node/parquet.mjs."""

    def __init__(self) -> None:
        if not (NODE / "node_modules" / "hyparquet").is_dir():
            pytest.fail(f"{NODE}/node_modules is not there: 'scripts/setup --test' installs it; see what it says")
        self.process = subprocess.Popen(["node", NODE / "parquet.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, encoding="utf-8", env={**os.environ, "TZ": "UTC"})

    def ask(self, *questions: dict[str, Any]) -> list[Any]:
        """The answers, none of which is an error."""
        answers = []
        for question in questions:
            assert self.process.stdin and self.process.stdout
            print(json.dumps(question), file=self.process.stdin, flush=True)
            answer = json.loads(self.process.stdout.readline() or '{"error": "node ended"}')
            assert not isinstance(answer, dict) or "error" not in answer, f"{question}: {answer}"
            answers.append(answer)
        return answers


@pytest.fixture(scope="module", name="ask")
def _ask() -> Iterator[Ask]:
    readers = Readers()
    yield readers.ask
    assert readers.process.stdin
    readers.process.stdin.close()
    assert readers.process.wait(20) == 0


def tool(*arguments: str | Path, data: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Run parquet_tool, which is ours."""
    done = subprocess.run([paths.program("tests/parquet_tool"), *arguments], input=data, capture_output=True,
                          timeout=60, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done


# ---- rows ----

def fixed(form: str) -> Callable[[Value], bytes]:
    """A number of fixed width."""
    return lambda value: struct.pack(form, value)


ENCODE: dict[str, Callable[[Value], bytes]] = {
    "bool": fixed(">?"), "int2": fixed(">h"), "int4": fixed(">i"), "int8": fixed(">q"), "float8": fixed(">d"),
    "timestamptz": lambda us: struct.pack(">q", us if abs(us) >= 2**63 - 1 else us - PG_EPOCH_US),
    "text": str.encode, "bytea": bytes, "uuid": lambda value: value.bytes, "jsonb": lambda text: b"\1" + text.encode(),
}


@dataclass
class Column:
    """A column, how parquet_tool is told of it, and how DuckDB is asked for it as text."""
    name: str
    type: str
    scale: int = 0
    required: bool = False

    def spec(self) -> str:
        """name:type[:scale][:required]"""
        return f"{self.name}:{self.type}" + (f":{self.scale}" if self.scale else "") + ":required" * self.required

    def sql(self) -> str:
        """The value as text, exactly."""
        forms = {"timestamptz": "epoch_us({})", "bytea": "lower(hex({}))", "float8": "format('{{:a}}', {})"}
        return forms.get(self.type, "{}").format(self.name) + "::varchar"

    def text(self, value: Value) -> str | None:
        """What DuckDB must answer to sql()."""
        if value is None:
            return None
        if self.scale:
            return f"{Decimal(value).scaleb(-self.scale):f}"
        if self.type == "bytea":
            return value.hex()
        if self.type == "bool":
            return str(value).lower()
        return str(value)


@dataclass
class File:
    """A Parquet file of rows that Python made."""
    path: Path
    columns: list[Column]
    rows: list[Row]
    options: tuple[str, ...] = ()
    copy: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.copy = COPY_HEADER + b"".join(map(self._tuple, self.rows)) + COPY_TRAILER
        tool("write", self.path, *(c.spec() for c in self.columns), *self.options, data=self.copy)

    def _tuple(self, row: Row) -> bytes:
        parts = [struct.pack(">h", len(row))]
        for column, value in zip(self.columns, row):
            encoded = b"" if value is None else ENCODE[column.type](value)
            parts += [struct.pack(">i", -1 if value is None else len(encoded)), encoded]
        return b"".join(parts)

    def values(self, name: str) -> list[Value]:
        """A column's values that are not NULL."""
        index = [c.name for c in self.columns].index(name)
        return [row[index] for row in self.rows if row[index] is not None]

    def sql(self, what: str, rest: str = "") -> dict[str, str]:
        """A question to DuckDB."""
        return {"sql": f"SELECT {what} FROM '{self.path}' {rest}"}


# ---- every type, row by row ----

ALL = [Column("b", "bool"), Column("i2", "int2"), Column("i4", "int4"), Column("i8", "int8"),
       Column("price", "int4", 6), Column("delta", "int8", 2), Column("small", "int2", 4), Column("f8", "float8"),
       Column("ts", "timestamptz"), Column("ticker", "text", required=True), Column("note", "text"),
       Column("id", "uuid"), Column("levels", "jsonb"), Column("raw", "bytea")]

EXTREMES: dict[str, list[Value]] = {
    "int2": [-2**15, 2**15 - 1, 0], "int4": [-2**31, 2**31 - 1, 0], "int8": [-2**63, 2**63 - 1, 0],
    "float8": [-0.0, 5e-324, -1.7976931348623157e308, 0.1], "text": ["", "é€🐋", "x" * 5000, '"quoted", \n'],
    "timestamptz": [0, -1, -62_135_596_800_000_000, 253_402_300_799_999_999],  # year 1, the end of year 9999
    "bytea": [b"", b"\0\xff"], "bool": [True, False], "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    "jsonb": ["{}", '"é"', '[["0.4700", 12], null]'],
}


def random_value(column: Column, chance: random.Random) -> Value:
    """Some are extreme, most repeat a little."""
    if chance.random() < 0.1:
        return chance.choice(EXTREMES[column.type])
    if column.type.startswith("int"):
        return chance.randrange(-900, 900) * (10 if column.type == "int2" else 10000)
    return {"bool": lambda: chance.random() < 0.5, "float8": lambda: chance.gauss(0, 1e6),
            "timestamptz": lambda: BEGIN_US + chance.randrange(10**10),
            "uuid": lambda: uuid.UUID(int=chance.getrandbits(128)),
            "text": lambda: f"KX-T{chance.randrange(200)}", "bytea": lambda: chance.randbytes(chance.randrange(9)),
            "jsonb": lambda: json.dumps({"a": chance.randrange(100)})}[column.type]()


def all_types(path: Path, rows: int) -> File:
    """Every type, a tenth NULL, and one stretch of a column that is nothing but NULL."""
    chance = random.Random(8)
    made = []
    for number in range(rows):
        made.append(tuple(None if not c.required and (chance.random() < 0.1 or (c.name == "note" and number < 1200))
                          else random_value(c, chance) for c in ALL))
    return File(path, ALL, made, ("rows=1000", "meta=tidemill.stream=all", "meta=tidemill.note=é=1"))


@pytest.fixture(scope="module", name="everything")
def _everything(tmp_path_factory: pytest.TempPathFactory) -> File:
    return all_types(tmp_path_factory.mktemp("parquet") / "all.parquet", 3500)


def test_duckdb_reads_every_value(everything: File, ask: Ask) -> None:
    """Row by row as text; counts, sums, lowest and highest by DuckDB against those by Python."""
    exact = [c for c in ALL if c.type != "float8"]
    numbers = [c for c in ALL if c.type.startswith("int")]
    rows, floats, counts, sums, types = ask(
        everything.sql(", ".join(c.sql() for c in exact)), everything.sql("f8"),
        everything.sql("count(*), " + ", ".join(f"count({c.name})" for c in ALL)),
        everything.sql(", ".join(f"sum({c.name}::decimal(38,{c.scale}))::varchar, min({c.name})::varchar, "
                                 f"max({c.name})::varchar" for c in numbers)),
        {"sql": f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{everything.path}')"})
    index = [ALL.index(c) for c in exact]
    assert rows == [[c.text(row[i]) for c, i in zip(exact, index)] for row in everything.rows]
    assert [row[0] for row in floats] == [row[7] for row in everything.rows]
    assert [int(n) for n in counts[0]] == [len(everything.rows)] + [len(everything.values(c.name)) for c in ALL]
    expected = []
    for column in numbers:
        values = everything.values(column.name)
        expected += [column.text(v) for v in (sum(values), min(values), max(values))]
    assert sums[0] == expected
    assert types == [
        ["b", "BOOLEAN"], ["i2", "SMALLINT"], ["i4", "INTEGER"], ["i8", "BIGINT"], ["price", "DECIMAL(10,6)"],
        ["delta", "DECIMAL(18,2)"], ["small", "DECIMAL(5,4)"], ["f8", "DOUBLE"], ["ts", "TIMESTAMP WITH TIME ZONE"],
        ["ticker", "VARCHAR"], ["note", "VARCHAR"], ["id", "UUID"], ["levels", "JSON"], ["raw", "BLOB"]]


def test_hyparquet_reads_every_value(everything: File, ask: Ask) -> None:
    """The same by a reader in JavaScript, whose decimals are floats: they are compared as the integers that they stand
    for, where a float can hold those."""
    def same(column: Column, value: Value, answer: Value) -> bool:
        if value is None:
            return answer is None
        if column.scale:
            return abs(value) > 2**53 or round(answer * 10**column.scale) == value
        if column.type == "jsonb":
            return answer == json.loads(value)
        if column.type in ("int8", "timestamptz"):
            return int(answer) == value
        if column.type == "bytea":
            return answer == value.hex()
        return answer == (str(value) if column.type == "uuid" else value)

    answer, about = ask({"file": str(everything.path)}, {"metadata": str(everything.path)})
    assert len(answer) == len(everything.rows)
    for number, (row, got) in enumerate(zip(everything.rows, answer)):
        for column, value in zip(ALL, row):
            assert same(column, value, got[column.name]), f"row {number}: {value!r}, not {got[column.name]!r}"
    assert about == {"rows": str(len(everything.rows)), "groups": 4, "created_by": "tidemill",
                     "meta": {"tidemill.stream": "all", "tidemill.note": "é=1"}}


def test_our_reader_gives_the_tuples_back(everything: File) -> None:
    """Byte for byte what went in."""
    done = tool("read", everything.path)
    assert done.stdout == everything.copy
    assert done.stderr == b"rows 3500 groups 4 skipped 0\n"


# ---- statistics ----

def test_statistics(everything: File, ask: Ask) -> None:
    """Of each row group: NULLs, lowest and highest as DuckDB reads them from the footer, against Python's."""
    stats, = ask({"sql": "SELECT row_group_id, path_in_schema, stats_null_count, stats_min_value, stats_max_value, "
                         f"min_is_exact, max_is_exact FROM parquet_metadata('{everything.path}')"})
    assert len(stats) == 4 * len(ALL)
    for group, name, nulls, low, high, low_exact, high_exact in stats:
        column = next(c for c in ALL if c.name == name)
        index = ALL.index(column)
        rows = everything.rows[int(group) * 1000:int(group) * 1000 + 1000]
        values = [row[index] for row in rows if row[index] is not None]
        assert int(nulls) == len(rows) - len(values), name
        if not values or column.type in ("jsonb", "bytea"):
            assert low is None and high is None
        elif column.type == "float8":
            assert (float(low), float(high)) == (pytest.approx(min(values)), pytest.approx(max(values)))
        elif column.type == "text":  # in the order of bytes; what is too long is cut, the highest upwards
            least, most = (pick(values, key=str.encode) for pick in (min, max))
            assert low == least and low_exact
            assert high_exact == (len(most.encode()) <= 64)
            assert high == most if high_exact else high > most and len(high.encode()) <= 64
        elif column.type != "timestamptz":
            assert (low, high) == (column.text(min(values)), column.text(max(values)))


def test_filters(everything: File, ask: Ask) -> None:
    """Statistics never hide a row: what DuckDB finds by them is what Python finds."""
    chance = random.Random(9)
    questions, expected = [], []
    for column, condition in ((ALL[3], "i8 = {}"), (ALL[4], "price >= {}"), (ALL[5], "delta < {}"),
                              (ALL[9], "ticker = {}"), (ALL[10], "note > {}"), (ALL[11], "id = {}"),
                              (ALL[8], "ts < make_timestamptz({})")):
        for value in chance.sample(everything.values(column.name), 6):
            literal = (column.text(value) or "").replace("'", "''")
            literal = f"'{literal}'" if column.type in ("text", "uuid") else literal
            questions.append(everything.sql("count(*)", "WHERE " + condition.format(literal)))
            compare = {"=": "__eq__", "<": "__lt__", ">": "__gt__", ">=": "__ge__"}[condition.split(" ")[1]]
            key = str.encode if column.type == "text" else lambda v: v
            expected.append(sum(getattr(key(v), compare)(key(value)) for v in everything.values(column.name)))
    assert [int(answer[0][0]) for answer in ask(*questions)] == expected


def test_long_texts_are_cut_right(tmp_path: Path, ask: Ask) -> None:
    """The cut highest text is above the whole one, also where its last characters have no next one."""
    texts = ["é" * 40, "a" * 63 + "é", "z" * 63 + "\U0010ffff" * 3, "\x7f" * 70, "\ud7ff" * 30, "\U0010ffff" * 20]
    files = [File(tmp_path / f"{i}.parquet", [Column("s", "text")], [(text,), ("A",)]) for i, text in enumerate(texts)]
    answers = ask(*({"sql": f"SELECT stats_max_value, max_is_exact FROM parquet_metadata('{f.path}')"} for f in files))
    for text, answer in zip(texts, answers):
        high, exact = answer[0]
        assert exact in (False, None)
        assert high is None or (high.encode() > text.encode() and len(high.encode()) <= 64)
    assert answers[2][0][0] == "z" * 62 + "{"
    assert answers[5][0][0] is None  # nothing is above it
    found = ask(*(f.sql("count(*)", f"WHERE s = '{text}'") for f, text in zip(files, texts)))
    assert [int(answer[0][0]) for answer in found] == [1] * len(files)


def test_infinite_times(tmp_path: Path, ask: Ask) -> None:
    """PostgreSQL's infinite times are infinite to DuckDB, and come back."""
    file = File(tmp_path / "times.parquet", [Column("ts", "timestamptz")], [(2**63 - 1,), (-2**63,), (BEGIN_US,)])
    answer, = ask(file.sql("ts::varchar"))
    assert answer == [["infinity"], ["-infinity"], ["2026-11-07 14:00:00.123456+00"]]
    assert tool("read", file.path).stdout == file.copy


# ---- what the encodings are for ----

def test_encodings(tmp_path: Path, ask: Ask) -> None:
    """Tickers that repeat go by a dictionary, times by their differences; several pages; one row, no row."""
    columns = [Column("ticker", "text", required=True), Column("ts", "timestamptz"), Column("price", "int4", 6),
               Column("seq", "int8"), Column("id", "uuid"), Column("text", "text")]
    chance = random.Random(10)
    rows = [(f"KXSIM-26NOV05-T{chance.randrange(500)}", BEGIN_US + n * 4000 + chance.randrange(900),
             chance.randrange(1, 100) * 10000, n, uuid.UUID(int=chance.getrandbits(128)), chance.randbytes(60).hex())
            for n in range(20000)]
    whole, one, none = (File(tmp_path / f"{n}.parquet", columns, rows[:n]) for n in (20000, 1, 0))
    encodings, counts, first, empty, hyparquet = ask(
        {"sql": "SELECT path_in_schema, string_split(encodings, ', ')[1], compression "
                f"FROM parquet_metadata('{whole.path}')"},
        whole.sql("count(*), count(DISTINCT ticker), sum(seq), sum(price)::varchar, max(epoch_us(ts)), "
                  "count(DISTINCT id)"),
        one.sql("ticker, price::varchar"), none.sql("count(*)"), {"file": str(none.path)})
    assert encodings == [["ticker", "RLE_DICTIONARY", "ZSTD"], ["ts", "DELTA_BINARY_PACKED", "ZSTD"],
                         ["price", "RLE_DICTIONARY", "ZSTD"], ["seq", "DELTA_BINARY_PACKED", "ZSTD"],
                         ["id", "PLAIN", "ZSTD"], ["text", "PLAIN", "ZSTD"]]
    assert counts[0] == ["20000", "500", str(sum(range(20000))), f"{Decimal(sum(r[2] for r in rows)).scaleb(-6):f}",
                         str(max(r[1] for r in rows)), "20000"]
    assert first == [[rows[0][0], columns[2].text(rows[0][2])]]
    assert empty == [["0"]] and hyparquet == []
    assert tool("read", none.path).stdout == none.copy


# ---- our reader's own work, on files of others ----

def test_range_and_columns(everything: File) -> None:
    """Rows of a span of time, fewer columns in another order, one that the file lacks."""
    middle, end = BEGIN_US + 3 * 10**9, BEGIN_US + 7 * 10**9
    wanted = [Column("ticker", "text"), Column("missing", "int8"), Column("ts", "timestamptz")]
    done = tool("read", everything.path, *(c.spec() for c in wanted), "lenient", f"range=ts,{middle},{end}")
    rows = [(row[9], None, row[8]) for row in everything.rows if row[8] is None or middle <= row[8] < end]
    expected = File(everything.path.with_name("part.parquet"), wanted, rows)
    assert done.stdout == expected.copy
    refused = tool("read", everything.path, "ticker:text", code=1)
    assert b'the file has a column "b" that is not expected' in refused.stderr
    refused = tool("read", everything.path, "price:int4:5", "lenient", code=1)
    assert b'column "price": expected int4 with scale 5, the file has int4 with scale 6' in refused.stderr


def test_files_of_others_are_refused(tmp_path: Path, ask: Ask) -> None:
    """Nested, or of another codec, or without checksums: said, not guessed at."""
    cases = [("SELECT 1::double AS a", "codec zstd", b"a page without CRC"),
             ("SELECT 1::double AS a", "codec snappy", b"not compressed with ZSTD"),
             ("SELECT [1, 2] AS a", "codec zstd", b"a nested"),
             ("SELECT 1::utinyint AS a", "codec zstd", b"a column of a type that the archive does not use")]
    ask(*({"sql": f"COPY ({sql}) TO '{tmp_path}/{i}.parquet' (FORMAT parquet, {codec})"}
          for i, (sql, codec, _) in enumerate(cases)))
    for i, (_, _, text) in enumerate(cases):
        assert text in tool("read", tmp_path / f"{i}.parquet", code=1).stderr
    (tmp_path / "text").write_text("id,price\n1,2\n" * 10)
    assert b"does not end with PAR1" in tool("read", tmp_path / "text", code=1).stderr
