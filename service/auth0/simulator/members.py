"""Operations on members of an organization and on their roles in it.

Sources: Management API reference, organization members; docs on adding and removing members (ten
a call, removal takes some seconds to show); terraform-provider-auth0 issue 1007 (lists read an
index that lags).
"""

import base64
import binascii
from typing import Any

from service.auth0.simulator import (
    happenings,
    membership,
    organizations,
    profiles,
    roles,
    users,
)
from service.auth0.simulator.errors import Refusal, bad_body, bad_query
from service.auth0.simulator.operation import NO_CONTENT, Answer, Call, Operation, World
from service.auth0.simulator.shapes import (
    Property,
    by_checkpoint,
    page_of,
    paged,
    selected,
    text,
)

MOST_PER_CALL = 10
MOST_ROLES = 50

_MEMBERS = {
    "members": Property(kind="array", required=True, least=1, most=MOST_PER_CALL, items=text())
}
_ROLES = {"roles": Property(kind="array", required=True, least=1, items=text())}
_START = (-1.0, "")


def _add(call: Call) -> Answer:
    organization = organizations.required(call.world, call.params["id"])
    wanted = call.body(_MEMBERS)["members"]
    missing = [user_id for user_id in wanted if not profiles.exists(call.world, user_id)]
    if missing:
        raise bad_body(f"Users that do not exist cannot become members: {','.join(missing)}")
    for user_id in wanted:
        membership.join(call.world, organization["id"], user_id)
    return NO_CONTENT


def _remove(call: Call) -> Answer:
    organization = organizations.required(call.world, call.params["id"])
    for user_id in call.body(_MEMBERS)["members"]:
        membership.leave(call.world, organization["id"], user_id)
    return NO_CONTENT


def _list(call: Call) -> Answer:
    organization = organizations.required(call.world, call.params["id"])
    if by_checkpoint(call.query):
        return _list_by_checkpoint(call, organization["id"])
    page = page_of(call.query)
    found = membership.listed(
        call.world, organization["id"], after=_START, limit=page.per_page, offset=page.start
    )
    shown = _shown(call, organization["id"], [row["user_id"] for row in found])
    if not page.totals:
        return Answer(body=shown)
    total = membership.count_listed(call.world, organization["id"])
    return Answer(
        body={"start": page.start, "limit": page.per_page, "total": total, "members": shown}
    )


def _list_by_checkpoint(call: Call, organization_id: str) -> Answer:
    take = call.query.integer("take", 50, least=1, most=100)
    cursor = call.query.text("from")
    after = _START if cursor is None else _after(cursor)
    found = membership.listed(call.world, organization_id, after=after, limit=take)
    shown = _shown(call, organization_id, [row["user_id"] for row in found])
    answer: dict[str, Any] = {"members": shown}
    if found:
        # Recorded: `next` comes with the last rows too, so a scan ends with an empty page.
        last = f"{found[-1]['added_at']!r},{found[-1]['user_id']}"
        answer["next"] = base64.urlsafe_b64encode(last.encode()).decode()
    return Answer(body=answer)


def _after(cursor: str) -> tuple[float, str]:
    try:
        moment, _, user_id = base64.urlsafe_b64decode(cursor).decode().partition(",")
        return float(moment), user_id
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise bad_query("from is not a cursor of this list") from None


def _shown(call: Call, organization_id: str, user_ids: list[str]) -> list[dict[str, Any]]:
    fields = (call.query.text("fields") or "").split(",")
    with_roles = "roles" in fields and call.query.flag("include_fields") is not False
    if with_roles:
        call.needs("read:organization_member_roles")
    members: list[dict[str, Any]] = []
    for user_id in user_ids:
        profile = profiles.load(call.world, user_id) or {}
        shown = {k: profile[k] for k in ("picture", "name", "email") if k in profile}
        member: dict[str, Any] = {"user_id": user_id, **shown}
        if with_roles:
            held = roles.of_member(call.world, organization_id, user_id)
            member["roles"] = [{"id": role["id"], "name": role["name"]} for role in held]
        members.append(member)
    return selected(members, call.query)


def _list_roles(call: Call) -> Answer:
    organization = organizations.required(call.world, call.params["id"])
    users.required(call.world, call.params["user_id"])
    rows = roles.of_member(call.world, organization["id"], call.params["user_id"])
    return Answer(body=paged(rows, "roles", call.query))


def assign(world: World, organization_id: str, user_id: str, wanted: list[str]) -> None:
    """Give a member roles. 404 for an unknown role, 409 beyond fifty."""
    named = {role_id: roles.required(world, role_id) for role_id in wanted}
    held = {role["id"] for role in roles.of_member(world, organization_id, user_id)}
    if len(held | set(wanted)) > MOST_ROLES:
        raise Refusal(
            status=409, message="No more roles can be assigned to this organization member."
        )
    for role_id in wanted:
        added = world.run(
            "INSERT OR IGNORE INTO member_roles (tenant, organization_id, user_id, role_id)"
            " VALUES (?, ?, ?, ?)",
            organization_id,
            user_id,
            role_id,
        )
        if added:
            kind = "organization.member.role.assigned"
            happenings.of_role(world, kind, organization_id, user_id, dict(named[role_id]))


def _assign_roles(call: Call) -> Answer:
    organization = organizations.required(call.world, call.params["id"])
    wanted = call.body(_ROLES)["roles"]
    user_id = call.params["user_id"]
    if not membership.is_member(call.world, organization["id"], user_id):
        raise Refusal(status=400, message="The user is not a member of the organization")
    assign(call.world, organization["id"], user_id, wanted)
    return NO_CONTENT


def _remove_roles(call: Call) -> Answer:
    organization = organizations.required(call.world, call.params["id"])
    world, user_id = call.world, call.params["user_id"]
    held = {role["id"]: role for role in roles.of_member(world, organization["id"], user_id)}
    for role_id in call.body(_ROLES)["roles"]:
        removed = world.run(
            "DELETE FROM member_roles WHERE tenant = ? AND organization_id = ?"
            " AND user_id = ? AND role_id = ?",
            organization["id"],
            user_id,
            role_id,
        )
        if removed and role_id in held:
            kind = "organization.member.role.deleted"
            happenings.of_role(world, kind, organization["id"], user_id, held[role_id])
    return NO_CONTENT


_PATH = "/organizations/{id}/members"
_ROLES_PATH = "/organizations/{id}/members/{user_id}/roles"
_WRITE = "organization_members_write"
_ROLES_WRITE = "organization_member_roles_write"
OPERATIONS = (
    Operation("GET", _PATH, "organization_members_read", ("read:organization_members",), _list),
    Operation("POST", _PATH, _WRITE, ("create:organization_members",), _add),
    Operation("DELETE", _PATH, _WRITE, ("delete:organization_members",), _remove),
    Operation(
        "GET",
        _ROLES_PATH,
        "organization_member_roles_read",
        ("read:organization_member_roles",),
        _list_roles,
    ),
    Operation(
        "POST", _ROLES_PATH, _ROLES_WRITE, ("create:organization_member_roles",), _assign_roles
    ),
    Operation(
        "DELETE", _ROLES_PATH, _ROLES_WRITE, ("delete:organization_member_roles",), _remove_roles
    ),
)
