"""What a canonical event means, when it takes effect, and what is refused."""

import contextlib
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.cloudevents import Envelope
from consumers.mappings.canonical import canonical, canonical_type
from consumers.mappings.instants import effective_at
from consumers.unusable import Unusable
from service.workers import TYPES, WorkerEvent


def mapped(data: Any, **attributes: Any) -> WorkerEvent:
    return canonical(envelope(data, **attributes)).event


def envelope(data: Any, **attributes: Any) -> Envelope:
    given_ones: dict[str, Any] = {"id": "e-1", "source": "/hr", "type": "worker.changed"}
    return Envelope(**given_ones | attributes, data=data)


def refused(data: Any, **attributes: Any) -> Unusable:
    with pytest.raises(Unusable) as caught:
        canonical(envelope(data, **attributes))
    return caught.value


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_canonical_type_is_known_with_prefix_and_version(name: str) -> None:
    assert {
        canonical_type(name),
        canonical_type(f"com.example.hr.{name}"),
        canonical_type(f"com.example.hr.{name}.v1"),
    } == {name}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("prehired", "worker.hired"),
        ("termination_scheduled", "worker.terminated"),
        ("name_changed", "worker.changed"),
        ("transferred", "worker.changed"),
        ("converted", "worker.changed"),
        ("access_removed", "worker.suspended"),
    ],
)
def test_finer_words_stand_for_canonical_types(word: str, meant: str) -> None:
    assert canonical_type(f"com.example.hr.worker.{word}") == meant


@pytest.mark.parametrize(
    "name",
    [
        "worker.frobnicated",
        "worker.hired.v2",
        "worker.hired.v9",
        "coworker.hired",
        "hired",
        "worker.Hired",
        "worker.hired.extra",
        "worker.hired\n",
    ],
)
def test_other_types_are_not_guessed(name: str) -> None:
    assert refused({"worker_id": "w"}, type=name).code == "unmapped_type"


def test_all_fields_are_read() -> None:
    found = canonical(
        envelope(
            {
                "worker_id": "w-1",
                "organization": "acme",
                "effective_at": "2026-12-01T08:00:00+01:00",
                "sequence": 4,
                "attributes": {"email": "ada@acme.example", "office": {"floor": 3}},
                "groups": ["staff"],
                "immediate": True,
                "employment_id": 7,
                "snapshot": "2026-11-22",
                "something_new": [1],
            }
        )
    )
    assert found.organization == "acme"
    assert found.event == WorkerEvent(
        type="worker.changed",
        worker_id="w-1",
        effective_at=datetime(2026, 12, 1, 7, tzinfo=UTC),
        sequence=4,
        attributes={"email": "ada@acme.example", "office": {"floor": 3}},
        groups=("staff",),
        immediate=True,
        employment_id="7",
        snapshot="2026-11-22",
    )


def test_the_word_that_an_export_was_all_needs_no_worker() -> None:
    found = mapped(
        {"snapshot": "nightly", "count": 3, "effective_at": "2026-12-01T03:00:00Z"},
        type="com.example.hr.worker.snapshot_completed",
    )
    assert found == WorkerEvent(
        type="worker.snapshot_completed",
        worker_id="",
        effective_at=datetime(2026, 12, 1, 3, tzinfo=UTC),
        snapshot="nightly",
        count=3,
    )


@pytest.mark.parametrize("data", [{"count": 3}, {"snapshot": "n"}, {"snapshot": "n", "count": 0}])
def test_the_word_that_an_export_was_all_says_of_which_and_how_many(data: dict[str, Any]) -> None:
    assert refused(data, type="worker.snapshot_completed").code == "invalid_data"


def test_worker_id_may_be_the_subject_or_a_number() -> None:
    assert mapped({}, subject="w-1").worker_id == "w-1"
    assert mapped(None, subject="w-1").worker_id == "w-1"
    assert mapped({"worker_id": 4711}, subject="other").worker_id == "4711"


def test_known_attributes_may_stand_at_the_top() -> None:
    event = mapped({"worker_id": "w", "email": "top@x.example", "title": "Dr", "attributes": None})
    assert event.attributes == {"email": "top@x.example", "title": "Dr"}
    event = mapped(
        {"worker_id": "w", "email": "top@x.example", "attributes": {"email": "in@x.example"}}
    )
    assert event.attributes == {"email": "in@x.example"}


def test_null_attribute_is_kept_since_it_clears() -> None:
    assert mapped({"worker_id": "w", "title": None}).attributes == {"title": None}


def test_passwords_are_dropped() -> None:
    assert mapped({"worker_id": "w", "attributes": {"Password": "x", "a": 1}}).attributes == {
        "a": 1
    }


def test_groups_not_said_differ_from_no_groups() -> None:
    assert mapped({"worker_id": "w"}).groups is None
    assert mapped({"worker_id": "w", "groups": []}).groups == ()


@pytest.mark.parametrize(
    ("data", "extension", "sequence"),
    [({"sequence": 3}, "9", 3), ({}, "9", 9), ({}, "A7", None), ({}, "9" * 30, None)],
)
def test_sequence_is_the_extension_where_data_has_none(
    data: dict[str, Any], extension: str, sequence: int | None
) -> None:
    assert mapped(data, subject="w", sequence=extension).sequence == sequence


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ([], "invalid_data"),
        ("text", "invalid_data"),
        ({}, "missing_worker_id"),
        ({"worker_id": ""}, "invalid_data"),
        ({"worker_id": True}, "invalid_data"),
        ({"worker_id": "w" * 257}, "invalid_data"),
        ({"worker_id": "a\nb"}, "invalid_worker_id"),
        ({"worker_id": "w", "organization": "No Such!"}, "invalid_data"),
        ({"worker_id": "w", "sequence": "3"}, "invalid_data"),
        ({"worker_id": "w", "sequence": 2**63}, "invalid_data"),
        ({"worker_id": "w", "sequence": 1.5}, "invalid_data"),
        ({"worker_id": "w", "immediate": "yes"}, "invalid_data"),
        ({"worker_id": "w", "employment_id": "a\x00b"}, "invalid_data"),
        ({"worker_id": "w", "employment_id": ""}, "invalid_data"),
        ({"worker_id": "w", "snapshot": 5}, "invalid_data"),
        ({"worker_id": "w", "groups": "staff"}, "invalid_data"),
        ({"worker_id": "w", "groups": [1]}, "invalid_data"),
        ({"worker_id": "w", "attributes": []}, "invalid_data"),
        ({"worker_id": "w", "email": 5}, "invalid_data"),
        ({"worker_id": "w", "email": "x" * 1001}, "invalid_data"),
        ({"worker_id": "w", "attributes": {"x" * 101: 1}}, "invalid_data"),
        ({"worker_id": "w", "effective_at": 5}, "invalid_data"),
        ({"worker_id": "w", "effective_at": "soon"}, "invalid_effective_at"),
        ({"worker_id": "w", "effective_at": "2026-02-30"}, "invalid_effective_at"),
        ({"worker_id": "w", "effective_at": "2026-02-03T10:00:00"}, "invalid_effective_at"),
        ({"worker_id": "w", "effective_at": "2026-02-03", "zone": "Mars"}, "invalid_zone"),
        ({"worker_id": "w", "effective_at": "2026-02-03", "zone": "../x"}, "invalid_zone"),
        ({"worker_id": "w", "effective_at": "2026-02-03", "zone": "Europe"}, "invalid_zone"),
    ],
)
def test_bad_data_is_refused_with_a_reason(data: Any, code: str) -> None:
    assert refused(data).code == code


def test_reason_names_the_field_and_not_the_value() -> None:
    problem = refused({"worker_id": "w", "email": "x" * 1001, "groups": [{"n": "secret-team"}]})
    assert "groups" in problem.message
    assert "secret-team" not in problem.message
    assert "attributes.email" in refused({"worker_id": "w", "email": 5}).message


@pytest.mark.parametrize(
    ("text", "zone", "type", "immediate", "instant"),
    [
        # The last day of work is worked.
        ("2025-05-14", "Australia/Melbourne", "worker.terminated", False, "2025-05-14T14:00Z"),
        ("2025-05-14", None, "worker.terminated", False, "2025-05-15T00:00Z"),
        ("2025-05-14", "Europe/Amsterdam", "worker.terminated", True, "2025-05-13T22:00Z"),
        ("2027-02-01", "America/New_York", "worker.hired", False, "2027-02-01T05:00Z"),
        ("2027-02-01", None, "worker.suspended", False, "2027-02-01T00:00Z"),
        # Clocks go back and forward that day.
        ("2026-10-25", "Europe/Amsterdam", "worker.terminated", False, "2026-10-25T23:00Z"),
        ("2026-03-29", "Europe/Amsterdam", "worker.terminated", False, "2026-03-29T22:00Z"),
        # There is no midnight that day.
        ("2023-04-28", "Africa/Cairo", "worker.hired", False, "2023-04-27T22:00Z"),
        ("2026-07-01T09:30:00", "Europe/Amsterdam", "worker.hired", False, "2026-07-01T07:30Z"),
        ("2026-07-01T09:30:00Z", "Europe/Amsterdam", "worker.hired", False, "2026-07-01T09:30Z"),
        ("9999-12-31", "America/New_York", "worker.terminated", False, "9999-12-31T00:00Z"),
    ],
)
def test_dates_are_meant_in_their_zone(
    text: str, zone: str | None, type: str, immediate: bool, instant: str
) -> None:
    expected = datetime.fromisoformat(instant)
    assert effective_at(text, zone, type=type, immediate=immediate) == expected


def test_absent_effective_at_means_now() -> None:
    assert effective_at(None, "Europe/Amsterdam", type="worker.hired") is None


@given(
    st.dates(date(1990, 1, 1), date(2100, 1, 1)),
    st.sampled_from(
        ["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati", "Asia/Beirut"]
    ),
)
def test_a_termination_ends_its_day_and_a_hire_begins_it(day: date, zone: str) -> None:
    begins = effective_at(day.isoformat(), zone, type="worker.hired")
    ends = effective_at(day.isoformat(), zone, type="worker.terminated")
    assert begins is not None
    assert ends is not None
    local = ZoneInfo(zone)
    assert begins.astimezone(local).date() == day
    assert (ends - timedelta(microseconds=1)).astimezone(local).date() == day
    assert ends.astimezone(local).date() == day + timedelta(days=1)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["worker_id", "organization", "effective_at", "zone", "sequence", "attributes", "groups",
             "immediate", "email", "title"]
        ),
        _json,
    )
)  # fmt: skip
def test_any_data_is_mapped_or_refused(data: dict[str, Any]) -> None:
    with contextlib.suppress(Unusable):
        assert mapped(data, subject="w-1").worker_id
