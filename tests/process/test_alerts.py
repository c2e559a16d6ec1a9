"""Alerts: the stock set, told by a real process, silenced, over a restart, and as rules that Prometheus itself judges."""
from __future__ import annotations

import http.server
import json
import subprocess
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness import wait_until
from harness.daemons import Daemon
from harness.paths import ROOT, program

ROUTING_KEY = "R0UTING-KEY-OF-THE-TEST"

SCRIPT = """
local tm = require "tidemill"
tm.gatherer {
  id = "g1", store = "host=127.0.0.1 port=1 dbname=x connect_timeout=1", data = "journal",
  health = tm.env "TIDEMILL_HEALTH", metrics = tm.env "TIDEMILL_METRICS", socket = tm.env "TIDEMILL_SOCKET",
}
tm.alert "Away" { when = "tidemill_store_connected == 0", hold = "1s", severity = "critical", summary = "{id}: it's away" }
tm.alert "Quiet" { when = "tidemill_store_connected == 0", summary = "nobody is told" }
tm.notify "pager" {
  format = "pagerduty", url = tm.env "PAGER_URL", key = tm.secret { env = "PAGER_KEY" }, alerts = "warning",
  min_interval = "10ms",
}
"""


class Receiver:
    """Keeps what is posted to it, as JSON."""

    def __init__(self) -> None:
        posts = self.posts = []

        class Handler(http.server.BaseHTTPRequestHandler):
            """Takes everything."""

            def do_POST(self) -> None:  # pylint: disable=invalid-name
                """Take it."""
                posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:  # pylint: disable=arguments-differ
                """Silence."""

        self.posts: list[dict[str, Any]]
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v2/enqueue"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self) -> list[tuple[str, str]]:
        """(action, key of the incident) in the order of arrival."""
        return [(post["event_action"], post["dedup_key"]) for post in self.posts]


@pytest.fixture(name="receiver")
def _receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


def _alerts(daemon: Daemon, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("tidemill"), "alerts", "--socket", daemon.socket, *options], capture_output=True,
                          text=True, timeout=30, check=False)


def _listed(daemon: Daemon) -> dict[str, dict[str, Any]]:
    return {alert["name"]: alert for alert in json.loads(_alerts(daemon, "--json").stdout)["result"]["alerts"]}


def test_the_stock_set_fires_and_resolves() -> None:
    done = subprocess.run([program("tidemill"), "test", ROOT / "tests/alerts"], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert " 0 failed" in done.stdout


def test_an_alert_through_silence_and_restart(directory: Path, receiver: Receiver) -> None:
    script = directory / "alerts.lua"
    script.write_text(SCRIPT, encoding="utf-8")
    daemon = Daemon("g1", directory, {"PAGER_URL": receiver.url, "PAGER_KEY": ROUTING_KEY}, script)
    try:
        daemon.start()
        assert _alerts(daemon, "--silence", "Qui*", "--for", "2h", "--reason", "it's known").returncode == 0
        wait_until("the alert is told", lambda: ("trigger", "g1/Away") in receiver.told(), 20, daemon.process.log_tail)
        assert receiver.posts[-1]["routing_key"] == ROUTING_KEY
        assert receiver.posts[-1]["payload"]["summary"] == "g1: it's away"
        table = _alerts(daemon).stdout
        assert "firing    critical  Away" in table and "(silenced) nobody is told" in table and "it's known" in table
        before = _listed(daemon)

        told = len(receiver.posts)
        daemon.process.kill()
        daemon.start()
        after = wait_until("alerts are judged again", lambda: _listed(daemon), 20)
        for name in ("Away", "Quiet"):
            assert (after[name]["state"], after[name]["since_ms"]) == ("firing", before[name]["since_ms"])
        assert after["Quiet"]["silenced"]
        # one that is new is told: had one of the others been told anew, it would have come before
        script.write_text(SCRIPT + 'tm.alert "New" { when = "tidemill_store_connected == 0" }\n', encoding="utf-8")
        assert daemon.reload().returncode == 0
        wait_until("the new alert is told", lambda: ("trigger", "g1/New") in receiver.told(), 20)
        assert receiver.told()[told:] == [("trigger", "g1/New")]

        ended = _alerts(daemon, "--unsilence", "Qui*")
        assert (ended.returncode, ended.stderr) == (0, "")
        wait_until("what was silenced is told", lambda: ("trigger", "g1/Quiet") in receiver.told(), 20)
        again = _alerts(daemon, "--unsilence", "Qui*")
        assert again.returncode == 1 and "there is no silence of Qui* to end" in again.stderr
        wrong = _alerts(daemon, "--silence", "Awya", "--for", "1h")
        assert wrong.returncode == 1 and "there is no alert named Awya" in wrong.stderr
        assert ROUTING_KEY not in daemon.process.log(since_start=False)
    finally:
        daemon.process.stop()
    assert not daemon.process.complaints()


@pytest.mark.parametrize("arguments, reason", [
    (["--silence", "A"], "--for with a time"),
    (["--silence", "A", "--for", "2 parsecs"], "--for with a time"),
    (["--silence", "A", "--unsilence", "B", "--for", "1h"], "not both"),
    (["x.lua"], "only --prometheus takes scripts"),
    (["--prometheus"], "--prometheus: expected FILE"),
])
def test_wrong_words(arguments: list[str], reason: str) -> None:
    done = subprocess.run([program("tidemill"), "alerts", "--socket", "/nonexistent", *arguments], capture_output=True,
                          text=True, timeout=30, check=False)
    assert done.returncode == 2 and reason in done.stderr


# ---- rules ----

# The owner's table once more: what Prometheus is shown, and what has to fire when. Every 15 s a sample; two processes, of
# which the second is well all the time.
PROMETHEUS_TEST = """
rule_files: [rules.yml]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - series: 'dedup_sync_lag_seconds{instance="d1",job="t"}'
        values: '0x7 31x7 20x7 301x7 10x7'
      - series: 'dedup_sync_lag_seconds{instance="d2",job="t"}'
        values: '1x40'
    alert_rule_test:
      - {eval_time: 1m45s, alertname: SyncLagHigh, exp_alerts: []}
      - eval_time: 3m
        alertname: SyncLagHigh
        exp_alerts: [{exp_labels: {instance: d1, job: t, severity: warning}, exp_annotations: {summary: production is 31 s behind the gatherers}}]
      - {eval_time: 3m, alertname: SyncLagCritical, exp_alerts: []}
      - eval_time: 5m45s  # 20 s is no reason to fire, and not enough to clear
        alertname: SyncLagHigh
        exp_alerts: [{exp_labels: {instance: d1, job: t, severity: warning}, exp_annotations: {summary: production is 1 s behind the gatherers}}]
      - eval_time: 7m30s
        alertname: SyncLagCritical
        exp_alerts: [{exp_labels: {instance: d1, job: t, severity: critical}, exp_annotations: {summary: production is 301 s behind the gatherers}}]
      - {eval_time: 9m, alertname: SyncLagHigh, exp_alerts: []}
      - {eval_time: 9m, alertname: SyncLagCritical, exp_alerts: []}
  - interval: 15s
    input_series:
      - {series: 'dedup_gatherer_health{instance="d1",job="t",gatherer="g1"}', values: '1x7 0x30'}
      - {series: 'dedup_gatherer_health{instance="d1",job="t",gatherer="g2"}', values: '1x15 0x22'}
      - {series: 'dedup_gatherer_health{instance="d1",job="t",gatherer="g3"}', values: '1x23 0x14'}
      - {series: 'dedup_standby{instance="d1",job="t"}', values: '0x40'}
      - {series: 'dedup_gatherer_health{instance="d2",job="t",gatherer="g1"}', values: '0x40'}
      - {series: 'dedup_standby{instance="d2",job="t"}', values: '1x40'}
    alert_rule_test:
      - {eval_time: 1m45s, alertname: GathererDown, exp_alerts: []}
      - eval_time: 3m
        alertname: GathererDown
        exp_alerts:
          - exp_labels: {instance: d1, job: t, severity: warning}
            exp_annotations:
              summary: 2 of 3 gatherers can be read
              description: Nothing is missing while one of them lives. Replace it within hours.
      - {eval_time: 3m, alertname: OneGathererLeft, exp_alerts: []}
      - eval_time: 5m
        alertname: OneGathererLeft
        exp_alerts: [{exp_labels: {instance: d1, job: t, severity: critical}, exp_annotations: {summary: 'a single gatherer can be read: what it misses now is lost'}}]
      - {eval_time: 5m, alertname: NoGatherer, exp_alerts: []}
      - eval_time: 7m
        alertname: NoGatherer
        exp_alerts: [{exp_labels: {instance: d1, job: t, severity: critical}, exp_annotations: {summary: 'no gatherer can be read: nothing reaches production, perhaps nothing is collected'}}]
  - interval: 15s
    input_series:
      - {series: 'rds_connection_errors_total{instance="d1",job="t"}', values: '5x7 6+1x16 22x20'}
      - {series: 'ws_client_connected{instance="g1",job="t"}', values: '150x7 0x20'}
      - {series: 'ws_client_connected{instance="g2",job="t"}', values: '150x40'}
      - {series: 'market_registry_rest_errors_total{instance="g1",job="t",endpoint="/markets"}', values: '1x7 2+1x12 14x60'}
    alert_rule_test:
      - {eval_time: 2m, alertname: RdsConnectionErrors, exp_alerts: []}  # one error is not sustained
      - eval_time: 5m
        alertname: RdsConnectionErrors
        exp_alerts:
          - exp_labels: {instance: d1, job: t, severity: warning}
            exp_annotations: {summary: sessions with production keep failing; the gatherers keep the records meanwhile}
      - {eval_time: 9m, alertname: RdsConnectionErrors, exp_alerts: []}
      - {eval_time: 2m, alertname: AllWebSocketsDisconnected, exp_alerts: []}
      - eval_time: 3m
        alertname: AllWebSocketsDisconnected
        exp_alerts:
          - exp_labels: {instance: g1, job: t, severity: critical}
            exp_annotations:
              summary: 'gatherer g1 hears nothing: no WebSocket connection is up'
              description: 'If the others hear nothing either, the exchange is out: wait, they come back by themselves.'
      - eval_time: 4m
        alertname: RestErrors
        exp_alerts:
          - exp_labels: {instance: g1, job: t, severity: warning, endpoint: /markets}
            exp_annotations: {summary: 'gatherer g1: requests to the exchange fail: map[endpoint:/markets instance:g1 job:t]'}
"""


def _promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)


def test_prometheus_takes_the_rules_and_judges_as_the_process_does(directory: Path) -> None:
    scripts = [directory / "gatherer.lua", directory / "deduplicator.lua"]
    for path in scripts:
        path.write_text((ROOT / "tests/alerts" / path.name).read_text(encoding="utf-8"), encoding="utf-8")
    rules = subprocess.run([program("tidemill"), "alerts", "--prometheus", *scripts], capture_output=True, text=True,
                           timeout=30, check=True).stdout
    assert rules.count("alert: 'Watchdog'") == 1  # both roles have it
    (directory / "rules.yml").write_text(rules, encoding="utf-8")
    (directory / "test.yml").write_text(PROMETHEUS_TEST, encoding="utf-8")
    for words in (("check", "rules", directory / "rules.yml"), ("test", "rules", directory / "test.yml")):
        done = _promtool(*words)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_for_prometheus_is_taken(directory: Path) -> None:
    for name, text in (("rules.yml", "groups: []\n"),
                       ("prometheus.yml", (ROOT / "examples/09-watching/prometheus.yml").read_text(encoding="utf-8"))):
        (directory / name).write_text(text, encoding="utf-8")
    done = _promtool("check", "config", directory / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_promql_cannot_say_is_told(directory: Path) -> None:
    script = directory / "age.lua"
    script.write_text('local tm = require "tidemill"\ntm.gatherer { id = "g1", store = "dbname=x", data = "d" }\n'
                      'tm.alert "A" { when = "age(x_total) < 60" }\n', encoding="utf-8")
    done = subprocess.run([program("tidemill"), "alerts", "--prometheus", script], capture_output=True, text=True,
                          timeout=30, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert "age.lua:3: tm.alert A: when: age(x_total): PromQL can say only" in done.stderr
