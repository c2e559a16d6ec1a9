"""Signed handshakes, checked with keys and signatures that python3-cryptography makes."""
from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest
import websockets
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from exchange_client import (CHANNELS, Connect, FeedClient, MakeExchange, Reply, connect, delivered_all, fold, get,
                             make_exchange, sign, tickers)
from harness.daemons import Exchange

__all__ = ["connect", "make_exchange"]

KEY_ID = "3f0c9a52-7c1d-4a2e-9b43-0e6f1d2a7b90"
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
Key = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@pytest.fixture(name="key", scope="module", params=["rsa", "ed25519"])
def make_key(request: pytest.FixtureRequest) -> Key:
    """A private key of each kind."""
    if request.param == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ed25519.Ed25519PrivateKey.generate()


@pytest.fixture(name="guarded")
def make_guarded(key: Key, make_exchange: MakeExchange, directory: Path) -> Iterator[Exchange]:
    """An exchange that knows the key."""
    path = directory / "public.pem"
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM,
                                                   serialization.PublicFormat.SubjectPublicKeyInfo))
    yield make_exchange(hold=True, auth="required", key_id=KEY_ID, public_key=path)


def upgrade(exchange: Exchange, headers: dict[str, str]) -> Reply:
    """The answer to a handshake that is refused."""
    return get(exchange.ws_url.replace("ws://", "http://"), {**UPGRADE, **headers})


def details(answer: Reply) -> tuple[int, str, str | None]:
    """Status, error code and details."""
    return answer.status, answer.body["error"]["code"], answer.body["error"].get("details")


def test_a_good_signature_passes(key: Key, guarded: Exchange, connect: Connect) -> None:
    for skew in (0, -5, 5, 30):
        client = connect(guarded, headers=sign(key, KEY_ID, skew_s=skew))
        assert client.subscribe(["ticker"]) == {"ticker": 1}


def test_refusals_have_the_real_bodies(key: Key, guarded: Exchange) -> None:
    assert details(upgrade(guarded, {})) == (401, "token_authentication_failure", None)
    good = sign(key, KEY_ID)
    unsigned = {name: value for name, value in good.items() if not name.endswith("SIGNATURE")}
    assert details(upgrade(guarded, unsigned)) == (401, "signature_is_missing_from_headers", None)
    assert details(upgrade(guarded, sign(key, "another"))) == (401, "authentication_error", "NOT_FOUND")
    for skew in (-30, 300, -300):
        assert details(upgrade(guarded, sign(key, KEY_ID, skew_s=skew))) == (401, "header_timestamp_expired", None)
    wrong = (401, "authentication_error", "INCORRECT_API_KEY_SIGNATURE")
    assert details(upgrade(guarded, sign(key, KEY_ID, path="/ws/v2"))) == wrong
    other = rsa.generate_private_key(65537, 2048)
    assert details(upgrade(guarded, sign(other, KEY_ID))) == wrong
    for garbage in ("!!!!", "AAAA", "A" * 4000, "="):
        assert details(upgrade(guarded, {**good, "KALSHI-ACCESS-SIGNATURE": garbage})) == wrong
    for stamp in ("", "soon", "-1", "99999999999999999999999"):
        assert details(upgrade(guarded, {**good, "KALSHI-ACCESS-TIMESTAMP": stamp}))[1] == "header_timestamp_expired"


def test_another_salt_length_is_refused(make_exchange: MakeExchange, directory: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    path = directory / "public.pem"
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM,
                                                   serialization.PublicFormat.SubjectPublicKeyInfo))
    exchange = make_exchange(hold=True, auth="required", key_id=KEY_ID, public_key=path)
    assert details(upgrade(exchange, sign(key, KEY_ID, salt=20)))[2] == "INCORRECT_API_KEY_SIGNATURE"


def test_rest_is_public_but_a_wrong_signature_is_refused(key: Key, guarded: Exchange) -> None:
    url = guarded.rest_url + "/markets?limit=1"
    path = "/trade-api/v2/markets"
    assert get(url).status == 200
    assert get(url, sign(key, KEY_ID, path=path)).status == 200, "the query is not signed"
    assert get(url, sign(key, KEY_ID, path=path + "?limit=1")).status == 401
    limits = guarded.rest_url + "/account/limits"
    assert get(limits).status == 401
    assert get(limits, sign(key, KEY_ID, path="/trade-api/v2/account/limits")).status == 200


def test_a_plain_request_to_the_websocket_path_is_told_so(make_exchange: MakeExchange) -> None:
    exchange = make_exchange(hold=True)
    answer = get(exchange.ws_url.replace("ws://", "http://"))
    assert answer.status == 426 and answer.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize("extra", [{}, {"tls_record_per_message": True}])
def test_tls(make_exchange: MakeExchange, directory: Path, extra: dict[str, Any]) -> None:
    """The same feed over wss, with packed records and with one record a message."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2", "-keyout", key, "-out", cert],
                   check=True, capture_output=True, timeout=60)
    exchange = make_exchange(markets=20, rate=20000, events=20000, wait_clients=1, tls_cert=cert, tls_key=key,
                             mix="lifecycle=0", **extra)
    url = exchange.process.log().split("wss=")[1].split()[0]
    client = FeedClient(url, context=ssl.create_default_context(cafile=str(cert)))
    try:
        sids = client.subscribe(CHANNELS, market_tickers=tickers(exchange))
        delivered_all(exchange, client)
        sequence = client.sequence(sids["orderbook_delta"])
        assert sequence == list(range(1, len(sequence) + 1)) and len(sequence) > 15000
        for name, book in fold(client.frames).items():
            assert get(f"{exchange.rest_url}/markets/{name}/orderbook").body["orderbook_fp"] == book.rest()
    finally:
        client.close()


def test_a_plain_client_on_the_tls_port_harms_nobody(make_exchange: MakeExchange, directory: Path) -> None:
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost", "-keyout", key,
                    "-out", cert], check=True, capture_output=True, timeout=60)
    exchange = make_exchange(hold=True, tls_cert=cert, tls_key=key)
    url = exchange.process.log().split("wss=")[1].split()[0]
    with pytest.raises((websockets.WebSocketException, OSError, EOFError)):
        FeedClient(url.replace("wss://", "ws://"))
    assert get(exchange.rest_url + "/exchange/status").status == 200
