"""OpenStack Swift with its S3 interface in one process: swift_server.py DIRECTORY PORT.

Its four servers, on the modules of Debian's python3-swift, with accounts and containers in SQLite below DIRECTORY and
objects in memory. What it is good for: it checks AWS's signatures by code that is not ours. User "test:tester", secret
"testing", region us-east-1. Prints "ready" when it listens.
"""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import eventlet

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402

CONF = """
[DEFAULT]
swift_dir = {dir}
devices = {dir}/devices
mount_check = false
workers = 0
log_name = swift
[pipeline:main]
pipeline = {pipeline}
[app:{name}-server]
use = egg:swift#{app}
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
"""
PIPELINES = {"account": ("account", "account-server"), "container": ("container", "container-server"),
             "object": ("mem_object", "object-server"),
             "proxy": ("proxy", "catch_errors gatekeeper listing_formats s3api tempauth slo proxy-server")}


class Memory:
    """What memcached would be asked for; it may forget everything, so it keeps nothing but while it runs."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._kept: dict[str, Any] = {}

    def __call__(self, env: dict[str, Any], start_response: Any) -> Any:
        env["swift.cache"] = self
        return self._app(env, start_response)

    def get(self, key: str, **_: Any) -> Any:
        """None if it is not there."""
        return self._kept.get(key)

    def set(self, key: str, value: Any, **_: Any) -> None:
        """For ever; a test is short."""
        self._kept[key] = value

    def delete(self, key: str, **_: Any) -> None:
        """Forget it."""
        self._kept.pop(key, None)


def make_ring(directory: Path, name: str, port: int) -> None:
    """One device, one copy."""
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk", "weight": 1.0,
                     "replication_ip": "127.0.0.1", "replication_port": port})
    builder.rebalance()
    builder.get_ring().save(str(directory / f"{name}.ring.gz"))


def main() -> None:
    """Rings, configurations, servers."""
    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    (directory / "devices" / "disk").mkdir(parents=True)
    utils.HASH_PATH_SUFFIX = b"suffix"
    utils.HASH_PATH_PREFIX = b""
    utils.validate_hash_conf = lambda: None  # it would want /etc/swift/swift.conf
    sockets = {name: eventlet.listen(("127.0.0.1", port if name == "proxy" else 0)) for name in PIPELINES}
    for name in ("account", "container", "object"):
        make_ring(directory, name, sockets[name].getsockname()[1])
    from swift.common.wsgi import loadapp
    threads = []
    for name, (app, pipeline) in PIPELINES.items():
        conf = directory / f"{name}.conf"
        conf.write_text(CONF.format(dir=directory, name=name, app=app, pipeline=pipeline), encoding="ascii")
        loaded = loadapp(str(conf))
        threads.append(eventlet.spawn(wsgi.server, sockets[name], Memory(loaded) if name == "proxy" else loaded,
                                      log_output=False))
    print("ready", flush=True)
    for thread in threads:
        thread.wait()


main()
