"""One line of ``samples.jsonl``: a request against a cast of users and groups that every line finds."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from typing import Any

from tests.recorded.replay import at, filled, matches, send
from tests.scim.client import Scim


async def prepare(scim: Scim, line: Mapping[str, Any]) -> dict[str, str]:
    """The state that a line needs, and what its placeholders stand for: fresh for every line."""
    uniq = secrets.token_hex(4)
    name = f"Lena.{uniq}@example.org"
    user = await scim.post_user(
        name,
        externalId=f"ext-{uniq}",
        name={"givenName": "Lena", "familyName": "Holt"},
        emails=[{"value": name, "type": "work", "primary": True}],
        phoneNumbers=[{"value": "+31 20 555 0100", "type": "work"}],
        addresses=[{"streetAddress": "Kade 1", "locality": "Delft", "type": "work"}],
    )
    other = await scim.post_user(f"other-{uniq}")
    manager = await scim.post_user(f"manager-{uniq}")
    bare = await scim.post_user(f"bare-{uniq}", externalId=f"bare-ext-{uniq}")
    await scim.post_user(f"off-{uniq}", externalId=f"off-ext-{uniq}", active=False)
    deleted = await scim.post_user(f"gone-{uniq}")
    assert (await scim.http.delete(f"Users/{deleted['id']}")).status_code == 204
    setup = line.get("setup", "")
    members = (user["id"], other["id"]) if "has members" in setup else ()
    group = await scim.post_group(f"Group {uniq}", *members)
    group2 = await scim.post_group(f"Second group {uniq}")
    if "deactivated" in setup:
        answer = await scim.patch(
            f"Users/{user['id']}", {"op": "replace", "path": "active", "value": False}
        )
        assert answer.status_code == 200
    return {
        "uniq": uniq,
        "random_guid": str(uuid.uuid4()),
        "user_id": user["id"],
        "user_name": name,
        "user_name_upper": name.upper(),
        "user_external_id": f"ext-{uniq}",
        "user_email": name,
        "user2_id": other["id"],
        "manager_id": manager["id"],
        "bare_user_id": bare["id"],
        "inactive_user_name": f"off-{uniq}",
        "inactive_external_id": f"off-ext-{uniq}",
        "deleted_user_id": deleted["id"],
        "group_id": group["id"],
        "group_name": f"Group {uniq}",
        "group2_id": group2["id"],
    }


async def play(scim: Scim, line: Mapping[str, Any]) -> None:
    """Raises AssertionError where the answer, or what is read back, is not as the line expects."""
    known = await prepare(scim, line)
    expected = filled(line["expected"], known)
    answer = await send(scim, line, known)
    assert answer.status_code in expected["status"], answer.text
    document = answer.json() if answer.content else {}
    assert matches(document, expected.get("json", {})), document
    assert not set(expected.get("absent", ())) & document.keys()
    assert all(header in answer.headers for header in expected.get("headers", ()))
    if "max_total" in expected and answer.status_code == 200:
        assert document["totalResults"] <= expected["max_total"]
    await _read_back(scim, filled(line["path"], known).partition("?")[0], expected)


async def _read_back(scim: Scim, path: str, expected: Mapping[str, Any]) -> None:
    if not expected.keys() & {"after", "after_not", "after_members"}:
        return
    after = await scim.get(path.lstrip("/"))
    for dotted, value in expected.get("after", {}).items():
        assert matches(at(after, dotted), value), (dotted, after)
    for dotted, value in expected.get("after_not", {}).items():
        assert not matches(at(after, dotted), value), (dotted, after)
    if "after_members" in expected:
        members = {member["value"] for member in after.get("members", [])}
        assert members == set(expected["after_members"])
