"""Security events as operators meet them: the streams, ``doctor``, and what is published about us."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from operators import composition, security_events
from service.clock import SystemClock
from service.configuration import Settings
from service.directory import audit, depths, streams
from service.directory.database import Transaction, open_database
from service.errors import ConfigurationError
from service.metrics import Metrics
from service.security_events.declaration import SecurityEvents
from tests.infrastructure.schema import migrated_where_new
from tests.operators.house import House, acme

ISSUER = "https://scim.example"
PEM = ECKey.generate_key("P-256").as_pem(private=True).decode()
FAILED = {"code": "invalid_key", "message": "The key is not known.", "status": 400}


def listen(house: House, **stream: Any) -> None:
    events = SecurityEvents(endpoint="https://receiver.example", audience="receiver", **stream)
    house.declare(acme(security_events=events))


def stop(house: House) -> None:
    """The receiver refuses the first of two events."""

    def work(tx: Transaction) -> None:
        for number in range(2):
            streams.verify(tx, "acme", f"v-{number}", house.at)
        now, lease = SystemClock().now(), timedelta(seconds=30)
        claimed = streams.claim(tx, owner="a", now=now, lease=lease, limit=1)
        assert claimed == ["acme"]
        streams.stop(tx, "acme", owner="a", now=house.at, error=FAILED)

    house.transact(work)


def stream(house: House) -> dict[str, Any]:
    (row,) = house.run("org", "security-events", "list", "--json").rows
    return row


def finding(house: House, check: str) -> dict[str, Any]:
    rows = {row["check"]: row for row in house.run("doctor", "--json").rows}
    return rows[check]


def test_the_listing_tells_what_waits_and_why(house: House) -> None:
    listen(house)
    stop(house)
    row = stream(house)
    assert (row["organization"], row["waiting"], row["error"]) == ("acme", 2, FAILED)
    assert row["stopped_at"] is not None
    shown = house.run("org", "security-events", "list").out
    assert "stopped" in shown
    assert "invalid_key" in shown


def test_a_stopped_stream_is_resumed_and_who_did_it_is_kept(house: House) -> None:
    listen(house)
    stop(house)
    assert house.run("org", "security-events", "resume", "acme", "--actor", "kim").status == 0
    row = stream(house)
    assert (row["stopped_at"], row["waiting"]) == (None, 2)
    (entry,) = house.transact(lambda tx: audit.listing(tx, subject="acme"))
    assert (entry.actor, entry.action, entry.detail) == ("kim", "stream.resume", {})
    again = house.run("org", "security-events", "resume", "acme")
    assert (again.status, "not stopped" in again.err) == (1, True)


def test_what_is_left_out_is_named(house: House) -> None:
    listen(house)
    stop(house)
    (first, _) = house.transact(lambda tx: streams.waiting(tx, "acme", 10))
    done = house.run("org", "security-events", "resume", "acme", "--skip")
    assert first.event.jti in done.out
    assert stream(house)["waiting"] == 1
    (entry,) = house.transact(lambda tx: audit.listing(tx, subject="acme"))
    assert entry.detail["skipped"]["jti"] == first.event.jti


def test_a_verification_event_is_queued_for_streams_only(house: House) -> None:
    listen(house)
    assert house.run("org", "security-events", "verify", "acme").status == 0
    assert stream(house)["waiting"] == 1
    for name in ("globex", "nobody"):
        assert house.run("org", "security-events", "verify", name).status == 1
        assert house.run("org", "security-events", "resume", name).status == 1


def test_doctor_says_what_to_do_where_tokens_cannot_be_signed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = house.run("doctor", "--json").rows
    assert not [row for row in rows if "security" in row["check"] or "stream" in row["check"]]

    listen(house)
    missing = finding(house, "security events")
    assert missing["verdict"] == "failed"
    assert "acme" in missing["detail"]
    assert "PROVISIONER_SET_SIGNING_KEYS_FILE" in missing["advice"]

    monkeypatch.setenv("PROVISIONER_SET_SIGNING_KEYS", PEM)
    nameless = finding(house, "security events")
    assert (nameless["verdict"], "PROVISIONER_PUBLIC_URL" in nameless["detail"]) == ("failed", True)

    monkeypatch.setenv("PROVISIONER_PUBLIC_URL", ISSUER)
    signed = finding(house, "security events")
    assert (signed["verdict"], "ES256" in signed["detail"]) == ("ok", True)
    assert finding(house, "stream of acme")["verdict"] == "ok"


def test_doctor_names_streams_that_do_not_get_through(house: House) -> None:
    listen(house, credential_file="/nowhere/credential")
    unreadable = finding(house, "stream of acme")
    assert (unreadable["verdict"], "/nowhere/credential" in unreadable["detail"]) == (
        "failed",
        True,
    )
    stop(house)
    stopped = finding(house, "stream of acme")
    assert stopped["verdict"] == "failed"
    assert "invalid_key" in stopped["detail"]
    assert "org security-events resume acme" in stopped["advice"]


def test_metrics_tell_what_waits_and_who_is_stopped(house: House) -> None:
    listen(house)
    stop(house)
    page = Metrics().render(house.transact(lambda tx: depths.measure(tx, house.at))).decode()
    assert "provisioner_security_events_waiting 2.0" in page
    assert 'provisioner_stream_stopped{organization="acme"} 1.0' in page


# What is published


async def published(folder: Path, settings: Settings, *paths: str, role: str = "scim") -> list[Any]:
    database = open_database(migrated_where_new(f"sqlite:///{folder / 'directory.db'}"))
    parts = composition.assemble(
        settings, roles=frozenset({role}), database=database, clock=SystemClock()
    )
    transport = httpx.ASGITransport(app=parts.application)
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
        answers = [await http.get(path) for path in paths]
    for ending in parts.endings:
        await ending()
    await database.close()
    return [each.json() if each.status_code == 200 else each.status_code for each in answers]


def settings(**more: Any) -> Settings:
    given: dict[str, Any] = {"token_pepper": "x" * 32, "public_url": f"{ISSUER}/"} | more
    return Settings(**given)


@pytest.mark.parametrize("role", ["scim", "publisher"])
async def test_the_key_set_and_the_metadata_are_published(tmp_path: Path, role: str) -> None:
    key_set, metadata = await published(
        tmp_path,
        settings(set_signing_keys=PEM),
        "/.well-known/jwks.json",
        "/.well-known/ssf-configuration",
        role=role,
    )
    (key,) = key_set["keys"]
    assert (key["kty"], key["alg"], "d" in key) == ("EC", "ES256", False)
    assert metadata == {
        "spec_version": "1_0",
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "delivery_methods_supported": ["urn:ietf:rfc:8935"],
        "default_subjects": "ALL",
    }


async def test_an_issuer_with_a_path_has_its_metadata_where_ssf_looks_for_it(
    tmp_path: Path,
) -> None:
    (metadata,) = await published(
        tmp_path,
        settings(set_signing_keys=PEM, public_url=f"{ISSUER}/identity"),
        "/.well-known/ssf-configuration/identity",
    )
    assert metadata["issuer"] == f"{ISSUER}/identity"


async def test_without_keys_nothing_is_published_and_nothing_pushed(tmp_path: Path) -> None:
    paths = ("/.well-known/jwks.json", "/.well-known/ssf-configuration")
    assert await published(tmp_path, settings(), *paths) == [404, 404]
    database = open_database(f"sqlite:///{tmp_path / 'directory.db'}")
    parts = composition.assemble(
        settings(), roles=frozenset({"publisher"}), database=database, clock=SystemClock()
    )
    await database.close()
    assert "security-events" not in parts.workers


@pytest.mark.parametrize("url", ["", "http://scim.example", "https://scim.example/?a=b"])
def test_keys_need_an_issuer_that_receivers_can_trust(url: str) -> None:
    with pytest.raises(ConfigurationError, match="PROVISIONER_PUBLIC_URL"):
        security_events.signing_keys(settings(set_signing_keys=PEM, public_url=url))
