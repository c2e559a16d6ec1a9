"""OpenStack Swift with its S3 interface (tests/tools/swift_server.py): an S3-compatible server of another hand."""
from __future__ import annotations

import http.client
from pathlib import Path

from . import paths, sigv4
from .process import Process
from .waiting import wait_until

KEYS = ("test:tester", "testing")
REGION = "us-east-1"


class Swift:
    """One process below `directory`, with the bucket `bucket`."""

    def __init__(self, directory: Path, bucket: str = "archive") -> None:
        self.port = paths.free_port()
        self.bucket = bucket
        data = directory / "swift"
        data.mkdir()
        server = paths.ROOT / "tests" / "tools" / "swift_server.py"
        self.process = Process("swift", ["/usr/bin/python3", server, data, str(self.port)], directory)

    def start(self) -> None:
        """Until it listens and the bucket is there."""
        self.process.start()
        wait_until("swift listens", lambda: "ready" in self.process.log_path.read_text("utf-8"), 60,
                   lambda: self.process.log_path.read_text("utf-8"))
        if self._ask("PUT", f"/{self.bucket}")[0] != 200:
            raise RuntimeError("swift made no bucket")

    def _ask(self, method: str, target: str) -> tuple[int, bytes]:
        host = f"127.0.0.1:{self.port}"
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request(method, target, headers=sigv4.sign(method, target, host, KEYS, REGION))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def count_uploads(self) -> int:
        """Multipart uploads that were begun and did not end."""
        return self._ask("GET", f"/{self.bucket}?uploads=")[1].count(b"<Upload>")

    def url(self, prefix: str = "") -> str:
        """The URL of a target in the bucket."""
        return f"s3://{self.bucket}/{prefix}?endpoint=http://127.0.0.1:{self.port}&region={REGION}"

    def stop(self) -> None:
        """End it; it keeps nothing."""
        self.process.kill()
