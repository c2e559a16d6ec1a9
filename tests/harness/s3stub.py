"""A bucket of S3 in a thread, which believes nothing and fails when it is asked to.

Every request has to be signed for this server's region and keys, with all x-amz-* headers signed, a date of now, and a
body whose hash is x-amz-content-sha256. Faults are armed by what they strike:

    stub.fault("slowdown", on="part", count=2)     503 SlowDown, twice, then as always
    stub.fault("lose_reply", on="put")             it is done, but the answer never comes

    500 slowdown 429 403 412 409 501               an answer of that status (503 for slowdown), with S3's code
    late        nothing for `seconds`, then as always
    silent      nothing, until the client gives up
    cut         the connection ends when half of the request's body was read
    lose_reply  the request is done, then the connection ends without an answer
    truncate    half of the answer's body, then the connection ends
    wrong_etag  HEAD says another ETag; a put answers with another one
    wrong_size  HEAD says one byte less
    error_in_200  status 200, spaces, and an error in the body (completion)
    moved       301 PermanentRedirect to the region eu-other-1
    garbage     status 200 with what is no XML
"""
from __future__ import annotations

import hashlib
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from . import sigv4

EMPTY = hashlib.sha256(b"").hexdigest()
STATUSES = {"500": (500, "InternalError"), "slowdown": (503, "SlowDown"), "429": (429, "TooManyRequests"),
            "403": (403, "AccessDenied"), "412": (412, "PreconditionFailed"), "501": (501, "NotImplemented"),
            "409": (409, "ConditionalRequestConflict"), "moved": (301, "PermanentRedirect")}
PART_MIN = 5 << 20


@dataclass
class Object:
    """What is there of a key."""

    body: bytes
    etag: str
    headers: dict[str, str]
    modified: float


@dataclass
class Upload:
    """A multipart upload that has begun."""

    key: str
    headers: dict[str, str]
    begun: float
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


@dataclass
class Fault:
    """One way to fail, for a number of requests of a kind."""

    kind: str
    on: str
    count: int
    seconds: float
    skip: int


class S3Stub:
    """The bucket `bucket` on a free port of loopback, with path-style and virtual-host addressing."""

    def __init__(self, bucket: str = "archive", region: str = "eu-test-1", *, tls: Any = None) -> None:
        self.bucket, self.region = bucket, region
        self.keys = {"AKIDTEST": ("secretsecretsecret", None)}  # id: (secret, session token)
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, Upload] = {}
        self.log: list[tuple[str, str, int]] = []  # operation, key, status (0: none was sent)
        self.refused: list[str] = []               # why signatures were not believed
        self.conditional = True                    # False: If-None-Match is not looked at
        self.page = 1000
        self.encodes = True                        # False: encoding-type=url is not known
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        stub = self

        class Handler(_Handler):
            """Bound to this stub."""

        Handler.stub = stub
        self._server = _Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; connections that are open end with it."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "S3Stub":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, prefix: str = "", *, host: str = "127.0.0.1", path_style: bool = True, **more: str) -> str:
        """The URL of a target in this bucket."""
        query = {"endpoint": f"{self.scheme}://{host}:{self.port}", "region": self.region,
                 "path_style": "true" if path_style else "false", **more}
        return f"s3://{self.bucket}/{prefix}?" + "&".join(f"{k}={quote(v, safe=':/')}" for k, v in query.items())

    def fault(self, kind: str, on: str = "", count: int = 1, seconds: float = 0.0, skip: int = 0) -> None:
        """Fail so with the next `count` requests (after `skip`) of the operation `on`; "": of any."""
        with self.lock:
            self.faults.append(Fault(kind, on, count, seconds, skip))

    def take_fault(self, operation: str) -> Fault | None:
        """The fault that strikes this request."""
        with self.lock:
            for fault in self.faults:
                if fault.on in ("", operation) and fault.count:
                    if fault.skip:
                        fault.skip -= 1
                        return None
                    fault.count -= 1
                    return fault
        return None

    def count(self, operation: str) -> int:
        """How many requests of that operation came."""
        return sum(1 for one, _, _ in self.log if one == operation)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is what many tests are about; anything else is told as usual."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: S3Stub
    disable_nagle_algorithm = True  # head and body leave apart, and nobody waits 40 ms for the second

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Silent."""

    def do_GET(self) -> None:  # noqa: N802
        """All methods go one way."""
        self._serve()

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    # ---- one request ----

    def _serve(self) -> None:
        self.connection.settimeout(60)
        path, _, query = self.path.partition("?")
        self.query = {k: v[0] for k, v in parse_qs(query, keep_blank_values=True).items()}
        host = self.headers["Host"].split(":")[0]
        if host.startswith(self.stub.bucket + "."):
            self.key = unquote(path[1:])
        elif path.startswith(f"/{self.stub.bucket}/"):
            self.key = unquote(path[len(self.stub.bucket) + 2:])
        else:
            self.key = ""
            self._answer(404, *_error("NoSuchBucket", "no such bucket"))
            return
        self.operation = self._operation()
        fault = self.stub.take_fault(self.operation)
        if fault and fault.kind == "silent":
            time.sleep(fault.seconds)
            self._hang_up()
            return
        if fault and fault.kind == "late":
            time.sleep(fault.seconds)
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.kind == "cut":
            self.rfile.read(length // 2)
            self._hang_up()
            return
        body = self.rfile.read(length)
        try:
            self._check(body)
        except sigv4.Refused as why:
            self.stub.refused.append(f"{self.command} {self.path}: {why.code}: {why}")
            self._answer(403, *_error(why.code, str(why)))
            return
        if fault and fault.kind in STATUSES:
            status, code = STATUSES[fault.kind]
            headers, answer = _error(code, "as it was asked for")
            self._answer(status, {**headers, **({"x-amz-bucket-region": "eu-other-1"} if status == 301 else {})}, answer)
            return
        with self.stub.lock:
            status, headers, answer = getattr(self, "_do_" + self.operation)(body)
        self._answer(status, *self._spoilt(fault, headers, answer), fault=fault)

    def _operation(self) -> str:
        query, command = self.query, self.command
        if not self.key:
            return "uploads" if "uploads" in query else "list"
        if command == "POST":
            return "create" if "uploads" in query else "complete"
        if command == "PUT":
            return "part" if "partNumber" in query else "put"
        if command == "DELETE":
            return "abort" if "uploadId" in query else "delete"
        return {"GET": "get", "HEAD": "head"}[command]

    def _spoilt(self, fault: Fault | None, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        kind = fault.kind if fault else ""
        if kind == "wrong_etag":
            headers = {**headers, "ETag": '"00000000000000000000000000000000"'}
        if kind == "wrong_size":
            headers = {**headers, "Content-Length": str(int(headers["Content-Length"]) - 1)}
        if kind == "error_in_200":
            body = b"   \n" + _error("InternalError", "as it was asked for")[1]
        if kind == "garbage":
            body = b"<html>a proxy's page"
        return headers, body

    def _hang_up(self) -> None:
        self.stub.log.append((self.operation, self.key, 0))
        self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: Fault | None = None) -> None:
        if fault and fault.kind == "lose_reply":
            self._hang_up()
            return
        self.stub.log.append((getattr(self, "operation", "?"), self.key, status))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.kind == "truncate":
            body = body[:len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    # ---- is it to be believed? ----

    def _check(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        claim = sigv4.claim(headers.get("authorization", ""))
        if claim.key_id not in self.stub.keys:
            raise sigv4.Refused("InvalidAccessKeyId", f"no key {claim.key_id}")
        secret, token = self.stub.keys[claim.key_id]
        when = headers.get("x-amz-date", "")
        self._check_claim(claim, headers, when, token)
        request = sigv4.canonical_request(self.command, self.path, headers, claim.signed,
                                          headers["x-amz-content-sha256"])
        if sigv4.signature(secret, claim, when, request) != claim.signature:
            raise sigv4.Refused("SignatureDoesNotMatch", "the signature of:\n" + request)
        if hashlib.sha256(body).hexdigest() != headers["x-amz-content-sha256"]:
            raise sigv4.Refused("XAmzContentSHA256Mismatch", "the body is another one")

    def _check_claim(self, claim: sigv4.Claim, headers: dict[str, str], when: str, token: str | None) -> None:
        must = {name for name in headers if name.startswith("x-amz-")} | {"host", "x-amz-content-sha256", "x-amz-date"}
        must |= {"content-type"} & set(headers) | {"if-none-match"} & set(headers)
        if not must <= set(claim.signed):
            raise sigv4.Refused("AccessDenied", f"not signed: {must - set(claim.signed)}")
        if (claim.region, claim.service) != (self.stub.region, "s3"):
            raise sigv4.Refused("AuthorizationHeaderMalformed",
                                f"the region '{claim.region}' is wrong; expecting '{self.stub.region}'")
        at = datetime.strptime(when, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
        if abs(at - time.time()) > 900 or when[:8] != claim.day:
            raise sigv4.Refused("RequestTimeTooSkewed", "the difference between the request time and ours is too large")
        if headers.get("x-amz-security-token") != token:
            raise sigv4.Refused("InvalidToken", "the session token is another one")

    # ---- what is done: status, headers, body ----

    def _do_head(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        found = self.stub.objects.get(self.key)
        if not found:
            return 404, {}, b""
        return 200, {**_described(found), "Content-Length": str(len(found.body))}, b""

    def _do_get(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        found = self.stub.objects.get(self.key)
        if not found:
            return 404, *_error("NoSuchKey", "no such key")
        wanted = self.headers.get("Range")
        if not wanted:
            return 200, _described(found), found.body
        first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
        size = len(found.body)
        if first >= size:
            return 416, *_error("InvalidRange", "the range is not satisfiable")
        body = found.body[first:last + 1]
        return 206, {**_described(found), "Content-Range": f"bytes {first}-{first + len(body) - 1}/{size}"}, body

    def _conflict(self) -> bool:
        return self.stub.conditional and self.headers.get("If-None-Match") == "*" and self.key in self.stub.objects

    def _kept_headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items()
                if name.lower().startswith("x-amz-meta-") or name.lower() == "content-type"}

    def _do_put(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._conflict():
            return 412, *_error("PreconditionFailed", "at least one of the pre-conditions did not hold")
        etag = hashlib.md5(body).hexdigest()
        self.stub.objects[self.key] = Object(body, etag, self._kept_headers(), time.time())
        return 200, {"ETag": f'"{etag}"'}, b""

    def _do_create(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = f"up+load/{len(self.stub.log)}=="  # has what a query must encode
        self.stub.uploads[upload] = Upload(self.key, self._kept_headers(), time.time())
        return 200, *_xml("InitiateMultipartUploadResult", f"<Key>{escape(self.key)}</Key><UploadId>{upload}</UploadId>")

    def _upload(self) -> Upload | None:
        upload = self.stub.uploads.get(self.query["uploadId"])
        return upload if upload and upload.key == self.key else None

    def _do_part(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = self._upload()
        if not upload:
            return 404, *_error("NoSuchUpload", "the upload does not exist")
        etag = hashlib.md5(body).hexdigest()
        upload.parts[int(self.query["partNumber"])] = (etag, body)
        return 200, {"ETag": f'"{etag}"'}, b""

    def _do_complete(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = self._upload()
        if not upload:
            return 404, *_error("NoSuchUpload", "the upload does not exist")
        named = [(int(part.findtext("{*}PartNumber") or 0), (part.findtext("{*}ETag") or "").strip('"'))
                 for part in ElementTree.fromstring(body).findall("{*}Part")]
        if named != [(number, etag) for number, (etag, _) in sorted(upload.parts.items())]:
            return 400, *_error("InvalidPart", "one or more of the parts could not be found")
        bodies = [part for _, (_, part) in sorted(upload.parts.items())]
        if any(len(part) < PART_MIN for part in bodies[:-1]):
            return 400, *_error("EntityTooSmall", "a part is smaller than the minimum")
        if self._conflict():
            return 412, *_error("PreconditionFailed", "at least one of the pre-conditions did not hold")
        joined = hashlib.md5(b"".join(bytes.fromhex(etag) for _, etag in named)).hexdigest()
        etag = f"{joined}-{len(named)}"
        self.stub.objects[self.key] = Object(b"".join(bodies), etag, upload.headers, time.time())
        del self.stub.uploads[self.query["uploadId"]]
        return 200, *_xml("CompleteMultipartUploadResult", f"<ETag>&quot;{etag}&quot;</ETag>")

    def _do_abort(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if not self._upload():
            return 404, *_error("NoSuchUpload", "the upload does not exist")
        del self.stub.uploads[self.query["uploadId"]]
        return 204, {}, b""

    def _do_delete(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        self.stub.objects.pop(self.key, None)
        return 204, {}, b""

    def _named(self, key: str) -> str:
        return quote(key, safe="/") if self.stub.encodes else escape(key)

    def _do_list(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.query.get("list-type") != "2" or self.query.get("encoding-type") != "url":
            return 400, *_error("InvalidArgument", "expected list-type=2 and encoding-type=url")
        after = self.query.get("continuation-token", "more:").removeprefix("more:") or self.query.get("start-after", "")
        keys = sorted(k for k in self.stub.objects if k.startswith(self.query.get("prefix", "")) and k > after)
        page, more = keys[:self.stub.page], len(keys) > self.stub.page
        body = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        body += "<EncodingType>url</EncodingType>" if self.stub.encodes else ""
        if more:
            body += f"<NextContinuationToken>{escape('more:' + page[-1])}</NextContinuationToken>"
        for key in page:
            found = self.stub.objects[key]
            body += (f"<Contents><Key>{self._named(key)}</Key><LastModified>{_iso(found.modified)}</LastModified>"
                     f"<ETag>&quot;{found.etag}&quot;</ETag><Size>{len(found.body)}</Size></Contents>")
        return 200, *_xml("ListBucketResult", body)

    def _do_uploads(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        after = (self.query.get("key-marker", ""), self.query.get("upload-id-marker", ""))
        all_of_them = sorted((u.key, name) for name, u in self.stub.uploads.items())
        rest = [one for one in all_of_them if one > after and one[0].startswith(self.query.get("prefix", ""))]
        page, more = rest[:self.stub.page], len(rest) > self.stub.page
        body = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        body += "<EncodingType>url</EncodingType>" if self.stub.encodes else ""
        if more:
            body += (f"<NextKeyMarker>{self._named(page[-1][0])}</NextKeyMarker>"
                     f"<NextUploadIdMarker>{page[-1][1]}</NextUploadIdMarker>")
        for key, name in page:
            body += (f"<Upload><Key>{self._named(key)}</Key><UploadId>{name}</UploadId>"
                     f"<Initiated>{_iso(self.stub.uploads[name].begun)}</Initiated></Upload>")
        return 200, *_xml("ListMultipartUploadsResult", body)


def _described(found: Object) -> dict[str, str]:
    return {"ETag": f'"{found.etag}"', "Last-Modified": formatdate(found.modified, usegmt=True), **found.headers}


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _xml(root: str, body: str) -> tuple[dict[str, str], bytes]:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{body}</{root}>'
    return {"Content-Type": "application/xml"}, text.encode()


def _error(code: str, message: str) -> tuple[dict[str, str], bytes]:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>'
    return {"Content-Type": "application/xml"}, text.encode()
