"""Users and filters for comparisons with scim2-models, drawn by hypothesis.

Where we decide otherwise than its evaluator the case is left out, and a comment says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import strategies as st

from tests.scim.client import CORE_USER, ENTERPRISE

NOW = datetime(2026, 11, 22, 9, 30, 15, 123456, tzinfo=UTC)
Resource = dict[str, Any]

# Texts are in Unicode's composed form: the evaluator composes before it compares, we compare as sent.
# Beyond ASCII they keep one letter case: there each database folds by its own locale.
TEXTS = [
    "a",
    "A",
    "ab",
    "Ba",
    "b",
    "50%_x",
    "50xyx",
    "_",
    "%",
    'quo"te',
    "back\\slash",
    "é",
    "z z",
    "K",
    "0",
]
ADDRESSES = ["a@b.example", "A@b.example", "lena@b.example", "x_y@c.example"]
KINDS = ["work", "Home", "home", "other"]
LINKS = ["https://a.example/P", "https://a.example/p", "https://b.example/"]

texts = st.sampled_from(TEXTS)
booleans = st.booleans()


def objects(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Resource]:
    """Objects with up to three of these parts, never with none."""
    return some_of(parts, least=1, most=3)


def some_of(
    parts: Mapping[str, st.SearchStrategy[Any]], *, least: int, most: int
) -> st.SearchStrategy[Resource]:
    """Few of many: to decide on each part of a whole user costs more than all the rest."""
    pairs = [st.tuples(st.just(name), values) for name, values in parts.items()]
    return st.lists(st.one_of(pairs), min_size=least, max_size=most).map(dict)


def entries(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Resource]]:
    entry = objects(value=values, display=texts, type=st.sampled_from(KINDS), primary=booleans)
    return st.lists(entry, min_size=1, max_size=3).filter(has_one_primary)


def has_one_primary(listed: list[Resource]) -> bool:
    return sum(entry.get("primary") is True for entry in listed) < 2


SINGLE = ["displayName", "nickName", "title", "userType", "preferredLanguage", "locale", "timezone"]
NAME = ["formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix"]
COMPANY = ["employeeNumber", "costCenter", "organization", "division", "department"]
PLACE = ["formatted", "streetAddress", "locality", "region", "postalCode", "country", "type"]
MANY = {
    "emails": st.sampled_from(ADDRESSES),
    "phoneNumbers": texts,
    "ims": texts,
    "entitlements": texts,
    "roles": texts,
    "photos": st.sampled_from(LINKS),
}
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "externalId": texts,
    "active": booleans,
    "profileUrl": st.sampled_from(LINKS),
    "name": objects(**dict.fromkeys(NAME, texts)),
    "addresses": st.lists(
        objects(**dict.fromkeys(PLACE, texts), primary=booleans), min_size=1, max_size=2
    ).filter(has_one_primary),
    ENTERPRISE: objects(
        **dict.fromkeys(COMPANY, texts),
        manager=st.builds(
            lambda value: {"value": value, "$ref": f"https://a.example/Users/{value}"},
            st.sampled_from(["m1", "M1", "m2"]),
        ),
    ),
    **dict.fromkeys(SINGLE, texts),
    **{name: entries(values) for name, values in MANY.items()},
}
resources = st.builds(
    lambda name, rest: {"userName": name, **rest}, texts, some_of(OPTIONAL, least=0, most=6)
)

ORDERED = ["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"]


@dataclass(frozen=True, slots=True)
class Name:
    """An attribute path as filters may write it. ``many``: values of several entries."""

    path: str
    urn: str
    many: bool = False


STRINGS = [
    *(Name(path, CORE_USER) for path in ["userName", "externalId", "id", "profileUrl", *SINGLE]),
    *(Name(f"name.{part}", CORE_USER) for part in NAME),
    *(Name(part, ENTERPRISE) for part in [*COMPANY, "manager.value"]),
    *(Name(f"{name}.{part}", CORE_USER, True) for name in MANY for part in ("display", "type")),
    *(Name(f"{name}.value", CORE_USER, True) for name in MANY),
    *(Name(f"addresses.{part}", CORE_USER, True) for part in PLACE),
    # A bare attribute of several values means their values: RFC 7644's own examples do it.
    *(Name(name, CORE_USER, True) for name in MANY),
    Name("meta.resourceType", CORE_USER),
]
FLAGS = [
    Name("active", CORE_USER),
    *(Name(f"{name}.primary", CORE_USER, True) for name in [*MANY, "addresses"]),
]
TIMES = [Name("meta.created", CORE_USER), Name("meta.lastModified", CORE_USER)]
WHOLE = [Name("name", CORE_USER), *(Name(name, CORE_USER, True) for name in [*MANY, "addresses"])]


def in_any_case(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([text, text, text.lower(), text.upper()])


@st.composite
def written(draw: st.DrawFn, name: Name) -> str:
    """A name with or without its URN, in any letter case; the enterprise one needs its URN."""
    path = draw(in_any_case(name.path))
    if name.path.startswith(("id", "externalId", "meta")):
        return path  # common attributes belong to no schema
    if name.urn == ENTERPRISE or draw(st.integers(0, 3)) == 0:
        return f"{draw(in_any_case(name.urn))}:{path}"
    return path


def quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def fitting(path: str) -> st.SearchStrategy[str]:
    """Text to compare with; whole values where the evaluator takes nothing else."""
    if path in ("emails", "emails.value"):
        return st.sampled_from(ADDRESSES)
    if path in ("photos", "photos.value", "profileUrl"):
        return st.sampled_from([*LINKS, "https://a.example"])
    if path == "meta.resourceType":
        return st.sampled_from(["User", "user", "Group"])
    if path == "manager.value":
        return st.sampled_from(["m1", "M1", "m"])
    return st.sampled_from([*TEXTS, *KINDS, ""])


@st.composite
def text_terms(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(STRINGS))
    operator = draw(st.sampled_from(ORDERED))
    return f"{draw(written(name))} {draw(in_any_case(operator))} {quoted(draw(fitting(name.path)))}"


@st.composite
def flag_terms(draw: st.DrawFn) -> str:
    # "True" as text and True as a word are Entra's; the evaluator refuses them.
    name = draw(st.sampled_from(FLAGS))
    return f"{draw(written(name))} {draw(st.sampled_from(['eq', 'ne']))} {draw(st.sampled_from(['true', 'false']))}"


@st.composite
def time_terms(draw: st.DrawFn) -> str:
    # co, sw and ew have no meaning on a time: we refuse them.
    moment = NOW + draw(
        st.sampled_from(
            [timedelta(), timedelta(microseconds=1), -timedelta(hours=3), timedelta(days=1)]
        )
    )
    zone = draw(st.sampled_from([UTC, datetime.fromisoformat("2026-01-01T00:00:00+05:30").tzinfo]))
    shown = moment.astimezone(zone).isoformat(timespec="microseconds")
    if draw(booleans):
        shown = shown.replace("+00:00", "Z")
    operator = draw(st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"]))
    return f"{draw(written(draw(st.sampled_from(TIMES))))} {operator} {quoted(shown)}"


@st.composite
def presence_terms(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from([*STRINGS, *FLAGS, *TIMES, *WHOLE]))
    shown = draw(written(name))
    # null: of several entries the evaluator asks whether one lacks the value, we whether all do.
    if name.many or name in WHOLE or draw(booleans):
        return f"{shown} {draw(in_any_case('pr'))}"
    return f"{shown} {draw(st.sampled_from(['eq', 'ne']))} null"


@st.composite
def inner_terms(draw: st.DrawFn, attribute: str) -> str:
    """A comparison inside brackets: of one entry, so that null is its own."""
    part = draw(
        st.sampled_from(PLACE if attribute == "addresses" else ["value", "display", "type"])
    )
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return f"primary {draw(st.sampled_from(['eq', 'ne']))} {draw(st.sampled_from(['true', 'false']))}"
    shown = draw(in_any_case(part))
    if kind == 1:
        return f"{shown} pr"
    if kind == 2:
        return f"{shown} {draw(st.sampled_from(['eq', 'ne']))} null"
    return (
        f"{shown} {draw(st.sampled_from(ORDERED))} {quoted(draw(fitting(f'{attribute}.{part}')))}"
    )


@st.composite
def value_paths(draw: st.DrawFn) -> str:
    attribute = draw(st.sampled_from([*MANY, "addresses"]))
    inner = draw(joined(inner_terms(attribute)))
    return f"{draw(written(Name(attribute, CORE_USER)))}[{inner}]"


def joined(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """or-chains of and-chains, with no more parentheses than the grammar needs, and not."""

    def chained(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        unit = st.one_of(
            leaves, inner.map(lambda text: f"({text})"), inner.map(lambda text: f"not ({text})")
        )
        conjunction = st.lists(unit, min_size=1, max_size=3).map(" and ".join)
        return st.lists(conjunction, min_size=1, max_size=3).map(" or ".join)

    return st.recursive(leaves, chained, max_leaves=6)


filters = joined(
    st.one_of(
        text_terms(), text_terms(), flag_terms(), time_terms(), presence_terms(), value_paths()
    )
)
