"""Answers that are lost, late or unreadable: read before writing again, nothing twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.auth0.buckets import LONGEST
from service.directory import accounts
from service.mail import Mail, SmtpMailer
from service.organizations import Policies
from service.provisioning.lanes import LaneSettings, backoff
from tests.faults import proves
from tests.infrastructure.processes import free_ports
from tests.provisioning.auth0 import call
from tests.provisioning.smtp import mail_server
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"
LOST = ["drop-after-commit", "drop-before", "html-502"]


@proves("connection lost after the write", "connection lost before the write", "gateway page")
@pytest.mark.parametrize("kind", LOST)
async def test_a_create_whose_answer_is_lost_is_read_before_it_is_repeated(
    world: World, kind: str
) -> None:
    await world.fault(kind, "POST", "/users", times=1)
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    creates = [c["number"] for c in await world.writes("POST", "/users")]
    reads = [
        c["number"]
        for c in await world.calls()
        if c["method"] == "GET" and c["path"].startswith("/api/v2/users/")
    ]
    assert len((await world.state())["users"]) == 1
    assert reads
    assert creates[0] < reads[0]
    assert all(reads[0] < later for later in creates[1:])
    assert (await world.told(user)).count("user.created") == 1
    assert len(world.mails()) == 1


@proves("connection lost after the write", "connection lost before the write", "gateway page")
@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/users/*"),
        ("POST", "/users/*/revoke-access"),
        ("DELETE", "/organizations/*/members"),
    ],
)
async def test_a_leaver_is_out_whichever_answer_is_lost(
    world: World, kind: str, method: str, path: str
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.fault(kind, method, path, times=1)
    await world.change(user, active=False)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"] is True
    assert await world.members() == set()
    assert (await world.told(user)).count("event.succeeded") == 2
    # The block in doubt is ours: it is lifted when the person comes back.
    await world.change(user, active=True)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert not person["blocked"]


@proves("connection lost after the write", "connection lost before the write")
@pytest.mark.parametrize("kind", LOST)
async def test_a_membership_whose_answer_is_lost_is_there_once(world: World, kind: str) -> None:
    await world.fault(kind, "POST", "/organizations/*/members", times=1)
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.members() == {("hoekstra", ADA)}
    assert (await world.told(user)).count("membership.added") == 1


@proves("connection lost after the write", "connection lost before the write")
@pytest.mark.parametrize("kind", LOST)
async def test_a_lost_deletion_is_not_followed_by_a_new_account(world: World, kind: str) -> None:
    now = Policies(deletion="delete", deletion_hold=timedelta(0))
    await world.declare(hoekstra={"policies": now})
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.fault(kind, "DELETE", "/users/*", times=1)
    await world.delete(user)
    await world.settled()
    assert await world.auth0_user(ADA) is None
    assert (await world.told(user)).count("user.deleted") == 1
    assert (await world.user(user)).account_id is None


@proves("connection lost after the write")
async def test_a_ticket_that_nobody_mailed_may_be_made_again(world: World) -> None:
    await world.fault("drop-after-commit", "POST", "/tickets/password-change", times=1)
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    assert len(world.mails()) == 1


class _BrokenMailer:
    """Takes the mail and loses the connection: it may have gone out."""

    def __init__(self) -> None:
        self.taken: list[Mail] = []

    async def send(self, mail: Mail) -> None:
        self.taken.append(mail)
        raise ConnectionResetError


@proves("mail lost after it was sent")
async def test_a_doubtful_mail_is_flagged_and_never_repeated(world: World) -> None:
    mailer = _BrokenMailer()
    world.work(world.lanes(mailer=mailer))
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, displayName="Ada B.")
    await world.settled()
    assert len(mailer.taken) == 1
    invitations = [o for o in await world.outcomes(user) if "invitation" in o.type]
    assert [o.data["delivery"] for o in invitations] == ["doubtful"]


@proves("mail server not reached")
async def test_a_mail_goes_out_once_the_mail_server_is_back(world: World) -> None:
    port = free_ports(1)[0]
    world.work(world.lanes(mailer=SmtpMailer(host="127.0.0.1", port=port, starttls=False)))
    user = await world.join("hoekstra", ADA)

    async def tried() -> bool:
        return "mail server" in ((await world.user(user)).detail or "")

    await world.until(tried)
    async with mail_server(port) as taken:
        await world.settled()
    assert len(taken) == 1
    invitations = [o for o in await world.outcomes(user) if "invitation" in o.type]
    assert [o.data["delivery"] for o in invitations] == ["sent"]


@proves("recipient refused")
async def test_a_recipient_who_is_refused_for_good_is_dead_lettered(world: World) -> None:
    port = free_ports(1)[0]
    world.work(world.lanes(mailer=SmtpMailer(host="127.0.0.1", port=port, starttls=False)))
    async with mail_server(port, rcpt="550 no such mailbox") as taken:
        await world.join("hoekstra", ADA)
        await world.settled()
    assert taken == []
    assert await world.endings() == [("deadlettered", None, "mail_refused")]


@proves("mail lost after it was sent")
async def test_a_mail_whose_last_answer_is_lost_is_flagged(world: World) -> None:
    port = free_ports(1)[0]
    world.work(world.lanes(mailer=SmtpMailer(host="127.0.0.1", port=port, starttls=False)))
    async with mail_server(port, after_data="") as taken:
        user = await world.join("hoekstra", ADA)
        await world.settled()
    assert len(taken) == 1
    invitations = [o for o in await world.outcomes(user) if "invitation" in o.type]
    assert [o.data["delivery"] for o in invitations] == ["doubtful"]


@proves("user deleted by somebody")
async def test_a_user_whom_somebody_deleted_in_auth0_is_made_anew_where_still_wanted(
    world: World,
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    first = await world.auth0_user(ADA)
    assert first is not None
    await call(world, "DELETE", f"/users/{first['user_id']}")
    await world.change(user, displayName="Ada Byron King")
    await world.settled()
    again = await world.auth0_user(ADA)
    assert again is not None
    assert again["user_id"] != first["user_id"], "an account key is never used again"
    assert "drift.detected" in await world.told(user)
    assert await world.members() == {("hoekstra", ADA)}


@proves("rate limit")
async def test_a_rate_limit_costs_no_attempt_and_dead_letters_nobody(world: World) -> None:
    await world.fault("status", "POST", "/users", status=429, times=3)
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.endings() == [("succeeded", "applied", None)]


@proves("rate limit without headers")
@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "nan"},
        {"retry-after": "inf"},
        {"retry-after": "-1e300"},
        {"x-ratelimit-reset": "9", "date": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"},
    ],
)
async def test_a_rate_limit_whose_headers_say_nothing_sensible_is_waited_out(
    world: World, headers: dict[str, str]
) -> None:
    await world.fault("status", "POST", "/users", status=429, headers=headers, times=1)
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.endings() == [("succeeded", "applied", None)]
    (created,) = [each for each in await world.outcomes() if "user.created" in each.type]
    assert created.data["attempts"] == 1


async def test_no_account_waits_longer_than_the_bucket_that_was_closed(world: World) -> None:
    await world.fault(
        "status", "POST", "/users", status=429, headers={"retry-after": "86400"}, times=1
    )
    world.work()
    user = await world.join("hoekstra", ADA)
    account_id = (await world.user(user)).account_id
    assert account_id is not None

    async def limited() -> bool:
        return "rate limited" in ((await world.user(user)).detail or "")

    await world.until(limited)
    account = await world.database.read(lambda tx: accounts.get(tx, account_id))
    assert account is not None
    assert account.due_at is not None
    assert account.due_at - world.clock.now() <= timedelta(seconds=LONGEST)


async def test_a_permanent_refusal_is_dead_lettered_and_holds_nobody_else(world: World) -> None:
    await world.fault("status", "POST", "/users", status=400, times=1)
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    bob = await world.join("hoekstra", "bob@hoekstra.example")
    await world.settled()
    assert (await world.user(ada)).state == "failed"
    assert (await world.user(bob)).state == "applied"
    assert [state for state, _, _ in await world.endings()] == ["deadlettered", "succeeded"]


async def test_a_newer_wish_goes_where_an_older_one_was_refused(world: World) -> None:
    await world.fault("status", "POST", "/users", status=400, times=1)
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(ada, displayName="Ada")
    await world.settled()
    assert (await world.user(ada)).state == "applied"
    assert [state for state, _, _ in await world.endings()] == ["deadlettered", "succeeded"]


@proves("unavailable")
async def test_auth0_out_of_reach_dead_letters_nobody(world: World) -> None:
    await world.fault("status", "*", "*", status=503)
    world.work(world.lanes(settings=LaneSettings(poll=0.02)))
    user = await world.join("hoekstra", ADA)

    async def tried() -> bool:
        return (await world.user(user)).detail is not None

    await world.until(tried)
    assert "Retrying" in ((await world.user(user)).detail or "")
    await world.mend()
    await world.settled()
    assert await world.endings() == [("succeeded", "applied", None)]


def test_waiting_doubles_and_is_capped() -> None:
    waits = [backoff(attempt) for attempt in range(1, 20)]
    assert 1 <= waits[0] <= 2
    assert all(wait <= 300 for wait in waits)
    assert waits[6] >= 64
