#!/usr/bin/env python3
"""How fast production goes into an archive and comes back, beside COPY ... TO STDOUT (FORMAT csv) | zstd of the same rows in
the same run. A directory is the target, so that no network is measured.

    tests/bench/bench_archive.py                    2,000,000 deltas
    tests/bench/bench_archive.py --quick            200,000
    tests/bench/bench_archive.py --json             one object a line
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import PostgresCluster, paths  # noqa: E402

HOURS = 4
STREAM = "orderbook_deltas"
SCRIPT = paths.ROOT / "lua/kalshi/deduplicator.lua"

# Deltas as they come: 400 markets, prices in cents, a few repeats.
FILL = """
INSERT INTO orderbook_deltas (ticker, exchange_ts, side, price, delta, occurrence, received_at)
SELECT 'KXBENCH-26NOV26-T' || (hashint8(i) & 255) + (hashint8(i * 7) & 127),
    timestamptz '{first}' + i * interval '{step} microseconds', CASE WHEN hashint8(i * 3) & 1 = 0 THEN 'yes' ELSE 'no' END,
    ((hashint8(i * 5) & 63) + 1) * 10000, ((hashint8(i * 11) & 4095) - 2048) * 100, 0,
    timestamptz '{first}' + i * interval '{step} microseconds' + interval '40 ms'
FROM generate_series(0, {last}) i
"""


def tidemill(production: str, archive: Path, *arguments: str) -> str:
    """A command with the stock deduplicator's script."""
    environment = {**os.environ, "TIDEMILL_PRODUCTION": production, "TIDEMILL_ARCHIVE": f"file://{archive}",
                   "TIDEMILL_ARCHIVE_LAG": "0s", "TIDEMILL_ARCHIVE_WAIT": "0s"}
    done = subprocess.run([str(paths.program("tidemill")), *arguments], env=environment, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise SystemExit(f"tidemill {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def fill(cluster: PostgresCluster, archive: Path, rows: int) -> str:
    """Tables and rows; the day they lie in."""
    tidemill(cluster.conninfo(), archive, "migrate", str(SCRIPT))
    day = cluster.value("SELECT (now() AT TIME ZONE 'UTC')::date - 1")
    cluster.execute(f"CREATE TABLE IF NOT EXISTS {STREAM}_p{day:%Y%m%d} PARTITION OF {STREAM} FOR VALUES FROM ('{day} "
                    f"00:00:00+00') TO (timestamptz '{day} 00:00:00+00' + interval '1 day')")
    cluster.execute(FILL.format(first=f"{day} 00:00:00+00", step=HOURS * 3600 * 1_000_000 // rows, last=rows - 1))
    cluster.execute(f"VACUUM ANALYZE {STREAM}")
    return str(day)


def yardstick(cluster: PostgresCluster, out: Path) -> dict[str, Any]:
    """COPY of the same rows in the same order through zstd."""
    began = time.monotonic()
    subprocess.run(f"{cluster.psql()} -qc \"COPY (SELECT * FROM {STREAM} ORDER BY exchange_ts, ticker) TO STDOUT (FORMAT csv)\" "
                   f"| zstd -q -3 -o {out}", shell=True, check=True)
    return {"seconds": time.monotonic() - began, "bytes": out.stat().st_size}


def size_of(archive: Path) -> int:
    """Bytes of all objects."""
    return sum(path.stat().st_size for path in archive.glob(f"raw/{STREAM}/**/*.parquet"))


def measure(directory: Path, rows: int) -> dict[str, Any]:
    """One run of all three."""
    cluster = PostgresCluster("production", directory, "kalshi")
    archive = directory / "archive"
    cluster.create()
    cluster.start()
    try:
        day = fill(cluster, archive, rows)
        copy = yardstick(cluster, directory / "rows.csv.zst")
        began = time.monotonic()
        tidemill(cluster.conninfo(), archive, "archive", "run", str(SCRIPT), "--streams", STREAM)
        export = {"seconds": time.monotonic() - began, "bytes": size_of(archive)}
        cluster.execute("CREATE DATABASE back")
        began = time.monotonic()
        restored = json.loads(tidemill(cluster.conninfo("back"), archive, "restore", str(SCRIPT), "--since", day, "--until",
                                       f"{day}T23:59", "--streams", STREAM, "--json"))
        restore = {"seconds": time.monotonic() - began}
        if restored["stored"] != rows:
            raise SystemExit(f"{restored['stored']} of {rows} rows came back")
    finally:
        cluster.destroy()
    return {"rows": rows, "copy": copy, "export": export, "restore": restore}


def lines(result: dict[str, Any]) -> list[dict[str, Any]]:
    """As scripts/bench reads them."""
    rows, copy = result["rows"], result["copy"]
    yard = {"floor": round(rows / copy["seconds"]), "floor_is": "COPY ... TO STDOUT (FORMAT csv) | zstd of the same rows"}
    speeds = [{"name": f"archive/{what}", "figure": round(rows / result[what]["seconds"]), "unit": "rows/s", **yard}
              for what in ("export", "restore")]
    return [*speeds, {"name": "archive/size", "figure": round(result["export"]["bytes"] / rows, 2), "unit": "bytes/row",
                      "floor": round(copy["bytes"] / rows, 2), "floor_is": yard["floor_is"]}]


def main(argv: Sequence[str]) -> int:
    """The figures, as a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--quick", action="store_true", help="a size that takes a few seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="tidemill-") as name:
        os.chmod(name, 0o711)
        options.rows = 200_000 if options.quick else options.rows
        result = measure(Path(name), options.rows)
    if options.json:
        for line in lines(result):
            print(json.dumps(line))
        return 0
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options.rows} deltas over {HOURS} h")
    for what in ("copy", "export", "restore"):
        one = result[what]
        size = f"{one['bytes'] / options.rows:8.2f} bytes a row" if "bytes" in one else ""
        print(f"{what:<8} {one['seconds']:8.2f} s {options.rows / one['seconds']:12.0f} rows/s {size}")
    print(f"export runs at {100 * result['copy']['seconds'] / result['export']['seconds']:.0f} % of COPY | zstd, objects have "
          f"{100 * result['export']['bytes'] / result['copy']['bytes']:.0f} % of its bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
