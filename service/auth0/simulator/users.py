"""Operations on users: create, read, search, update and delete.

Sources: Management API reference, `/users` and `/users-by-email`; docs on user search.
"""

import json

from service.auth0.simulator import changes, custom_domains, membership, profiles, search
from service.auth0.simulator.errors import bad_query, unknown_user
from service.auth0.simulator.operation import NO_CONTENT, Answer, Call, Operation, World
from service.auth0.simulator.profiles import Profile
from service.auth0.simulator.shapes import paged, selected


def required(world: World, user_id: str) -> Profile:
    """The profile. Raises the 404 where there is none."""
    profile = profiles.load(world, user_id)
    if profile is None:
        raise unknown_user()
    return profile


def _create(call: Call) -> Answer:
    body = call.body(changes.CREATE)
    custom_domains.require_one(call)
    return Answer(status=201, body=changes.create(call.world, body))


def _get(call: Call) -> Answer:
    return Answer(body=selected([required(call.world, call.params["id"])], call.query)[0])


def _update(call: Call) -> Answer:
    body = call.body(changes.UPDATE)
    if "app_metadata" in body:
        call.needs("update:users_app_metadata")
    profile = required(call.world, call.params["id"])
    changes.update(call.world, profile, body)
    return Answer(body=profile)


def _delete(call: Call) -> Answer:
    profiles.remove(call.world, call.params["id"])
    return NO_CONTENT


def _by_email(call: Call) -> Answer:
    email = call.query.text("email")
    if not email:
        raise bad_query("Missing required property: email")
    found = call.world.rows(
        "SELECT document FROM users WHERE tenant = ? AND email = ? ORDER BY user_id", email
    )
    return Answer(body=selected([json.loads(row["document"]) for row in found], call.query))


def _search(call: Call) -> Answer:
    world, query = call.world, call.query
    found = profiles.searchable(world)
    connection, q = query.text("connection"), query.text("q")
    if connection is not None:
        found = [profile for profile in found if changes.has_identity(profile, connection)]
    if q:
        test = search.parsed(q)
        joined = membership.listed_in(world)
        found = [
            profile
            for profile in found
            if test({**profile, "organization_id": sorted(joined.get(profile["user_id"], ()))})
        ]
    found = _sorted(found, query.text("sort"))
    body = paged(selected(found, query), "users", query)
    if isinstance(body, dict):
        body["length"] = len(body["users"])
    return Answer(body=body)


def _sorted(found: list[Profile], sort: str | None) -> list[Profile]:
    if sort is None:
        return found
    field, _, direction = sort.partition(":")
    if direction not in {"", "1", "-1"}:
        raise bad_query("sort must be a field, a colon and 1 or -1")
    return sorted(found, key=lambda p: str(p.get(field) or ""), reverse=direction == "-1")


def _organizations(call: Call) -> Answer:
    world = call.world
    required(world, call.params["id"])
    rows = [
        {"id": row["id"], **json.loads(row["document"])}
        for organization_id in membership.organizations_of(world, call.params["id"])
        for row in world.rows(
            "SELECT id, document FROM organizations WHERE tenant = ? AND id = ?", organization_id
        )
    ]
    body = paged(rows, "organizations", call.query)
    if isinstance(body, dict):
        # Recorded with one row in the list: totals of this list cannot be trusted.
        body["total"] = 0
    return Answer(body=body)


OPERATIONS = (
    Operation("GET", "/users", "users_read", ("read:users",), _search),
    Operation("POST", "/users", "users_write", ("create:users",), _create),
    Operation("GET", "/users-by-email", "users_read", ("read:users",), _by_email),
    Operation("GET", "/users/{id}", "users_read", ("read:users",), _get),
    Operation("PATCH", "/users/{id}", "users_write", ("update:users",), _update),
    Operation("DELETE", "/users/{id}", "users_delete", ("delete:users",), _delete),
    Operation(
        "GET",
        "/users/{id}/organizations",
        "users_read",
        ("read:organizations",),
        _organizations,
    ),
)
