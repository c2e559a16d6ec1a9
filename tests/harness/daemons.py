"""The programs of the project as objects: the exchange, gatherers, the deduplicator."""
from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any, Mapping

from . import paths
from .http import Answer, Metrics, request
from .process import Process
from .waiting import wait_until

READY_TIMEOUT = 30.0
LISTENING = re.compile(r"listening ws=(\S+) rest=(\S+) control=(\S+)")


class Exchange:
    """tidemill-exchange: the simulated exchange, its addresses, its control endpoint and its ledger."""

    def __init__(self, directory: Path, options: Mapping[str, Any], name: str = "exchange") -> None:
        self.ledger = directory / f"{name}.ledger"
        self.options = dict(options)
        self._finished = False
        self.port = paths.free_port()
        self.ws_url = f"ws://127.0.0.1:{self.port}/trade-api/ws/v2"
        self.rest_url = f"http://127.0.0.1:{self.port}/trade-api/v2"
        self.control_url = f"http://127.0.0.1:{self.port}/control"
        self.process = Process(name, self._argv(), directory)

    def _argv(self) -> list[str | Path]:
        argv: list[str | Path] = [paths.program("tidemill-exchange"), "--listen", f"127.0.0.1:{self.port}",
                                  "--ledger", self.ledger]
        for name, value in self.options.items():
            argv += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        return argv

    def start(self) -> None:
        """Start and wait until it listens; always at the same addresses, so that clients find it again."""
        self.process.start()
        match = wait_until("the exchange says where it listens", self._addresses, READY_TIMEOUT, self.process.log_tail)
        if match.groups() != (self.ws_url, self.rest_url, self.control_url):
            raise RuntimeError(f"the exchange was told port {self.port} and says {match[0]}")

    def _addresses(self) -> re.Match[str] | None:
        if not self.process.running:
            raise RuntimeError(f"the exchange ended at start\n{self.process.log_tail()}")
        return LISTENING.search(self.process.log())

    def control(self, action: str, body: str = "") -> Answer:
        """POST to the control endpoint; an answer other than 2xx is an error of the test."""
        url = f"{self.control_url}/{action}"
        answer = request(url, body.encode())
        if answer.status // 100 != 2:
            raise RuntimeError(f"POST {url} of {body!r} was answered {answer.status}: {answer.text.strip()}")
        return answer

    def fault(self, *texts: str) -> None:
        """Begin faults together, as `tidemill-exchange --help` lists them: "kind=gap,count=3,label=g1"."""
        self.control("fault", "\n".join(texts))

    def reachable(self) -> bool:
        """Whether the control endpoint answers; a fault may keep it from doing so."""
        try:
            return request(f"{self.control_url}/stats", timeout=1.0).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def stats(self) -> dict[str, Any]:
        """What it has emitted so far, and to whom."""
        return dict(request(f"{self.control_url}/stats").json())

    def emitted(self) -> int:
        """Events emitted so far."""
        return int(self.stats()["emitted"]["total"])

    def is_finished(self) -> bool:
        """Whether all that was ordered has been emitted; it goes on serving."""
        return bool(self.stats()["state"] == "ended") or self._finished

    def finish(self) -> None:
        """No more events than those that were emitted so far."""
        self.control("stop")
        self._finished = True

    def has_all_markets(self, label: str) -> bool:
        """Whether the connections with this label together listen to the depth of every market."""
        stats = self.stats()
        return sum(client["markets"] for client in stats["clients"] if client["label"] == label) >= stats["markets"]

    def flush_ledger(self) -> None:
        """Wait until the ledger is on disk."""
        request(f"{self.control_url}/ledger-flush", timeout=60)


class Daemon:
    """`tidemill run SCRIPT` with its health, metrics and control addresses."""

    script = ""

    def __init__(self, name: str, directory: Path, env: Mapping[str, str], script: Path | None = None) -> None:
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        self.health_address = f"127.0.0.1:{paths.free_port()}"
        self.metrics_address = f"127.0.0.1:{paths.free_port()}"
        self.socket = self.directory / "control.sock"
        self.env = {"TIDEMILL_ID": name, "TIDEMILL_HEALTH": self.health_address,
                    "TIDEMILL_METRICS": self.metrics_address, "TIDEMILL_SOCKET": str(self.socket), **env}
        self.process = Process(name, [paths.program("tidemill"), "run", script or paths.ROOT / self.script],
                               self.directory, env=self.env)

    def start(self) -> None:
        """Start and wait until /health answers, whatever it says."""
        self.process.start()
        self.wait_answering()

    def wait_answering(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait for any answer of /health."""
        wait_until(f"{self.name} answers at {self.health_address}/health", self.answering, timeout,
                   self.process.log_tail)

    def answering(self) -> bool:
        """Whether /health answers at all; a process that ended is an error, not a no."""
        if not self.process.running:
            raise RuntimeError(f"{self.name} ended\n{self.process.log_tail()}")
        return self.try_health() is not None

    def is_healthy(self) -> bool:
        """Whether /health says so; a process that ended is an error, not a no."""
        return self.answering() and (self.try_health() or {}).get("status") == "healthy"

    def health(self) -> dict[str, Any]:
        """/health as JSON, of either status."""
        return dict(request(f"http://{self.health_address}/health").json())

    def health_answer(self) -> Answer:
        """/health with its HTTP status."""
        return request(f"http://{self.health_address}/health")

    def try_health(self) -> dict[str, Any] | None:
        """/health, or None when nobody answers."""
        try:
            return self.health()
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return None

    def metrics(self) -> Metrics:
        """/metrics, parsed."""
        return Metrics(request(f"http://{self.metrics_address}/metrics").text)

    def command(self, line: str, timeout: float = 30.0) -> dict[str, Any]:
        """Ask the control socket; the whole answer, good or bad."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(timeout)
            peer.connect(str(self.socket))
            peer.sendall(line.encode() + b"\n")
            return dict(json.loads(peer.makefile("rb").readline()))

    def status(self) -> dict[str, Any]:
        """What `tidemill status` would print."""
        return dict(self.command("status")["result"])

    def reload(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`tidemill reload` as a person calls it."""
        return subprocess.run([paths.program("tidemill"), "reload", "--socket", self.socket, *options],
                              capture_output=True, text=True, timeout=60, check=False)

    def try_metrics(self) -> Metrics | None:
        """/metrics, or None when nobody answers."""
        try:
            return self.metrics()
        except (OSError, http.client.HTTPException):
            return None


class Gatherer(Daemon):
    """A gatherer that runs the stock script."""

    script = "lua/kalshi/gatherer.lua"

    def __init__(self, name: str, directory: Path, *, store: str, ws_url: str, rest_url: str,
                 env: Mapping[str, str] | None = None, script: Path | None = None) -> None:
        self.data = directory / name / "journal"
        super().__init__(name, directory, {
            "TIDEMILL_STORE": store, "TIDEMILL_DATA": str(self.data), "KALSHI_WS_URL": ws_url,
            "KALSHI_REST_URL": rest_url, **(env or {})}, script)


class Deduplicator(Daemon):
    """A deduplicator that runs the stock script."""

    script = "lua/kalshi/deduplicator.lua"

    def __init__(self, name: str, directory: Path, *, gatherers: Mapping[str, str], production: str,
                 env: Mapping[str, str] | None = None, script: Path | None = None) -> None:
        stores = ";".join(f"{gatherer}={conninfo}" for gatherer, conninfo in gatherers.items())
        super().__init__(name, directory, {"TIDEMILL_GATHERERS": stores, "TIDEMILL_PRODUCTION": production,
                                           **(env or {})}, script)
