#!/usr/bin/python3
"""What receiving costs a gatherer: frames of a flat-out exchange, received, decoded, looked up and made durable in the
journal, without a store. Plain and TLS with a record for each message, many of them in a write, over 1 and 150 connections.

    tests/bench/bench_receive.py [--seconds N] [--quick] [--json] [--alone]

`plain-1` and so on are frames per second of the io thread's processor time: what one core takes. Floor: a client that reads
the same frames raw, finds where each ends and throws it away. `node` and `python` are frames per second of the processor time
of the whole process, beside a peer that does the same work (receive, parse, look up, append, fdatasync); --alone leaves
them out. `wall` is the rate by the clock, with the exchange on the same machine.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, servers  # noqa: E402
from harness import paths  # noqa: E402
from harness.daemons import Exchange  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

MARKETS = 1000
WARM_S = 0.3


@dataclass
class Measured:
    """Frames of a time, and what they cost."""

    frames: float
    wall_s: float
    io_s: float
    process_s: float


def exchange_of(where: Path, tls: bool) -> Exchange:
    """Flat out, held."""
    options = {"seed": 1, "markets": MARKETS, "rate": 0, "hold": True, "mix": servers.MIX, "seconds": 600}
    if tls:
        options = {**options, **servers.certificate(where), "tls-record-per-message": True,
                   "tls-listen": f"127.0.0.1:{paths.free_port()}"}
    return Exchange(where, options)


def tidemill(connections: int, tls: bool, seconds: float, profile: Path | None = None) -> Measured:
    """One run of a gatherer."""
    with servers.directory() as where:
        exchange = exchange_of(where, tls)
        ws_url = f"wss://{exchange.options['tls-listen']}/trade-api/ws/v2" if tls else exchange.ws_url
        env = {"SSL_CERT_FILE": str(exchange.options["tls-cert"])} if tls else {}
        gatherer = servers.gatherer(where, exchange, connections=connections, ws_url=ws_url, env=env)
        with servers.running(exchange, gatherer):
            exchange.start()
            gatherer.start()
            wait_until("it listens", lambda: servers.listening(exchange, "g1", connections, MARKETS), 60,
                       gatherer.process.log_tail)
            exchange.control("start")
            time.sleep(WARM_S)
            pid = gatherer.process.pid
            perf = _perf(pid, profile, seconds) if profile else None

            def look() -> tuple[float, float, float, float]:
                return (gatherer.metrics().sum("tidemill_frames_total"), time.monotonic(), servers.thread_cpu_s(pid, "io"),
                        servers.process_cpu_s(pid))

            before = look()
            time.sleep(seconds)
            after = look()
            if perf:
                perf.wait()
            if gatherer.metrics().sum("tidemill_rows_discarded_total"):
                raise AssertionError("the journal refused rows: what was measured is not the whole work")
            return Measured(*(b - a for a, b in zip(before, after)))


def _perf(pid: int, path: Path, seconds: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["perf", "record", "-q", "-F", "999", "-p", str(pid), "-o", path, "--", "sleep", str(seconds)])


def peer(language: str, seconds: float) -> float:
    """Frames per second of its process's time."""
    with servers.directory() as where:
        exchange = exchange_of(where, False)
        client = servers.Peer(language, "gatherer", where, {
            "ws": exchange.ws_url, "rest": exchange.rest_url, "label": language, "connections": 1,
            "journal": str(where / "journal")})
        with servers.running(exchange, client):
            exchange.start()
            client.process.start()
            wait_until("it listens", lambda: servers.listening(exchange, language, 2, MARKETS), 60, client.process.log_tail)
            started_s = servers.process_cpu_s(client.process.pid)
            exchange.control("start")
            time.sleep(seconds + WARM_S)
            said = client.end()
            return float(said["frames"]) / (float(said["cpu_s"]) - started_s)


def raw_reader(seconds: float) -> float:
    """Frames per second of processor time of a client that only finds their ends."""
    done = subprocess.run([servers.bench_program("bench_exchange"), "--json", paths.program("tidemill-exchange"), str(seconds)],
                          capture_output=True, text=True, check=True)
    return next(float(one["figure"]) for one in map(json.loads, done.stdout.splitlines()) if one["name"] == "exchange/reader")


def main() -> int:
    """The command."""
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, help="of each run (4; --quick 1)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="perf's samples of a plain run into FILE, and no more")
    options: argparse.Namespace = parser.parse_args()
    seconds = options.seconds or (1.0 if options.quick else 4.0)
    if options.profile:
        tidemill(1, False, max(seconds, 4.0), options.profile)
        return 0
    out = report.Report(options)
    floor = raw_reader(seconds)
    first: Measured | None = None
    for tls in (False, True):
        for connections in (1, 150):
            one = tidemill(connections, tls, seconds)
            first = first or one
            out.note(f"{'TLS' if tls else 'plain'}, {connections} connections: {one.frames:.0f} frames in {one.wall_s:.2f} s, "
                     f"processor {one.process_s:.2f} s, of it io {one.io_s:.2f} s")
            out.result(f"receive/{'tls' if tls else 'plain'}-{connections}", one.frames / one.io_s, "msg/s", floor,
                       "raw reading, plain")
    assert first
    out.result("receive/wall", first.frames / first.wall_s, "msg/s")
    for language in () if options.alone else ("node", "python"):
        out.result(f"receive/{language}", first.frames / first.process_s, "msg/s", peer(language, seconds), language)
    return 0


if __name__ == "__main__":
    sys.exit(main())
