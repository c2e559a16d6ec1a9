"""AWS Signature Version 4 from the published algorithm, to check what others have signed. Knows nothing of libcurl."""
from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Mapping
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(ALGORITHM + r" Credential=([^/,]+)/(\d{8})/([^/,]+)/([^/,]+)/aws4_request, ?"
                            r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})")


class Refused(Exception):
    """Why a request is not to be believed; `code` is S3's word for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Claim:
    """What the Authorization header says."""

    key_id: str
    day: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str


def claim(authorization: str) -> Claim:
    """Take the header apart."""
    match = _AUTHORIZATION.fullmatch(authorization.strip())
    if not match:
        raise Refused("AuthorizationHeaderMalformed", f"not a SigV4 header: {authorization[:200]}")
    key_id, day, region, service, signed, signature = match.groups()
    return Claim(key_id, day, region, service, tuple(signed.split(";")), signature)


def canonical_query(query: str) -> str:
    """Names and values decoded, encoded as AWS does, sorted by name and then by value."""
    pairs = []
    for pair in query.split("&") if query else []:
        name, _, value = pair.partition("=")
        pairs.append(tuple(quote(unquote_to_bytes(part), safe="-._~") for part in (name, value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_request(method: str, target: str, headers: Mapping[str, str], signed: tuple[str, ...],
                      payload_hash: str) -> str:
    """`target` is the request line's, `headers` have small letters in their names. S3's form: the path is encoded once."""
    path, _, query = target.partition("?")
    lines = [method, quote(unquote_to_bytes(path), safe="/-._~"), canonical_query(query)]
    lines += [f"{name}:{' '.join(headers[name].split())}" for name in signed]
    return "\n".join(lines + ["", ";".join(signed), payload_hash])


def signature(secret: str, what: Claim, when: str, request: str) -> str:
    """The signature of a canonical request."""
    scope = f"{what.day}/{what.region}/{what.service}/aws4_request"
    text = "\n".join([ALGORITHM, when, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in (what.day, what.region, what.service, "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def sign(method: str, target: str, host: str, keys: tuple[str, str], region: str, body: bytes = b"") -> dict[str, str]:
    """The headers of a request that is signed here and now, for what a test asks of a server itself."""
    when = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": when}
    what = Claim(keys[0], when[:8], region, "s3", tuple(sorted(headers)), "")
    made = signature(keys[1], what, when, canonical_request(method, target, headers, what.signed, payload))
    headers["authorization"] = (f"{ALGORITHM} Credential={keys[0]}/{what.day}/{region}/s3/aws4_request, "
                                f"SignedHeaders={';'.join(what.signed)}, Signature={made}")
    return headers
