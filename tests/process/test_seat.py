"""The command lines that the owner's document of failures shows (psql, curl, PromQL), word for word, against a small lab; the
pages that Prometheus reads; and /health while five hundred slow clients hold on to its port."""
from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from typing import Any, Callable
from urllib.parse import urlencode

from harness import Lab, wait_until
from harness.daemons import Daemon
from harness.http import request
from harness.paths import NO_EXCHANGE, ROOT, free_port, program
from harness.process import Process

MakeLab = Callable[..., Lab]

VERIFY_GATHERER = r"""
psql -h gatherer-new -d kalshi_ts -c \
  "SELECT COUNT(*) FROM trades WHERE received_at > NOW() - INTERVAL '1 minute'"
"""
CHECK_LAG = "curl http://deduplicator:9090/metrics | grep dedup_sync_lag_seconds"
GATHERER_HEALTH = "curl http://gatherer:8080/health"
DEDUPLICATOR_HEALTH = "curl http://deduplicator:8080/health"
ALL_DOWN = "sum(ws_client_connected) == 0"
REST_ERRORS = "sum(market_registry_rest_errors_total) by (endpoint)"

SLOW_CLIENTS = 500
SLOW_SECONDS = 4
ANSWER_MAX = 1.0  # seconds


def _shell(line: str, env: dict[str, str]) -> str:
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], env={**os.environ, **env}, capture_output=True,
                          text=True, timeout=30, check=True).stdout


def _names_of(lab: Lab) -> dict[str, str]:
    """The environment in which the document's host names mean the lab's: for curl its settings file, for libpq the
    address behind the name."""
    gatherer, store = lab.gatherers["g1"], lab.stores["g1"]
    targets = {"gatherer:8080": gatherer.health_address, "deduplicator:8080": lab.deduplicator.health_address,
               "deduplicator:9090": lab.deduplicator.metrics_address}
    (lab.directory / ".curlrc").write_text("silent\nfail\n" + "".join(
        f'connect-to = "{name}:{address}"\n' for name, address in targets.items()), encoding="ascii")
    return {"CURL_HOME": str(lab.directory), "no_proxy": "*", "NO_PROXY": "*", "PGHOSTADDR": "127.0.0.1",
            "PGPORT": str(store.port), "PGUSER": "postgres", "PGPASSWORD": store.password}


def _lines_of_the_document(lab: Lab) -> None:
    env = _names_of(lab)
    wait_until("trades of the last minute are there", lambda: int(_shell(VERIFY_GATHERER, env).split()[2]) > 0, 20)
    lines = _shell(CHECK_LAG, env).splitlines()
    assert [line for line in lines if not line.startswith("#")][0].split()[0] == "dedup_sync_lag_seconds"
    connections = lab.gatherers["g1"].health()["ws_connections_wanted"]
    assert _shell(GATHERER_HEALTH, env).startswith(
        f'{{"status":"healthy","ws_connections":{connections},"db":"connected"')
    assert _shell(DEDUPLICATOR_HEALTH, env).startswith(
        '{"status":"healthy","gatherers":{"g1":"connected","g2":"connected"},"rds":"connected"')


def _pages_are_clean(daemon: Daemon) -> None:
    """What promtool has to say of a page: nothing."""
    page = request(f"http://{daemon.metrics_address}/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")}
    assert names == {line.split()[2] for line in page.splitlines() if line.startswith("# HELP ")}


# ---- PromQL ----

class Prometheus:
    """A Prometheus of our own that reads all pages of the lab."""

    def __init__(self, lab: Lab) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        targets = [daemon.metrics_address for daemon in (*lab.gatherers.values(), lab.deduplicator)]
        config = lab.directory / "prometheus.yml"
        config.write_text(json.dumps({"global": {"scrape_interval": "500ms", "evaluation_interval": "1s"}, "scrape_configs": [
            {"job_name": "tidemill", "static_configs": [{"targets": targets}]}]}), encoding="ascii")
        self.count = len(targets)
        self.process = Process("prometheus", ["prometheus", f"--config.file={config}", f"--web.listen-address={self.address}",
                                              f"--storage.tsdb.path={lab.directory / 'tsdb'}", "--log.level=error"],
                               lab.directory)
        self.process.start()
        wait_until("Prometheus has read every page", lambda: len(self.ask("up == 1")) == self.count, 40,
                   self.process.log_tail)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The result of a query now; nothing while it does not answer."""
        try:
            answer = request(f"http://{self.address}/api/v1/query?{urlencode({'query': query})}")
        except OSError:
            return []
        return list(answer.json()["data"]["result"]) if answer.status == 200 else []


def _queries(lab: Lab, prometheus: Prometheus) -> None:
    assert len(prometheus.ask("ws_client_connected")) == len(lab.gatherers)
    assert prometheus.ask(ALL_DOWN) == []
    assert {result["metric"]["endpoint"] for result in prometheus.ask(REST_ERRORS)} == {"markets", "events", "series"}


# Series that begin with the first event of their kind, or where there are several shards or an archive.
LATER = {"tidemill_store_expired_rows_total", "tidemill_recovery_runs_total", "tidemill_notify_dropped_total",
         "export_errors_total", "export_lag_seconds", "dedup_shards_free"}
OURS = re.compile(r"\b(?:tidemill|dedup|export|ws|rds|market_registry|process)_[a-z_]+\b")


def _is_known(expression: str, known: set[str]) -> None:
    names = set(OURS.findall(re.sub(r'\{[^}]*\}|by \([^)]*\)', "", expression)))
    assert names and names <= known | LATER, (expression, names - known)


def _dashboard_and_rules(lab: Lab, prometheus: Prometheus) -> None:
    """Everything that they name is there, and every query of the dashboard is one."""
    wait_until("the gatherers know that somebody fetches", lambda: prometheus.ask("tidemill_acknowledged_age_seconds"), 20)
    known = set(request(f"http://{prometheus.address}/api/v1/label/__name__/values").json()["data"])
    dashboard = json.loads((ROOT / "examples/09-watching/grafana.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for query in queries:
        _is_known(query, known)
        url = f"http://{prometheus.address}/api/v1/query?{urlencode({'query': query.replace('$job', '.*')})}"
        assert request(url).status == 200, query
    scripts = [ROOT / f"lua/kalshi/{role}.lua" for role in ("gatherer", "deduplicator")]
    rules = subprocess.run([program("tidemill"), "alerts", "--prometheus", *scripts], capture_output=True, text=True,
                           check=True, cwd=lab.directory, env={**os.environ, **NO_EXCHANGE}).stdout
    expressions = re.findall(r"expr: '(.*)'$", rules, re.MULTILINE)
    assert len(queries) > 20 and len(expressions) > 30
    for expression in expressions:
        _is_known(expression, known)


# ---- slow clients ----

class HealthTimes(threading.Thread):
    """Asks for /health again and again, each time on a connection of its own."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon=True)
        self.url = f"http://{daemon.health_address}/health"
        self.times: list[float] = []
        self.bad: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.is_set():
            begun = time.monotonic()
            try:
                answer = request(self.url)
                if answer.status != 200:
                    self.bad.append(f"{answer.status} {answer.text}")
            except OSError as error:
                self.bad.append(str(error))
            self.times.append(time.monotonic() - begun)
            self.over.wait(0.02)


def _slow_clients(lab: Lab) -> None:
    gatherer = lab.gatherers["g1"]
    for mode in ("-H", "-B"):  # headers that never end, bodies that nobody asked for
        times = HealthTimes(gatherer)
        times.start()
        subprocess.run(["slowhttptest", mode, "-c", str(SLOW_CLIENTS), "-r", "250", "-i", "1", "-l", str(SLOW_SECONDS), "-p", "1",
                        "-u", f"http://{gatherer.health_address}/health"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=60, check=True)
        times.over.set()
        times.join()
        worst = max(times.times)
        print(f"slowhttptest {mode} -c {SLOW_CLIENTS}: {len(times.times)} answers of /health, slowest {worst * 1000:.0f} ms")
        assert not times.bad, times.bad[:3]
        assert len(times.times) > 50 and worst < ANSWER_MAX


def test_the_seat(make_lab: MakeLab) -> None:
    lab = make_lab(gatherers=2, exchange={"markets": 40, "rate": 400})
    lab.start()
    _lines_of_the_document(lab)
    for daemon in (lab.gatherers["g1"], lab.deduplicator):
        _pages_are_clean(daemon)
    prometheus = Prometheus(lab)
    try:
        _queries(lab, prometheus)
        _dashboard_and_rules(lab, prometheus)
        _slow_clients(lab)
        lab.exchange.finish()
        lab.wait_emitted()
        lab.drain()
        verdict = lab.verify()
        assert verdict.clean, verdict  # the slow clients cost no row
        lab.exchange.process.kill()
        wait_until("nobody hears anything, as Prometheus sees it", lambda: prometheus.ask(ALL_DOWN), 30)
    finally:
        prometheus.process.stop()
