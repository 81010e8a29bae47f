"""People who log in at a customer's identity provider, and whether the product has met them."""

from __future__ import annotations

from typing import Any

from service.directory import appearances
from service.directory.appearances import Feed as Followed
from tests.provisioning import auth0
from tests.provisioning.world import World

CONNECTION = "metahexa-ad"


async def log_in(world: World, address: str, **more: Any) -> dict[str, Any]:
    body = {"connection": CONNECTION, "email": address, "organization": "metahexa", **more}
    answer = await world.http.post("/simulator/login", json=body)
    return answer.raise_for_status().json()


async def is_blocked(world: World, address: str) -> bool:
    user = await world.auth0_user(address)
    return user is not None and user["blocked"]


async def blocked(world: World, address: str, within: float = 5.0) -> None:
    await world.until(lambda: is_blocked(world, address), within)


async def followed(world: World) -> Followed:
    return await world.database.read(lambda tx: appearances.feed(tx, "main"))


async def listening(world: World) -> None:
    async def open() -> bool:
        return (await followed(world)).heard_at is not None

    await world.until(open)


async def follow(world: World) -> None:
    world.work(world.lanes(feed=True))
    await listening(world)


async def let_logins_join(world: World) -> None:
    organization = await auth0.call(world, "GET", "/organizations/name/metahexa")
    connections = await auth0.call(world, "GET", f"/connections?name={CONNECTION}")
    path = f"/organizations/{organization['id']}/enabled_connections/{connections[0]['id']}"
    await auth0.call(world, "PATCH", path, {"assign_membership_on_login": True})
