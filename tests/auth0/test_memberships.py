"""Gathering members: one request for ten, none waits in vain, and each has an answer of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.memberships import Memberships
from tests.auth0.test_client import Reply, Wire, always, client

BAD = {"statusCode": 400, "error": "Bad Request", "message": "no such user"}


def members(request: httpx.Request) -> list[str]:
    return json.loads(request.content)["members"]


def refusing(*bad: str) -> Reply:
    """Refuses every request that these users are in."""

    def reply(request: httpx.Request) -> httpx.Response:
        if set(bad) & set(members(request)):
            return httpx.Response(400, json=BAD)
        return httpx.Response(204)

    return reply


class Door:
    """A client of a tenant and what gathers before it. ``shut``: nobody has a turn until opened."""

    def __init__(self, reply: Reply, *, linger: float = 10.0, delay: float = 0.0) -> None:
        self.wire = _SlowWire(reply, delay)
        self.client: Auth0Client = client(self.wire)
        self.memberships = Memberships(self.client, linger=linger)

    async def drain(self, left: int = 0) -> None:
        """Spends what the bucket of members holds, so that calls wait for their turn."""
        headers = {"x-ratelimit-limit": "20", "x-ratelimit-remaining": str(left)}
        self.client._pacer.learn("members-write", headers, limited=False, epoch=0.0)  # pyright: ignore[reportPrivateUsage]

    def add(self, name: str, organization: str = "org_1", **options: Any) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.memberships.add(organization, name, **options))

    def remove(self, name: str, **options: Any) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.memberships.remove("org_1", name, **options))

    @property
    def requests(self) -> list[list[str]]:
        return [members(request) for request in self.wire.requests]

    async def close(self) -> None:
        await self.memberships.close()
        await self.client.close()


class _SlowWire(Wire):
    def __init__(self, reply: Reply, delay: float) -> None:
        super().__init__(reply)
        self._delay = delay
        self.called = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if request.url.path != "/oauth/token":
            self.called.set()
            await asyncio.sleep(self._delay)
        return answer


async def test_one_alone_waits_for_nobody() -> None:
    door = Door(always(204))
    answer = await asyncio.wait_for(door.add("u1"), 1)
    await door.close()
    assert answer.verdict == "ok"
    assert door.requests == [["u1"]]


async def test_those_who_wait_for_a_turn_share_a_request() -> None:
    door = Door(always(204))
    await door.drain(left=10)
    asked = [door.add(f"u{n}") for n in range(23)]
    answers = await asyncio.gather(*asked)
    await door.close()
    assert {answer.verdict for answer in answers} == {"ok"}
    assert [len(request) for request in door.requests] == [10, 10, 3]
    assert {name for request in door.requests for name in request} == {f"u{n}" for n in range(23)}


async def test_organizations_and_verbs_do_not_share_requests() -> None:
    door = Door(always(204))
    await door.drain(left=10)
    await asyncio.gather(door.add("u1"), door.add("u2", "org_2"), door.remove("u3"))
    await door.close()
    assert sorted(door.requests) == [["u1"], ["u2"], ["u3"]]


async def test_a_refused_request_is_repeated_for_each_by_itself() -> None:
    door = Door(refusing("u1"))
    await door.drain(left=11)
    asked = [door.add(f"u{n}") for n in range(3)]
    answers = await asyncio.gather(*asked)
    await door.close()
    assert [answer.verdict for answer in answers] == ["ok", "refused", "ok"]
    assert door.requests == [["u0", "u1", "u2"], ["u0"], ["u1"], ["u2"]]


@pytest.mark.parametrize("status", [400, 404, 409])
async def test_one_alone_that_is_refused_is_not_repeated(status: int) -> None:
    door = Door(always(status, BAD))
    answer = await door.add("u1")
    await door.close()
    assert answer.status == status
    assert len(door.requests) == 1


async def test_a_refused_request_holds_nobody_up_who_waited_before() -> None:
    door = Door(refusing("bad"))
    await door.drain(left=11)
    bad = [door.add(name) for name in ("bad", "b1")]
    await asyncio.sleep(0)
    good = [door.add(f"g{n}", "org_2") for n in range(3)]
    await asyncio.gather(*bad, *good)
    await door.close()
    assert door.requests[:2] == [["bad", "b1"], ["g0", "g1", "g2"]]


@pytest.mark.parametrize(
    ("status", "verdict"), [(500, "doubtful"), (429, "rate-limited"), (403, "forbidden")]
)
async def test_doubt_limits_and_missing_rights_are_everybodys(status: int, verdict: str) -> None:
    door = Door(always(status, BAD))
    await door.drain(left=10)
    answers = await asyncio.gather(*(door.add(f"u{n}") for n in range(4)))
    await door.close()
    assert {answer.verdict for answer in answers} == {verdict}
    assert len(door.requests) == 1


async def test_a_leaver_goes_before_joiners_of_the_same_organization() -> None:
    door = Door(always(204))
    await door.drain(left=10)
    waiting = [door.remove(f"u{n}") for n in range(15)]
    await asyncio.sleep(0)
    leaver = await asyncio.wait_for(door.remove("leaver", leaver=True), 0.2)
    assert leaver.verdict == "ok"
    assert door.requests[0][0] == "leaver"
    assert len(door.requests[0]) == 10, "who waits anyway goes along"
    await asyncio.gather(*waiting)
    await door.close()


async def test_a_crowd_of_leavers_all_have_a_leavers_rank() -> None:
    door = Door(always(204))
    await door.drain(left=10)
    answers = await asyncio.wait_for(
        asyncio.gather(*(door.remove(f"u{n}", leaver=True) for n in range(50))), 0.5
    )
    await door.close()
    assert {answer.verdict for answer in answers} == {"ok"}
    assert [len(request) for request in door.requests] == [10] * 5


async def test_where_more_are_to_come_a_request_waits_until_it_is_full() -> None:
    door = Door(always(204))
    door.memberships.crowded = True
    asked = [door.add(f"u{n}") for n in range(6)]
    await asyncio.sleep(0.15)
    assert door.requests == []
    asked += [door.add(f"u{n}") for n in range(6, 10)]
    await asyncio.wait_for(asyncio.gather(*asked), 1)
    await door.close()
    assert [len(request) for request in door.requests] == [10]


async def test_a_request_waits_no_longer_than_it_may() -> None:
    door = Door(always(204), linger=0.2)
    door.memberships.crowded = True
    await asyncio.wait_for(door.add("u1"), 1)
    await door.close()


async def test_once_nobody_more_is_to_come_a_request_goes() -> None:
    door = Door(always(204))
    door.memberships.crowded = True
    asked = door.add("u1")
    await asyncio.sleep(0.05)
    door.memberships.crowded = False
    await asyncio.wait_for(asked, 1)
    await door.close()


async def test_a_leaver_never_waits_for_company() -> None:
    door = Door(always(204))
    door.memberships.crowded = True
    joiner = door.add("u1")
    await asyncio.sleep(0)
    await asyncio.wait_for(door.remove("u2", leaver=True), 0.5)
    assert not joiner.done()
    joiner.cancel()
    await door.close()


async def test_one_who_is_cancelled_before_the_turn_is_left_out() -> None:
    door = Door(always(204))
    await door.drain(left=10)
    asked = [door.add(f"u{n}") for n in range(3)]
    await asyncio.sleep(0.05)
    asked[1].cancel()
    await asyncio.gather(asked[0], asked[2])
    await door.close()
    assert door.requests == [["u0", "u2"]]


async def test_one_who_is_cancelled_during_the_call_takes_nobody_along() -> None:
    door = Door(always(204), delay=0.2)
    await door.drain(left=10)
    asked = [door.add(f"u{n}") for n in range(3)]
    await door.wire.called.wait()
    asked[0].cancel()
    answers = await asyncio.gather(*asked[1:])
    await door.close()
    assert [answer.verdict for answer in answers] == ["ok", "ok"]
    assert door.requests == [["u0", "u1", "u2"]]


async def test_where_all_are_cancelled_no_call_is_made() -> None:
    door = Door(always(204))
    await door.drain(left=10)
    asked = [door.add(f"u{n}") for n in range(12)]
    await asyncio.sleep(0.05)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.sleep(0.5)
    await asyncio.wait_for(door.add("later"), 1)
    await door.close()
    assert door.requests == [["later"]]


async def test_one_who_is_recalled_has_no_call_made_for_them() -> None:
    door = Door(always(204))
    await door.drain(left=10)
    asked = [door.add(f"u{n}") for n in range(3)]
    await asyncio.sleep(0.05)
    door.client.recall(asked[1])
    door.memberships.recall(asked[1])
    answers = await asyncio.gather(*asked)
    await door.close()
    assert [answer.verdict for answer in answers] == ["ok", "withheld", "ok"]
    assert door.requests == [["u0", "u2"]]


async def test_one_who_came_while_a_request_was_under_way_can_be_recalled_after_it() -> None:
    door = Door(always(204), delay=0.2)
    first = door.add("u1")
    await door.wire.called.wait()
    await door.drain(left=10)
    second, third = door.add("u2"), door.add("u3")
    await first
    assert door.memberships.gathered == 2
    door.client.recall(second)
    door.memberships.recall(second)
    answers = await asyncio.gather(second, third)
    await door.close()
    assert [answer.verdict for answer in answers] == ["withheld", "ok"]
    assert door.requests == [["u1"], ["u3"]]


async def test_an_organization_that_is_gone_is_asked_for_once() -> None:
    """Its answer has no ``errorCode``; that of a user who is gone has."""
    gone = {
        "statusCode": 404,
        "error": "Not Found",
        "message": "No organization found by that id or name",
    }
    door = Door(always(404, gone))
    await door.drain(left=10)
    answers = await asyncio.gather(*(door.add(f"u{n}") for n in range(10)))
    await door.close()
    assert {answer.verdict for answer in answers} == {"not-found"}
    assert len(door.requests) == 1


async def test_a_client_that_stops_withholds_them_all() -> None:
    door = Door(always(204))
    door.memberships.crowded = True
    await door.drain(left=10)
    lingering = [door.add("u1", "org_2")]
    door.memberships.crowded = True
    waiting = [door.remove(f"u{n}") for n in range(10)]
    await asyncio.sleep(0.05)
    door.client.stop()
    answers = await asyncio.wait_for(asyncio.gather(*lingering, *waiting), 1)
    await door.close()
    assert {answer.verdict for answer in answers} == {"withheld"}
    assert door.requests == []


async def test_a_request_given_up_half_way_is_doubtful() -> None:
    door = Door(always(204), delay=5)
    asked = [door.add("u1")]
    await door.wire.called.wait()
    await door.memberships.close()
    answers = await asyncio.gather(*asked)
    await door.close()
    assert answers[0].verdict == "doubtful"


async def test_a_token_that_was_rotated_away_repeats_the_request_as_it_was() -> None:
    replies = iter([httpx.Response(401, json=BAD), httpx.Response(204)])
    door = Door(lambda _: next(replies))
    await door.drain(left=10)
    asked = [door.add(f"u{n}") for n in range(3)]
    await door.wire.called.wait()
    asked.append(door.add("later"))
    answers = await asyncio.gather(*asked[:3])
    asked[3].cancel()
    await door.close()
    assert {answer.verdict for answer in answers} == {"ok"}
    assert door.requests[:2] == [["u0", "u1", "u2"]] * 2


def with_room_for(places: int) -> Reply:
    """An Organization that takes so many more, and refuses a request that has more than fit."""
    taken: set[str] = set()

    def reply(request: httpx.Request) -> httpx.Response:
        more = set(members(request)) - taken
        if len(taken) + len(more) > places:
            body = {"statusCode": 400, "error": "Bad Request", "message": "The member limit is hit"}
            return httpx.Response(400, json=body)
        taken.update(more)
        return httpx.Response(204)

    return reply


async def test_a_full_organization_is_found_out_by_two_requests_and_told_once() -> None:
    door = Door(with_room_for(0))
    await door.drain()
    tasks = [door.add(f"u{n}") for n in range(10)]
    answers = await asyncio.gather(*tasks)
    later = await door.memberships.add("org_1", "late")
    await door.close()
    assert [answer.verdict for answer in answers] == ["refused"] + ["full"] * 9
    assert all(answer.retry_after and answer.retry_after < 16 for answer in answers[1:])
    assert later.verdict == "full"
    assert door.requests == [[f"u{n}" for n in range(10)], ["u0"]]


async def test_what_room_there_is_is_taken() -> None:
    door = Door(with_room_for(2))
    await door.drain()
    first = await asyncio.gather(*(door.add(f"u{n}") for n in range(3)))
    assert [answer.verdict for answer in first] == ["ok", "full", "full"]
    assert (await door.memberships.add("org_1", "u1")).verdict == "ok", (
        "one was taken: no more full"
    )
    assert (await door.memberships.add("org_1", "u2")).verdict == "refused"
    await door.close()


async def test_a_full_organization_is_asked_again_by_one() -> None:
    door = Door(with_room_for(0))
    door.memberships = Memberships(door.client, full_again=0.1)
    assert (await door.memberships.add("org_1", "a")).verdict == "refused"
    await asyncio.sleep(0.12)
    again = await asyncio.gather(*(door.memberships.add("org_1", each) for each in "bcd"))
    await door.close()
    assert {answer.verdict for answer in again} == {"full"}
    assert door.requests == [["a"], ["b"]]
    assert (again[0].retry_after or 0.0) > 0.15, "the longer it is full, the rarer it is asked"


async def test_nobody_is_kept_from_leaving_a_full_organization() -> None:
    door = Door(with_room_for(0))
    assert (await door.memberships.add("org_1", "a")).verdict == "refused"
    door.wire._reply = always(204)  # pyright: ignore[reportPrivateUsage]
    assert (await door.memberships.remove("org_1", "b")).verdict == "ok"
    assert (await door.memberships.add("org_2", "a")).verdict == "ok"
    await door.close()
