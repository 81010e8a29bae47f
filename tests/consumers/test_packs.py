"""The shipped mappings: each passes its own tests, and reads what its vendor is known to send."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import orjson
import pytest

from consumers.admission import Understood
from consumers.cloudevents import content_of, read_request
from consumers.mappings import document, packs, trial
from consumers.mappings.canonical import Mapped, canonical
from consumers.mappings.compiling import Compiled
from consumers.mappings.document import Document
from consumers.mappings.engine import Arrived, Found, Ignored, read
from consumers.records import Record, Route, inputs
from consumers.unusable import Unusable
from service.workers import WorkerEvent

FOLDER: Final = Path(packs.__file__).parent / "packs"
SAMPLES: Final = Path(__file__).parent / "samples" / "hr_events.jsonl"
PACKS: Final = sorted(path.stem for path in FOLDER.glob("*.yaml"))
NOW: Final = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

REMOTE: Final = """
mapping: remote
version: 1
rules:
  - match: starts_with(payload.event_type, 'employment.')
    id: payload.event_id
    subject: payload.data.employment.id
    time: payload.created_at
    type: {from: payload.event_type, table: {employment.onboarding.completed: worker.hired}}
    effective_at:
      from: payload.data.employment.start_date
      zone: payload.data.employment.country.code == 'GBR' && 'Europe/London' || `null`
    attributes:
      display_name: payload.data.employment.full_name
"""
"""A customer's own mapping, of a vendor that none is shipped for."""


def declared(name: str) -> Document:
    text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    return document.parse(text, where=name)


def made(name: str) -> Compiled:
    found = packs.pack(name)
    assert found is not None
    return found


def cases() -> list[Any]:
    return [
        pytest.param(name, index, id=f"{name}: {sample.name}")
        for name in PACKS
        for index, sample in enumerate(declared(name).tests)
    ]


@pytest.mark.parametrize(("name", "index"), cases())
def test_a_pack_passes_the_tests_in_its_file(name: str, index: int) -> None:
    whole = made(name)
    (sample,) = whole.samples[index : index + 1]
    assert trial.failures(replace(whole, samples=(sample,))) == []


def test_the_shipped_mappings_are_these() -> None:
    assert packs.names() == (
        "canonical",
        "adp",
        "bamboohr",
        "deel",
        "finch",
        "gusto",
        "hibob",
        "merge-hris",
        "oracle-hcm",
        "paylocity",
        "personio",
        "rippling",
        "sap-successfactors",
        "ukg-pro",
        "workday",
    )


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_names_public_pages_and_what_it_is(name: str) -> None:
    pack = declared(name)
    assert pack.mapping == name
    assert pack.title
    assert pack.documentation
    assert all(page.startswith("https://") for page in pack.documentation)


@pytest.mark.parametrize("name", PACKS)
def test_every_type_that_a_pack_can_say_is_tested(name: str) -> None:
    told = {expected.type for expected in _expected(name) if expected.type is not None}
    assert _types(made(name)) - {document.IGNORE} <= told


@pytest.mark.parametrize("name", PACKS)
def test_each_pack_is_tested_for_what_vendors_get_wrong(name: str) -> None:
    """A worker who is not named; and, where the vendor speaks of other things, that it is ignored."""
    pack = declared(name)
    refusals = {each.unusable for each in _expected(name)} | {
        sample.expect.unusable
        for sample in pack.tests
        if isinstance(sample.expect, document.Refusal)
    }
    assert "missing_worker_id" in refusals or name in ("workday", "sap-successfactors")
    assert refusals - {None, "missing_worker_id"} or name in ("merge-hris", "ukg-pro")
    if document.IGNORE in _types(made(name)):
        ignored = any(sample.expect == "ignored" for sample in pack.tests)
        assert ignored or any(each.ignored for each in _expected(name))


@pytest.mark.parametrize("name", PACKS)
def test_a_thin_event_is_tested_with_and_without_what_was_fetched(name: str) -> None:
    pack = declared(name)
    if any(rule.enrich == "required" for rule in pack.rules):
        assert pack.enriched
        assert any(each.enrich == "required" for each in _expected(name))
        assert any(sample.fetched is not None for sample in pack.tests)


def _expected(name: str) -> list[document.Expected]:
    return [
        each
        for sample in declared(name).tests
        if isinstance(sample.expect, list)
        for each in sample.expect
    ]


def _types(pack: Compiled) -> set[str]:
    told: set[str] = set()
    for rule in (*pack.rules, *pack.enriched):
        if rule.type is not None:
            told |= {rule.type.fixed or "", rule.type.default or "", *rule.type.table.values()}
    return told - {""}


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize(
    "oddity",
    [None, [], {}, "text", 0, True, [None], [[]], {"events": None}, {"events": [None, 1, "x", []]}],
)
def test_no_payload_breaks_a_pack_or_lets_anybody_in(name: str, oddity: Any) -> None:
    for each in found(made(name), oddity):
        assert isinstance(each.result, (Ignored, Unusable))


@pytest.mark.parametrize("name", PACKS)
def test_a_member_that_is_missing_null_or_of_another_kind_breaks_no_pack(name: str) -> None:
    """Each member of each tested payload in turn; whoever is told by then is told by a worker id."""
    pack = made(name)
    for sample in pack.samples:
        if sample.envelope is not None or len(found(pack, sample.payload)) > 1:
            continue
        for payload in _mutilated(sample.payload):
            for each in found(pack, payload, fetched=sample.fetched):
                if isinstance(each.result, Mapped):
                    assert each.result.event.worker_id


@pytest.mark.parametrize("name", PACKS)
def test_what_was_fetched_may_be_anything(name: str) -> None:
    pack = made(name)
    for sample in pack.samples:
        for fetched in ([], {}, "<html>", {"data": None}, [{"id": 1}], *_mutilated(sample.fetched)):
            for each in found(pack, sample.payload, fetched=fetched):
                assert isinstance(each.result, (Mapped, Ignored, Unusable))


@pytest.mark.parametrize("name", PACKS)
def test_a_leaver_is_not_let_in_by_a_document_that_has_lost_a_member(name: str) -> None:
    """What was a termination may become none, but never a hire that takes effect at once."""
    for event, active in _after_a_loss(name, "worker.terminated"):
        assert active or event.type not in ("worker.hired", "worker.rehired"), event


@pytest.mark.parametrize("name", PACKS)
def test_a_hire_that_has_lost_its_day_lets_nobody_in_at_once(name: str) -> None:
    for event, active in _after_a_loss(name, "worker.hired"):
        assert active or event.type != "worker.hired" or event.effective_at is not None, event


def _after_a_loss(name: str, type: str) -> Iterator[tuple[WorkerEvent, bool]]:
    """What is told of workers whose event, of this type and a day, has lost a member, or what was
    fetched has; and whether they are told to be active.
    """
    pack = made(name)
    for sample in pack.samples:
        wanted = sample.expect if isinstance(sample.expect, list) else []
        dated = type == "worker.terminated" or all(each.effective_at for each in wanted)
        if {each.type for each in wanted} != {type} or not dated:
            continue
        damaged = [(payload, sample.fetched) for payload in _without_one(sample.payload)]
        damaged += [(sample.payload, fetched) for fetched in _without_one(sample.fetched)]
        for payload, fetched in damaged:
            for each in found(pack, payload, fetched=fetched):
                if isinstance(each.result, Mapped) and each.result.enrich != "required":
                    yield each.result.event, _says_active(payload, fetched)


def _says_active(payload: Any, fetched: Any) -> bool:
    """Who is told active, and no longer told to leave, is in."""
    text = orjson.dumps([payload, fetched]).decode()
    return any(f'"{word}"' in text for word in ("ACTIVE", "Active", "active", "A"))


def _without_one(value: Any) -> Iterator[Any]:
    """The value without one of its members, each in turn."""
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        for name, inner in members.items():
            yield {key: kept for key, kept in members.items() if key != name}
            for changed in _without_one(inner):
                yield members | {name: changed}
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for index, inner in enumerate(items):
            for changed in _without_one(inner):
                yield [*items[:index], changed, *items[index + 1 :]]


def _mutilated(value: Any) -> Iterator[Any]:
    """The value with one member missing, null, or something else, each in turn."""
    yield from _without_one(value)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        for name, inner in members.items():
            for other in (None, [inner], 17, "<b>x</b>"):
                yield members | {name: other}
            for changed in _mutilated(inner):
                yield members | {name: changed}
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for index, inner in enumerate(items):
            for changed in _mutilated(inner):
                yield [*items[:index], changed, *items[index + 1 :]]


@pytest.mark.parametrize("name", PACKS)
def test_no_pack_takes_leavers_past_the_threshold_for_many_of_them(name: str) -> None:
    """No vendor tells a termination for cause from others, and an immediate one is never staged."""
    pack = made(name)
    assert all(rule.immediate is None for rule in (*pack.rules, *pack.enriched))


def lines() -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]


def test_there_are_22_samples() -> None:
    assert len(lines()) == 22


@pytest.mark.parametrize("line", lines(), ids=lambda line: f"{line['mapping']}: {line['case']}")
def test_a_sample_means_what_it_is_known_to_mean(line: Mapping[str, Any]) -> None:
    told = [_shown(each) for each in _read(line)]
    assert len(told) == len(line["expect"])
    for wanted, seen in zip(line["expect"], told, strict=True):
        assert {key: seen.get(key) for key in wanted} == wanted


def _read(line: Mapping[str, Any]) -> list[Found | Mapped | Unusable]:
    payload, name = line["payload"], line["mapping"]
    if name == "tombstone":
        return [_tombstone()]
    if name == "canonical":
        return [_canonical(each) for each in (payload if isinstance(payload, list) else [payload])]
    pack = packs.checked(REMOTE, where="remote.yaml")[1] if name == "remote" else made(name)
    at = datetime.fromisoformat(line["received_at"]) if "received_at" in line else NOW
    return [*found(pack, payload, at=at, zone=line.get("zone"))]


def _canonical(payload: Any) -> Mapped | Unusable:
    (item,) = read_request("application/cloudevents+json", {}, orjson.dumps(payload))
    try:
        return canonical(item.envelope)
    except Unusable as problem:
        return problem


def _tombstone() -> Mapped | Unusable:
    """A record without value: its key names the worker."""
    record = Record(topic="hr", partition=0, offset=1, timestamp=0, key=b"wk-7109", value=None)
    route = Route(source="hr", topic="hr", organizations=("acme",), mapper=canonical)
    (only,) = inputs(record, route, NOW)
    assert isinstance(only, Understood)
    return Mapped(organization=only.organization, event=only.event)


def _shown(told: Found | Mapped | Unusable) -> dict[str, Any]:
    result = told.result if isinstance(told, Found) else told
    if isinstance(result, Unusable):
        return {"unusable": result.code}
    assert isinstance(result, Mapped)
    return {"id": told.id if isinstance(told, Found) else None} | trial.shown(result)


def found(pack: Compiled, payload: Any, **more: Any) -> list[Found]:
    given: dict[str, Any] = {"payload": payload, "source": "hr", "at": NOW}
    return read(pack, Arrived(**given | more))


def test_an_id_that_comes_again_with_another_body_is_another_content() -> None:
    first, second = next(line for line in lines() if line["case"] == "same id, different body")[
        "payload"
    ]
    contents = {
        content_of(read_request("application/cloudevents+json", {}, orjson.dumps(each))[0].envelope)
        for each in (first, second)
    }
    assert len(contents) == 2


@pytest.mark.parametrize("name", PACKS)
def test_the_same_payload_at_the_same_time_is_the_same_event(name: str) -> None:
    for sample in made(name).samples:
        if sample.envelope is None:
            first, again = (
                [(each.id, each.content) for each in found(made(name), sample.payload)]
                for _ in range(2)
            )
            assert first == again
            assert len({id for id, _ in first}) == len(first)


@pytest.mark.parametrize("name", ["rippling", "paylocity", "finch", "workday"])
def test_where_nothing_tells_two_events_apart_each_delivery_counts(name: str) -> None:
    """Two changes of one day look the same: as one event, the second would be lost."""
    payload = next(s.payload for s in made(name).samples if isinstance(s.expect, list))
    later = NOW.replace(hour=10)
    assert found(made(name), payload)[0].id != found(made(name), payload, at=later)[0].id
