"""Which benchmarks there are, what each runs, and the limits that its results have to keep."""
from __future__ import annotations

from dataclasses import dataclass, field

from .results import Limit


@dataclass(frozen=True)
class Bench:
    """One program. Names of results begin with its name and a slash."""

    name: str
    title: str
    program: str  # bench_x: built from bench_x.c; bench_x.py
    arguments: tuple[str, ...] = ()  # {build}: the build tree
    limits: dict[str, Limit] = field(default_factory=dict)  # by the result's name without the bench's
    profiled: tuple[str, ...] = ()  # arguments with which perf is to see it; {samples}: the program calls perf itself


BENCHES = (
    Bench("decode", "JSON frame to finished tuple", "bench_decode", limits={
        "simdjson": Limit(least=4e6, least_ratio=1.3), "simdjson-dom": Limit(least_ratio=1.3),
        "directed": Limit(least_ratio=0.8)}, profiled=("60", "decode")),
    Bench("seen", "seen-set, insert or exists", "bench_seen", limits={
        "single": Limit(least_ratio=1.5), "batch": Limit(least_ratio=1.5), "bytes": Limit(most=32), "pause": Limit(most=1000)}),
    Bench("journal", "append to durable", "bench_journal", limits={"durable": Limit(most_ratio=3)}),
    Bench("link", "frames of a WebSocket, plain and TLS, 1 and 150 connections", "bench_link", profiled=("2", "links")),
    Bench("receive", "receive, decode, dedup and journal in a gatherer", "bench_receive.py", limits={
        "plain-1": Limit(least=4e5), "plain-150": Limit(least=4e5), "tls-1": Limit(least=3e5), "tls-150": Limit(least=3e5),
        "node": Limit(least_ratio=5), "python": Limit(least_ratio=10)}, profiled=("--profile", "{samples}")),
    Bench("gatherer", "frame to row of the local store", "bench_gatherer.py", limits={
        "rows": Limit(least_ratio=0.7)}),
    Bench("merge", "three gatherers' copies into production", "bench_merge.py", limits={
        "unique": Limit(least_ratio=0.6), "sql": Limit(least_ratio=3)}, profiled=("--profile", "{samples}")),
    Bench("parquet", "rows of COPY to a file of the archive, and back", "bench_parquet", limits={
        "bytes": Limit(most_ratio=1)}),
    Bench("archive", "production to the archive and back, beside COPY as CSV through zstd", "bench_archive.py", limits={
        "export": Limit(least_ratio=0.6), "size": Limit(most_ratio=1)}),
    Bench("latency", "from the exchange to production, at 2,000, 20,000 and 100,000 msg/s", "bench_latency.py", limits={
        "2000-p50": Limit(most=30), "20000-p50": Limit(most=60), "20000-p99": Limit(most=250),
        "burst-drain": Limit(most=20), "burst-lost": Limit(most=0)}),
    Bench("reload", "what a reload does to the feed at 20,000 msg/s", "bench_reload.py"),
    Bench("repl", "people at the control socket, at 20,000 msg/s", "bench_repl.py", limits={
        "round-trip": Limit(most=5), "feed": Limit(most=10)}),
    Bench("markets", "1,000,000 markets over 150 connections", "bench_markets.py", limits={
        "memory": Limit(most=300), "load": Limit(most=60)}),
    Bench("start", "from exec to the first answer", "bench_start.py"),
    Bench("session", "sessions of the control socket, alone", "bench_session"),
    Bench("pattern", "pattern matching in scripts", "bench_pattern"),
    Bench("exchange", "frames of the simulated exchange", "bench_exchange", ("{build}/tidemill-exchange",), {
        "rate": Limit(least=1e6)}),
)

CATALOGUE = {bench.name: bench for bench in BENCHES}
