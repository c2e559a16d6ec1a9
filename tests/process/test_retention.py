"""What leaves a gatherer's store, and when: acknowledged rows after a while, unacknowledged ones only where there is no room
and the gap ledger has said so before. The exchange's ledger says what production must have."""
from __future__ import annotations

from typing import Callable

from harness import Lab, wait_until

MakeLab = Callable[..., Lab]

ROWS = 1000  # of a partition


def _partitions(lab: Lab, stream: str) -> list[str]:
    return [name for name, in lab.stores["g1"].query(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1", (stream,))]


def test_acknowledged_partitions_go_and_others_stay(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 5, "markets": 40, "rate": 2000, "seconds": 6},
                   gatherer_env={"TIDEMILL_KEEP": "2s", "TIDEMILL_PARTITION_ROWS": str(ROWS)})
    lab.start()
    store = lab.stores["g1"]
    lab.wait_emitted(3000)
    wait_until("rows are acknowledged", lambda: store.query(
        "SELECT 1 FROM tidemill.acknowledged WHERE stream = 'orderbook_deltas' AND seq > %s", (ROWS,)), 30.0)
    lab.deduplicator.process.stop()  # from here on nothing is acknowledged, and nothing may go that was not
    lab.wait_emitted()
    wait_until("everything is stored", lambda: not lab.unstored(), 30.0, lab.gatherers["g1"].process.log_tail)
    stored = store.value("SELECT seq FROM tidemill.streams WHERE stream = 'orderbook_deltas'")
    acknowledged = store.value("SELECT seq FROM tidemill.acknowledged WHERE stream = 'orderbook_deltas'")
    assert 0 < acknowledged < stored - 2 * ROWS, "nothing was left unacknowledged, so this proves nothing"
    assert acknowledged <= lab.production.value("SELECT seq FROM tidemill.cursors WHERE stream = 'orderbook_deltas'")
    wait_until("what is acknowledged and old has gone",
               lambda: store.value("SELECT min(seq) FROM orderbook_deltas") == acknowledged // ROWS * ROWS + 1, 30.0,
               lab.gatherers["g1"].process.log_tail)
    assert store.value("SELECT count(*) FROM orderbook_deltas") == stored - acknowledged // ROWS * ROWS
    lab.deduplicator.process.start()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    wait_until("all that was acknowledged since has gone too",
               lambda: store.value("SELECT coalesce(min(seq), 0) FROM orderbook_deltas") in (0, stored // ROWS * ROWS + 1),
               30.0, lambda: str(_partitions(lab, "orderbook_deltas")))
    lines = store.query("SELECT first_seq, last_seq, rows, reason FROM tidemill.absent WHERE stream = 'orderbook_deltas'")
    whole = stored // ROWS * ROWS
    assert lines == [(1, whole, whole, "released")], lines
    assert store.value("SELECT count(*) FROM tidemill.marks WHERE stream = 'orderbook_deltas' AND seq < %s", (whole,)) == 0
    assert lab.gatherers["g1"].metrics().sum("tidemill_store_released_rows_total") >= whole
    assert lab.gatherers["g1"].metrics().sum("tidemill_store_expired_rows_total") == 0


def test_without_a_deduplicator_nothing_goes(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 6, "markets": 20, "rate": 1000, "seconds": 4},
                   gatherer_env={"TIDEMILL_KEEP": "1s", "TIDEMILL_PARTITION_ROWS": str(ROWS)})
    store = lab.stores["g1"]
    lab.start_databases()
    lab.exchange.start()
    lab.start_gatherers(["g1"])
    wait_until("g1 listens to all markets", lambda: lab.exchange.has_all_markets("g1"), 60.0)
    lab.exchange.control("start")
    lab.wait_emitted()
    wait_until("the store was looked at since", lambda: lab.gatherers["g1"].metrics().sum("tidemill_store_bytes") > 0, 30.0)
    last = store.value("SELECT seq FROM tidemill.streams WHERE stream = 'orderbook_deltas'")
    looked = store.value("SELECT now()")
    wait_until("two looks have passed", lambda: store.value("SELECT now() > %s + interval '11 s'", (looked,)), 30.0)
    assert store.query("SELECT min(seq), count(*) FROM orderbook_deltas") == [(1, last)]
    assert store.query("SELECT * FROM tidemill.absent") == []


def test_a_full_store_expires_the_loudest_first_and_the_ledger_says_so_before(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 7, "markets": 40, "rate": 4000, "seconds": 12},
                   gatherer_env={"TIDEMILL_STORE_LIMIT": "16MiB", "TIDEMILL_PARTITION_ROWS": str(ROWS)},
                   expected_errors=("rows were expired that production does not have", "nothing in it may go",
                                    "tidemill.absent says why"))
    lab.start()
    gatherer, store = lab.gatherers["g1"], lab.stores["g1"]
    lab.wait_emitted(2000)
    lab.deduplicator.process.stop()
    cursors = dict(lab.production.query("SELECT stream, max(seq) FROM tidemill.cursors GROUP BY 1"))
    lab.wait_emitted()
    wait_until("everything is stored", lambda: not lab.unstored(), 60.0, gatherer.process.log_tail)
    wait_until("the store is within its bound again, and what was announced has gone",
               lambda: gatherer.metrics().sum("tidemill_store_pressure") == 0 and store.value(
                   "SELECT (SELECT count(*) FROM gaps WHERE reason = 'expired')"
                   " = (SELECT count(*) FROM tidemill.absent WHERE reason = 'expired')"), 60.0, gatherer.process.log_tail)
    expired = store.query("SELECT stream, sum(rows)::int8, min(at) FROM tidemill.absent WHERE reason = 'expired' GROUP BY 1"
                          " ORDER BY min(at)")
    assert expired, "nothing was expired, so this proves nothing"
    assert expired[0][0] == "tickers" and "trades" not in {stream for stream, _, _ in expired}, expired
    metrics = gatherer.metrics()
    for stream, rows, _ in expired:
        assert metrics.sum("tidemill_store_expired_rows_total", stream=stream) == rows
    # the ledger's row was in the store before the rows went
    unexplained = store.query(
        "SELECT stream, first_seq FROM tidemill.absent a WHERE reason = 'expired' AND NOT EXISTS (SELECT FROM gaps g"
        " WHERE g.reason = 'expired' AND g.first_seq = a.first_seq AND g.last_seq = a.last_seq"
        " AND g.detail LIKE a.stream || ':%%' AND g.received_at < a.at)")
    assert unexplained == []

    lab.deduplicator.process.start()
    lab.drain()  # the holes are stepped over, as they are explained
    verdict = lab.verify()
    # production may have had some of it already, and not acknowledged it yet when it was stopped
    lost: dict[str, int] = {}
    for stream, first, last in store.query("SELECT stream, first_seq, last_seq FROM tidemill.absent WHERE reason = 'expired'"):
        lost[stream] = lost.get(stream, 0) + max(0, last - max(first - 1, cursors.get(stream, 0)))
    stored = dict(store.query("SELECT stream, seq FROM tidemill.streams"))
    for name, found in verdict.streams.items():
        if not found.observed:
            gone = lost.get(name, 0)
            assert found.unexpected == 0 == found.duplicate and found.missing <= gone, str(verdict)
            # rows that the exchange need not have delivered yet (a subscription begins) may be among those that went
            assert found.missing >= gone - (found.emitted - found.expected), str(verdict)
            assert found.production + gone == stored[name], str(verdict)
    dedup = lab.deduplicator.metrics()
    assert dedup.sum("dedup_absent_rows_total", reason="lost") == sum(lost.values())
    told = lab.production.value("SELECT count(*) FROM gaps WHERE reason = 'expired'")
    assert told == store.value("SELECT count(*) FROM tidemill.absent WHERE reason = 'expired'")


def test_a_role_that_may_only_read_costs_the_acknowledgement_and_one_warning(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=1, exchange={"seed": 8, "markets": 20, "rate": 500, "seconds": 6})
    lab.start()
    store = lab.stores["g1"]
    lab.deduplicator.process.stop()
    # pg_read_all_data and not GRANT ... ON ALL TABLES, which fails when the gatherer makes a partition at the same time.
    store.execute("CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader; TRUNCATE tidemill.acknowledged")
    conninfo = lab.deduplicator.env["TIDEMILL_GATHERERS"]
    assert "user=" in conninfo
    lab.deduplicator.process.env["TIDEMILL_GATHERERS"] = conninfo.replace("user=postgres", "user=reader")
    lab.deduplicator.process.start()
    lab.wait_emitted()
    lab.drain()
    verdict = lab.verify()
    assert verdict.clean, str(verdict)
    assert store.query("SELECT * FROM tidemill.acknowledged") == []
    assert lab.deduplicator.process.log().count("cannot be acknowledged to the gatherer") == 1
