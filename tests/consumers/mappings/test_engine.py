"""What a declared mapping makes of a payload."""

import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.mappings.canonical import Mapped
from consumers.mappings.engine import Ignored, read
from consumers.unusable import Unusable
from service.errors import ConfigurationError
from tests.consumers.mappings.support import (
    arrived,
    envelope,
    found,
    mapping,
    one,
    rule,
    unusable,
)


def test_the_first_rule_that_matches_reads() -> None:
    made = mapping(
        """
        - match: payload.kind == 'a'
          subject: payload.a
          type: worker.hired
        - subject: payload.b
          type: worker.deleted
        """
    )
    assert one(made, {"kind": "a", "a": 1, "b": 2}).event.worker_id == "1"
    assert one(made, {"kind": "b", "a": 1, "b": 2}).event.type == "worker.deleted"


def test_where_no_rule_matches_the_input_is_unusable() -> None:
    made = rule("match: payload.kind == 'a'")
    assert unusable(made, {"id": 1}).code == "no_rule_matches"


def test_a_match_whose_function_cannot_take_the_payload_is_another_rules() -> None:
    made = mapping(
        """
        - match: starts_with(payload.kind, 'a')
          subject: payload.a
          type: worker.hired
        - subject: payload.b
          type: worker.deleted
        """
    )
    assert one(made, {"b": 2}).event.worker_id == "2"


def test_a_type_is_looked_up_by_the_sources_word() -> None:
    made = rule(
        """
        type: {from: payload.kind, table: {in: worker.hired, out: terminated_is_no_type}}
        """.replace("terminated_is_no_type", "worker.terminated")
    )
    (only,) = found(made, {"id": 1, "kind": "out"})
    assert only.type == "out"
    assert isinstance(only.result, Mapped)
    assert only.result.event.type == "worker.terminated"
    assert unusable(made, {"id": 1, "kind": "sideways"}).code == "unmapped_type"
    assert unusable(made, {"id": 1, "kind": []}).code == "unmapped_type"


def test_keys_of_tables_may_be_bare_yaml() -> None:
    made = rule(
        "type: {from: payload.on, table: {true: worker.hired, no: worker.deleted, 1: worker.changed}}"
    )
    assert one(made, {"id": 1, "on": True}).event.type == "worker.hired"
    assert one(made, {"id": 1, "on": "no"}).event.type == "worker.deleted"
    assert one(made, {"id": 1, "on": 1}).event.type == "worker.changed"


@pytest.mark.parametrize("written", ["12:30", "0042", "1_000", "0x1f", "1.", "2027-01-31", "off"])
def test_what_only_yaml_takes_for_something_else_stays_text(written: str) -> None:
    made = rule(
        f"attributes: {{title: {{from: payload.code, with: [{{lookup: {{a: {written}}}}}]}}}}"
    )
    assert one(made, {"id": 1, "code": "a"}).event.attributes == {"title": written}


@pytest.mark.parametrize(("written", "meant"), [("30", 30), ("-1", -1), ("1.5", 1.5)])
def test_numbers_as_json_has_them_are_numbers(written: str, meant: float) -> None:
    made = rule(f"attributes: {{x: {{from: payload.code, with: [{{lookup: {{a: {written}}}}}]}}}}")
    assert one(made, {"id": 1, "code": "a"}).event.attributes == {"x": meant}


@pytest.mark.parametrize(
    "more",
    [
        "\n".join(
            ["a0: &a0 {k: v}"]
            + [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: v}}" for n in range(1, 40)]
        ),
        "documentation: &a [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(
            f"b{n}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(12)
        ),
        f"zone: 1{':1' * 400_000}",
    ],
)
def test_a_short_file_that_stands_for_an_endless_one_is_refused_at_once(more: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigurationError):
        rule("", more)
    assert time.process_time() - began < 5


def test_a_type_may_be_ignored() -> None:
    made = rule("type: {from: payload.kind, table: {ping: ignore}, default: worker.changed}")
    (only,) = found(made, {"kind": "ping"})
    assert only.result == Ignored()
    assert only.type == "ping"


def test_an_event_without_a_worker_is_unusable() -> None:
    for payload in (
        {},
        {"id": None},
        {"id": ""},
        {"id": "  "},
        {"id": "a\nb"},
        {"id": [1]},
        {"id": True},
    ):
        assert unusable(rule(), payload).code in ("missing_worker_id", "invalid_worker_id")


# Attributes


def attributes(keys: str, payload: dict[str, Any]) -> dict[str, Any]:
    made = rule("attributes:\n" + "\n".join(f"  {line}" for line in keys.strip().splitlines()))
    return dict(one(made, {"id": 1} | payload).event.attributes)


def test_null_clears_and_absent_says_nothing() -> None:
    assert attributes("email: payload.mail", {"mail": None}) == {"email": None}
    assert attributes("email: payload.mail", {}) == {}
    assert attributes("email: payload.mail.work", {"mail": None}) == {}


def test_where_absent_cannot_be_told_null_says_nothing_unless_asked() -> None:
    assert attributes("title: payload.jobs[0].title", {"jobs": []}) == {}
    assert attributes("title: {from: 'payload.jobs[0].title', null: clears}", {"jobs": []}) == {
        "title": None
    }
    assert attributes("email: {from: payload.mail, null: ignored}", {"mail": None}) == {}


def test_transforms_follow_one_another() -> None:
    keys = "user_name: {from: payload.login, with: [strip, lower]}"
    assert attributes(keys, {"login": "  Ada@X.Example "}) == {"user_name": "ada@x.example"}
    assert attributes(keys, {"login": 7}) == {"user_name": "7"}
    assert attributes(keys, {"login": "  "}) == {"user_name": None}


def test_what_null_does_not_clear_empty_text_does_not_clear_either() -> None:
    asked = "email: {from: payload.mail, with: [strip, lower], null: ignored}"
    assert attributes(asked, {"mail": "  "}) == {}
    assert attributes("email: {from: payload.a || payload.b, with: [strip]}", {"a": " "}) == {}


def test_lookup_and_default() -> None:
    keys = "department: {from: payload.dept, with: [{lookup: {ENG: Engineering, 7: Sales}}, {default: Other}]}"
    assert attributes(keys, {"dept": "ENG"}) == {"department": "Engineering"}
    assert attributes(keys, {"dept": 7}) == {"department": "Sales"}
    assert attributes(keys, {"dept": "X"}) == {"department": "Other"}
    assert attributes(keys, {"dept": None}) == {"department": "Other"}
    assert attributes(keys, {}) == {}


def test_coalesce_takes_the_first_that_is_not_null() -> None:
    keys = "email: {coalesce: [payload.work, payload.home]}"
    assert attributes(keys, {"work": "w", "home": "h"}) == {"email": "w"}
    assert attributes(keys, {"work": None, "home": "h"}) == {"email": "h"}
    assert attributes(keys, {"work": None}) == {}
    assert attributes(keys, {"work": None, "home": None}) == {"email": None}


def test_concat_says_nothing_by_halves() -> None:
    keys = "display_name: {concat: [payload.first, payload.last], separator: ' '}"
    assert attributes(keys, {"first": "Ada", "last": "King"}) == {"display_name": "Ada King"}
    assert attributes(keys, {"first": "Ada", "last": None}) == {"display_name": "Ada"}
    assert attributes(keys, {"first": "Ada"}) == {}
    skipping = keys.replace("' '}", "' ', absent: skip}")
    assert attributes(skipping, {"first": "Ada"}) == {"display_name": "Ada"}
    assert attributes(skipping, {}) == {}


@pytest.mark.parametrize(
    ("whole", "given_name", "family_name"),
    [
        ("Ada Lovelace", "Ada", "Lovelace"),
        ("Ada King Lovelace", "Ada King", "Lovelace"),
        ("Lovelace, Ada King", "Ada King", "Lovelace"),
        ("Ada", "Ada", None),
        (None, None, None),
    ],
)
def test_a_whole_name_is_split(whole: Any, given_name: Any, family_name: Any) -> None:
    keys = """given_name: {from: payload.name, with: [{full_name_split: given}]}
family_name: {from: payload.name, with: [{full_name_split: family}]}"""
    assert attributes(keys, {"name": whole}) == {
        "given_name": given_name,
        "family_name": family_name,
    }


def test_dates_are_rewritten() -> None:
    keys = "hired_on: {from: payload.hired, with: [{parse_date: [date, 'strptime:%d/%m/%Y', ms-date]}]}"
    for written in ("2026-03-01", "01/03/2026", "/Date(1772323200000)/"):
        assert attributes(keys, {"hired": written}) == {"hired_on": "2026-03-01"}


def test_a_transform_that_fails_names_its_attribute_and_no_value() -> None:
    made = rule("attributes:\n  hired_on: {from: payload.hired, with: [{parse_date: date}]}")
    problem = unusable(made, {"id": 1, "hired": "secret"})
    assert problem.code == "invalid_attribute"
    assert "hired_on" in problem.message
    assert "secret" not in problem.message


def test_passwords_are_not_kept() -> None:
    assert attributes("password: payload.p", {"p": "x"}) == {}


def test_complete_clears_what_is_absent() -> None:
    made = rule(
        """
        complete: true
        attributes:
          email: payload.mail
          department: {from: payload.dept, with: [{default: Other}]}
        """
    )
    assert one(made, {"id": 1}).event.attributes == {"email": None, "department": "Other"}


def test_known_attributes_are_text() -> None:
    assert attributes("department: payload.d", {"d": 12}) == {"department": "12"}
    made = rule("attributes:\n  department: payload.d")
    assert unusable(made, {"id": 1, "d": {"code": 1}}).code == "invalid_data"


# When


def takes(keys: str, payload: dict[str, Any], **more: Any) -> datetime | None:
    return one(rule(keys), {"id": 1} | payload, **more).event.effective_at


@pytest.mark.parametrize(
    ("format", "value", "meant"),
    [
        ("rfc3339", "2026-03-01T10:00:00+01:00", "2026-03-01T09:00:00"),
        ("date", "2026-03-01", "2026-03-01T00:00:00"),
        ("local", "2026-03-01 10:00", "2026-03-01T10:00:00"),
        ("unix", 1772323200, "2026-03-01T00:00:00"),
        ("unix", "1772323200", "2026-03-01T00:00:00"),
        ("unix-ms", 1772323200000, "2026-03-01T00:00:00"),
        ("ms-date", "/Date(1772323200000)/", "2026-03-01T00:00:00"),
        ("ms-date", "/Date(1772323200000+0000)/", "2026-03-01T00:00:00"),
        ("iso-basic", "2026-03-01T10:00:00+0100", "2026-03-01T09:00:00"),
        ("iso-basic", "20260301T100000Z", "2026-03-01T10:00:00"),
        ("'strptime:%d/%m/%Y'", "01/03/2026", "2026-03-01T00:00:00"),
        ("'strptime:%d/%m/%Y %H:%M %z'", "01/03/2026 10:00 +0100", "2026-03-01T09:00:00"),
        ("midnight-utc-date", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00"),
        ("midnight-utc-date", "2026-03-01T00:00:00.000+0000", "2026-03-01T00:00:00"),
        ("midnight-utc-date", "/Date(1772323200000)/", "2026-03-01T00:00:00"),
        ("[date, unix]", 1772323200, "2026-03-01T00:00:00"),
        ("date", "9999-12-31", "9999-12-31T00:00:00"),
        ("unix", 99999999999999, "9999-12-31T00:00:00"),
    ],
)
def test_dates_are_read_in_their_format(format: str, value: Any, meant: str) -> None:
    keys = f"effective_at: {{from: payload.at, format: {format}}}"
    assert takes(keys, {"at": value}, zone="UTC") == datetime.fromisoformat(meant).replace(
        tzinfo=UTC
    )


def test_a_date_in_no_format_is_unusable() -> None:
    made = rule("effective_at: {from: payload.at, format: date}")
    for value in ("01/03/2026", 5, [], {}, True, "x" * 5000, "2026-13-01"):
        assert unusable(made, {"id": 1, "at": value}).code == "invalid_effective_at"


def test_without_a_date_it_is_now() -> None:
    assert takes("effective_at: payload.at", {}) is None
    assert takes("effective_at: payload.at", {"at": None}) is None
    assert takes("effective_at: payload.at", {"at": ""}) is None


def test_the_payloads_zone_goes_before_the_sources_and_that_before_the_mappings() -> None:
    made = rule("effective_at: {from: payload.at, zone: payload.zone}", "zone: Asia/Tokyo")
    day = {"id": 1, "at": "2026-01-10"}
    assert one(made, day).event.effective_at == datetime(2026, 1, 9, 15, tzinfo=UTC)
    in_source = one(made, day, zone="America/New_York").event.effective_at
    assert in_source == datetime(2026, 1, 10, 5, tzinfo=UTC)
    in_payload = one(made, day | {"zone": "Europe/Amsterdam"}, zone="America/New_York")
    assert in_payload.event.effective_at == datetime(2026, 1, 9, 23, tzinfo=UTC)
    assert unusable(made, day | {"zone": "Mars"}).code == "invalid_zone"


def test_a_termination_ends_with_its_day_unless_it_is_immediate_or_says_otherwise() -> None:
    keys = """
        type: worker.terminated
        effective_at: {from: payload.at, format: date}
        immediate: payload.now
    """
    assert takes(keys, {"at": "2026-03-01"}) == datetime(2026, 3, 2, tzinfo=UTC)
    assert takes(keys, {"at": "2026-03-01", "now": True}) == datetime(2026, 3, 1, tzinfo=UTC)
    at_start = keys.replace("format: date", "format: date, boundary: start")
    assert takes(at_start, {"at": "2026-03-01"}) == datetime(2026, 3, 1, tzinfo=UTC)


def test_when_decides_whether_the_date_counts() -> None:
    keys = "effective_at: {from: payload.at, when: payload.planned}"
    assert takes(keys, {"at": "2026-03-01", "planned": True}) is not None
    assert takes(keys, {"at": "2026-03-01", "planned": False}) is None


# Everything else that a rule may say


def test_the_other_facts() -> None:
    made = rule(
        """
        sequence: payload.version
        employment_id: payload.job
        snapshot: payload.run
        organization: payload.org
        groups: payload.groups[].name
        """
    )
    payload = {
        "id": 1,
        "version": "7",
        "job": 5,
        "run": "r",
        "org": "acme",
        "groups": [{"name": "a"}, {}],
    }
    mapped = one(made, payload)
    event = mapped.event
    assert (event.sequence, event.employment_id, event.snapshot) == (7, "5", "r")
    assert (mapped.organization, event.groups) == ("acme", ("a",))
    nothing = one(made, {"id": 1})
    assert nothing.organization is None
    assert nothing.event.groups is None


def test_a_full_export_is_completed_without_a_worker() -> None:
    made = mapping(
        """
        - type: worker.snapshot_completed
          snapshot: payload.run
          count: payload.lines
        """
    )
    event = one(made, {"run": "2026-11-23", "lines": 7}).event
    assert (event.worker_id, event.snapshot, event.count) == ("", "2026-11-23", 7)
    assert unusable(made, {"run": "2026-11-23"}).code == "invalid_data"


def test_a_cloudevents_attributes_are_there() -> None:
    made = rule(
        "subject: envelope.subject\ntype: {from: envelope.type, table: {com.example.moved: worker.changed}}"
    )
    sent = envelope({"a": 1}, subject="w-9", sequence="12")
    mapped = one(made, sent.data, envelope=sent)
    assert (mapped.event.worker_id, mapped.event.sequence) == ("w-9", 12)


def test_what_was_fetched_goes_over_what_was_said() -> None:
    made = rule(
        """
        enrich: required
        attributes: {email: payload.mail, title: payload.title}
        """,
        """
        enriched:
          - type: {from: fetched.status, table: {gone: worker.terminated, here: worker.changed}}
            attributes: {email: fetched.mail}
        """,
    )
    payload = {"id": 1, "mail": "old", "title": "Dr"}
    assert one(made, payload).enrich == "required"
    whole = one(made, payload, fetched={"status": "gone", "mail": "new"})
    assert whole.enrich == "never"
    assert whole.event.type == "worker.terminated"
    assert whole.event.attributes == {"email": "new", "title": "Dr"}


# Ids


def test_an_own_id_is_kept_and_another_is_derived() -> None:
    made = rule("id: payload.uuid\ntime: payload.at")
    (named,) = found(made, {"id": 1, "uuid": "u-1"})
    assert named.id == "u-1"
    (derived,) = found(made, {"id": 1, "at": "1"})
    assert derived.id == found(made, {"at": "1", "id": 1})[0].id
    others: list[Any] = [{"id": 2, "at": "1"}, {"id": 1, "at": "2"}, {"id": 1, "at": "1", "x": 0}]
    assert len({derived.id, *(found(made, each)[0].id for each in others)}) == 4
    assert derived.id != found(made, {"id": 1, "at": "1"}, source="other")[0].id
    assert unusable(made, {"id": 1, "uuid": "x" * 600}).code == "invalid_id"
    assert unusable(made, {"id": 1, "uuid": [1]}).code == "invalid_id"


def test_a_payload_without_a_time_is_told_apart_by_when_it_was_written() -> None:
    made = rule("time: payload.at")
    march, april = (found(made, {"id": 1}, recorded=each)[0].id for each in ("3", "4"))
    assert march != april
    same = {found(made, {"id": 1, "at": "x"}, recorded=each)[0].id for each in ("3", "4")}
    assert len(same) == 1


# Splitting

SPLIT = """
split: payload.people
subject: payload.id
attributes: {email: payload.mail, title: whole.title}
"""


def test_each_element_is_an_event_of_its_own() -> None:
    payload = {"title": "Dr", "people": [{"id": 1, "mail": "a"}, {"nobody": 2}, {"id": 3}]}
    first, second, third = found(rule(SPLIT), payload)
    assert isinstance(first.result, Mapped)
    assert first.result.event.attributes == {"email": "a", "title": "Dr"}
    assert isinstance(second.result, Unusable)
    assert isinstance(third.result, Mapped)
    assert [each.child for each in (first, second, third)] == [0, 1, 2]
    parents = {each.id.rpartition("/")[0] for each in (first, second, third)}
    assert len(parents) == 1
    assert third.id.endswith("/2")


def test_siblings_that_share_an_id_are_told_apart() -> None:
    made = rule("split: payload.people\nid: whole.batch")
    payload = {"batch": "b-1", "people": [{"id": 1}, {"id": 2}]}
    assert [each.id for each in found(made, payload)] == ["b-1/0", "b-1/1"]
    own = rule("split: payload.people\nid: payload.event")
    named = {"people": [{"id": 1, "event": "x"}, {"id": 2}]}
    assert found(own, named)[0].id == "x"


@pytest.mark.parametrize(
    ("split", "payload"),
    [
        ("payload.people", {"title": "Dr", "people": [{"id": 1}, {"id": 2}, {"id": 3}]}),
        ("payload", [{"id": 1}, {"id": 2}]),
        ("'payload.people[?id]'", {"people": [{"x": 0}, {"id": 2}, {"id": 3}]}),
    ],
)
def test_what_is_kept_of_a_child_reads_to_it_alone(split: str, payload: Any) -> None:
    made = rule(f"split: {split}\nattributes: {{title: whole.title}}")
    for child in found(made, payload):
        (again,) = found(made, child.payload, child=child.child)
        assert again.result == child.result
        assert again.child == child.child


def test_an_empty_list_is_ignored_and_none_at_all_unusable() -> None:
    (only,) = found(rule(SPLIT), {"people": []})
    assert isinstance(only.result, Ignored)
    assert unusable(rule(SPLIT), {"people": {}}).code == "not_a_list"
    assert unusable(rule(SPLIT), {}).code == "not_a_list"


def test_an_input_holds_so_many_events_at_most() -> None:
    assert unusable(rule(SPLIT), {"people": [{"id": 1}] * 1001}).code == "too_many_events"
    assert (
        unusable(rule(SPLIT), {"x": "x" * 900_000, "people": [{"id": 1}] * 100}).code == "too_large"
    )


# Totality

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["2026-01-01", "a b", "gone", "9999-12-31", "x@y.example", "inf", "9" * 40]),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(st.sampled_from([*"abcdefghij", "id"]), below, max_size=6)
    ),
    max_leaves=20,
)
ANYTHING = mapping(
    """
    - name: batch
      match: payload.a
      split: payload.a
      id: payload.b || whole.b
      subject: payload.id
      time: payload.c
      type: {from: payload.d, table: {gone: worker.terminated}, default: worker.changed}
      effective_at: {from: payload.e, format: [rfc3339, date, local, unix-ms, ms-date, iso-basic, midnight-utc-date, "strptime:%d/%m/%Y"], zone: payload.f}
      sequence: payload.g
      immediate: payload.h
      employment_id: payload.i
      snapshot: payload.j
      organization: payload.b
      groups: payload.c
      attributes:
        email: {from: payload.d, with: [strip, lower, {lookup: {a: b}}, {default: x}]}
        user_name: {coalesce: [payload.e, payload.f]}
        display_name: {concat: [payload.e, payload.f], separator: " "}
        given_name: {from: payload.g, with: [{full_name_split: given}]}
        hired_on: {from: payload.h, with: [{parse_date: [date, unix]}]}
        anything: payload.i
        number: to_number(payload.j)
        longest: "max_by(to_array(payload), &length(to_string(@)))"
    - name: single
      match: length(payload) > `1`
      subject: payload.id
      type: worker.hired
      enrich: optional
      effective_at: payload.e
      attributes: {email: "payload.a[0].b", all: "payload.*", tags: "sort(payload.b)"}
    """,
    """
    enriched:
      - subject: fetched.id
        attributes: {email: fetched.a}
    """,
)


@given(payload=JSON, fetched=st.none() | JSON, child=st.none() | st.integers(0, 3))
def test_any_json_is_mapped_ignored_or_unusable(
    payload: Any, fetched: Any, child: int | None
) -> None:
    payload = orjson.loads(orjson.dumps(payload))
    fetched = orjson.loads(orjson.dumps(fetched))
    results = read(ANYTHING, arrived(payload, fetched=fetched, child=child))
    assert results
    assert len({each.id for each in results}) == len(results)
    for each in results:
        assert isinstance(each.result, (Mapped, Ignored, Unusable))
        if isinstance(each.result, Mapped):
            orjson.dumps(dict(each.result.event.attributes))


@given(payload=JSON)
def test_reading_again_finds_the_same(payload: Any) -> None:
    payload = orjson.loads(orjson.dumps(payload))
    first, second = (read(ANYTHING, arrived(payload)) for _ in range(2))
    assert [each.id for each in first] == [each.id for each in second]
    assert [each.content for each in first] == [each.content for each in second]
