"""What people do with what was mailed to them, and operators about it."""

from __future__ import annotations

from typing import Any

from service.directory import accounts, ledger, resends
from service.directory.ledger import Sent
from service.organizations import Policies
from service.people import User
from tests.provisioning.world import World

APPLICATION = "sample-app"


async def invites_by(
    world: World, organization: str, way: str, *, roles: dict[str, str] | None = None, **more: Any
) -> None:
    """Declares how an organization invites."""
    registered = (await world.registered(organization)).organization
    changes: dict[str, Any] = {
        "policies": Policies.model_validate({"invite": way, **more}),
        "application": APPLICATION,
        "roles": roles or {},
    }
    changed = registered.model_copy(update=changes)
    await world.apply(type(registered).model_validate(changed.model_dump()))


async def resend(world: World, user: User) -> None:
    """An operator has it sent once more. Raises what the operator is told."""
    now = world.clock.now()
    await world.database.transact(
        lambda tx: resends.resend(tx, user.id, actor="olga", now=now),
    )


async def look(world: World, user: User) -> None:
    """The account is due for being read in Auth0."""
    account_id = (await world.user(user)).account_id
    assert account_id is not None
    now = world.clock.now()
    await world.database.transact(lambda tx: accounts.look(tx, account_id, now))
    await world.settled()


async def sent(world: World, user: User) -> tuple[Sent, ...]:
    """What the ledger keeps of the user's account."""
    account_id = (await world.user(user)).account_id
    assert account_id is not None
    return await world.database.read(lambda tx: ledger.of_account(tx, account_id))


async def use_ticket(world: World, number: int = -1) -> None:
    """Somebody follows a password ticket, by default the newest, and chooses a password."""
    ticket = (await world.state())["tickets"][number]["ticket"]
    body = {"ticket": ticket, "password": "Correct-horse-7"}
    answer = (await world.http.post("/simulator/tickets/use", json=body)).json()
    assert answer.get("reason") is None, answer


async def log_in(world: World, connection: str, address: str, **more: str) -> dict[str, Any]:
    body = {"connection": connection, "email": address, **more}
    return (await world.http.post("/simulator/login", json=body)).json()


async def accept(
    world: World, organization: str, connection: str, address: str, number: int = -1
) -> dict[str, Any]:
    """Somebody opens the organization's newest open invitation and signs up, or logs in."""
    found = [i for i in (await world.state())["invitations"] if i["organization"] == organization]
    return await log_in(
        world, connection, address, organization=organization, invitation=found[number]["id"]
    )


async def mailed(world: World, kind: str) -> list[str]:
    """Whom Auth0 itself has mailed."""
    return [m["recipient"] for m in (await world.state())["mails"] if m["kind"] == kind]


async def deliveries(world: World, user: User) -> list[tuple[str, str]]:
    """By which way and how surely each invitation of the user went out, as outcomes tell."""
    return [
        (outcome.data["by"], outcome.data["delivery"])
        for outcome in await world.outcomes(user)
        if outcome.type == "io.auth0-provisioner.invitation.sent.v1"
    ]
