"""A headless Chromium, spoken to over its pipe (DevTools protocol): no driver, no port, no package but the browser's.

    with Browser(directory) as browser:
        page = browser.open("http://127.0.0.1:8080/", width=390, height=844, dark=True)
        page.wait("document.title", lambda title: "g1" in title)
        assert not page.problems and page.requests == {...}
"""
from __future__ import annotations

import base64
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable

from .waiting import wait_until

PROGRAMS = ("chromium-headless-shell", "chromium")
ANSWER_TIMEOUT = 20.0
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Browser:
    """One browser process; its pages end with it."""

    def __init__(self, directory: Path) -> None:
        program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
        if program is None:
            raise RuntimeError(f"none of {PROGRAMS} is installed: run scripts/setup")
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        self.log = open(directory / "browser.log", "ab")
        argv = [program, "--headless", "--remote-debugging-pipe", f"--user-data-dir={directory / 'profile'}",
                "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
                "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars", "about:blank"]

        def place_pipes() -> None:  # the browser knows them by their numbers
            _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
            read, write = os.dup(commands), os.dup(answers)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                       close_fds=False, process_group=0, preexec_fn=place_pipes)
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._last_id = 0
        self.pages: dict[str, Page] = {}

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        os.killpg(self._child.pid, signal.SIGKILL)  # its own group: the helpers go with it
        self._child.wait()
        os.close(self._to)
        os.close(self._from)
        self.log.close()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Ask, and wait for the answer; what comes meanwhile goes to the pages."""
        self._last_id += 1
        wanted = self._last_id
        message = {"id": wanted, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while (answer := self._next(deadline)).get("id") != wanted:
            page = self.pages.get(answer.get("sessionId", ""))
            if page and "method" in answer:
                page.take(answer["method"], answer["params"])
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"the browser does not answer within {ANSWER_TIMEOUT:g} s")
            more = os.read(self._from, 1 << 20)
            if not more:
                raise RuntimeError(f"the browser ended; see {self.log.name}")
            self._buffer += more
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, url: str, *, width: int = 1440, height: int = 900, dark: bool = False) -> "Page":
        """A page of this size that has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=url)
        page.wait("document.readyState", lambda state: state == "complete")
        return page


class Page:
    """A tab. `problems`: what its console, its policies and its scripts complained about; `requests`: what it asked
    for."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session
        self.problems: list[str] = []
        self.requests: set[str] = set()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol for this page."""
        return self.browser.call(method, self.session, **parameters)

    def take(self, method: str, event: dict[str, Any]) -> None:
        """An event of the protocol."""
        if method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("warning", "error"):
            self.problems.append(event["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("warning", "error", "assert"):
            self.problems.append(str(event["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.add(event["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.add(event["url"])

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def wait(self, expression: str, good: Callable[[Any], bool] = bool, timeout: float = 20.0) -> Any:
        """Wait until the expression's value is good; it."""
        last: list[Any] = [None]

        def is_good() -> bool:
            last[0] = self.evaluate(expression)
            return good(last[0])

        wait_until(f"the page shows {expression}", is_good, timeout, lambda: f"it is {last[0]!r}; {self.problems}")
        return last[0]

    def key(self, key: str) -> None:
        """Press and release a key: "t", "Tab", "ArrowLeft"."""
        text = key if len(key) == 1 else ""
        code = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "Escape": 27}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                      **({"text": text} if text and kind == "keyDown" else {}))

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """A picture of it, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
