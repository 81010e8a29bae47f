"""Mails go out once for one intent, by our hand or Auth0's; a new one is an operator's word."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Refused
from service.mail import Mail
from tests.provisioning.auth0 import call
from tests.provisioning.links import (
    deliveries,
    invites_by,
    mailed,
    resend,
    sent,
    use_ticket,
)
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"
CHANGE_PASSWORD = "/dbconnections/change_password"


class _LosesFirst:
    """Takes the first mail and loses the connection; takes the others."""

    def __init__(self) -> None:
        self.taken: list[Mail] = []

    async def send(self, mail: Mail) -> None:
        self.taken.append(mail)
        if len(self.taken) == 1:
            raise ConnectionResetError


async def test_a_doubtful_mail_is_sent_again_when_an_operator_says_so(world: World) -> None:
    mailer = _LosesFirst()
    world.work(world.lanes(mailer=mailer))
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await resend(world, user)
    await world.settled()
    assert [mail.to for mail in mailer.taken] == [ADA, ADA]
    assert mailer.taken[0].id != mailer.taken[1].id, "a new intent is a mail of its own"
    assert await deliveries(world, user) == [("ticket", "doubtful"), ("ticket", "sent")]
    assert [e.type for e in await world.events()][-1] == "operator.resend"
    assert (await world.endings())[-1] == ("succeeded", "applied", None)


async def test_a_resend_is_sent_once_and_never_by_itself_again(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await resend(world, user)
    with pytest.raises(Refused, match="on its way"):
        await resend(world, user)
    await world.settled()
    await world.change(user, displayName="Ada King")
    await world.settled()
    assert len(world.mails()) == 2
    assert [each.state for each in await sent(world, user)] == ["done", "done"]


class _Slow:
    """Takes a mail, and says so when it is told to."""

    def __init__(self) -> None:
        self.taken: list[Mail] = []
        self.go_on = asyncio.Event()

    async def send(self, mail: Mail) -> None:
        self.taken.append(mail)
        await self.go_on.wait()


async def test_a_resend_is_refused_while_the_mail_is_being_handed_over(world: World) -> None:
    mailer = _Slow()
    world.work(world.lanes(mailer=mailer))
    user = await world.join("hoekstra", ADA)

    async def in_hand() -> bool:
        return len(mailer.taken) == 1

    await world.until(in_hand)
    with pytest.raises(Refused, match="on its way"):
        await resend(world, user)
    mailer.go_on.set()
    await world.settled()
    assert len(mailer.taken) == 1


async def test_a_doubtful_resend_is_not_repeated(world: World) -> None:
    world.work()
    await invites_by(world, "hoekstra", "auth0-mail")
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.fault("drop-after-commit", "POST", CHANGE_PASSWORD, times=1)
    await resend(world, user)
    await world.settled()
    assert await mailed(world, "change_password") == [ADA, ADA]
    assert await deliveries(world, user) == [("auth0-mail", "sent"), ("auth0-mail", "doubtful")]


async def test_nobody_who_is_out_is_invited_again(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    with pytest.raises(Refused, match="inactive-in-scim"):
        await resend(world, user)
    assert len(world.mails()) == 1


async def test_nobody_is_invited_where_policy_invites_nobody(world: World) -> None:
    world.work()
    user = await world.join("clinic-a", "ada@clinics.example")
    await world.settled()
    with pytest.raises(Refused, match="invites nobody"):
        await resend(world, user)


async def test_a_resend_is_given_up_where_somebody_blocked_the_account(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    there = await world.auth0_user(ADA)
    assert there is not None
    await call(world, "PATCH", f"/users/{there['user_id']}", {"blocked": True})
    await resend(world, user)
    await world.settled()
    assert len(world.mails()) == 1
    assert (await world.endings())[-1] == ("deadlettered", None, "not_resent")
    after = await world.auth0_user(ADA)
    assert after is not None
    assert after["blocked"] is True
    with pytest.raises(Refused, match="blocked in Auth0"):
        await resend(world, user)
    # What was given up does not go out when the block is gone.
    await call(world, "PATCH", f"/users/{there['user_id']}", {"blocked": False})
    await world.change(user, displayName="Ada King")
    await world.settled()
    assert len(world.mails()) == 1


async def test_what_was_asked_for_somebody_who_left_is_not_sent_when_they_return(
    world: World,
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.rest()
    await resend(world, user)
    await world.change(user, active=False)
    world.work()
    await world.settled()
    await world.change(user, active=True)
    await world.settled()
    assert len(world.mails()) == 1


async def test_a_resend_that_policy_overtakes_is_given_up_and_can_be_asked_for_again(
    world: World,
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.rest()
    await resend(world, user)
    await invites_by(world, "hoekstra", "auth0-mail")
    world.work()
    await world.settled()
    assert (await world.endings())[-1] == ("deadlettered", None, "not_resent")
    await resend(world, user)
    await world.settled()
    assert await mailed(world, "change_password") == [ADA]
    assert (await world.endings())[-1] == ("succeeded", "applied", None)


async def test_auth0_mails_whoever_was_just_created(world: World) -> None:
    world.work()
    await invites_by(world, "hoekstra", "auth0-mail")
    user = await world.join("hoekstra", ADA)
    await world.settled()
    assert await mailed(world, "change_password") == [ADA]
    assert world.mails() == []
    assert await deliveries(world, user) == [("auth0-mail", "sent")]
    await use_ticket(world)
    await world.change(user, displayName="Ada King")
    await world.settled()
    assert await mailed(world, "change_password") == [ADA]


@pytest.mark.parametrize("kind", ["drop-before", "drop-after-commit", "html-502"])
async def test_auth0s_mail_is_not_repeated_where_its_answer_was_lost(
    world: World, kind: str
) -> None:
    await invites_by(world, "hoekstra", "auth0-mail")
    await world.fault(kind, "POST", CHANGE_PASSWORD, times=1)
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, displayName="Ada King")
    await world.settled()
    assert len(await mailed(world, "change_password")) == (kind == "drop-after-commit")
    assert await deliveries(world, user) == [("auth0-mail", "doubtful")]


async def test_auth0s_mail_waits_for_its_own_limit(world: World) -> None:
    await invites_by(world, "hoekstra", "auth0-mail")
    headers = {"retry-after": "1"}
    await world.fault("status", "POST", CHANGE_PASSWORD, status=429, times=1, headers=headers)
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    assert await mailed(world, "change_password") == [ADA]
    assert await deliveries(world, user) == [("auth0-mail", "sent")]


async def test_an_application_that_auth0_does_not_know_is_named(world: World) -> None:
    registered = (await world.registered("hoekstra")).organization
    policies = registered.policies.model_copy(update={"invite": "auth0-mail"})
    wrong = {"application": "no-such-app", "policies": policies}
    await world.apply(registered.model_copy(update=wrong))
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    assert (await world.user(user)).state == "failed"
    assert await deliveries(world, user) == []
    await world.apply(registered.model_copy(update=wrong | {"application": "sample-app"}))
    await world.change(user, displayName="Ada King")
    await world.settled()
    assert await deliveries(world, user) == [("auth0-mail", "sent")]
