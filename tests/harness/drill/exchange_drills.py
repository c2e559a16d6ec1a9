"""D: the exchange is away, hangs, is busy, or says strange things."""
from __future__ import annotations

import itertools
import subprocess
import time
from collections import Counter
from typing import Callable

from ..lab import Lab
from ..netns import Network
from ..paths import free_port
from ..proxy import Proxy
from ..waiting import wait_until
from .catalogue import drill
from .observer import Sample
from .run import Run

RATE = 500  # events a second: each passes a proxy in Python, three times
SECONDS = 90  # at most; a drill ends its exchange when it has seen enough
AWAY_S = 12.0  # long enough for several tries of each connection
BUCKETS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
RETURN = {"rto_first_s": 5.0}
DETECT = {"t_detect_s": 20.0, **RETURN}
EXCHANGE = {"rate": RATE, "seconds": SECONDS}


def hears_nothing(sample: Sample) -> bool:
    """No gatherer has a connection."""
    found = [health for name, health in sample.health.items() if name != "dedup"]
    return bool(found) and all(health.get("ws_connections") == 0 for health in found)


# ---- proxies between each gatherer and the exchange's WebSocket ----

def _proxied(lab: Lab, port: int | None = None, scheme: str = "ws") -> None:
    for name, gatherer in lab.gatherers.items():
        proxy = lab.resources.enter_context(Proxy(("127.0.0.1", port or lab.exchange.port)))
        lab.proxies[name] = proxy
        gatherer.process.env["KALSHI_WS_URL"] = f"{scheme}://127.0.0.1:{proxy.port}/trade-api/ws/v2?label={name}"


def _in_network(lab: Lab) -> None:
    lab.network = lab.resources.enter_context(Network())


def _all(run: Run, what: Callable[[Proxy], object]) -> None:
    for proxy in run.lab.proxies.values():
        what(proxy)


def _wait(run: Run, seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(f"{seconds:g} s have passed", lambda: time.monotonic() >= until, seconds + 5)
    run.expect(all(g.process.running for g in run.lab.gatherers.values()), "a gatherer ended")


def _finish(run: Run) -> None:
    """Two more seconds of events, then no more."""
    run.run_for(2 * RATE)
    run.lab.exchange.finish()


def _outage(run: Run, begin: Callable[[], object], end: Callable[[], object]) -> None:
    """Break, see that it is noticed, stay away, come back; tries are counted at the proxies."""
    run.run_for(2 * RATE)
    wanted = {name: gatherer.health()["ws_connections_wanted"] for name, gatherer in run.lab.gatherers.items()}
    since = time.monotonic()
    run.break_it(begin)
    run.detected("nobody hears anything", hears_nothing)
    _wait(run, AWAY_S)
    until = time.monotonic()
    run.mend_it(end)
    run.recovered()
    _judge_tries(run, wanted, since, until)
    _finish(run)


def _judge_tries(run: Run, wanted: dict[str, int], since: float, until: float) -> None:
    """Never more than one try a second a connection: no second of a gatherer has more tries than it has connections; a
    quarter more is allowed, as the proxy learns of them late by some tens of milliseconds. The figure is how many pauses
    between a gatherer's tries, times its connections, were up to so long."""
    pauses: Counter[str] = Counter()
    worst = 0.0
    for name, proxy in run.lab.proxies.items():
        tries = [at for at in proxy.attempts if since <= at <= until]
        busiest = max((sum(at <= other < at + 1.0 for other in tries) for at in tries), default=0)
        worst = max(worst, busiest / wanted[name])
        run.expect(busiest <= wanted[name] * 1.25, f"{name} tried {busiest} times in a second with {wanted[name]} connections")
        run.expect(bool(tries), f"{name} did not try to come back in {until - since:.0f} s")
        for one, next_one in itertools.pairwise(tries):
            pause = (next_one - one) * wanted[name]
            pauses[next((f"<={bucket:g}s" for bucket in BUCKETS_S if pause <= bucket), ">30s")] += 1
    run.figures.more["tries_per_s_per_connection"] = round(worst, 2)
    run.figures.more["pauses"] = dict(sorted(pauses.items()))


# ---- the drills ----

@drill("D1", "the exchange refuses connections", "attempts bounded; RTO_first < 5 s", limit=RETURN, exchange=EXCHANGE,
       prepare=_proxied)
def exchange_refuses(run: Run) -> None:
    def refuse() -> None:
        for proxy in run.lab.proxies.values():
            proxy.refuse = True
            proxy.cut()

    def accept(proxy: Proxy) -> None:
        proxy.refuse = False

    _outage(run, refuse, lambda: _all(run, accept))


@drill("D2", "packets of the exchange vanish: nftables drops them", "t_detect <= 20 s; RTO_first < 5 s", limit=DETECT,
       exchange=EXCHANGE, prepare=_in_network)
def exchange_is_a_black_hole(run: Run) -> None:
    network = run.lab.network
    if network is None:
        raise AssertionError("the lab has no network of its own")
    run.run_for(2 * RATE)

    def vanish() -> None:
        run.lab.blackouts.append(time.time_ns() // 1000)
        network.drop(run.lab.exchange.port)  # REST and control too, which nobody here asks meanwhile

    run.break_it(vanish)
    run.detected("nobody hears anything", hears_nothing)
    _wait(run, AWAY_S)
    run.mend_it(network.clear)
    run.recovered()
    _finish(run)


@drill("D3", "the exchange hangs: connections stay, nothing comes", "t_detect <= 20 s; RTO_first < 5 s", limit=DETECT,
       exchange={"seconds": 20})
def exchange_hangs(run: Run) -> None:
    run.run_for(4000)
    run.break_it(run.lab.exchange.process.pause)
    run.detected("nobody hears anything", hears_nothing)
    run.mend_it(run.lab.exchange.process.resume)
    run.recovered()


def _silence(run: Run) -> None:
    """What there was is cut, and what comes is accepted and never answered."""
    def silence() -> None:
        for proxy in run.lab.proxies.values():
            proxy.silent = True
            proxy.cut()

    _outage(run, silence, lambda: _all(run, Proxy.resume))


@drill("D4", "the exchange accepts connections and never answers", "t_detect <= 20 s; RTO_first < 5 s", limit=DETECT,
       exchange=EXCHANGE, prepare=_proxied)
def exchange_is_mute(run: Run) -> None:
    _silence(run)


@drill("D5", "the exchange answers upgrades with 503, 429, 401 and 500", "attempts bounded; RTO_first < 5 s",
       limit=RETURN, exchange=EXCHANGE, prepare=_proxied)
def exchange_is_busy(run: Run) -> None:
    exchange = run.lab.exchange

    def busy() -> None:
        # the one that began first answers, as long as it lasts; the last one until it is cleared
        exchange.fault("kind=disconnect", "kind=handshake,status=503,for=4s", "kind=handshake,status=429,for=7s",
                       "kind=handshake,status=401,for=10s", "kind=handshake,status=500")

    _outage(run, busy, lambda: exchange.control("clear"))


def _tls(lab: Lab) -> None:
    """The exchange's own TLS, with a certificate of its own that the gatherers are told to trust."""
    certificate, key = lab.directory / "tls.crt", lab.directory / "tls.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
                   check=True, capture_output=True)
    port = free_port()
    lab.exchange.process.argv += ["--tls-cert", str(certificate), "--tls-key", str(key), "--tls-listen",
                                  f"127.0.0.1:{port}"]
    _proxied(lab, port, "wss")
    for gatherer in lab.gatherers.values():
        gatherer.process.env["SSL_CERT_FILE"] = str(certificate)


@drill("D6", "TLS handshakes with the exchange stall", "t_detect <= 20 s; RTO_first < 5 s", limit=DETECT,
       exchange=EXCHANGE, prepare=_tls)
def tls_stalls(run: Run) -> None:
    _silence(run)


@drill("D7", "REST is away while WebSocket lives, and the other way round", "nothing lost; RTO_first < 5 s",
       limit=RETURN, exchange=EXCHANGE, prepare=_proxied)
def one_of_two_ways(run: Run) -> None:
    exchange, gatherers = run.lab.exchange, run.lab.gatherers.values()
    run.run_for(RATE)
    exchange.fault("kind=rest,status=503")
    for gatherer in gatherers:
        gatherer.command("reload")
    run.run_for(4 * RATE)
    run.expect(not any(hears_nothing(sample) for sample in run.samples()), "REST took the WebSocket with it")
    exchange.control("clear")
    _outage(run, lambda: exchange.fault("kind=disconnect", "kind=handshake,status=503"),
            lambda: exchange.control("clear"))


@drill("D8", "the exchange pauses as on Thursdays, then closes every connection", "books right after it",
       limit=RETURN, exchange=EXCHANGE, prepare=_proxied)
def thursday(run: Run) -> None:
    exchange = run.lab.exchange
    run.run_for(2 * RATE)
    run.break_it(lambda: exchange.fault("kind=maintenance,disconnect=yes"))
    run.detected("connections are lost", lambda sample: any(
        health.get("ws_connections") != health.get("ws_connections_wanted")
        for name, health in sample.health.items() if name != "dedup"))
    _wait(run, AWAY_S)
    run.mend_it(lambda: exchange.control("clear"))
    run.recovered()
    _finish(run)


CLOSE_CODES = (1000, 1001, 1002, 1008, 1011, 1012, 1013, 4000)


@drill("D9", "errors 25 and 10, and close codes", "attempts bounded; complete but for the gaps", limit=RETURN,
       exchange=EXCHANGE, prepare=_proxied)
def errors_and_codes(run: Run) -> None:
    exchange = run.lab.exchange
    wanted = {name: gatherer.health()["ws_connections_wanted"] for name, gatherer in run.lab.gatherers.items()}
    since = time.monotonic()
    for code in (25, 10):
        run.run_for(RATE)
        run.break_it(lambda code=code: exchange.fault(f"kind=error,code={code}"))
    for code in CLOSE_CODES:
        run.run_for(RATE)
        run.break_it(lambda code=code: exchange.fault(f"kind=close,code={code}"))
    run.mend_it()
    run.recovered()
    _judge_tries(run, wanted, since, time.monotonic())
    _finish(run)


# ---- X21: poison ----

POISONS = 14  # cases in core/exchange/inject.c
ROUNDS = 20


@drill("X21", "poison rows and a ticker of 10 MB", "quarantined or kept as unknown; cursors go on",
       lab={"expected_errors": ("a row can never be stored", "a row goes to tidemill.quarantine")})
def poison(run: Run) -> None:
    exchange, production = run.lab.exchange, run.lab.production
    run.run_for(2000)
    run.break_it(lambda: exchange.fault(f"kind=poison,count={POISONS * ROUNDS},channel=trade"))
    run.run_for(6000)
    before = production.value("SELECT sum(seq) FROM tidemill.cursors")
    exchange.fault("kind=poison,what=huge,channel=trade,label=g1")  # more than a message may have: it must reconnect
    run.mend_it()
    run.run_for(6000)
    run.recovered()
    run.expect(production.value("SELECT sum(seq) FROM tidemill.cursors") > before, "the cursors stand still")
    run.expect("connection=trade/1" in "".join(line for line in run.lab.gatherers["g1"].process.log().splitlines()
                                               if "connection lost" in line), "g1 took a message of 10 MB")
    run.lab.wait_emitted()
    run.lab.drain()
    for name, gatherer in run.lab.gatherers.items():
        unknown = int(production.value("SELECT count(*) FROM unknown_frames WHERE gatherer = %s", (name,)))
        held = sum(int(store.value("SELECT count(*) FROM tidemill.quarantine WHERE gatherer = %s", (name,)))
                   for store in (production, run.lab.stores[name]))
        run.figures.more[name] = f"{unknown} unknown, {held} quarantined"
        metrics = gatherer.metrics()
        refused = metrics.sum("tidemill_frames_unknown_total") + metrics.sum("tidemill_frames_malformed_total")
        run.expect(unknown == refused, f"{name} refused {refused:g} frames and production holds {unknown}")
        run.expect((unknown, held) == (POISONS * ROUNDS, 0), f"of {POISONS * ROUNDS} poison frames of {name}"
                   f" {unknown} are kept as unknown and {held} in quarantine")
