"""``provisioner doctor`` on the authorization servers that organizations name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey

from service.organizations import ScimOauth
from tests.operators.house import House, acme


class _Keys(BaseHTTPRequestHandler):
    """One key at /.well-known/jwks.json, and nothing anywhere else."""

    def do_GET(self) -> None:
        there = self.path == "/.well-known/jwks.json"
        key = ECKey.generate_key("P-256", {"kid": "k-1"}).as_dict(private=False)
        body = orjson.dumps({"keys": [key] if there else []})
        self.send_response(200 if there else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Keys) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def finding(house: House, **oauth: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"audience": "https://scim.example", "clients": ("sync",)} | oauth
    house.declare(acme(scim_oauth=ScimOauth(**settings)))
    rows = {row["check"]: row for row in house.run("doctor", "--json").rows}
    return rows["issuer of acme"]


def test_doctor_finds_the_keys_of_an_issuer(house: House, issuer: str) -> None:
    found = finding(house, issuer=issuer)

    assert (found["verdict"], found["detail"]) == ("ok", f"{issuer}, keys: 1")


def test_doctor_names_an_issuer_whose_keys_cannot_be_had(house: House, issuer: str) -> None:
    wrong_place = finding(house, issuer=issuer, jwks_url=f"{issuer}/keys")
    nobody_there = finding(house, issuer="http://127.0.0.1:9")

    for found in (wrong_place, nobody_there):
        assert found["verdict"] == "failed"
        assert "scim_oauth.issuer" in found["advice"]
    assert "answers 404" in wrong_place["detail"]


def test_doctor_says_nothing_of_issuers_where_none_is_named(house: House) -> None:
    rows = house.run("doctor", "--json").rows

    assert not [row for row in rows if row["check"].startswith("issuer")]
