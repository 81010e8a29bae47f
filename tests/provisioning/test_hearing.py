"""What is doubtful after an event while a call of ours is under way, whose echo it may be or not."""

from __future__ import annotations

from typing import Any

import pytest

from service.provisioning.hearing import CHANGED, Heard, Kind, follow_up
from service.provisioning.observed import Observed

CLINIC = "clinic-a"
THERE = Observed(presence="present", memberships={CLINIC: ()})
AGAIN = {"kind": "add-member", "organization": CLINIC}


def heard(kind: Kind, *, blocked: bool = False, organization: str | None = CLINIC) -> Heard:
    named = organization if kind.startswith("organization.") else None
    return Heard(kind=kind, user_id="auth0|1", blocked=blocked, organization=named)


def after(news: Heard, observed: Observed, doing: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [dict(each) for each in follow_up(news, observed, doing, {CLINIC})]


@pytest.mark.parametrize("blocked", [True, False])
def test_a_block_that_is_lifted_while_it_is_placed_is_looked_at(blocked: bool) -> None:
    """Our call may have been done long before its answer comes."""
    news = heard("user.updated", blocked=blocked)
    assert after(news, THERE, {"kind": "block"}) == ([] if blocked else [{"kind": CHANGED}])


def test_what_we_are_about_to_lift_is_no_news() -> None:
    for blocked in (True, False):
        observed = Observed(presence="present", blocked=True, blocked_by_us=True)
        news = heard("user.updated", blocked=blocked)
        assert after(news, observed, {"kind": "unblock"}) == []


@pytest.mark.parametrize("organization", [CLINIC, None])
def test_who_is_made_a_member_while_being_removed_is_removed_again(
    organization: str | None,
) -> None:
    doing = {"kind": "remove-member", "organization": CLINIC}
    news = heard("organization.member.added", organization=organization)
    assert after(news, THERE, doing) == [AGAIN]


def test_who_is_a_member_as_far_as_we_know_is_no_news() -> None:
    news = heard("organization.member.added")
    assert after(news, THERE, None) == []
    elsewhere = {"kind": "remove-member", "organization": "clinic-b"}
    assert after(news, THERE, elsewhere) == []
    assert after(news, Observed(presence="present"), None) == [AGAIN]
