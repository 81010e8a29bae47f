"""From an envelope to a canonical worker event. Pure; knows the canonical form only."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from consumers.cloudevents import Envelope
from consumers.mappings.instants import effective_at
from consumers.unusable import Unusable
from service.organizations import SLUG
from service.workers import ATTRIBUTES, SNAPSHOT_COMPLETED, TYPES, WorkerEvent

FINER_WORDS: Final[Mapping[str, str]] = {
    "prehired": "worker.hired",
    "termination_scheduled": "worker.terminated",
    "name_changed": "worker.changed",
    "transferred": "worker.changed",
    "converted": "worker.changed",
    "access_removed": "worker.suspended",
}
"""Words that HR systems use for a canonical type; what they add is said by ``effective_at``."""

# A version other than v1 may mean something else by the same fields, so it is not guessed at.
_TYPE: Final = re.compile(r"^(?:[A-Za-z0-9-]+\.)*worker\.(?P<word>[a-z_]+)(?:\.v1)?$")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER: Final = re.compile(r"^-?\d{1,18}$")
_SECRETS: Final = ("password", "passwd", "secret")
LONGEST_ATTRIBUTE: Final = 1000

Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
WorkerId = Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
Key = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=256, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]
Group = Annotated[str, StringConstraints(min_length=1, max_length=256)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """What an input says, and the organization that it names (None where it names none).

    ``enrich``: whether more is to be fetched about the worker. ``recorded_at``: when the source
    says that it wrote it.
    """

    organization: str | None
    event: WorkerEvent
    enrich: Literal["never", "optional", "required"] = "never"
    recorded_at: datetime | None = None


Mapper = Callable[[Envelope], Mapped]
"""Raises Unusable. Anything else it raises is a fault of the mapping, not of the event."""


class CanonicalData(BaseModel):
    """The data of a canonical worker event. Fields that are not named here are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    worker_id: WorkerId | int | None = None
    """Required, unless the event's subject names the worker."""
    organization: Annotated[str, StringConstraints(pattern=SLUG)] | None = None
    effective_at: str | None = None
    """RFC 3339; or a date or local time, meant in ``zone``. Absent: now."""
    zone: str | None = None
    """IANA name. A date without it is meant in UTC."""
    sequence: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    attributes: Annotated[dict[Name, Any], Field(max_length=200)] = {}
    groups: Annotated[list[Group], Field(max_length=1000)] | None = None
    immediate: bool = False
    employment_id: Key | int | None = None
    """Which of several employments; absent: whichever there are."""
    snapshot: Key | None = None
    """The full export that this is a line of."""
    count: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Of ``worker.snapshot_completed``: how many workers the export names."""

    @model_validator(mode="before")
    @classmethod
    def _known_attributes_may_stand_at_the_top(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        members = cast("dict[str, Any]", data)
        told = {name: members[name] for name in ATTRIBUTES if name in members}
        inner = members.get("attributes")
        if told and (inner is None or isinstance(inner, dict)):
            return members | {"attributes": told | cast("dict[str, Any]", inner or {})}
        if inner is None:
            return {name: value for name, value in members.items() if name != "attributes"}
        return members

    @model_validator(mode="after")
    def _known_attributes_are_text(self) -> Self:
        for name in ATTRIBUTES:
            value = self.attributes.get(name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"attributes.{name} must be text or null")
            if value is not None and len(value) > LONGEST_ATTRIBUTE:
                raise ValueError(
                    f"attributes.{name} may have {LONGEST_ATTRIBUTE} characters at most"
                )
        return self


def canonical_type(name: str) -> str | None:
    """The canonical type that a CloudEvents type stands for, None where we know none.

    ``worker.hired``, ``com.example.hr.worker.hired`` and ``com.example.hr.worker.hired.v1`` are
    the same.
    """
    match = _TYPE.fullmatch(name)
    if match is None:
        return None
    found = FINER_WORDS.get(match["word"], f"worker.{match['word']}")
    return found if found in TYPES or found == SNAPSHOT_COMPLETED else None


def canonical(envelope: Envelope, zone: str | None = None) -> Mapped:
    """Reads data in canonical form. ``zone``: for dates that name none. Raises Unusable."""
    event_type = canonical_type(envelope.type)
    if event_type is None:
        raise Unusable("unmapped_type", "No mapping knows this type of event.")
    data = validated(envelope.data)
    if event_type == SNAPSHOT_COMPLETED:
        return completed(
            data, effective_at(data.effective_at, data.zone or zone, type=SNAPSHOT_COMPLETED)
        )
    return Mapped(
        organization=data.organization,
        event=WorkerEvent(
            type=event_type,
            worker_id=_worker_id(data, envelope),
            effective_at=effective_at(
                data.effective_at, data.zone or zone, type=event_type, immediate=data.immediate
            ),
            sequence=data.sequence if data.sequence is not None else sequence_of(envelope),
            attributes=without_secrets(data.attributes),
            groups=tuple(data.groups) if data.groups is not None else None,
            immediate=data.immediate,
            employment_id=_text(data.employment_id),
            snapshot=data.snapshot,
        ),
    )


def completed(data: CanonicalData, taken_at: datetime | None) -> Mapped:
    """The end of a full export, which names no worker. Raises Unusable."""
    if data.snapshot is None or data.count is None:
        raise Unusable("invalid_data", f"{SNAPSHOT_COMPLETED} needs both snapshot and count.")
    return Mapped(
        organization=data.organization,
        event=WorkerEvent(
            type=SNAPSHOT_COMPLETED,
            worker_id="",
            effective_at=taken_at,
            snapshot=data.snapshot,
            count=data.count,
        ),
    )


def _text(given: str | int | None) -> str | None:
    return None if given is None else str(given)


def in_zone(mapper: Mapper, zone: str | None) -> Mapper:
    """The same mapping for a source whose dates are meant in this zone."""
    return functools.partial(canonical, zone=zone) if zone and mapper is canonical else mapper


MAPPINGS: Final[Mapping[str, Mapper]] = {"canonical": canonical}
"""Mappings that are code. Beside them stand the declared ones: see ``consumers.mappings.packs``."""


def validated(data: Any, *, by: Literal["source", "mapping"] = "source") -> CanonicalData:
    """Raises Unusable, which names the fields at fault and none of their values."""
    try:
        return CanonicalData.model_validate({} if data is None else data)
    except ValidationError as error:
        # The values stay out: they are personal data.
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        told = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'] if part in _FIELDS or isinstance(part, int)) or 'data'}:"
            f" {problem['msg'].removeprefix('Value error, ')}"
            for problem in problems[:5]
        )
        what = "The data is" if by == "source" else "What the mapping makes of this is"
        raise Unusable("invalid_data", f"{what} not a canonical event. {told}.") from None


_FIELDS: Final = frozenset(CanonicalData.model_fields)


def _worker_id(data: CanonicalData, envelope: Envelope) -> str:
    worker_id = envelope.subject if data.worker_id is None else str(data.worker_id)
    if not worker_id:
        raise Unusable("missing_worker_id", "Neither worker_id nor the subject names the worker.")
    return checked_worker_id(worker_id)


def checked_worker_id(worker_id: str) -> str:
    """A worker id that can be stored and compared. Raises Unusable."""
    trimmed = worker_id.strip()
    if not trimmed or len(trimmed) > 256 or _CONTROL.search(trimmed):
        raise Unusable(
            "invalid_worker_id",
            "A worker id has 1 to 256 characters, none of them control characters.",
        )
    return trimmed


def sequence_of(envelope: Envelope) -> int | None:
    """The CloudEvents extension, where it is a number; other texts have no order that we know."""
    text = envelope.sequence
    return int(text) if text is not None and _INTEGER.fullmatch(text) else None


def without_secrets(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Passwords are kept nowhere."""
    return {name: value for name, value in attributes.items() if name.lower() not in _SECRETS}
