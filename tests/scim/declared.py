"""Extensions that the tests' organizations declare: every type and every characteristic once."""

from __future__ import annotations

from typing import Any, Final

import httpx
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.routing import Mount

from scim.app import create_app
from service.clock import SystemClock
from service.directory import organizations
from service.extension_schemas import SchemaDeclaration
from tests.scim.client import PEPPER, Scim, organization

STAFF: Final = "urn:example:scim:schemas:2.0:Staff"
TEAM: Final = "urn:example:scim:schemas:2.0:Team"

STAFF_SCHEMA: Final[dict[str, Any]] = {
    "id": STAFF,
    "name": "Staff",
    "description": "What the reception knows of people",
    "attributes": [
        {"name": "badgeNumber", "type": "integer"},
        {"name": "rating", "type": "decimal"},
        {"name": "since", "type": "dateTime"},
        {"name": "cleared", "type": "boolean"},
        {"name": "site", "canonicalValues": ["Amsterdam", "Utrecht"]},
        {"name": "code", "caseExact": True},
        {"name": "photo", "type": "binary"},
        {"name": "page", "type": "reference", "referenceTypes": ["external"]},
        {"name": "tags", "multiValued": True},
        {"name": "floors", "type": "integer", "multiValued": True},
        {
            "name": "desk",
            "type": "complex",
            "subAttributes": [
                {"name": "room"},
                {"name": "floor", "type": "integer"},
                {"name": "serial", "mutability": "immutable"},
                {"name": "seal", "mutability": "readOnly"},
            ],
        },
        {
            "name": "keys",
            "type": "complex",
            "multiValued": True,
            "subAttributes": [
                {"name": "value", "required": True},
                {"name": "type", "canonicalValues": ["door", "safe"]},
                {"name": "primary", "type": "boolean"},
                {"name": "copies", "type": "integer"},
            ],
        },
        {"name": "firstDay", "mutability": "immutable"},
        {"name": "pin", "mutability": "writeOnly", "returned": "never"},
        {"name": "remark", "returned": "request"},
        {"name": "label", "returned": "always"},
    ],
}
TEAM_SCHEMA: Final[dict[str, Any]] = {
    "id": TEAM,
    "name": "Team",
    "resourceTypes": ["Group", "User"],
    "attributes": [{"name": "costCenter", "required": True}, {"name": "budget", "type": "decimal"}],
}
FULL: Final[dict[str, Any]] = {
    "badgeNumber": 4711,
    "rating": 4.5,
    "since": "2026-02-03T04:05:06Z",
    "cleared": True,
    "site": "Utrecht",
    "code": "aB",
    "photo": "aGFsbG8=",
    "page": "https://people.example/lena",
    "tags": ["first-aid", "Fire"],
    "floors": [1, 3],
    "desk": {"room": "B12", "floor": 3, "serial": "D-1"},
    "keys": [{"value": "k1", "type": "door", "primary": True, "copies": 2}],
    "firstDay": "2026-02-01",
    "pin": "0000",
    "remark": "tall",
    "label": "blue",
}


def schemas(*documents: dict[str, Any]) -> tuple[SchemaDeclaration, ...]:
    return tuple(SchemaDeclaration.model_validate(document) for document in documents)


def with_attributes(document: dict[str, Any], *changed: dict[str, Any]) -> dict[str, Any]:
    """The schema with these attributes in the place of those of the same name."""
    names = {attribute["name"] for attribute in changed}
    kept = [each for each in document["attributes"] if each["name"] not in names]
    return {**document, "attributes": [*kept, *changed]}


def without_attributes(document: dict[str, Any], *names: str) -> dict[str, Any]:
    kept = [each for each in document["attributes"] if each["name"] not in names]
    return {**document, "attributes": kept}


async def redeclared(scim: Scim, *documents: dict[str, Any], **settings: Any) -> Scim:
    """The same organization after its schemas were applied anew, to a process that just started."""
    declared = organization(scim.organization, scim_schemas=schemas(*documents), **settings)

    def work(transaction: Connection) -> None:
        organizations.apply(transaction, declared, SystemClock().now())

    await scim.database.transact(work)
    door = create_app(database=scim.database, clock=SystemClock(), pepper=PEPPER)
    http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=Starlette(routes=[Mount("/scim/v2", app=door)])),
        base_url=scim.http.base_url,
        headers={"Authorization": f"Bearer {scim.token}"},
    )
    return Scim(http=http, database=scim.database, organization=scim.organization, token=scim.token)
