"""A Bulk of operations for the tests, and what it answers."""

from __future__ import annotations

from typing import Any

import httpx

from tests.scim.client import Scim

BULK_REQUEST = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
BULK_RESPONSE = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"


def user(name: str, bulk_id: str | None = None, **attributes: Any) -> dict[str, Any]:
    data = {"userName": name, **attributes}
    return operation("POST", "/Users", data, bulkId=bulk_id)


def group(name: str, *members: str, bulk_id: str | None = None) -> dict[str, Any]:
    data = {"displayName": name, "members": [{"value": member} for member in members]}
    return operation("POST", "/Groups", data, bulkId=bulk_id)


def operation(method: str, path: str, data: Any = None, **others: Any) -> dict[str, Any]:
    made = {"method": method, "path": path, "data": data, **others}
    return {name: value for name, value in made.items() if value is not None}


async def send(scim: Scim, *operations: Any, **others: Any) -> httpx.Response:
    headers: dict[str, str] = others.pop("headers", {})
    body = {"schemas": [BULK_REQUEST], "Operations": list(operations), **others}
    return await scim.http.post("Bulk", json=body, headers=headers)


async def entries(scim: Scim, *operations: Any, **others: Any) -> list[dict[str, Any]]:
    answer = await send(scim, *operations, **others)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/scim+json"
    document = answer.json()
    assert document["schemas"] == [BULK_RESPONSE]
    return document["Operations"]


async def statuses(scim: Scim, *operations: Any, **others: Any) -> list[str]:
    return [entry["status"] for entry in await entries(scim, *operations, **others)]


def id_of(entry: dict[str, Any]) -> str:
    return entry["location"].rpartition("/")[2]
