#!/usr/bin/python3
"""How fast production goes into an archive and comes back, beside COPY ... TO STDOUT (FORMAT csv) | zstd of the same rows in
the same run. A directory is the target, so that no network is measured.

    tests/bench/bench_archive.py [--rows N] [--quick] [--json]
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, servers  # noqa: E402
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
    return {"copy": copy, "export": export, "restore": restore}


def main() -> int:
    """The command."""
    parser = report.parser(__doc__)
    parser.add_argument("--rows", type=int, help="(2,000,000; --quick 200,000)")
    options = parser.parse_args()
    rows = options.rows or (200_000 if options.quick else 2_000_000)
    out = report.Report(options)
    with servers.directory() as where:
        result = measure(where, rows)
    copy = result["copy"]
    floor_is = "COPY ... TO STDOUT (FORMAT csv) | zstd of the same rows"
    for what in ("export", "restore"):
        out.result(f"archive/{what}", rows / result[what]["seconds"], "rows/s", rows / copy["seconds"], floor_is)
    out.result("archive/size", result["export"]["bytes"] / rows, "bytes/row", copy["bytes"] / rows, floor_is)
    return 0


if __name__ == "__main__":
    sys.exit(main())
