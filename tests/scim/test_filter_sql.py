"""Filters find in SQL what an evaluator of its own, written beside the generator, says they find."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import Connection

from scim.errors import ScimError
from scim.filter import DEEPEST, parse_filter
from scim.schema import ENTERPRISE, ResourceType, load_catalogue
from service.clock import SystemClock
from service.directory import organizations, search, tables, users
from service.directory.database import open_database
from service.directory.inbox import Received
from service.directory.pages import Query
from tests.infrastructure.examples import tried_on
from tests.infrastructure.postgres import create_database, drop_database
from tests.scim.client import organization

USER: ResourceType = load_catalogue().user
TEXTS = [
    "a", "A", "ab", "Ba", "50%_x", "50xyx", "_", "%", 'quo"te', "back\\slash", "é", "É", "z z",
]  # fmt: skip
TYPES = ["work", "Home", "other"]
Resource = dict[str, Any]
Find = Callable[[str], set[str]]


def corpus() -> list[Resource]:
    """Sixty users with values that collide, differ in letter case, or are absent."""
    chance = random.Random(20261122)

    def maybe(value: Any) -> Any:
        return value if chance.random() < 0.6 else None

    def entries() -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for _ in range(chance.randrange(4)):
            entry = {
                "value": maybe(chance.choice(TEXTS)),
                "type": maybe(chance.choice(TYPES)),
                "primary": maybe(chance.random() < 0.5),
            }
            if kept := {name: part for name, part in entry.items() if part is not None}:
                made.append(kept)
        return made

    found: list[Resource] = []
    for number in range(60):
        name = {"familyName": maybe(chance.choice(TEXTS)), "givenName": maybe("Lena")}
        resource = {
            "userName": f"{chance.choice(TEXTS)}{number}",
            "externalId": maybe(chance.choice(TEXTS)),
            "displayName": maybe(chance.choice(TEXTS)),
            "title": maybe(chance.choice(TEXTS)),
            "active": chance.random() < 0.5,
            "name": {key: part for key, part in name.items() if part} or None,
            "emails": entries() or None,
            "roles": entries() or None,
            ENTERPRISE: maybe({"department": chance.choice(TEXTS)}),
        }
        found.append({key: value for key, value in resource.items() if value is not None})
    return found


CORPUS = corpus()


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter's text, and whether a resource fulfils it."""

    text: str
    holds: Callable[[Resource], bool]


def values_at(resource: Resource, path: str) -> list[Any]:
    """Every value at a path of plain names; empty where there is none."""
    found: list[Any] = [resource]
    for step in path.split("/"):
        inner = [one[step] for one in found if isinstance(one, dict) and step in one]
        found = [part for one in inner for part in (one if isinstance(one, list) else [one])]
    return found


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def compares(operator: str, actual: str, wanted: str, *, exact: bool) -> bool:
    if not exact:
        actual, wanted = actual.lower(), wanted.lower()
    return {
        "eq": actual == wanted,
        "co": wanted in actual,
        "sw": actual.startswith(wanted),
        "ew": actual.endswith(wanted),
        "gt": actual > wanted,
        "ge": actual >= wanted,
        "lt": actual < wanted,
        "le": actual <= wanted,
    }[operator]


ATTRIBUTES = {
    "userName": "userName",
    "externalId": "externalId",
    "displayName": "displayName",
    "title": "title",
    "name.familyName": "name/familyName",
    "emails.value": "emails/value",
    "emails": "emails/value",
    "emails.type": "emails/type",
    "roles.value": "roles/value",
    f"{ENTERPRISE}:department": f"{ENTERPRISE}/department",
    "department": f"{ENTERPRISE}/department",
}
COMPARISONS = ["eq", "co", "sw", "ew", "gt", "ge", "lt", "le"]


@st.composite
def names(draw: st.DrawFn) -> tuple[str, str]:
    """An attribute in any letter case, and the path that it means."""
    name = draw(st.sampled_from(sorted(ATTRIBUTES)))
    change = draw(st.sampled_from([str, str.lower, str.upper]))
    return change(name), ATTRIBUTES[name]


@st.composite
def comparisons(draw: st.DrawFn) -> Filter:
    name, path = draw(names())
    operator = draw(st.sampled_from([*COMPARISONS, "ne"]))
    wanted = draw(st.sampled_from([*TEXTS, "LENA", "a1", "5"]))
    exact = path == "externalId"
    shown = draw(st.sampled_from([operator, operator.upper(), operator.title()]))
    text = f"{name} {shown} {quoted(wanted)}"
    if operator == "ne":
        return Filter(
            text,
            lambda resource: (
                not any(
                    compares("eq", value, wanted, exact=exact)
                    for value in values_at(resource, path)
                )
            ),
        )
    return Filter(
        text,
        lambda resource: any(
            compares(operator, value, wanted, exact=exact) for value in values_at(resource, path)
        ),
    )


@st.composite
def presences(draw: st.DrawFn) -> Filter:
    name, path = draw(names())
    if name.casefold() == "emails":
        path = "emails"
    if draw(st.booleans()):
        return Filter(f"{name} pr", lambda resource: bool(values_at(resource, path)))
    if name.casefold() == "emails":
        path = "emails/value"  # a comparison, with null too, means the value
    return Filter(f"{name} eq null", lambda resource: not values_at(resource, path))


@st.composite
def booleans(draw: st.DrawFn) -> Filter:
    name, path = draw(st.sampled_from([("active", "active"), ("roles.primary", "roles/primary")]))
    wanted = draw(st.booleans())
    shown = draw(st.sampled_from([str(wanted).lower(), str(wanted), quoted(str(wanted))]))
    return Filter(f"{name} eq {shown}", lambda resource: wanted in values_at(resource, path))


@st.composite
def value_paths(draw: st.DrawFn) -> Filter:
    """One entry must fulfil all that stands in the brackets."""
    attribute = draw(st.sampled_from(["emails", "roles"]))
    kind = draw(st.sampled_from(TYPES))
    wanted = draw(st.sampled_from(TEXTS))
    operator = draw(st.sampled_from(COMPARISONS))
    negated = draw(st.booleans())
    form = draw(st.sampled_from(["inside", "after"]))

    def of_kind(entry: dict[str, Any]) -> bool:
        return ("type" in entry and entry["type"].lower() == kind.lower()) is not negated

    def fits(entry: dict[str, Any]) -> bool:
        return "value" in entry and compares(operator, entry["value"], wanted, exact=False)

    condition = f"not (type eq {quoted(kind)})" if negated else f"type eq {quoted(kind.upper())}"
    text = f"{attribute}[{condition} and value {operator} {quoted(wanted)}]"
    if form == "after":
        text = f"{attribute}[{condition}].value {operator} {quoted(wanted)}"
    return Filter(
        text,
        lambda resource: any(
            of_kind(entry) and fits(entry) for entry in values_at(resource, attribute)
        ),
    )


def joined(parts: list[Filter], word: str) -> Filter:
    if len(parts) == 1:
        return parts[0]
    every = all if word == "and" else any
    text = f" {word} ".join(part.text for part in parts)
    return Filter(text, lambda resource: every(part.holds(resource) for part in parts))


def grammar(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    """or-chains of and-chains of units, without more parentheses than the grammar needs."""
    grouped = inner.map(lambda part: Filter(f"({part.text})", part.holds))
    negated = inner.map(lambda part: Filter(f"not ({part.text})", lambda r: not part.holds(r)))
    unit = st.one_of(leaves, grouped, negated)
    conjunction = st.lists(unit, min_size=1, max_size=3).map(lambda parts: joined(parts, "and"))
    return st.lists(conjunction, min_size=1, max_size=3).map(lambda parts: joined(parts, "or"))


leaves = st.one_of(comparisons(), presences(), booleans(), value_paths())
filters = st.recursive(leaves, grammar, max_leaves=8)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def find(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Find]:
    """From a filter to the userNames that the database finds by it."""
    with asyncio.Runner() as runner:
        server: str | None = None
        if request.param == "sqlite":
            url = f"sqlite:///{Path(tmp_path_factory.mktemp('filters')) / 'directory.db'}"
        else:
            server = str(request.getfixturevalue("postgres_url"))
            url = runner.run(create_database(server))
        database = runner.run(_filled(url))

        def found(text: str) -> set[str]:
            where = parse_filter(text, USER, tolerant=True)
            page = runner.run(
                database.read(
                    lambda transaction: search.users(
                        transaction, "hoekstra", Query(where=where, limit=1000)
                    )
                )
            )
            counted = runner.run(
                database.read(
                    lambda transaction: search.users(
                        transaction, "hoekstra", Query(where=where, limit=0)
                    )
                )
            )
            assert page.total == len(page.items) == counted.total
            return {(user.resource or {})["userName"] for user in page.items}

        yield found
        runner.run(database.close())
        if server is not None:
            runner.run(drop_database(server, url))


async def _filled(url: str) -> Any:
    database = open_database(url)
    now = SystemClock().now()

    def fill(transaction: Connection) -> None:
        tables.metadata.create_all(transaction)
        for name in ("hoekstra", "neighbour"):
            organizations.apply(transaction, organization(name), now)
            registered = organizations.find(transaction, name)
            assert registered is not None
            for resource in CORPUS if name == "hoekstra" else CORPUS[:5]:
                received = Received(door="scim", source="scim", type="scim.user.created", at=now)
                users.create(transaction, registered, resource, received)

    await database.transact(fill)
    return database


@tried_on(250, suppressed=[HealthCheck.function_scoped_fixture])
@given(wanted=filters)
def test_filter_finds_exactly_the_resources_that_fulfil_it(find: Find, wanted: Filter) -> None:
    expected = {resource["userName"] for resource in CORPUS if wanted.holds(resource)}
    assert find(wanted.text) == expected


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_every_comparison_finds_what_it_says(find: Find, name: str) -> None:
    path = ATTRIBUTES[name]
    for operator in COMPARISONS:
        for wanted in ("a", "A", "b", "%", "_x", "k", 'e"', "", "ab", "é", "É"):
            expected = {
                resource["userName"]
                for resource in CORPUS
                if any(
                    compares(operator, value, wanted, exact=path == "externalId")
                    for value in values_at(resource, path)
                )
            }
            assert find(f"{name} {operator} {quoted(wanted)}") == expected, (operator, wanted)


@tried_on(60)
@given(wanted=filters)
def test_a_filter_and_its_opposite_part_the_organization(find: Find, wanted: Filter) -> None:
    everyone = {resource["userName"] for resource in CORPUS}
    inside, outside = find(wanted.text), find(f"not ({wanted.text})")
    assert inside | outside == everyone
    assert not inside & outside


def is_read(text: str) -> bool:
    try:
        parse_filter(text, USER, tolerant=True)
    except ScimError:
        return False
    return True


@pytest.mark.parametrize(
    "around", ["not (active pr and {})", "(title pr or (active pr and {}))", "not (title pr or {})"]
)
def test_the_deepest_filter_that_is_read_is_answered(find: Find, around: str) -> None:
    texts = ['emails[not (type eq "É") or value co "b"]']
    while len(texts) < DEEPEST:
        texts.append(around.format(texts[-1]))
    read = [text for text in texts if is_read(text)]
    assert 8 < len(read) < DEEPEST // 2
    find(read[-1])


def test_negations_of_negations_do_not_nest(find: Find) -> None:
    text = 'title eq "a"'
    assert find("not (" * (DEEPEST - 2) + text + ")" * (DEEPEST - 2)) == find(text)
    assert find("not (" * (DEEPEST - 1) + text + ")" * (DEEPEST - 1)) == find(f"not ({text})")
