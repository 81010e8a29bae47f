"""What a change of a schema does to readers of the released one."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.schemas import today
from service.outcomes.compatibility import bare, breaks

RELEASED = {name: bare(schema) for name, schema in today().items()}
NAMES = sorted(RELEASED)


def members(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every member at any depth: its path, the object schema that holds it, its name."""
    for name, inner in schema.get("properties", {}).items():
        path = f"{at}.{name}".lstrip(".")
        yield path, schema, name
        yield from members(inner, path)


@st.composite
def a_member(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    """A type, the path of one of its members, and a copy of the type to change."""
    name = draw(st.sampled_from(NAMES))
    path = draw(st.sampled_from([path for path, _, _ in members(RELEASED[name])]))
    return name, path, {name: copy.deepcopy(RELEASED[name])}


def holder(types: dict[str, Any], name: str, path: str) -> tuple[dict[str, Any], str]:
    return next((owner, member) for found, owner, member in members(types[name]) if found == path)


def told(changed: dict[str, Any]) -> list[tuple[str, str]]:
    """What breaks, among the types that were changed."""
    before = {name: RELEASED[name] for name in changed if name in RELEASED}
    return [(each.type, each.member) for each in breaks(before, changed)]


def test_what_is_as_it_was_breaks_nothing() -> None:
    assert breaks(RELEASED, today()) == []


@given(a_member())
def test_a_member_that_goes_or_is_renamed_breaks_readers(
    case: tuple[str, str, dict[str, Any]],
) -> None:
    name, path, types = case
    owner, member = holder(types, name, path)
    owner["properties"][f"{member}Now"] = owner["properties"].pop(member)
    assert (name, path) in told(types)


@given(a_member(), st.sampled_from([{"type": "boolean", "minimum": 1}, {"type": "null"}]))
def test_a_member_of_another_type_breaks_readers(
    case: tuple[str, str, dict[str, Any]], other: dict[str, Any]
) -> None:
    name, path, types = case
    owner, member = holder(types, name, path)
    if owner["properties"][member].get("type") == other["type"]:
        other = {"type": "array"}
    owner["properties"][member] = other
    assert (name, path) in told(types)


@given(a_member())
def test_a_member_that_changes_between_required_and_optional_breaks_readers(
    case: tuple[str, str, dict[str, Any]],
) -> None:
    name, path, types = case
    owner, member = holder(types, name, path)
    owner["required"] = sorted(set(owner.get("required", [])) ^ {member})
    assert (name, path) in told(types)


@given(a_member(), st.text("abcdefgh", min_size=9, max_size=12))
def test_a_new_member_is_welcome_where_it_is_optional_and_no_other_way(
    case: tuple[str, str, dict[str, Any]], new: str
) -> None:
    name, path, types = case
    owner, member = holder(types, name, path)
    owner["properties"][new] = {"type": "string"}
    assert told(types) == []
    owner["required"] = [*owner.get("required", []), new]
    (found,) = told(types)
    assert found == (name, f"{path.removesuffix(member)}{new}")


@pytest.mark.parametrize("values", [["sent"], ["sent", "doubtful", "lost"]])
def test_neither_fewer_nor_more_values_of_an_enumeration_go_unseen(values: list[str]) -> None:
    types = copy.deepcopy(RELEASED)
    name = "io.auth0-provisioner.invitation.sent.v1"
    types[name]["properties"]["delivery"]["enum"] = values
    (found,) = breaks(RELEASED, types)
    assert str(found).startswith(f"{name}: delivery: its values were doubtful, sent and are ")
    assert str(found).endswith("or publish a .v2 type beside this one")


def test_a_member_that_may_be_null_and_is_not_any_more_is_seen() -> None:
    types = copy.deepcopy(RELEASED)
    name = "io.auth0-provisioner.event.rejected.v1"
    types[name]["properties"]["error"]["properties"]["httpStatus"] = {"type": "integer"}
    assert told(types) == [(name, "error.httpStatus")]


@pytest.mark.parametrize("word", [{"minimum": 1}, {"pattern": "^x"}, {"maxItems": 3}])
def test_a_new_limit_is_seen_and_so_is_one_that_is_gone(word: dict[str, Any]) -> None:
    types = copy.deepcopy(RELEASED)
    name = "io.auth0-provisioner.event.rejected.v1"
    types[name]["properties"]["error"]["properties"]["code"] |= word
    assert told(types) == [(name, "error.code")]
    assert [each.member for each in breaks(types, {name: RELEASED[name]}) if each.type == name] == [
        "error.code"
    ]


def test_a_type_that_is_gone_is_seen_and_a_new_one_is_welcome() -> None:
    types = copy.deepcopy(RELEASED)
    types["io.auth0-provisioner.user.created.v2"] = types.pop(NAMES[0])
    assert [(each.type, each.what) for each in breaks(RELEASED, types)] == [
        (NAMES[0], "the type is gone")
    ]


def test_words_for_people_may_change() -> None:
    words = json.loads(json.dumps(today()).replace('"description": "', '"description": "So: '))
    assert breaks(RELEASED, words) == []
