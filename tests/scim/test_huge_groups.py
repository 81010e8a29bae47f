"""A group of very many costs what a group of ten costs, where only one member is at stake, or none."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from service.clock import SystemClock
from tests.directory.crowd import enrol, settle_in
from tests.scim.client import Scim, opened, organization

pytestmark = pytest.mark.kill

MEMBERS = 20_000
ROLES = {"Small role": "editor", "Large role": "admin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """A small and a large group of each kind, by name, and a user who is in none of them."""

    scim: Scim
    ids: dict[str, str]
    crowd: list[str]
    newcomer: str

    async def patch(self, group: str, verb: str) -> httpx.Response:
        operation = {"op": verb, "path": "members", "value": [{"value": self.newcomer}]}
        return await self.scim.patch(f"Groups/{self.ids[group]}", operation)

    async def look(self, group: str) -> httpx.Response:
        query = {"excludedAttributes": "members"}
        return await self.scim.http.get(f"Groups/{self.ids[group]}", params=query)


async def timed(request: Callable[[], Awaitable[httpx.Response]]) -> float:
    start = time.perf_counter()
    answer = await request()
    assert answer.is_success, answer.text
    return time.perf_counter() - start


@pytest.fixture
async def groups(database_url: str) -> AsyncIterator[Groups]:
    async with opened(database_url, organization(roles=ROLES)) as (scim,):
        now = SystemClock().now()
        crowd = await scim.database.transact(lambda tx: settle_in(tx, "hoekstra", MEMBERS + 1, now))
        newcomer = crowd.pop()
        ids: dict[str, str] = {}
        for name in ("Small", "Large", "Small role", "Large role"):
            group_id: str = (await scim.post_group(name))["id"]
            some = crowd if name.startswith("Large") else crowd[:10]
            await scim.database.transact(lambda tx, g=group_id, m=some: enrol(tx, g, m))
            ids[name] = group_id
        yield Groups(scim=scim, ids=ids, crowd=crowd, newcomer=newcomer)


async def test_what_concerns_one_member_or_none_costs_the_same_however_many_there_are(
    groups: Groups,
) -> None:
    took: dict[tuple[str, str], list[float]] = {}
    # In turn, and the best of each: whatever else the machine does meets all alike.
    for _ in range(15):
        for verb in ("add", "remove", "look"):
            for name in groups.ids:
                took.setdefault((verb, name), []).append(
                    await timed(
                        lambda verb=verb, name=name: (
                            groups.look(name) if verb == "look" else groups.patch(name, verb)
                        )
                    )
                )
    for verb in ("add", "remove", "look"):
        for kind in ("", " role"):
            assert min(took[verb, f"Large{kind}"]) < 2 * min(took[verb, f"Small{kind}"]), verb


async def test_a_put_of_twenty_thousand_sets_exactly_these(groups: Groups) -> None:
    wanted = {*groups.crowd[1:-1], groups.newcomer}
    body: dict[str, Any] = {
        "displayName": "Large role",
        "members": [{"value": each} for each in sorted(wanted)],
    }
    path = f"Groups/{groups.ids['Large role']}"
    answer = await groups.scim.http.put(path, json=body)
    assert answer.status_code == 200
    answered = [member["value"] for member in answer.json()["members"]]
    assert answered == sorted(wanted)
    assert await groups.scim.members(groups.ids["Large role"]) == wanted
