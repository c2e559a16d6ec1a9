"""A merger as a user of Python would write it: asyncpg's COPY out of each store into a temporary table of production, then INSERT
... ON CONFLICT DO NOTHING and the cursor, a transaction a batch; the next batch is read while this one is stored.

    merge.py '{"stores": [{"name", "host", "port", "user", "database"}], "production": {...}, "columns": "...", "rows": 20000}'

Ends when a round brought nothing; prints one line of JSON.
"""
from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from typing import Any

import asyncpg

options: dict[str, Any] = json.loads(sys.argv[1])
COLUMNS = options["columns"]


class Store:
    """One gatherer's."""

    def __init__(self, name: str, connection: asyncpg.Connection) -> None:
        self.name, self.connection, self.cursor = name, connection, 0

    async def read(self) -> tuple[io.BytesIO, int]:
        data = io.BytesIO()
        told = await self.connection.copy_from_query(
            f"SELECT {COLUMNS} FROM orderbook_deltas WHERE epoch_no = 1 AND seq > {self.cursor} ORDER BY seq"
            f" LIMIT {options['rows']}", output=data, format="binary")
        data.seek(0)
        return data, int(told.split()[1])


async def write(production: asyncpg.Connection, store: Store, data: io.BytesIO, rows: int) -> None:
    async with production.transaction():
        await production.copy_to_table("stage", source=data, format="binary", columns=COLUMNS.split(", "))
        await production.execute(f"INSERT INTO orderbook_deltas ({COLUMNS}) SELECT {COLUMNS} FROM stage ON CONFLICT DO NOTHING")
        await production.execute("INSERT INTO cursors VALUES ($1, $2) ON CONFLICT (gatherer) DO UPDATE SET seq = excluded.seq",
                                 store.name, store.cursor + rows)


async def main() -> None:
    production = await asyncpg.connect(**options["production"])
    stores = [Store(one.pop("name"), await asyncpg.connect(**one)) for one in options["stores"]]
    await production.execute("CREATE TABLE cursors (gatherer text PRIMARY KEY, seq int8)")
    await production.execute("CREATE TEMP TABLE stage (LIKE orderbook_deltas) ON COMMIT DELETE ROWS")
    began = last = time.monotonic()
    offered = quiet = turn = 0
    following = asyncio.create_task(stores[0].read())
    while quiet < len(stores):
        store = stores[turn % len(stores)]
        data, rows = await following
        turn += 1
        following = asyncio.create_task(stores[turn % len(stores)].read())
        quiet = 0 if rows else quiet + 1
        if not rows:
            continue
        await write(production, store, data, rows)
        store.cursor += rows
        offered += rows
        last = time.monotonic()
    await following
    print(json.dumps({"offered": offered, "seconds": last - began}), flush=True)


asyncio.run(main())
