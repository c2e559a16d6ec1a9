"""An archive's targets, through tests/tools/target_tool.c: a directory with a failing disk, S3 with failing servers."""
from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import ssl
import subprocess
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness import paths, sigv4, wait_until
from harness.s3stub import S3Stub
from harness.shim import Shim
from harness.swift import KEYS as SWIFT_KEYS
from harness.swift import Swift

KEY = "raw/trades/year=2026/month=07/day=09/part-0.parquet"
PART = 5 << 20
BIG = bytes(range(256)) * 4096 * 11 + b"end"  # three parts of 5 MiB
SECRET = "secretsecretsecret"
CANARY = "tokentokentoken"


class Tool:
    """The tool with one set of keys in its environment."""

    def __init__(self, secret: str = SECRET, key_id: str = "AKIDTEST", **env: str) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.env = {**clean, "AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, **env}
        self.options = ["pause_ms=5", "timeout_ms=20000"]

    def argv(self, url: str, *words: object, options: list[str] | None = None) -> list[str]:
        """The command line."""
        tool = paths.build_dir() / "tests" / "target-tool"
        return [str(tool), *self.options, *(options or []), url, *map(str, words)]

    def run(self, url: str, *words: object, data: bytes = b"",
            options: list[str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run it; nothing that it says may hold a secret."""
        done = subprocess.run(self.argv(url, *words, options=options), input=data, capture_output=True, env=self.env,
                              timeout=120, check=False)
        said = done.stdout + done.stderr if words[0] != "get" else done.stderr
        assert SECRET.encode() not in said and CANARY.encode() not in said
        return done

    def ok(self, url: str, *words: object, data: bytes = b"", options: list[str] | None = None) -> bytes:
        """Run it; it must succeed."""
        done = self.run(url, *words, data=data, options=options)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def error(self, url: str, *words: object, data: bytes = b"", options: list[str] | None = None) -> str:
        """Run it; it must fail, with this message."""
        done = self.run(url, *words, data=data, options=options)
        assert done.returncode == 1, done.stdout
        return done.stderr.decode().strip().splitlines()[-1]


@pytest.fixture(name="stub")
def _stub() -> Iterator[S3Stub]:
    with S3Stub() as stub:
        yield stub
        assert not stub.refused, stub.refused


TOOL = Tool()


def begin_put(url: str, body: bytes, *options: str, key: str = KEY, tool: Tool = TOOL) -> subprocess.Popen[bytes]:
    """A put that goes on beside the test; its stdin stays open until `body` was taken and the test closes it."""
    child = subprocess.Popen(tool.argv(url, "put", key, options=[f"part={PART}", *options]), stdin=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=tool.env)

    def feed() -> None:
        assert child.stdin
        try:
            child.stdin.write(body)
            child.stdin.flush()
        except BrokenPipeError:
            pass  # it was killed or has failed

    threading.Thread(target=feed, daemon=True).start()
    return child


def said_at_the_end(child: subprocess.Popen[bytes]) -> str:
    """The last line of what it said, after its end."""
    assert child.stderr
    text = child.stderr.read().decode()
    child.wait()
    return text.splitlines()[-1] if text else ""


def described(body: bytes) -> list[str]:
    """What put prints and verify wants."""
    return [str(len(body)), hashlib.sha256(body).hexdigest()]


# ---- the verifier itself, by signatures that Amazon has published ----

S3_EXAMPLE = ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524T000000Z", "s3", "examplebucket.s3.amazonaws.com")
SUITE = ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830T123600Z", "service", "example.amazonaws.com")
NOTHING = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("example,method,target,more,payload,expected", [
    (SUITE, "GET", "/", {}, NOTHING, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (SUITE, "GET", "/?Param2=value2&Param1=value1", {}, NOTHING,
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    (SUITE, "GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", {}, NOTHING,
     "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
    (SUITE, "GET", "/example%20space/", {}, NOTHING, "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    (S3_EXAMPLE, "GET", "/test.txt", {"range": "bytes=0-9", "x-amz-content-sha256": NOTHING}, NOTHING,
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
    (S3_EXAMPLE, "GET", "/?lifecycle", {"x-amz-content-sha256": NOTHING}, NOTHING,
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    (S3_EXAMPLE, "GET", "/?max-keys=2&prefix=J", {"x-amz-content-sha256": NOTHING}, NOTHING,
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
])
def test_the_verifier_knows_published_signatures(example: tuple[str, str, str, str], method: str, target: str,
                                                 more: dict[str, str], payload: str, expected: str) -> None:
    secret, when, service, host = example
    headers = {"host": host, "x-amz-date": when, **more}
    signed = tuple(sorted(headers))
    what = sigv4.Claim("", when[:8], "us-east-1", service, signed, "")
    request = sigv4.canonical_request(method, target, headers, signed, payload)
    assert sigv4.signature(secret, what, when, request) == expected


# ---- S3: round trips ----

def test_objects_come_back_as_they_went(stub: S3Stub) -> None:
    url = stub.url("pre/fix")
    bodies = {"empty": b"", KEY: b"hello", "raw/!_-.=,+@~:/x": b"odd", "exact": BIG[:PART], "many": BIG}
    for key, body in bodies.items():
        assert TOOL.ok(url, "put", key, data=body, options=[f"part={PART}"]).decode().split() == described(body)
        assert TOOL.ok(url, "head", key).split()[0] == str(len(body)).encode()
        TOOL.ok(url, "verify", key, *described(body))
    assert {key: found.body for key, found in stub.objects.items()} == {f"pre/fix/{k}": v for k, v in bodies.items()}
    assert (stub.count("create"), stub.count("part"), stub.count("put")) == (1, 3, 4)
    assert TOOL.ok(url, "get", KEY) == b"hello"
    assert TOOL.ok(url, "read-at", "many", PART - 3, 7) == BIG[PART - 3:PART + 4]
    assert TOOL.error(url, "read-at", KEY, 3, 3).startswith("corrupt: ")
    assert TOOL.error(url, "read-at", KEY, 5, 1).startswith("corrupt: ")
    assert "SHA-256" in TOOL.error(url, "verify", KEY, 5, NOTHING)
    assert TOOL.error(url, "put", KEY, data=b"other").startswith("conflict: ")
    assert stub.objects[f"pre/fix/{KEY}"].body == b"hello"


def test_the_bucket_may_be_in_the_name_of_the_host(stub: S3Stub) -> None:
    url = stub.url("pre", host="localhost", path_style=False)
    TOOL.ok(url, "put", KEY, data=BIG[:PART + 1], options=[f"part={PART}"])
    assert TOOL.ok(url, "list").split()[2].decode() == KEY
    assert stub.objects["pre/" + KEY].body == BIG[:PART + 1]


@pytest.mark.parametrize("encodes", [True, False])
def test_listings_go_over_pages(stub: S3Stub, encodes: bool) -> None:
    stub.encodes = encodes
    names = [f"a/{n:02}" for n in range(7)] + ["a-b", "a0", "b/c d", "b/.hidden", "c=1/x+y"]
    for name in names:
        stub.objects["p/" + name] = stub.objects["elsewhere/" + name] = _object(name.encode())
    stub.page = 3
    expected = sorted(set(names) - {"b/c d", "b/.hidden"})
    url = stub.url("p")
    assert [line.split()[2] for line in TOOL.ok(url, "list").decode().splitlines()] == expected
    assert [line.split()[2] for line in TOOL.ok(url, "list", "a/", "a/03").decode().splitlines()] == names[4:7]
    assert stub.count("list") > 4


def _object(body: bytes) -> Any:
    from harness.s3stub import Object
    return Object(body, hashlib.md5(body).hexdigest(), {}, time.time())


def test_a_server_of_another_hand(directory: Path) -> None:
    """OpenStack Swift checks the signatures by its own code, knows no If-None-Match: * here, and has its own multipart."""
    swift, tool = Swift(directory), Tool(SWIFT_KEYS[1], SWIFT_KEYS[0])
    try:
        swift.start()
        url = swift.url("pre")
        bodies = {KEY: b"hello", "raw/!_-.=,+@~:/x": b"odd", "empty": b"", "many": BIG}
        for key, body in bodies.items():
            tool.ok(url, "put", key, data=body, options=[f"part={PART}"])
            tool.ok(url, "verify", key, *described(body))
        assert [line.split()[2] for line in tool.ok(url, "list").decode().splitlines()] == sorted(bodies)
        assert tool.ok(url, "read-at", "many", PART - 3, 7) == BIG[PART - 3:PART + 4]
        assert tool.error(url, "put", KEY, data=b"other").startswith("conflict: ")
        assert tool.error(url, "get", "nothing").startswith("not found: ")
        begun = begin_put(url, BIG[:PART + (1 << 20)], key="half", tool=tool)
        wait_until("an upload has begun", lambda: swift.count_uploads() == 1, 20)
        begun.kill()
        begun.wait()
        assert tool.ok(url, "sweep", -2) == b"1\n"
        assert swift.count_uploads() == 0
        assert "SignatureDoesNotMatch" in Tool("wrong", SWIFT_KEYS[0]).error(url, "get", KEY)
    finally:
        swift.stop()


# ---- S3: servers that fail ----

@pytest.mark.parametrize("kind,on", [
    ("500", "head"), ("500", "put"), ("slowdown", "put"), ("429", "put"), ("409", "put"), ("cut", "put"),
    ("lose_reply", "put"), ("500", "create"), ("lose_reply", "create"), ("slowdown", "part"), ("cut", "part"),
    ("lose_reply", "part"), ("500", "complete"), ("lose_reply", "complete"), ("error_in_200", "complete"),
    ("501", "put"), ("501", "complete"),
])
def test_a_put_outlives_what_passes(stub: S3Stub, kind: str, on: str) -> None:
    body = BIG[:PART + 10] if on in ("create", "part", "complete") else b"hello"
    stub.fault(kind, on, count=1 if kind == "501" else 2)
    done = TOOL.run(stub.url(), "put", KEY, data=body, options=[f"part={PART}"])
    assert done.returncode == 0, done.stderr
    assert stub.objects[KEY].body == body


@pytest.mark.parametrize("kind", ["truncate", "500", "late"])
def test_a_read_outlives_what_passes(stub: S3Stub, kind: str) -> None:
    stub.objects[KEY] = _object(b"hello there")
    stub.fault(kind, "get", seconds=3)
    limit = "timeout_ms=1500" if kind == "late" else "timeout_ms=20000"
    assert TOOL.ok(stub.url(), "get", KEY, options=[limit]) == b"hello there"
    stub.fault(kind, "get", seconds=3)
    assert TOOL.ok(stub.url(), "read-at", KEY, 2, 5, options=[limit]) == b"llo t"
    assert not any(fault.count for fault in stub.faults)


@pytest.mark.parametrize("kind,on,message", [
    ("403", "put", "denied: PUT s3://archive/%s: status 403 AccessDenied: as it was asked for"),
    ("500", "put", "retry: PUT s3://archive/%s: given up after 2 attempts: status 500 InternalError: as it was asked for"),
    ("silent", "put", "retry: PUT s3://archive/%s: given up after 2 attempts: nothing came and nothing was taken for"),
    ("wrong_size", "head", "corrupt: s3://archive/%s: expected a size of 5, got 4"),
    ("wrong_etag", "head", "corrupt: s3://archive/%s: expected the ETag 5d41402abc4b2a76b9719d911017c592, got 0000"),
    ("moved", "put", "invalid: PUT s3://archive/%s: the bucket is not in eu-test-1, expected region=eu-other-1 in the"),
    ("garbage", "create", "parse: POST s3://archive/%s?uploads=: expected an <UploadId> in the answer"),
])
def test_what_does_not_pass_is_told(stub: S3Stub, kind: str, on: str, message: str) -> None:
    stub.fault(kind, on, count=9, seconds=3, skip=1 if on == "head" else 0)
    limit = "timeout_ms=700" if kind == "silent" else "timeout_ms=20000"
    body = BIG[:PART + 1] if on == "create" else b"hello"
    told = TOOL.error(stub.url(), "put", KEY, data=body, options=["tries=2", limit, f"part={PART}"])
    assert told.startswith(message % KEY), told
    assert KEY not in stub.objects and (not stub.uploads or kind == "garbage")


@pytest.mark.parametrize("on", ["put", "complete"])
def test_somebody_else_was_faster(stub: S3Stub, on: str) -> None:
    stub.fault("late", on, seconds=0.3)
    child = begin_put(stub.url(), b"mine" if on == "put" else BIG[:PART + 1])
    wait_until("the put has begun", lambda: stub.count("head"), 10)
    stub.objects[KEY] = _object(b"theirs")
    assert child.stdin
    child.stdin.close()
    assert said_at_the_end(child).startswith("conflict: ")
    assert stub.objects[KEY].body == b"theirs" and not stub.uploads


def test_wrong_keys_regions_and_buckets_are_told(stub: S3Stub) -> None:
    url = stub.url()
    assert "SignatureDoesNotMatch" in Tool("another").error(url, "get", KEY)
    assert "InvalidAccessKeyId" in Tool(key_id="AKIDOTHER").error(url, "get", KEY)
    assert "expecting 'eu-test-1'" in TOOL.error(url.replace("eu-test-1", "us-east-1"), "get", KEY)
    assert "NoSuchBucket" in TOOL.error(url.replace("s3://archive", "s3://another"), "get", KEY)
    assert TOOL.error(url, "get", KEY).startswith("not found: GET s3://archive/" + KEY)
    nobody = Tool()
    nobody.env = {k: v for k, v in nobody.env.items() if not k.startswith("AWS_")}
    assert nobody.error(url, "get", KEY).startswith("denied: nobody to sign requests of S3: expected")
    stub.refused.clear()


# ---- S3: stopping and remains ----

@pytest.mark.alone
@pytest.mark.parametrize("on", ["head", "part"])
def test_a_stop_ends_a_call_within_a_second(stub: S3Stub, on: str) -> None:
    stub.fault("silent", on, seconds=8)
    child = begin_put(stub.url(), BIG[:PART + 1], "timeout_ms=60000")
    wait_until("the server is silent", lambda: not stub.faults[0].count, 10)
    begun = time.monotonic()
    child.send_signal(signal.SIGTERM)
    assert said_at_the_end(child).startswith("stopped: ")
    assert time.monotonic() - begun < 4  # of the eight that the server is silent; the process ended too
    assert not stub.uploads  # the upload was ended all the same


def test_what_a_kill_left_is_swept(stub: S3Stub) -> None:
    url = stub.url("mine")
    child = begin_put(url, BIG[:PART + 1])
    wait_until("a part is there", lambda: stub.count("part") == 1, 10)
    child.kill()
    child.wait()
    other = next(iter(stub.uploads.values()))
    stub.uploads["theirs"] = type(other)("other/" + KEY, {}, other.begun - 9000)
    for number in range(5):
        stub.uploads[f"old {number}"] = type(other)(f"mine/old/{number}", {}, other.begun - 9000)
    stub.page = 2
    assert TOOL.ok(url, "sweep", 3600) == b"5\n"
    assert len(stub.uploads) == 2
    assert TOOL.ok(url, "sweep", -1) == b"1\n"
    assert list(stub.uploads) == ["theirs"]
    assert not stub.objects


# ---- who signs ----

def test_keys_from_a_file_are_read_again_when_they_are_refused(stub: S3Stub, tmp_path: Path) -> None:
    stub.keys = {"AKIDNEW": ("newnewnew", CANARY)}
    file = tmp_path / "credentials"

    def write(key_id: str, secret: str, token: str) -> None:
        file.write_text(f"# keys\n[default]\naws_access_key_id = AKIDTEST\n\n[ingest]\naws_access_key_id={key_id}\n"
                        f"aws_secret_access_key = {secret} \naws_session_token={token}\nregion = x\n", encoding="ascii")

    write("AKIDOLD", "oldoldold", CANARY)
    file.chmod(0o600)
    stub.objects[KEY] = _object(b"hello")
    stub.fault("late", "get", seconds=0.5)
    child = subprocess.Popen(TOOL.argv(stub.url(), "get", KEY, options=[f"credentials=file:{file}#ingest"]),
                             stdout=subprocess.PIPE, env=TOOL.env)
    wait_until("it asked with the old keys", lambda: not stub.faults[0].count, 10)
    write("AKIDNEW", "newnewnew", CANARY)
    assert child.stdout and child.stdout.read() == b"hello"
    assert child.wait() == 0
    assert len(stub.refused) == 1 and "AKIDOLD" in stub.refused[0]
    stub.refused.clear()
    file.chmod(0o644)
    told = TOOL.error(stub.url(), "get", KEY, options=[f"credentials=file:{file}#ingest"])
    assert "is open to others" in told
    file.chmod(0o600)
    assert "no section [other]" in TOOL.error(stub.url(), "get", KEY, options=[f"credentials=file:{file}#other"])
    told = TOOL.error(stub.url(), "get", KEY, options=[f"credentials=file:{file}"])
    assert "[default]: expected aws_access_key_id and aws_secret_access_key" in told


class Metadata(http.server.BaseHTTPRequestHandler):
    """The metadata services of an instance (IMDSv2 only) and of a container."""

    asked: list[str] = []

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Silent."""

    def _answer(self, status: int, text: str) -> None:
        self.asked.append(f"{self.command} {self.path} {status}")
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self) -> None:  # noqa: N802
        """A token."""
        fine = self.path == "/latest/api/token" and self.headers["x-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200 if fine else 400, "TOKEN==")

    def do_GET(self) -> None:  # noqa: N802
        """The role's name, its keys."""
        ends = datetime.now(timezone.utc) + timedelta(hours=1)
        keys = json.dumps({"Code": "Success", "AccessKeyId": "AKIDROLE", "SecretAccessKey": "role/role", "Token": CANARY,
                           "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ")})
        role = "/latest/meta-data/iam/security-credentials/"
        if self.path == "/container" and self.headers["Authorization"] == "Basic xyz":
            self._answer(200, keys)
        elif self.headers["x-aws-ec2-metadata-token"] != "TOKEN==":
            self._answer(401, "")
        else:
            self._answer(*{role: (200, "ingest-role\n"), role + "ingest-role": (200, keys)}.get(self.path, (404, "")))


@pytest.fixture(name="metadata")
def _metadata() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    Metadata.asked = []
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_roles_of_instances_and_containers(stub: S3Stub, metadata: str) -> None:
    stub.keys = {"AKIDROLE": ("role/role", CANARY)}
    instance = Tool(AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata + "/")
    instance.ok(stub.url(), "put", KEY, data=b"hello", options=["credentials=instance"])
    assert len(Metadata.asked) == 3  # once for all requests of the put
    container = Tool(AWS_CONTAINER_CREDENTIALS_FULL_URI=metadata + "/container",
                     AWS_CONTAINER_AUTHORIZATION_TOKEN="Basic xyz")
    assert container.ok(stub.url(), "get", KEY, options=["credentials=container"]) == b"hello"
    container.env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "Basic abc"
    told = container.error(stub.url(), "get", KEY, options=["credentials=container"])
    assert told.startswith("denied: GET") and "the role of this container" in told and "got 401" in told
    remote = Tool(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://192.0.2.1/container")
    assert "http is allowed to loopback only" in remote.error(stub.url(), "get", KEY, options=["credentials=container"])


def test_tls_is_verified(tmp_path: Path) -> None:
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=test",
                    "-addext", "subjectAltName=IP:127.0.0.1"], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with S3Stub(tls=context) as stub:
        TOOL.ok(stub.url(ca_file=str(tmp_path / "cert.pem")), "put", KEY, data=b"hello")
        assert TOOL.error(stub.url(), "get", KEY).startswith("denied: GET s3://archive/" + KEY + ": TLS: ")
        other_name = stub.url(host="localhost", ca_file=str(tmp_path / "cert.pem"))
        assert "TLS: " in TOOL.error(other_name, "get", KEY)


# ---- the directory ----

def remains(where: Path) -> list[Path]:
    """Temporary files of puts."""
    return [path for path in where.rglob(".put-*")]


FIRST, SECOND = "raw/day=09/x.parquet", "raw/day=10/x.parquet"


def crash_everywhere(tmp_path: Path, kind: str) -> int:
    """Two puts that end at their nth call of the file system, for every n until they go through; then look, and go on.

    What was reported is there, whatever ends the second put; what was not is whole or not there at all.
    """
    body = b"x" * 100000
    for nth in range(1, 200):
        where = tmp_path / f"{kind}-{nth}"
        where.mkdir()
        shim = Shim(where, tmp_path / f"{kind}-{nth}.control")
        shim.order(f"do={kind} nth={nth} count=1")
        url = f"file://{where}/archive"
        done = subprocess.run(TOOL.argv(url, "put-all", FIRST, SECOND), input=body, capture_output=True,
                              env={**TOOL.env, **shim.env}, check=False)
        reported = len(done.stdout.splitlines())
        assert (reported == 2) == (done.returncode == 0), done.stderr
        assert done.returncode in (0, 1 if kind == "eio" else -signal.SIGKILL), done.stderr
        for number, key in enumerate((FIRST, SECOND)):
            there = where / "archive" / key
            assert there.exists() or number >= reported, (nth, key)
            assert not there.exists() or there.read_bytes() == body, (nth, key)
            assert kind != "eio" or not there.exists() or number < reported, (nth, key)
        missing = [key for key in (FIRST, SECOND) if not (where / "archive" / key).exists()]
        if missing:
            TOOL.ok(url, "put-all", *missing, data=body)
        if remains(where):
            TOOL.ok(url, "sweep", -1)
        assert not remains(where)
        if reported == 2:
            return nth
    raise AssertionError("it never goes through")


@pytest.mark.parametrize("kind", ["kill", "power", "eio"])
def test_a_crash_leaves_an_object_whole_or_not_at_all(tmp_path: Path, kind: str) -> None:
    assert crash_everywhere(tmp_path, kind) > 15


@pytest.mark.parametrize("order,told", [("do=enospc on=write", "full: cannot write"),
                                        ("do=edquot on=write nth=2", "full: cannot write"),
                                        ("do=erofs on=mkdir nth=2", "denied: cannot make the directories of"),
                                        ("do=eio on=fsync", "io: cannot sync"),
                                        ("do=eio on=rename", "io: cannot give its name to")])
def test_a_disk_that_fails_is_told(tmp_path: Path, order: str, told: str) -> None:
    (tmp_path / "disk").mkdir()
    shim = Shim(tmp_path / "disk", tmp_path / "control")
    shim.order(order)
    tool = Tool(**shim.env)
    assert tool.error(f"file://{tmp_path}/disk/a", "put", KEY, data=b"x" * (3 << 20)).startswith(told)
    assert not remains(tmp_path) and not (tmp_path / "disk/a" / KEY).exists()


def test_file_systems_without_such_a_rename_take_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    shim = Shim(tmp_path / "disk", tmp_path / "control")
    shim.order("do=einval on=rename")
    url = f"file://{tmp_path}/disk/a"
    Tool(**shim.env).ok(url, "put", KEY, data=b"hello")
    assert shim.met() and TOOL.ok(url, "get", KEY) == b"hello" and not remains(tmp_path)
