"""PATCH as RFC 7644 has it does what scim2-models' own PATCH does, to any user.

Left out: where we decide otherwise, and where the reference is known to fall short.
"""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scim2_models import Context, EnterpriseUser, PatchOp, SCIMException
from scim2_models import User as ModelUser

from scim.errors import ScimError
from scim.operations import PATCH_SCHEMA, read_operations
from scim.patch import patch_user
from scim.resource import Profile
from scim.schema import load_catalogue
from tests.infrastructure.examples import tried_on
from tests.scim.client import CORE_USER, ENTERPRISE
from tests.scim.generated import (
    COMPANY,
    KINDS,
    MANY,
    NAME,
    SINGLE,
    Resource,
    booleans,
    has_one_primary,
    in_any_case,
    objects,
    quoted,
    resources,
    texts,
)

STRICT = Profile(resource_type=load_catalogue().user, tolerant=False)
TOLERANT = Profile(resource_type=load_catalogue().user)
MODEL: Any = ModelUser[EnterpriseUser]
PATCH: Any = PatchOp[MODEL]
Operation = dict[str, Any]

managers = st.sampled_from(["m1", "m2"]).map(
    # Without $ref, as most send it, the reference refuses a manager.
    lambda value: {"value": value, "$ref": f"https://a.example/Users/{value}"}
)
singles = st.one_of(
    st.tuples(st.sampled_from([*SINGLE, "userName", "externalId"]), texts),
    st.tuples(st.just("active"), booleans),
    st.tuples(st.sampled_from(NAME).map(lambda part: f"name.{part}"), texts),
    st.tuples(st.sampled_from(COMPANY).map(lambda part: f"{ENTERPRISE}:{part}"), texts),
    st.tuples(st.just(f"{ENTERPRISE}:manager"), managers),
    st.tuples(st.just("name"), objects(**dict.fromkeys(NAME, texts))),
)
additions = st.sampled_from(["add", "replace"])


@st.composite
def entries_of(draw: st.DrawFn, attribute: str) -> list[Resource]:
    """New entries, each with a value of its own: one whose value is there we merge into that one,
    the reference stands it beside.
    """
    made: list[Resource] = []
    for _ in range(draw(st.integers(1, 2))):
        text = f"new{draw(st.uuids()).hex[:8]}"
        shapes = {"emails": f"{text}@b.example", "photos": f"https://a.example/{text}"}
        rest = draw(objects(display=texts, type=st.sampled_from(KINDS), primary=booleans))
        made.append({"value": shapes.get(attribute, text), **rest})
    return made if has_one_primary(made) else made[:1]


@st.composite
def on_singles(draw: st.DrawFn) -> Operation:
    path, value = draw(singles)
    name = draw(additions)
    # A URN as the key of a value is Entra's.
    if ":" not in path and "." not in path and draw(booleans):
        return {"op": name, "value": {path: value}}
    return {"op": name, "path": draw(in_any_case(path)), "value": value}


@st.composite
def removals(draw: st.DrawFn) -> Operation:
    attribute = draw(st.sampled_from([*SINGLE, "name", "active", "externalId", "userName", *MANY]))
    extended = draw(st.sampled_from([*COMPANY, "manager"]))
    path = draw(st.sampled_from([attribute, f"name.{draw(st.sampled_from(NAME))}"]))
    return {"op": "remove", "path": draw(st.sampled_from([path, f"{ENTERPRISE}:{extended}"]))}


@st.composite
def on_lists(draw: st.DrawFn) -> Operation:
    attribute = draw(st.sampled_from(sorted(MANY)))
    return {"op": draw(additions), "path": attribute, "value": draw(entries_of(attribute))}


@st.composite
def on_selected(draw: st.DrawFn) -> Operation:
    """With brackets. ``value`` stays: an entry that loses it is none to us, and goes."""
    attribute = draw(st.sampled_from(sorted(MANY)))
    kind = quoted(draw(in_any_case(draw(st.sampled_from(KINDS)))))
    chosen = draw(st.sampled_from([f"type eq {kind}", f"not (type eq {kind})", "display pr"]))
    path = f"{attribute}[{chosen}]"
    shape = draw(st.integers(0, 3))
    if shape == 0:
        return {"op": "remove", "path": path}
    if shape == 1:
        return {"op": "remove", "path": f"{path}.display"}
    return {"op": draw(additions), "path": f"{path}.display", "value": draw(texts)}


operations = st.one_of(on_singles(), removals(), on_lists(), on_selected())


def by_us(resource: Resource, listed: list[Operation]) -> Resource | None:
    """The user afterwards; None where an operation is refused."""
    body = {"schemas": [PATCH_SCHEMA], "Operations": listed}
    try:
        return patch_user(STRICT, resource, read_operations(body, tolerant=False))
    except ScimError:
        return None


def by_reference(resource: Resource, listed: list[Operation]) -> Resource | None:
    user = MODEL.model_validate({"schemas": [CORE_USER, ENTERPRISE], **resource})
    body = {"schemas": [PATCH_SCHEMA], "Operations": listed}
    try:
        patch = PATCH.model_validate(body, scim_ctx=Context.RESOURCE_PATCH_REQUEST)
        patch.patch(user)
    except (SCIMException, ValidationError):
        return None
    return TOLERANT.normalise(orjson.loads(user.model_dump_json()))


def unordered(resource: Resource | None) -> Any:
    """Lists as sets: their order says nothing, and entries that are the same are one."""
    if resource is None:
        return None
    return {
        name: {plain(entry) for entry in value} if isinstance(value, list) else value
        for name, value in resource.items()
    }


def plain(entry: Resource) -> bytes:
    # The reference writes canonical types in its own letter case.
    told = entry | ({"type": entry["type"].lower()} if "type" in entry else {})
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS)


def with_values(resource: Resource) -> Resource:
    """Without entries that have no value, which PATCH with brackets drops."""
    kept = {
        name: [entry for entry in value if "value" in entry] if name in MANY else value
        for name, value in resource.items()
    }
    return STRICT.normalise({"schemas": [CORE_USER, ENTERPRISE], **kept})


@tried_on(1500)
@given(resource=resources.map(with_values), listed=st.lists(operations, min_size=1, max_size=4))
def test_patch_does_what_the_reference_does(resource: Resource, listed: list[Operation]) -> None:
    assert unordered(by_us(resource, listed)) == unordered(by_reference(resource, listed))
