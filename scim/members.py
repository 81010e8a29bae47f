"""The members that a group's body names: a set of ids, however many. Knows nothing of users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scim.errors import invalid_value
from scim.resource import MEMBERS, Profile


def asserts(profile: Profile, document: Mapping[str, Any], name: str) -> bool:
    """Whether a body says anything of this core attribute, null included."""
    for key, value in document.items():
        path = profile.resource_type.resolve(key, tolerant=profile.tolerant)
        if path is not None and path.extension is None and path.attribute is not None:
            if path.attribute.name == name:
                return True
        elif profile.resource_type.schema_of(key) == profile.resource_type.core.id:
            return isinstance(value, dict) and asserts(profile, value, name)
    return False


def members_in(profile: Profile, document: Mapping[str, Any]) -> frozenset[str]:
    """The ids of the members in a group's body. Raises ScimError ``invalidValue``."""
    found: set[str] = set()
    for key, value in document.items():
        path = profile.resource_type.resolve(key, tolerant=profile.tolerant)
        if path is not None and path.attribute is not None and path.attribute.name == MEMBERS:
            found |= member_ids(value)
        elif profile.resource_type.schema_of(key) == profile.resource_type.core.id:
            found |= members_in(profile, value) if isinstance(value, dict) else frozenset()
    return frozenset(found)


def member_ids(value: object) -> frozenset[str]:
    """Ids of a ``members`` value: a list of objects, one object, or bare ids."""
    if value is None or value == "":
        return frozenset()
    return frozenset(_member_id(entry) for entry in (value if isinstance(value, list) else [value]))


def _member_id(entry: object) -> str:
    found, kind = entry, None
    if isinstance(entry, dict):
        known = {key.casefold(): value for key, value in entry.items()}
        found, kind = known.get("value"), known.get("type")
    if not isinstance(found, str) or not found or "\x00" in found:
        raise invalid_value("A member is an object whose value is the id of a user.")
    if isinstance(kind, str) and kind.casefold() not in ("", "user"):
        raise invalid_value("The members of a group are users: groups in groups are not kept.")
    return found
