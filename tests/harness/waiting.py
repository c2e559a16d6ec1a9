"""Waiting for a fact instead of for a time."""
from __future__ import annotations

import time
from typing import Callable, TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.1


class Timeout(AssertionError):
    """What was waited for did not come. An AssertionError, so that pytest shows it as a failed test."""


def wait_until(what: str, condition: Callable[[], T], timeout: float,
               explain: Callable[[], str] | None = None) -> T:
    """Call `condition` until it returns something true, and return that.

    `what` completes "waited N s until ...". `explain` is asked for more only when the time is up: the last state, the
    end of a log. An exception in `condition` ends the wait: hiding it would turn a broken check into a timeout.
    """
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE
    while True:
        value = condition()
        if value:
            return value
        left = deadline - time.monotonic()
        if left <= 0:
            more = "\n" + explain() if explain else ""
            raise Timeout(f"waited {timeout:g} s until {what}, in vain{more}")
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE)
