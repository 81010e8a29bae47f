"""Bad input and faults of Auth0, each with its outcome: the rows of docs/faults.md that no other room proves."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.auth0.calls import http_client
from service.directory import overview
from service.directory.events import Filter
from service.organizations import Connection, Policies
from tests.faults import proves
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.links import invites_by
from tests.provisioning.logins import followed
from tests.provisioning.world import World
from tests.service.test_mail_webhook import answering, mailer, receiver

ADA, BOB = "ada@hoekstra.example", "bob@hoekstra.example"


async def chiefs(world: World, number: int) -> None:
    """Somebody is hired whose group maps to a role."""
    address = f"w{number}@hoekstra.example"
    await world.worker(
        "hoekstra", "hired", f"w-{number}", attributes={"email": address}, groups=("Chiefs",)
    )


async def dead_letters(world: World) -> list[str | None]:
    return [code for state, _, code in await world.endings() if state == "deadlettered"]


@proves("unknown role")
async def test_who_should_have_a_role_that_nobody_made_is_a_member_without_it(world: World) -> None:
    await world.declare(hoekstra={"roles": {"Chiefs": "emperor"}})
    world.work()
    for number in range(3):
        await chiefs(world, number)
    await world.settled()
    assert await dead_letters(world) == ["unknown_role"] * 3
    assert len(await world.members()) == 3
    listed = [c for c in await world.calls() if c["path"].rstrip("/").endswith("/roles")]
    assert len(listed) == 1, "asked for once for all of them"
    error = (await world.events())[0].error or {}
    assert "set_up.create_roles" in error["message"]


@proves("role deleted during work")
async def test_a_role_that_goes_in_the_middle_of_work_is_said_to_be_unknown(world: World) -> None:
    await world.declare(hoekstra={"roles": {"Chiefs": "admin"}})
    world.work()
    await chiefs(world, 1)
    await world.settled()
    roles = {(r["tenant"], r["name"]): r["id"] for r in (await world.state())["roles"]}
    await call(world, "DELETE", f"/roles/{roles['main', 'admin']}")
    await chiefs(world, 2)
    await world.settled()
    assert await dead_letters(world) == ["unknown_role"]
    await world.worker("hoekstra", "changed", "w-1", groups=())
    await world.settled()
    assert (await world.endings())[-1] == ("succeeded", "applied", None)


@proves("unknown connection")
async def test_nobody_is_made_in_a_connection_that_is_not_there(world: World) -> None:
    await world.declare(hoekstra={"connections": (Connection(name="nowhere"),)})
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    assert await dead_letters(world) == ["inexistent_connection"]
    assert (await world.state())["users"] == []


@proves("unknown connection of an invitation")
async def test_nobody_is_invited_into_a_connection_that_is_not_there(world: World) -> None:
    await world.declare(hoekstra={"connections": (Connection(name="nowhere"),)})
    await invites_by(world, "hoekstra", "invitation")
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    assert await dead_letters(world) == ["unknown_connection"]
    assert (await world.state())["invitations"] == []


@proves("connection deleted during work")
async def test_with_a_connection_its_users_go_and_leavers_are_done(world: World) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    bob = await world.join("hoekstra", BOB)
    await world.settled()
    (connection,) = await call(world, "GET", "/connections?name=hoekstra-users")
    await call(world, "DELETE", f"/connections/{connection['id']}")
    await world.change(ada, active=False)
    await world.change(bob, displayName="Bob")
    await world.join("hoekstra", "new@hoekstra.example")
    await world.settled()
    assert (await world.user(ada)).state == "applied"
    assert await dead_letters(world) == ["inexistent_connection"] * 2


@proves("unknown Organization")
async def test_who_joins_an_organization_that_is_not_there_has_an_account_alone(
    world: World,
) -> None:
    await world.declare(hoekstra={"auth0_organization": "nobody"})
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    assert await dead_letters(world) == ["unknown_organization_or_role"]
    assert await world.auth0_user(ADA) is not None
    await world.change(ada, active=False)
    await world.settled()
    assert (await world.user(ada)).state == "applied"


@proves("users full")
async def test_a_tenant_without_room_for_users_says_so_and_lets_people_leave(world: World) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    body = {"statusCode": 403, "error": "Forbidden", "errorCode": "too_many_entities"}
    await world.fault("status", "POST", "/users", status=403, body=body)
    await world.join("hoekstra", BOB)
    await world.settled()
    assert await dead_letters(world) == ["too_many_entities"]
    assert "tenant.paused" not in await world.told()
    await world.change(ada, active=False)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"]


@proves("something else not in the plan", "password or username rule", "other conflict")
@pytest.mark.parametrize(
    ("path", "status", "error", "code"),
    [
        ("/organizations/*/members/*/roles", 403, "insufficient_entitlement", None),
        ("/users", 400, "PasswordStrengthError", None),
        ("/users", 400, None, "bad_request"),
        ("/organizations/*/members/*/roles", 409, "role_limit_hit", None),
        ("/organizations/*/members/*/roles", 409, None, "conflict"),
    ],
)
async def test_what_is_refused_for_good_ends_under_the_code_that_auth0_gives(
    world: World, path: str, status: int, error: str | None, code: str | None
) -> None:
    await world.declare(hoekstra={"roles": {"Chiefs": "admin"}})
    said = {400: "Bad Request", 403: "Forbidden", 409: "Conflict"}[status]
    body = {"statusCode": status, "error": said, **({"errorCode": error} if error else {})}
    await world.fault("status", "POST", path, status=status, body=body)
    world.work()
    await chiefs(world, 1)
    await world.settled()
    assert await dead_letters(world) == [code or str(error).lower()]
    assert "tenant.paused" not in await world.told()


@proves("new address taken")
async def test_a_new_address_that_somebody_has_is_refused_and_the_leaver_leaves(
    world: World,
) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await sign_up(world, "hoekstra-users", "king@hoekstra.example", verified=True)
    king = {"value": "king@hoekstra.example", "primary": True}
    await world.change(ada, userName="king@hoekstra.example", emails=[king])
    await world.settled()
    assert await dead_letters(world) == ["identifier_in_use"]
    await world.change(ada, active=False)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"]


@proves("user deleted by somebody")
async def test_a_user_whom_somebody_deleted_is_told_of_and_made_anew(world: World) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    await call(world, "DELETE", f"/users/{person['user_id']}")
    await world.change(ada, name={"givenName": "Augusta", "familyName": "King"})
    await world.settled()
    assert "drift.detected" in await world.told(ada)
    again = await world.auth0_user(ADA)
    assert again is not None
    assert again["given_name"] == "Augusta"
    assert await world.members() == {("hoekstra", ADA)}


HTML = "<html><body>Service Unavailable</body></html>"
WRITES = (
    ("POST", "/users"),
    ("PATCH", "/users/{id}"),
    ("POST", "/organizations/*/members"),
    ("POST", "/organizations/*/members/*/roles"),
    ("POST", "/tickets/password-change"),
    ("POST", "/users/*/revoke-access"),
    ("DELETE", "/organizations/*/members"),
    ("DELETE", "/users/{id}"),
)


@proves(
    "gateway page",
    "unavailable",
    "unreadable success",
)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html-502", "after_commit": True},
        {"kind": "status", "status": 503, "body": HTML, "after_commit": True},
        {"kind": "status", "status": 504, "body": HTML},
        {"kind": "status", "status": 200, "body": HTML, "after_commit": True},
    ],
    ids=["502 though done", "503 though done", "504", "200 unreadable"],
)
async def test_a_life_whose_every_write_loses_its_answer_once_is_as_any_other(
    world: World, fault: dict[str, Any]
) -> None:
    """Made, changed, a member with a role, mailed; then out, and deleted: each happens once."""
    await world.declare(
        hoekstra={
            "roles": {"Chiefs": "admin"},
            "policies": Policies.model_validate(
                {"invite": "ticket", "deletion": "delete", "deletion_hold": 0}
            ),
        }
    )
    kind = fault["kind"]
    more = {name: value for name, value in fault.items() if name != "kind"}
    for method, path in WRITES:
        await world.fault(kind, method, path, times=1, **more)
    world.work()
    ada = await world.join("hoekstra", ADA)
    await chiefs(world, 1)
    await world.settled()
    await world.change(ada, name={"givenName": "Augusta", "familyName": "King"})
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["given_name"] == "Augusta"
    assert await world.members() == {("hoekstra", ADA), ("hoekstra", "w1@hoekstra.example")}
    assert len(world.mails()) == 2
    await world.change(ada, active=False)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"]
    await world.delete(ada)
    await world.settled()
    assert await world.auth0_user(ADA) is None
    assert await dead_letters(world) == []
    told = await world.told(ada)
    for once in ("user.created", "membership.added", "membership.removed", "user.deleted"):
        assert told.count(once) == 1, once


async def retrying(world: World) -> list[str]:
    """What ``events list --retrying`` shows."""
    events = await world.database.read(
        lambda tx: overview.latest_events(tx, Filter(), retrying=True)
    )
    return [event.id for event in events]


@proves("unavailable", "gateway page", "connection lost before the write", "client revoked")
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "html-502"},
        {"kind": "drop-before"},
        {"kind": "status", "status": 401},
        {"kind": "status", "status": 403},
    ],
    ids=["503", "502", "dropped", "401", "403"],
)
async def test_what_is_tried_for_ever_is_seen_and_goes_on_once_it_can(
    world: World, fault: dict[str, Any]
) -> None:
    more = {name: value for name, value in fault.items() if name != "kind"}
    await world.fault(fault["kind"], "*", "/api/v2/*", **more)
    world.work()
    ada = await world.join("hoekstra", ADA)

    async def seen() -> bool:
        return len(await retrying(world)) == 1

    await world.until(seen)
    assert (await world.user(ada)).state == "pending"
    await world.mend()
    await world.settled()
    assert await retrying(world) == []
    assert await world.endings() == [("succeeded", "applied", None)]


class _Unreached(httpx.AsyncBaseTransport):
    """A tenant to which some calls find no connection."""

    def __init__(self, times: int) -> None:
        self._inner = http_client()
        self._times = times

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path.endswith("/users") and self._times:
            self._times -= 1
            raise httpx.ConnectError("no route to host")
        content = await request.aread()
        return await self._inner.send(
            httpx.Request(request.method, request.url, headers=request.headers, content=content)
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


@proves("no connection")
async def test_a_call_that_was_never_sent_is_repeated_without_a_look(world: World) -> None:
    world.work(world.lanes(http=httpx.AsyncClient(transport=_Unreached(2))))
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.endings() == [("succeeded", "applied", None)]
    (ended,) = [o for o in await world.outcomes(ada) if "event.succeeded" in o.type]
    assert ended.data["attempts"] == 3
    assert not [c for c in await world.calls() if c["method"] == "GET" and "/users" in c["path"]]


@proves("feed: too many streams", "feed: scope missing")
@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Maximum concurrent event stream connections reached.", "too_many_streams"),
        ("Insufficient scope, expected any of: read:events", "insufficient_scope"),
    ],
)
async def test_a_feed_that_is_refused_says_why_and_stops_nobody(
    world: World, message: str, code: str
) -> None:
    body = {"statusCode": 403, "error": "Forbidden", "message": message}
    await world.fault("status", "GET", "/events", status=403, body=body)
    world.work(world.lanes(feed=True, sweep=0.2))

    async def told() -> bool:
        return ((await followed(world)).refused or {}).get("code") == code

    await world.until(told)
    await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.endings() == [("succeeded", "applied", None)]
    assert "tenant.paused" not in await world.told()


@proves("mail webhook refuses")
async def test_a_mail_that_a_webhook_refuses_for_good_is_dead_lettered(world: World) -> None:
    async with receiver(answering("422 Unprocessable")) as there:
        world.work(world.lanes(mailer=mailer(there.url)))
        await world.join("hoekstra", ADA)
        await world.settled()
    assert await dead_letters(world) == ["mail_refused"]
    assert len(there.bodies) == 1


@proves("mail webhook fails")
@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_mail_after_which_a_webhook_fails_is_doubtful_unless_it_mails_once(
    world: World, idempotent: bool
) -> None:
    async with receiver(answering("502 Bad Gateway")) as there:
        world.work(world.lanes(mailer=mailer(there.url, idempotent=idempotent)))
        ada = await world.join("hoekstra", ADA)

        async def twice() -> bool:
            return len(there.bodies) >= 2

        await world.until(twice) if idempotent else await world.settled()
        await world.rest()
    told = [o.data["delivery"] for o in await world.outcomes(ada) if "invitation" in o.type]
    assert told == ([] if idempotent else ["doubtful"])
    assert len({head["idempotency-key"] for head in there.heads}) == 1
    assert idempotent or len(there.bodies) == 1
