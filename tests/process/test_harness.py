"""The harness itself: an instrument that cannot show a fault proves nothing when it shows none."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import PostgresCluster, Process, Timeout, Verifier, wait_until
from harness.http import Metrics
from harness.table import Rates

HARNESS = Path(__file__).resolve().parents[1]


def test_wait_until_returns_the_value_and_explains_a_timeout() -> None:
    values = iter([None, 0, 7])
    assert wait_until("a value comes", lambda: next(values), 5) == 7
    with pytest.raises(Timeout, match="waited 0.01 s until pigs fly, in vain\nno wings"):
        wait_until("pigs fly", lambda: False, 0.01, lambda: "no wings")


def test_a_process_that_dies_by_itself_is_reported(directory: Path) -> None:
    process = Process("p", ["/bin/sh", "-c", "kill -SEGV $$"], directory)
    process.start()
    assert process.wait_end(5) == -signal.SIGSEGV
    assert process.complaints() == ["p was ended by SIGSEGV, which nobody here sent"]


def test_a_process_that_fails_is_reported_and_one_that_is_stopped_is_not(directory: Path) -> None:
    failing = Process("failing", ["/bin/sh", "-c", "exit 3"], directory)
    failing.start()
    failing.wait_end(5)
    stopped = Process("stopped", ["/bin/sleep", "60"], directory)
    stopped.start()
    stopped.pause()
    stopped.stop()
    assert failing.complaints() == ["failing ended by itself with exit status 3"]
    assert stopped.complaints() == []


@pytest.mark.parametrize("line", [
    "==1==ERROR: AddressSanitizer: heap-use-after-free", "WARNING: ThreadSanitizer: data race",
    "core/a.c:3:1: runtime error: signed integer overflow", "tidemill: broken promise at core/a.c:3: n > 0",
    "time=2026-01-01 level=error room=store event=no", '{"time":"x","level":"error"}'])
def test_logs_are_read_for_alarms(directory: Path, line: str) -> None:
    process = Process("p", ["/bin/echo", line], directory)
    process.start()
    process.wait_end(5)
    assert process.complaints() == [f"p: {line}"]
    assert process.complaints([r"level.{1,3}error"]) == ([] if "level" in line else [f"p: {line}"])


def test_children_end_when_their_parent_is_killed(directory: Path) -> None:
    script = ("import sys; from pathlib import Path; from harness import Process\n"
              "p = Process('p', ['/bin/sleep', '600'], Path(sys.argv[1])); p.start(); print(p.pid, flush=True)\n"
              "sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", script, str(directory)], stdin=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(HARNESS)}) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
        parent.wait()
        wait_until("the child is gone", lambda: _is_gone(child), 5)


def _is_gone(pid: int) -> bool:
    """Gone, or a zombie that its new parent has not looked at yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_postgres_survives_a_kill_and_keeps_its_port(make_cluster: Callable[[str], PostgresCluster]) -> None:
    cluster = make_cluster("pg")
    cluster.execute("CREATE TABLE t AS SELECT 42 AS n")
    port = cluster.port
    cluster.kill()
    cluster.start()
    assert (cluster.value("SELECT n FROM t"), cluster.port) == (42, port)
    cluster.stop("immediate")
    cluster.start()
    assert cluster.value("SELECT n FROM t") == 42
    assert cluster.process.complaints() == []


def test_metrics_are_parsed_with_labels_and_escapes() -> None:
    metrics = Metrics('# HELP a b\n# TYPE a counter\na{x="1",y="q\\"}"} 2\na{x="2"} 3e1\nb 1\n')
    assert metrics.sum("a") == 32
    assert metrics.get("a", x="2") == 30
    assert metrics.sum("nothing") == 0
    with pytest.raises(KeyError):
        metrics.get("a", x="3")
    with pytest.raises(ValueError):
        Metrics("a{x=1} 2 3 4\n")


def test_rates_are_differences_over_time() -> None:
    rates = Rates()
    assert rates.of("a", 100, 1.0) is None
    assert rates.of("a", 300, 3.0) == 100
    assert rates.of("a", None, 4.0) is None


# ---- the verifier: a production made by hand, a ledger made by hand, and each kind of fault planted ----

PRODUCTION = """
CREATE TABLE trades (trade_id uuid, exchange_ts timestamptz, ticker text COLLATE "C", price int4, count int8,
    taker_side text COLLATE "C", is_block_trade bool);
CREATE TABLE orderbook_deltas (ticker text COLLATE "C", exchange_ts timestamptz, side text COLLATE "C", price int4,
    delta int8, occurrence int2);
CREATE TABLE tickers (ticker text COLLATE "C", exchange_ts timestamptz, price int4, yes_bid int4, yes_ask int4,
    yes_bid_size int8, yes_ask_size int8, last_trade_size int8, volume int8, open_interest int8, dollar_volume int8,
    dollar_open_interest int8);
CREATE TABLE lifecycle (ticker text COLLATE "C", event_type text COLLATE "C", message jsonb, received_at timestamptz);
CREATE TABLE orderbook_snapshots (gatherer text COLLATE "C", ticker text COLLATE "C", source text, yes_levels jsonb,
    no_levels jsonb);
CREATE TABLE unknown_frames (gatherer text COLLATE "C", raw bytea);
INSERT INTO trades VALUES ('d17a9849-e50c-44eb-455a-eb6e1098773f', '2026-11-07 14:00:00.640777Z', 'A', 470000, 990,
    'no', false);
INSERT INTO orderbook_deltas
    SELECT 'A', '2026-11-07 14:00:00.640173Z', 'yes', 470000, -990, n FROM generate_series(0, 2) n;
INSERT INTO tickers VALUES ('A', '2026-11-07 14:00:01Z', NULL, 470000, 510000, 3154, 123973, 990, 3389612, 2042200,
    16948, 10211);
INSERT INTO lifecycle VALUES ('A', 'settled', '{"event_type": "settled", "market_ticker": "A"}',
    '2026-11-07 14:00:02Z');
INSERT INTO orderbook_snapshots VALUES ('g1', 'A', 'ws', '[["0.4700", "9.90"]]', NULL);
INSERT INTO unknown_frames VALUES ('g1', 'what?');
"""

T0 = 1794060000640173


def _line(what: str, number: int, **columns: object) -> str:
    names = ("wall_us", "stream", "ticker", "ts_us", "side", "price", "amount", "occurrence", "trade_id", "client",
             "label", "sid", "seq", "detail")
    values = {"wall_us": T0 + number, **columns}
    return "\t".join([what, str(number)] + [str(values.get(name, "\\N")) for name in names]) + "\n"


def _delta(number: int, occurrence: int, ticker: str = "A", wall_us: int = T0) -> str:
    return _line("emit", number, wall_us=wall_us, stream="orderbook_deltas", ticker=ticker, ts_us=T0, side="yes",
                 price=470000, amount=-990, occurrence=occurrence)


def _ledger(path: Path, late_us: int = 0) -> Path:
    """Before event 1 a client subscribes to market A alone and to all of the other channels; the last event is in a
    market that it does not listen to. Events from 4 on are sent `late_us` later."""
    late = T0 + late_us
    ticker = ('{"market_ticker":"A","price_dollars":"","yes_bid_dollars":"0.4700","yes_ask_dollars":"0.5100",'
              '"volume_fp":"33896.12","open_interest_fp":"20422.00","dollar_volume":16948,'
              '"dollar_open_interest":10211,"yes_bid_size_fp":"31.54","yes_ask_size_fp":"1239.73",'
              '"last_trade_size_fp":"9.90"}')
    opened = [_line("open", 0, stream=channel, client=1, sid=sid, detail=f'{{"all":{everything}}}')
              for sid, channel, everything in ((1, "orderbook_delta", "false"), (2, "trade", "true"),
                                               (3, "ticker", "true"), (4, "market_lifecycle_v2", "true"))]
    path.write_text("".join([
        _line("connect", 0, client=1, label="g1", detail="{}"), *opened,
        _line("snapshot", 0, stream="orderbook_delta", ticker="A", client=1, sid=1, seq=1,
              detail='{"market_ticker":"A","yes_dollars_fp":[["0.4700","9.90"]]}'),
        _delta(1, 0), _delta(2, 1), _delta(3, 2),
        _line("emit", 4, wall_us=late, stream="trades", ticker="A", ts_us=T0 - 173, side="no", price=470000,
              amount=990, trade_id="d17a9849-e50c-44eb-455a-eb6e1098773f", detail='{"is_block_trade":false}'),
        _line("emit", 5, wall_us=late, stream="tickers", ticker="A", ts_us=1794060001000000, detail=ticker),
        _line("emit", 6, wall_us=late, stream="lifecycle", ticker="A",
              detail='{"event_type":"settled","market_ticker":"A"}'),
        _line("injected", 6, stream="unknown", client=1, sid=1, detail="\\\\x" + b"what?".hex()),
        _delta(7, 0, "B", late)]), encoding="ascii")
    return path


@pytest.fixture(scope="module")
def production() -> Iterator[PostgresCluster]:
    """One cluster for all planted faults."""
    home = Path(tempfile.mkdtemp(prefix="tidemill-"))
    os.chmod(home, 0o711)
    cluster = PostgresCluster("production", home, "kalshi")
    cluster.create()
    cluster.start()
    yield cluster
    cluster.destroy()
    shutil.rmtree(home)


FAULTS = [
    ("SELECT 1", (0, 0, 0), "nothing wrong"),
    ("DELETE FROM orderbook_deltas WHERE occurrence = 2", (1, 0, 0), "a repeated delta lost"),
    ("INSERT INTO orderbook_deltas SELECT * FROM orderbook_deltas WHERE occurrence = 0", (0, 0, 1), "a delta twice"),
    ("UPDATE orderbook_deltas SET occurrence = 9 WHERE occurrence = 2", (1, 1, 0), "a delta numbered wrongly"),
    ("UPDATE trades SET price = price + 1", (1, 1, 0), "a price off by a millionth"),
    ("UPDATE trades SET exchange_ts = exchange_ts + interval '1 ms'", (1, 1, 0), "a trade off by a millisecond"),
    ("UPDATE tickers SET price = 0", (1, 1, 0), "no price taken for zero"),
    ("INSERT INTO tickers SELECT * FROM tickers", (0, 0, 1), "a ticker twice"),
    ("DELETE FROM lifecycle", (1, 0, 0), "a lifecycle message lost"),
    ("INSERT INTO lifecycle SELECT ticker, event_type, message, received_at + interval '1 minute' FROM lifecycle",
     (0, 0, 1), "a lifecycle message twice"),
    ("UPDATE orderbook_snapshots SET no_levels = '[]'", (1, 1, 0), "an absent side taken for an empty list"),
    ("DELETE FROM unknown_frames", (1, 0, 0), "an unknown frame dropped"),
    ("INSERT INTO orderbook_deltas SELECT 'B', exchange_ts, side, price, delta, 0 FROM orderbook_deltas LIMIT 1",
     (0, 0, 0), "what was sent but not to us may be there"),
    ("INSERT INTO orderbook_deltas SELECT 'C', exchange_ts, side, price, delta, 0 FROM orderbook_deltas LIMIT 1",
     (0, 1, 0), "a delta invented"),
]


@pytest.mark.parametrize("fault, found, what", FAULTS, ids=[what for _, _, what in FAULTS])
def test_the_verifier_finds(production: PostgresCluster, tmp_path: Path, fault: str, found: tuple[int, int, int],
                            what: str) -> None:
    production.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    production.execute(PRODUCTION)
    production.execute(fault)
    verdict = Verifier(production, _ledger(tmp_path / "ledger")).verify()
    figures = verdict.figures()
    assert (figures.missing, figures.unexpected, figures.duplicate) == found, f"{what}\n{verdict}"
    assert (figures.emitted, figures.expected) == (7, 6)
    assert verdict.clean == (found == (0, 0, 0))


def test_what_a_gap_withheld_from_everybody_is_not_expected(production: PostgresCluster, tmp_path: Path) -> None:
    """Of three equal deltas the second was withheld: two are expected, numbered as the gatherer numbered them."""
    production.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    production.execute(PRODUCTION)
    production.execute("DELETE FROM orderbook_deltas WHERE occurrence = 2")
    ledger = _ledger(tmp_path / "ledger")
    with open(ledger, "a", encoding="ascii") as more:
        more.write(_line("withheld", 2, stream="orderbook_deltas", ticker="A", client=1, sid=1, seq=3))
    verdict = Verifier(production, ledger).verify()
    assert verdict.clean, str(verdict)
    assert verdict.figures().expected == 5


def test_a_connection_that_ended_does_not_answer_for_its_last_second(production: PostgresCluster,
                                                                    tmp_path: Path) -> None:
    production.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    production.execute(PRODUCTION)
    production.execute("TRUNCATE trades, tickers, lifecycle, unknown_frames, orderbook_snapshots")
    ledger = _ledger(tmp_path / "ledger", late_us=2_000_000)
    with open(ledger, "a", encoding="ascii") as more:
        more.write(_line("disconnect", 7, client=1, wall_us=T0 + 2_500_000))
    verdict = Verifier(production, ledger).verify()
    assert verdict.clean, str(verdict)
    assert verdict.figures().expected == 3
