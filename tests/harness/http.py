"""Plain HTTP to loopback, and Prometheus text."""
from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any, NamedTuple

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

# A proxy of the environment has no business between a test and loopback.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Answer(NamedTuple):
    """An HTTP answer of any status."""

    status: int
    text: str

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


def request(url: str, body: bytes | None = None, timeout: float = 5.0) -> Answer:
    """GET, or POST when there is a body. Raises OSError only when there is no answer at all."""
    try:
        with _opener.open(urllib.request.Request(url, data=body), timeout=timeout) as reply:
            return Answer(reply.status, reply.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode("utf-8", "replace"))


class Metrics:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                self._add(line)

    def _add(self, line: str) -> None:
        match = SAMPLE.match(line)
        if match is None:
            raise ValueError(f"not a line of the Prometheus text format: {line!r}")
        labels = dict(LABEL.findall(match[2] or ""))
        self.samples.append((match[1], labels, float(match[3])))

    def names(self) -> set[str]:
        """All names of series."""
        return {name for name, _, _ in self.samples}

    def sum(self, name: str, **labels: str) -> float:
        """The sum over the series of that name which carry these labels; 0.0 when there is none."""
        return sum(value for sample, has, value in self.samples
                   if sample == name and labels.items() <= has.items())

    def quantile(self, name: str, share: float, since: "Metrics | None" = None) -> float:
        """Of a histogram's observations since an earlier scrape, in its unit, interpolated inside the bucket."""
        def buckets(metrics: Metrics) -> dict[float, float]:
            return {float(has["le"]): value for sample, has, value in metrics.samples if sample == f"{name}_bucket"}

        earlier = buckets(since) if since else {}
        counts = {bound: count - earlier.get(bound, 0.0) for bound, count in sorted(buckets(self).items())}
        wanted = share * max(counts.values())
        low, below = 0.0, 0.0
        for bound, count in counts.items():
            if count >= wanted:
                return low + (bound - low) * (wanted - below) / max(count - below, 1.0)
            low, below = bound, count
        raise ValueError(f"{name} has no bucket +Inf")

    def get(self, name: str, **labels: str) -> float:
        """As `sum`, but a series that is not there is a KeyError."""
        if not any(sample == name and labels.items() <= has.items() for sample, has, _ in self.samples):
            raise KeyError(f"{name}{labels or ''} is not among {sorted(self.names())}")
        return self.sum(name, **labels)
