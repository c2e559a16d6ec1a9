"""C1 to C6, X10, X22, X23: production fails over, goes back in time, is full, slow, damaged, forbidden, or comes and goes."""
from __future__ import annotations

import os
import random
import re
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import psycopg2

from ..disk import SmallDisk
from ..lab import Lab
from ..paths import program
from ..proxy import Proxy
from ..replica import Backup, Replica, corrupt
from ..waiting import wait_until
from .catalogue import drill
from .observer import Sample
from .run import Run

RATE = 2000
SLOW = 500
FLAPS_S = float(os.environ.get("TIDEMILL_FLAPS", "20"))
SLOW_LINK_S = float(os.environ.get("TIDEMILL_SLOW_LINK", "25"))
SLOW_LINK_BYTES = 50_000 // 8
LOAD = {"rate": RATE, "seconds": 240}  # at most; a drill ends its exchange when it has seen enough


def _is_away(sample: Sample) -> bool:
    return sample.health.get("dedup", {}).get("rds") == "disconnected"


def _is_unhealthy(sample: Sample) -> bool:
    return sample.health.get("dedup", {}).get("status") == "unhealthy"


def _wait(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(f"{seconds:g} s have passed", lambda: time.monotonic() >= until, seconds + 5)


def _finish(run: Run) -> None:
    """Some more events; the deduplicator is the process that it was."""
    run.run_for(RATE)
    run.lab.exchange.finish()
    ends = run.lab.deduplicator.process.bad_ends
    run.expect(run.lab.deduplicator.process.running and not ends, f"the deduplicator ended: {ends}")


def _position(lab: Lab) -> int:
    return int(lab.production.value("SELECT coalesce(sum(seq), 0)::int8 FROM tidemill.cursors"))


def _seen_position(run: Run) -> int:
    """How far production was when anybody last looked."""
    return max((sample.position or 0 for sample in run.samples()), default=0)


def _failures(run: Run, kind: str) -> int:
    return int(run.lab.deduplicator.metrics().sum("dedup_production_failures_total", **{"class": kind}))


def _standby(lab: Lab) -> Replica:
    if lab.standby is None:
        raise AssertionError("the lab has no standby")
    return lab.standby


def _backup(lab: Lab) -> Backup:
    if lab.backup is None:
        raise AssertionError("the lab has no backup")
    return lab.backup


def _disk(lab: Lab) -> SmallDisk:
    if lab.disk is None:
        raise AssertionError("the lab has no disk of its own")
    return lab.disk


def _tool(run: Run, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A command of the program, on the deduplicator's script."""
    process = run.lab.deduplicator.process
    return subprocess.run([program("tidemill"), command, process.argv[-1], *options], capture_output=True, text=True,
                          env={**os.environ, **process.env}, timeout=60, check=False)


# ---- failover ----

@drill("C1", "the primary is killed, its synchronous standby is promoted", "nothing lost; RTO_first <= 3 s",
       limit={"rto_first_s": 3}, exchange=LOAD, lab={"standby": True})
def failover(run: Run) -> None:
    lab, standby = run.lab, _standby(run.lab)
    standby.require()
    run.run_for(2 * RATE)
    run.break_it(lab.production.kill)
    run.detected("production is away", _is_away)
    seen = _seen_position(run)
    _wait(2.0)
    lab.fail_over()
    run.mend_it()
    run.expect(_position(lab) >= seen, f"cursors were at {seen} on the primary and are at {_position(lab)} on the standby")
    run.recovered()
    _finish(run)


@drill("C1b", "the primary is killed, its standby lacks the last commits", "rows polled again; complete",
       limit={"rto_first_s": 5}, exchange=LOAD, lab={"standby": True})
def lossy_failover(run: Run) -> None:
    lab, standby = run.lab, _standby(run.lab)
    run.run_for(RATE)
    standby.detach()
    run.run_for(2 * RATE)
    before = _position(lab)
    run.break_it(lab.production.kill)
    run.detected("production is away", _is_away)
    lab.fail_over()
    run.mend_it()
    lost = before - _position(lab)
    run.figures.more["rows_repolled"] = lost
    run.expect(lost > RATE, f"the failover lost {lost} rows, so this proves nothing")
    run.recovered()
    _finish(run)


@drill("C1c", "the synchronous standby is gone, and back", "no commit hangs for longer than standby_wait",
       limit={"max_lag_s": 6}, exchange=LOAD,
       lab={"standby": True, "deduplicator_env": {"TIDEMILL_STANDBY_WAIT": "3s"}, "expected_errors": ("synchronous standby",)})
def standby_lost(run: Run) -> None:
    lab, standby = run.lab, _standby(run.lab)
    standby.require()
    run.run_for(RATE)
    run.break_it(standby.detach)
    run.detected("commits are on the primary alone", lambda sample: "standby" in str(
        sample.health.get("dedup", {}).get("reason")))
    run.expect(lab.deduplicator.metrics().sum("dedup_production_replicated") == 0, "the metric does not say so")
    run.run_for(2 * RATE)
    run.mend_it(standby.attach)
    wait_until("commits wait for the standby again",
               lambda: lab.deduplicator.metrics().sum("dedup_production_replicated") == 1, 20, lab.deduplicator.process.log_tail)
    run.recovered()
    run.expect(_failures(run, "reconnect") == 0, "a session was given up for a standby")
    _finish(run)


# ---- back in time ----

def _archived(lab: Lab) -> None:
    lab.production.checksums = True
    lab.backup = Backup(lab.production)


def _restored(run: Run, before: int) -> None:
    after = _position(run.lab)
    run.figures.more["rows_repolled"] = before - after
    run.mend_it()
    run.expect(before - after > RATE, f"only {before - after} rows were lost, so this proves nothing")
    run.recovered()
    _finish(run)


@drill("C4", "a page of production is damaged; it is restored from its backup and archive", "XX001 alarmed, no storm; complete",
       exchange=LOAD, prepare=_archived, lab={"expected_errors": ("until a person mends it",)})
def corruption(run: Run) -> None:
    lab = run.lab
    run.run_for(RATE)
    _backup(lab).take()
    run.run_for(RATE)
    file = lab.production.value("SELECT pg_relation_filepath('tidemill.cursors')")
    before = _position(lab)
    lab.production.stop()
    corrupt(lab.production, file)
    run.break_it(lab.production.start)
    run.detected("a person has to look", lambda sample: "person" in str(sample.health.get("dedup", {}).get("reason")))
    run.expect("SQLSTATE XX001" in lab.deduplicator.process.log(), "the log does not name the damage")
    failed = _failures(run, "stop")
    _wait(8.0)
    tries = _failures(run, "stop") - failed
    run.figures.more["tries_in_8_s"] = tries
    run.expect(tries <= 8, f"{tries} tries in 8 s are a storm")
    lab.production.kill()
    _backup(lab).restore(until="latest")
    run.mend_it()
    run.figures.more["rows_repolled"] = before - _position(lab)
    run.recovered()
    _finish(run)


@drill("C5", "production is restored from a snapshot", "the lost window is polled again; complete", exchange=LOAD,
       prepare=_archived)
def snapshot(run: Run) -> None:
    run.run_for(RATE)
    _backup(run.lab).take()
    run.run_for(3 * RATE)
    before = _position(run.lab)
    run.lab.deduplicator.process.pause()
    run.break_it(run.lab.production.kill)
    _backup(run.lab).restore()
    plan = _tool(run, "restore-plan")
    told = re.search(r"^(\d+) rows are polled again", plan.stdout, re.MULTILINE)
    run.expect(plan.returncode == 0 and told is not None and int(told[1]) >= before - _position(run.lab),
               f"restore-plan does not say what is polled again: {plan.stdout}{plan.stderr}")
    run.lab.deduplicator.process.resume()
    _restored(run, before)


@drill("C6", "production is restored to a point in time", "the lost window is polled again; complete", exchange=LOAD,
       prepare=_archived)
def point_in_time(run: Run) -> None:
    lab = run.lab
    run.run_for(RATE)
    _backup(lab).take()
    run.run_for(RATE)
    moment = str(lab.production.value("SELECT clock_timestamp()"))
    run.run_for(3 * RATE)
    _backup(lab).flush()
    before = _position(lab)
    run.break_it(lab.production.kill)
    _backup(lab).restore(until=moment)
    run.expect(lab.production.value("SELECT timeline_id FROM pg_control_checkpoint()") > 1, "there is no new timeline")
    _restored(run, before)
    run.expect("production is another one than before" in lab.deduplicator.process.log(), "the log does not tell of it")


# ---- full, exhausted ----

def _small(lab: Lab) -> None:
    space = lab.production.home / "space"
    space.mkdir()
    lab.disk = lab.resources.enter_context(SmallDisk(space, megabytes=400))
    lab.production.tablespace = space / "data"
    lab.production.tablespace.mkdir()
    lab.production.give(lab.production.tablespace)


@drill("C2", "production's disk is full", "RTO_first < 5 s after there is space; no process ends", limit={"rto_first_s": 5},
       exchange=LOAD, prepare=_small)
def disk_full(run: Run) -> None:
    run.run_for(RATE)
    run.break_it(_disk(run.lab).fill)
    run.detected("production takes no rows", _is_unhealthy)
    _wait(10.0)
    run.mend_it(_disk(run.lab).free)
    run.recovered()
    run.expect(_failures(run, "retry") > 0, "no attempt was refused for want of space, so this proves nothing")
    run.expect(_failures(run, "reconnect") + _failures(run, "stop") == 0, "the session was given up")
    _finish(run)


class _Hogs:
    """Every connection that is free, as long as it is wanted."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._held: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._held.append(self._lab.production.connect())
            except psycopg2.OperationalError:
                self._stop.wait(0.002)

    def evict(self) -> None:
        """End the deduplicator's sessions; what gets free is taken."""
        wait_until("connections are exhausted", lambda: len(self._held) > 2, 20)
        with self._held[0].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tidemill%'")

    def leave(self) -> None:
        """All of them."""
        self._stop.set()
        self._thread.join(10)
        for connection in self._held:
            connection.close()


def _stays_out(run: Run, hogs: _Hogs) -> bool:
    """Whoever is first gets the connection that was ended: it is tried until the hogs are."""
    failed = _failures(run, "retry")
    _wait(1.0)
    if (run.lab.deduplicator.try_health() or {}).get("rds") == "disconnected":
        return _failures(run, "retry") > failed
    run.break_it(hogs.evict)
    return False


@drill("C3", "production has no connection left", "tries bounded, no socket leaks", limit={"rto_first_s": 31}, exchange=LOAD,
       lab={"production_settings": {"max_connections": "24", "superuser_reserved_connections": "0"}})
def exhausted(run: Run) -> None:
    run.run_for(RATE)
    hogs = _Hogs(run.lab)
    run.break_it(hogs.evict)
    wait_until("the deduplicator does not get a connection any more", lambda: _stays_out(run, hogs), 60)
    run.detected("production is away", _is_away)
    failed, since = _failures(run, "retry"), time.monotonic()
    _wait(12.0)
    tries = _failures(run, "retry") - failed
    run.figures.more["tries_per_min"] = round(tries / (time.monotonic() - since) * 60)
    run.expect(0 < tries <= 12, f"{tries} tries in 12 s")
    run.mend_it(hogs.leave)
    run.recovered()
    _finish(run)


# ---- slow, flapping ----

def _behind_proxy(lab: Lab) -> None:
    proxy = lab.resources.enter_context(Proxy(("127.0.0.1", lab.production.port)))
    lab.proxies["production"] = proxy
    lab.deduplicator.process.env["TIDEMILL_PRODUCTION"] = lab.production.conninfo(tcp=True, port=proxy.port)


SLEEPS = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tidemill.slept', true) IS DISTINCT FROM txid_current()::text THEN
        PERFORM set_config('tidemill.slept', txid_current()::text, false), pg_sleep(2);
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON tidemill.cursors DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();
"""


@drill("X10", "production is slow: 2 s a commit, then a link of 50 kbit/s", "memory flat, feeds never stall, lag told",
       exchange={"rate": 1000, "seconds": 240}, prepare=_behind_proxy)
def slow(run: Run) -> None:
    lab, proxy = run.lab, run.lab.proxies["production"]
    run.run_for(1000)
    run.break_it(lambda: lab.production.execute(SLEEPS))
    run.detected("the lag is more than a second", lambda sample: (sample.lag_s or 0) > 1)
    _wait(10.0)
    run.mend_it(lambda: lab.production.execute("DROP TRIGGER slow ON tidemill.cursors"))
    run.recovered()
    before = _position(lab)
    proxy.bandwidth = SLOW_LINK_BYTES
    run.break_it(lambda: _wait(SLOW_LINK_S))
    run.figures.more["rows_on_slow_link"] = _position(lab) - before
    run.expect(_position(lab) > before, "nothing was committed on the slow link")
    proxy.bandwidth = 0
    run.mend_it()
    run.recovered()
    run.expect(lab.deduplicator.process.peak_rss_mb < 300, f"memory grew to {lab.deduplicator.process.peak_rss_mb:.0f} MB")
    for gatherer in lab.gatherers.values():
        run.expect("connection lost" not in gatherer.process.log(), f"{gatherer.name} lost a connection with the exchange")
    _finish(run)


@drill("X23", f"production is up for a second and down for one, for {FLAPS_S:g} s", "progress is monotone, attempts bounded",
       limit={"rto_first_s": 5}, exchange=LOAD, prepare=_behind_proxy)
def flapping(run: Run) -> None:
    lab, proxy = run.lab, run.lab.proxies["production"]
    run.run_for(RATE)
    before, came, since = _position(lab), len(proxy.attempts), time.monotonic()

    def flap() -> None:
        while time.monotonic() < since + FLAPS_S:
            proxy.refuse = True
            proxy.cut()
            _wait(1.0)
            proxy.refuse = False
            _wait(1.0)

    run.break_it(flap)
    lasted = time.monotonic() - since
    per_s = (len(proxy.attempts) - came) / lasted
    run.mend_it()
    run.figures.more |= {"connects_per_s": round(per_s, 1), "rows_while_flapping": _position(lab) - before}
    run.expect(_position(lab) > before, "nothing was written while production came and went")
    run.expect(per_s < 12, f"{per_s:.1f} connects a second")  # of the merger, the lease's keeper and the ledger
    run.recovered()
    places = [sample.position for sample in run.samples() if sample.position is not None]
    run.expect(places == sorted(places), "a cursor moved back")
    _finish(run)


# ---- forbidden, changed ----

def _as_owner(lab: Lab) -> None:
    lab.production.user = "mill"
    lab.deduplicator.process.env["TIDEMILL_PRODUCTION"] = lab.production.conninfo(user="mill")


@contextmanager
def _stopped(run: Run, what: str, reason: str = "person") -> Iterator[None]:
    """Inside the block it is broken, and mended at its end."""
    run.detected(f"{what}", lambda sample: reason in str(sample.health.get("dedup", {}).get("reason")))
    yield
    run.mend_it()
    run.back_again()
    wait_until("health is good again", run.lab.deduplicator.is_healthy, 30, run.lab.deduplicator.process.log_tail)


def _deadlock(run: Run, name: str, act: Callable[[Any, int], object]) -> None:
    """Make the merger wait for a row in mid-transaction, and do something to it then."""
    production = run.lab.production
    connection = production.connect()
    try:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '100s'")
            cursor.execute("SELECT FROM tidemill.cursors WHERE stream = 'orderbook_deltas' FOR UPDATE")
            waiting = wait_until(f"the merger waits ({name})", lambda: production.query(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'tidemill deduplicator' AND wait_event_type = 'Lock'"),
                20)
            before = _failures(run, "retry")
            run.break_it(lambda: act(cursor, waiting[0][0]))
            wait_until(f"it is told so ({name})", lambda: _failures(run, "retry") > before, 20,
                       run.lab.deduplicator.process.log_tail)
            connection.rollback()
        run.mend_it()
        run.back_again()
    finally:
        connection.close()


@drill("X22", "production's schema drifts, rights go, it is read-only, deadlocks, cancels", "stop and alarm, retry; complete",
       exchange={"rate": SLOW, "seconds": 300}, prepare=_as_owner,
       lab={"expected_errors": ("until a person mends it", "tables of production are gone")})
def drift(run: Run) -> None:
    lab, production = run.lab, run.lab.production
    chance = random.Random(run.figures.seed)
    run.run_for(SLOW)
    production.execute("ALTER TABLE orderbook_deltas ADD COLUMN remark text")
    run.run_for(SLOW)
    faults = [
        ("a column is NOT NULL that nobody fills", "ALTER TABLE trades ADD COLUMN desk text NOT NULL DEFAULT ''; "
         "ALTER TABLE trades ALTER COLUMN desk DROP DEFAULT", "ALTER TABLE trades DROP COLUMN desk", "person"),
        ("a column has another type", "DROP VIEW readable.orderbook_deltas; ALTER TABLE orderbook_deltas ALTER COLUMN price TYPE "
         "int8", "ALTER TABLE orderbook_deltas ALTER COLUMN price TYPE int4", "person"),
        ("INSERT is revoked", "REVOKE INSERT ON orderbook_deltas FROM mill", "GRANT INSERT ON orderbook_deltas TO mill",
         "person"),
        ("it is read-only", "ALTER DATABASE kalshi SET default_transaction_read_only = on; SELECT pg_terminate_backend(pid) "
         "FROM pg_stat_activity WHERE application_name LIKE 'tidemill%'",
         "ALTER DATABASE kalshi RESET default_transaction_read_only", "away"),
    ]
    chance.shuffle(faults)
    for what, damage, repair, reason in faults:
        database = "postgres" if "DATABASE" in repair else None  # from outside of what is read-only
        run.break_it(lambda sql=damage, where=database: production.execute(sql, database=where))
        with _stopped(run, what, reason):
            _wait(1.0)
            production.execute(repair, database=database)
    _deadlock(run, "40P01", lambda cursor, pid: cursor.execute("LOCK TABLE orderbook_deltas IN ACCESS EXCLUSIVE MODE"))
    _deadlock(run, "57014", lambda cursor, pid: cursor.execute("SELECT pg_cancel_backend(%s)", (pid,)))
    run.break_it(lambda: production.execute("DROP TABLE tickers CASCADE"))
    with _stopped(run, "a table is gone"):
        rewind = _tool(run, "rewind", "--to", "2026-01-01", "--stream", "tickers")
    run.expect(rewind.returncode == 0, f"rewind failed: {rewind.stdout}{rewind.stderr}")
    run.recovered()
    _finish(run)
    lab.wait_emitted()
    quarantined = production.value("SELECT count(*) FROM tidemill.quarantine")
    run.expect(quarantined == 0, f"{quarantined} rows are in quarantine for what the tables did")
