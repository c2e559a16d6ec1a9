"""One program under control: its own process group, its output in a file, a life no longer than ours.

A process must be started from the main thread: the kernel sends the death signal when the *thread* that started it
ends, and a helper thread ends early.
"""
from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Mapping, Sequence

from .waiting import wait_until

LOG_TAIL_BYTES = 4000
COMPLAINTS_MAX = 5  # of one log; the rest is counted
COMPLAINT_CHARS = 500

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here, as little as possible may happen between fork and exec

# What no log may hold, whoever wrote it.
ALARMS = re.compile(r"ERROR: (?:Address|Leak|Memory)Sanitizer|WARNING: ThreadSanitizer|: runtime error: |broken promise"
                    r"|PANIC:|stack smashing detected|buffer overflow detected")
ERROR_LINE = re.compile(r'(?:^|\s)level=error\b|"level":"error"')


class Process:
    """A child process that is known by its pid and by its log."""

    def __init__(self, name: str, argv: Sequence[str | Path], directory: Path, *,
                 env: Mapping[str, str] | None = None, death_signal: str = "KILL", user: str | None = None) -> None:
        self.name = name
        self.argv = [str(word) for word in argv]
        self.directory = directory
        self.env = dict(env or {})
        self.log_path = directory / f"{name}.log"
        self._death_signal = signal.Signals[f"SIG{death_signal}"]
        # Changing the user clears the death signal, so setpriv sets it again; it executes the program in its own place.
        self._prefix = [] if user is None else ["setpriv", "--reuid", user, "--regid", user, "--init-groups",
                                                "--pdeathsig", death_signal, "--"]
        self.stderr: int | None = None  # a descriptor to print errors and log lines to, instead of the log
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._sent: set[int] = set()
        self.bad_ends: list[str] = []

    # ---- life ----

    def start(self) -> None:
        """Start it; output is appended to the log, so that a log tells the whole story over restarts."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already as process {self.pid}")
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        self._sent.clear()
        with open(self.log_path, "ab") as log:
            self._child = subprocess.Popen(self._prefix + self.argv, stdin=subprocess.DEVNULL, stdout=log,
                                           stderr=log if self.stderr is None else self.stderr, cwd=self.directory,
                                           env={**os.environ, **self.env}, process_group=0,
                                           preexec_fn=self._die_with_parent)

    def _die_with_parent(self) -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(self._death_signal))

    @property
    def pid(self) -> int:
        """The process id."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it lives now; notes an end that nobody asked for."""
        if self._child is None:
            return False
        if self._child.poll() is None:
            return True
        self._note_end(self._child.returncode)
        return False

    @property
    def exit_status(self) -> int | None:
        """0 to 255, or minus the signal that ended it; None while it runs."""
        return None if self._child is None else self._child.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, not to its group."""
        if self.running:
            self._sent.add(int(number))
            os.kill(self.pid, number)

    def expect_end(self, number: signal.Signals) -> None:
        """It may end itself by this signal, as long as it is not started again."""
        self._sent.add(int(number))

    def wait_end(self, timeout: float) -> int:
        """Wait until it has ended; its exit status."""
        wait_until(f"{self.name} (process {self.pid}) ends", lambda: not self.running, timeout, self.log_tail)
        return self._child.returncode if self._child else 0

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 15.0) -> int | None:
        """Ask it to end and wait; None when it does not run. One that does not obey is killed and reported."""
        if not self.running:
            return self.exit_status
        self.send(number)
        if _is_stopped(self.pid):
            self.send(signal.SIGCONT)
        try:
            return self.wait_end(timeout)
        except AssertionError:
            self.bad_ends.append(f"{self.name} did not end within {timeout:g} s of {number.name}")
            self.kill()
            return self.exit_status

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def pause(self) -> None:
        """SIGSTOP: it lives but does nothing, as if its machine hung."""
        self.send(signal.SIGSTOP)
        wait_until(f"{self.name} is stopped", lambda: _is_stopped(self.pid), 5.0)

    def resume(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    def _note_end(self, status: int) -> None:
        if status < 0 and -status not in self._sent:
            text = f"{self.name} was ended by {signal.Signals(-status).name}, which nobody here sent"
        elif status > 0 and not self._sent:
            text = f"{self.name} ended by itself with exit status {status}"
        else:
            return
        if text not in self.bad_ends:
            self.bad_ends.append(text)

    # ---- what it says and uses ----

    def log(self, since_start: bool = True) -> str:
        """What it printed, since the last start or ever."""
        if not self.log_path.exists():
            return ""
        with open(self.log_path, "rb") as log:
            log.seek(self._log_start if since_start else 0)
            return log.read().decode("utf-8", "replace")

    def log_tail(self) -> str:
        """The end of the log, for messages."""
        return f"--- end of {self.log_path.name}:\n{self.log()[-LOG_TAIL_BYTES:]}"

    def status_kb(self, field: str) -> int:
        """A field of /proc/PID/status such as VmRSS or VmHWM, in kilobytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise KeyError(field)

    @property
    def rss_mb(self) -> float:
        """Resident memory now."""
        return self.status_kb("VmRSS") / 1024

    @property
    def peak_rss_mb(self) -> float:
        """The most resident memory it ever had."""
        return self.status_kb("VmHWM") / 1024

    def complaints(self, expected_errors: Sequence[str] = ()) -> list[str]:
        """What went wrong according to its log, its end and its directory; empty when nothing did."""
        running = self.running
        lines = [f"{self.name}: {line.strip()[:COMPLAINT_CHARS]}" for line in self.log(since_start=False).splitlines()
                 if ALARMS.search(line) or ERROR_LINE.search(line) and not _is_expected(line, expected_errors)]
        if len(lines) > COMPLAINTS_MAX:
            lines[COMPLAINTS_MAX:] = [f"{self.name}: ... and {len(lines) - COMPLAINTS_MAX} more such lines"]
        cores = [core for core in self.directory.glob("core*") if not running and core.is_file()]
        return self.bad_ends + lines + [f"{self.name} left {core}" for core in cores]


def _is_expected(line: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, line) for pattern in patterns)


def _is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return stat.rpartition(")")[2].split()[0] == "T"
