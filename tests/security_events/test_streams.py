"""Delivery: every token at least once, in order, whatever the receiver and we go through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.responses import RedirectResponse, Response

from service.clock import SystemClock
from service.directory import streams
from service.directory.database import Database
from service.errors import NotFound, Refused
from service.security_events.keys import SigningKeys
from tests.directory.customer import Customer
from tests.security_events.customer import declare, declared, listened_to, stream_of, tell
from tests.security_events.pushing import QUICK, transmitting
from tests.security_events.receiver import ACCEPTED, Push, Receiver, always, refusal


async def queue(customer: Customer, number: int) -> list[str]:
    """So many events, oldest first, by ``jti``."""
    user = await customer.create("ann@hoekstra.example")
    for _ in range(number):
        await tell(customer, "access.revoked", user, {"revoked": True})
    waiting = await customer.database.read(lambda tx: streams.waiting(tx, customer.name, 1000))
    assert len(waiting) == number
    return [each.event.jti for each in waiting]


async def until(holds: Callable[[Any], bool], customer: Customer) -> None:
    async with asyncio.timeout(10):
        while not holds(await stream_of(customer)):  # noqa: ASYNC110 - the database tells no event
            await asyncio.sleep(0.01)


async def resume(customer: Customer, *, skip: bool = False) -> None:
    now = SystemClock().now()
    await customer.database.transact(
        lambda tx: streams.resume(tx, customer.name, skip=skip, now=now)
    )


async def test_events_arrive_in_order_once_and_nothing_is_left(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    jtis = await queue(hoekstra, 60)
    async with transmitting(database, keys):
        await receiver.until(60)
        await until(lambda stream: stream.waiting == 0, hoekstra)
    assert [push.jti for push in receiver.pushes] == jtis


async def test_an_outage_loses_and_reorders_nothing(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    jtis = await queue(hoekstra, 6)
    answers = [ACCEPTED, ACCEPTED, Response(status_code=503), Response(status_code=429)]

    async def sometimes(_: Push) -> Response:
        return answers.pop(0) if answers else ACCEPTED

    receiver.answer = sometimes
    async with transmitting(database, keys):
        await receiver.until(6)
    assert [push.jti for push in receiver.taken] == jtis
    assert [push.jti for push in receiver.pushes] == [*jtis[:2], *[jtis[2]] * 2, *jtis[2:]]


async def test_a_receiver_that_is_silent_or_gone_is_asked_again(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    jtis = await queue(hoekstra, 2)
    asked = 0

    async def silent_once(_: Push) -> Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.sleep(0.3)
        return ACCEPTED

    receiver.answer = silent_once
    async with transmitting(database, keys, settings=replace(QUICK, within=0.1)):
        await until(lambda stream: stream.attempts == 1, hoekstra)
        waiting = await stream_of(hoekstra)
        assert waiting.error == {
            "code": "unreachable",
            "message": "It does not answer within 0.1 s.",
        }
        await until(lambda stream: stream.waiting == 0, hoekstra)
    assert list(dict.fromkeys(push.jti for push in receiver.pushes)) == jtis


async def test_a_process_that_dies_after_the_answer_leaves_a_repeat_with_the_same_token_id(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    (first, second) = await queue(hoekstra, 2)
    processes: list[asyncio.Task[None]] = []

    async def kill(_: Push) -> Response:
        receiver.answer = None
        processes[0].cancel()
        await asyncio.wait(processes)  # so that nobody is left to note our 202
        return ACCEPTED

    receiver.answer = kill
    async with transmitting(database, keys, owner="a#1") as process:
        processes.append(process)
        await asyncio.wait(processes)
    async with transmitting(database, keys, owner="b#1"):
        await receiver.until(3)
    assert [push.jti for push in receiver.taken] == [first, first, second]
    assert receiver.taken[0].claims == receiver.taken[1].claims


async def test_a_restarted_instance_takes_over_at_once_and_another_waits_for_the_lease(
    hoekstra: Customer,
) -> None:
    await queue(hoekstra, 1)
    now, lease = SystemClock().now(), timedelta(seconds=30)

    async def claim(owner: str, at: datetime = now) -> list[str]:
        return await hoekstra.database.transact(
            lambda tx: streams.claim(tx, owner=owner, now=at, lease=lease, limit=5)
        )

    assert await claim("a#1") == ["hoekstra"]
    assert await claim("b#1") == await claim("a#1") == await claim("a_#1") == []
    assert await claim("a#2") == ["hoekstra"]
    assert await claim("b#1", now + lease) == ["hoekstra"]


async def test_two_processes_do_not_push_the_same_stream_at_once(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    jtis = await queue(hoekstra, 60)
    under_way, most = 0, 0

    async def watched(_: Push) -> Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1
        return ACCEPTED

    receiver.answer = watched
    brief = replace(QUICK, turn_of=7)
    async with (
        transmitting(database, keys, owner="a#1", settings=brief),
        transmitting(database, keys, owner="b#1", settings=brief),
    ):
        await receiver.until(60)
    assert most == 1
    assert [push.jti for push in receiver.pushes] == jtis


async def test_a_slow_receiver_delays_no_other_organization(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    clinic = await listened_to(database, "clinic-a", f"{receiver.url}/clinic-a")
    await queue(hoekstra, 3)
    theirs = await queue(clinic, 20)
    held = asyncio.Event()

    async def slow(push: Push) -> Response:
        if push.path == "/hoekstra":
            await held.wait()
        return ACCEPTED

    receiver.answer = slow
    async with transmitting(database, keys, settings=replace(QUICK, within=5.0, lease=20.0)):
        taken = await receiver.until(20, path="/clinic-a")
        assert [push.jti for push in taken] == theirs
        assert not [push for push in receiver.taken if push.path == "/hoekstra"]
        held.set()
        await receiver.until(3, path="/hoekstra")


async def test_what_is_told_of_one_organization_goes_to_no_other(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    clinic = await listened_to(database, "clinic-a", f"{receiver.url}/clinic-a")
    ours, theirs = await queue(hoekstra, 4), await queue(clinic, 4)
    async with transmitting(database, keys):
        await receiver.until(8)
    assert [push.jti for push in receiver.taken if push.path == "/hoekstra"] == ours
    assert [push.jti for push in receiver.taken if push.path == "/clinic-a"] == theirs


async def test_an_error_of_the_receiver_stops_the_stream_until_it_is_resumed(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    jtis = await queue(hoekstra, 2)
    receiver.answer = always(refusal("invalid_key", "The key is not known."))
    async with transmitting(database, keys):
        await until(lambda stream: stream.stopped_at is not None, hoekstra)
        stopped = await stream_of(hoekstra)
        assert stopped.error == {
            "code": "invalid_key",
            "message": "The key is not known.",
            "status": 400,
        }
        assert stopped.waiting == 2
        receiver.answer = None
        await asyncio.sleep(0.1)
        assert len(receiver.pushes) == 1
        await resume(hoekstra)
        assert [push.jti for push in await receiver.until(2)] == jtis


async def test_what_a_receiver_will_never_take_can_be_left_out(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    (poison, other) = await queue(hoekstra, 2)

    async def picky(push: Push) -> Response:
        return refusal("invalid_request") if push.jti == poison else ACCEPTED

    receiver.answer = picky
    async with transmitting(database, keys):
        await until(lambda stream: stream.stopped_at is not None, hoekstra)
        await resume(hoekstra, skip=True)
        assert [push.jti for push in await receiver.until(1)] == [other]


async def test_only_a_stopped_stream_is_resumed(hoekstra: Customer) -> None:
    with pytest.raises(Refused):
        await resume(hoekstra)
    now = SystemClock().now()
    with pytest.raises(NotFound):
        await hoekstra.database.transact(
            lambda tx: streams.resume(tx, "clinic-a", skip=False, now=now)
        )


async def test_a_changed_declaration_lets_a_stopped_stream_go_on(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    jtis = await queue(hoekstra, 2)
    receiver.answer = always(refusal("invalid_audience"))
    async with transmitting(database, keys):
        await until(lambda stream: stream.stopped_at is not None, hoekstra)
        receiver.answer = None
        await declare(database, declared("hoekstra", f"{receiver.url}/mended"))
        taken = await receiver.until(2, path="/mended")
    assert [push.jti for push in taken] == jtis


async def test_a_stream_that_is_no_longer_declared_keeps_what_waits_and_takes_nothing_new(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    jtis = await queue(hoekstra, 2)
    with_stream = hoekstra.registered.organization
    await declare(database, with_stream.model_copy(update={"security_events": None}))
    async with transmitting(database, keys):
        (user,) = await hoekstra.everyone()
        await tell(hoekstra, "user.blocked", user)
        await asyncio.sleep(0.1)
        assert receiver.pushes == []
        with pytest.raises(NotFound):
            await resume(hoekstra)
        await declare(database, with_stream)
        assert [push.jti for push in await receiver.until(2)] == jtis
        await until(lambda stream: stream.waiting == 0, hoekstra)


async def test_a_stream_that_is_withdrawn_under_a_push_gets_no_further_one(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    await queue(hoekstra, 3)
    with_stream = hoekstra.registered.organization

    async def withdraw(_: Push) -> Response:
        await declare(database, with_stream.model_copy(update={"security_events": None}))
        return ACCEPTED

    receiver.answer = withdraw
    async with transmitting(database, keys):
        await until(lambda stream: stream.waiting == 2, hoekstra)
        await asyncio.sleep(0.2)
    assert len(receiver.pushes) == 1
    ended = await stream_of(hoekstra)
    assert ended.error is not None
    assert ended.error["code"] == "not_declared"
    assert await database.read(streams.stopped) == {}


async def test_the_answer_of_a_receiver_that_was_replaced_does_not_stop_the_new_one(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    jtis = await queue(hoekstra, 3)

    async def replaced(push: Push) -> Response:
        if push.path == "/mended":
            return ACCEPTED
        await declare(database, declared("hoekstra", f"{receiver.url}/mended"))
        return refusal("invalid_audience")

    receiver.answer = replaced
    async with transmitting(database, keys):
        taken = await receiver.until(3, path="/mended")
    assert [push.jti for push in taken] == jtis
    assert len(receiver.pushes) == 4


async def test_redirects_are_not_followed(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    await queue(hoekstra, 1)
    receiver.answer = always(RedirectResponse(f"{receiver.url}/elsewhere", status_code=307))
    async with transmitting(database, keys):
        await until(lambda stream: stream.attempts == 1, hoekstra)
    assert {push.path for push in receiver.pushes} == {"/hoekstra"}
    failed = await stream_of(hoekstra)
    assert failed.error is not None
    assert failed.error["code"] == "http_307"
    assert failed.waiting == 1


async def test_no_proxy_of_the_environment_sees_a_token(
    database: Database,
    hoekstra: Customer,
    receiver: Receiver,
    keys: SigningKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    await queue(hoekstra, 1)
    async with transmitting(database, keys):
        assert await receiver.until(1)


async def test_the_credential_is_read_for_each_push(
    database: Database, receiver: Receiver, keys: SigningKeys, tmp_path: Any
) -> None:
    file = tmp_path / "credential"
    customer = await listened_to(
        database, "hoekstra", f"{receiver.url}/hoekstra", credential_file=str(file)
    )
    await queue(customer, 1)
    async with transmitting(database, keys):
        await until(lambda stream: stream.attempts == 1, customer)
        assert receiver.pushes == []
        file.write_text("first\n")
        (push,) = await receiver.until(1)
    assert push.headers["authorization"] == "Bearer first"


async def test_a_transmitter_ends_soon_after_it_is_told_to(
    database: Database, hoekstra: Customer, receiver: Receiver, keys: SigningKeys
) -> None:
    await queue(hoekstra, 200)
    async with transmitting(database, keys):
        await receiver.until(5)
    left = await stream_of(hoekstra)
    taken = len(receiver.taken)
    assert left.waiting == 200 - taken
    async with transmitting(database, keys, owner="b#1"):  # no lease to wait for
        await receiver.until(taken + 5, within=0.9)
