"""What ``doctor`` says of tokens that end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from operators.ending import NOTICE, findings
from service.directory.credentials import Credential
from tests.operators.house import House

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def token(key_id: str = "old", **changes: Any) -> Credential:
    said: dict[str, Any] = {
        "id": key_id,
        "organization": "acme",
        "door": "scim",
        "scopes": ("read", "write"),
        "created_at": NOW - 90 * DAY,
        "expires_at": NOW + 3 * DAY,
        "revoked_at": None,
        "last_used_at": NOW,
    }
    return Credential(**said | changes)


def named(*tokens: Credential) -> list[str]:
    return [finding.check for finding in findings(tokens, NOW)]


@pytest.mark.parametrize(
    "changes",
    [{}, {"last_used_at": None}, {"expires_at": NOW + NOTICE}, {"expires_at": NOW - DAY}],
    ids=str,
)
def test_a_token_that_ends_with_none_in_its_place_is_named(changes: dict[str, Any]) -> None:
    assert named(token(**changes)) == ["scim token old of acme"]


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": None},
        {"expires_at": NOW + NOTICE + DAY},
        {"expires_at": NOW - NOTICE - DAY},
        {"revoked_at": NOW - DAY},
        {"expires_at": NOW - DAY, "last_used_at": None},
    ],
    ids=str,
)
def test_a_token_that_lasts_or_that_nobody_misses_is_not(changes: dict[str, Any]) -> None:
    assert named(token(**changes)) == []


@pytest.mark.parametrize(
    ("other", "takes_over"),
    [
        ({}, True),
        ({"last_used_at": None}, False),
        ({"scopes": ("read",)}, False),
        ({"door": "events"}, False),
        ({"revoked_at": NOW}, False),
    ],
    ids=str,
)
def test_only_a_token_in_use_that_may_do_as_much_takes_over(
    other: dict[str, Any], takes_over: bool
) -> None:
    new = token("new", expires_at=None, **other)
    assert ("scim token old of acme" not in named(token(), new)) is takes_over


def test_the_finding_says_when_and_what_to_do() -> None:
    (ends,) = findings([token()], NOW)
    assert ends.detail == "ends 2026-11-26 09:00 UTC"
    assert "org token create acme --door scim" in ends.advice
    (ended,) = findings([token(expires_at=NOW - DAY)], NOW)
    assert ended.detail == "ended 2026-11-22 09:00 UTC"


def test_where_a_new_token_lies_unused_it_is_the_one_to_take() -> None:
    new = token("new", expires_at=None, last_used_at=None)
    (ends,) = findings([token(), new], NOW)
    assert "take new instead" in ends.advice


def test_doctor_looks_at_the_tokens_of_every_organization(house: House) -> None:
    house.run("org", "token", "create", "acme", "--door", "events", "--expires-in-days", "3")
    (made,) = house.run("org", "token", "list", "acme", "--json").rows
    rows = {row["check"]: row for row in house.run("doctor", "--json").rows}
    assert rows[f"events token {made['id']} of acme"]["verdict"] == "failed"
