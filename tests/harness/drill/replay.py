"""I6: a snapshot and the deltas after it, as production has them, rebuild the exchange's book exactly.

The base of each market is its earliest snapshot in production after which nobody missed a delta: with one gatherer
always alive that is the first one, so that every delta of the run takes part. What came before and what after a snapshot
is the exchange's ledger's word (production keeps no order between them), the levels and changes are production's own.
The truth is what the exchange's REST shows now that it is finished. A market that closes loses its book without a
delta, so only open ones count.
"""
from __future__ import annotations

import urllib.parse
from decimal import Decimal
from typing import Iterable

from ..http import request
from ..lab import Lab
from ..ledger import FOREVER

BATCH = 100  # tickers in one request, its limit

BASES = """
WITH missed AS (
    SELECT t.ticker, max(t.number) AS number FROM truth.orderbook_deltas t
    LEFT JOIN orderbook_deltas p USING (ticker, exchange_ts, side, price, delta, occurrence)
    WHERE p.ticker IS NULL GROUP BY 1
), snapshots AS (
    SELECT t.ticker, t.number, t.yes_levels, t.no_levels FROM truth.orderbook_snapshots t
    JOIN (SELECT DISTINCT gatherer, ticker, yes_levels, no_levels FROM orderbook_snapshots WHERE source = 'ws') p
      ON (p.gatherer, p.ticker) = (t.gatherer, t.ticker)
     AND (p.yes_levels, p.no_levels) IS NOT DISTINCT FROM (t.yes_levels, t.no_levels)
)
SELECT DISTINCT ON (s.ticker) s.ticker, s.number, s.yes_levels, s.no_levels FROM snapshots s
LEFT JOIN missed m USING (ticker) WHERE m.number IS NULL OR s.number >= m.number ORDER BY s.ticker, s.number
"""

CHANGES = """
SELECT p.ticker, p.side, p.price, sum(p.delta) FROM orderbook_deltas p
JOIN truth.orderbook_deltas t USING (ticker, exchange_ts, side, price, delta, occurrence)
JOIN books USING (ticker) WHERE t.number > books.number GROUP BY 1, 2, 3
"""

Book = dict[tuple[str, int], int]  # (side, price in micro-dollars): hundredths of a contract


def differences(lab: Lab) -> list[str]:
    """One line for each market whose rebuilt book is not the exchange's; the ledger must be loaded."""
    rebuilt = _rebuilt(lab)
    shown = _shown(lab, lab.production.query(
        "SELECT DISTINCT ticker FROM truth.orderbook_snapshots s WHERE EXISTS"
        " (SELECT FROM truth.spans WHERE spans.ticker = s.ticker AND last = %s)", (FOREVER,)))
    if not shown:
        return ["the exchange shows no book at all, so none could be compared"]
    return [_difference(ticker, rebuilt.get(ticker), book) for ticker, book in sorted(shown.items())
            if rebuilt.get(ticker) != book and _trades(lab, ticker)]


def _trades(lab: Lab, ticker: str) -> bool:
    """Whether the market is open."""
    return bool(request(f"{lab.exchange.rest_url}/markets/{ticker}").json()["market"]["status"] == "active")


def _difference(ticker: str, rebuilt: Book | None, book: Book) -> str:
    if rebuilt is None:
        return f"the book of {ticker} cannot be rebuilt: no snapshot after the last delta that nobody heard"
    wrong = {level: (rebuilt.get(level, 0), book.get(level, 0)) for level in rebuilt.keys() | book.keys()
             if rebuilt.get(level, 0) != book.get(level, 0)}
    return f"the book of {ticker} is rebuilt wrongly (level: rebuilt, true): {dict(list(wrong.items())[:4])}"


def _rebuilt(lab: Lab) -> dict[str, Book]:
    connection = lab.production.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '256MB'")
            cursor.execute(f"CREATE TEMPORARY TABLE books AS {BASES}")
            cursor.execute("SELECT ticker, yes_levels, no_levels FROM books")
            found = {ticker: {**_levels("yes", yes or []), **_levels("no", no or [])}
                     for ticker, yes, no in cursor.fetchall()}
            cursor.execute(CHANGES)
            for ticker, side, price, change in cursor.fetchall():
                book = found[ticker]
                book[(side, price)] = book.get((side, price), 0) + int(change)
    finally:
        connection.close()
    return {ticker: {level: count for level, count in book.items() if count} for ticker, book in found.items()}


def _levels(side: str, levels: Iterable[tuple[str, str]]) -> Book:
    return {(side, int(Decimal(price) * 1_000_000)): int(Decimal(count) * 100) for price, count in levels}


def _shown(lab: Lab, tickers: list[tuple[str]]) -> dict[str, Book]:
    found: dict[str, Book] = {}
    for at in range(0, len(tickers), BATCH):
        query = urllib.parse.urlencode([("tickers", ticker) for ticker, in tickers[at:at + BATCH]])
        answer = request(f"{lab.exchange.rest_url}/markets/orderbooks?{query}", timeout=30)
        for entry in answer.json()["orderbooks"]:
            book = entry["orderbook_fp"]
            found[entry["ticker"]] = {**_levels("yes", book["yes_dollars"]), **_levels("no", book["no_dollars"])}
    return found
