"""What outcomes of events carry: how each of them ended, or what it waits for. As service.outcomes.data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from service.outcomes.catalogue import OutcomeType
from service.outcomes.data import About, Data, Error, Input, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Part):
    """What comparing a full export with whom we know has shown."""

    name: str
    """The export, as its events name it."""
    workers: int | None
    """How many it said that it holds; null where it did not say."""
    absent: int
    """How many it did not name, who have left therefore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceeded(Part):
    """Of how many an organization lost so many people so soon, and what it allows."""

    leavers: int
    """Who left within the time, this one included."""
    people: int
    """Who was in before they left, or as many of them as were counted to know the share."""
    count: int
    share: float
    within_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventData(Data):
    """What every outcome of an event tells of it."""

    about: ClassVar[About] = "event"
    event: Input
    latency_ms: int
    """Milliseconds since the event was accepted, or due where that was later."""
    attempts: int
    """Tries, of the account that came last where there are many; waiting for a rate limit is none.
    Of an event that ended before: how often it was tried to take it in, or HR was asked."""
    effective_at: str | None = None
    """When it takes effect (RFC 3339), where it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSucceeded(EventData):
    """The accounts it touches are as it asked, as far as Auth0 allows."""

    type: ClassVar[OutcomeType] = "event.succeeded"
    state: Literal["applied", "waiting", "held"]
    """`waiting`: no address yet, or the first login of an enterprise user; `held`: deletion after
    the hold."""
    snapshot: Comparison | None = None
    """Of the event that said that a full export is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSuperseded(EventData):
    """A newer event made it moot before it was carried out."""

    type: ClassVar[OutcomeType] = "event.superseded"
    superseded_by: str | None = None
    """The newer event's id, where one event did it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRejected(EventData):
    """It is not allowed as it is: send it again, mended, under a new id."""

    type: ClassVar[OutcomeType] = "event.rejected"
    error: Error


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDeadlettered(EventData):
    """We gave up: an operator must act, then replay it."""

    type: ClassVar[OutcomeType] = "event.deadlettered"
    error: Error
    first_failed_at: str | None = None
    """When it failed for the first time (RFC 3339); absent: just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDuplicate(EventData):
    """It repeats an event that was taken in before."""

    type: ClassVar[OutcomeType] = "event.duplicate"
    repeats: str
    """That event's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCancelled(EventData):
    """Its source took it back before it took effect, or its organization is gone."""

    type: ClassVar[OutcomeType] = "event.cancelled"
    superseded_by: str | None = None
    """The event that took it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDiscarded(EventData):
    """An operator discarded it."""

    type: ClassVar[OutcomeType] = "event.discarded"
    error: Error


@dataclass(frozen=True, slots=True, kw_only=True)
class EventScheduled(EventData):
    """It lies ahead and waits for its time, which is `effectiveAt`."""

    type: ClassVar[OutcomeType] = "event.scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStaged(EventData):
    """It waits for an operator to let it go."""

    type: ClassVar[OutcomeType] = "event.staged"
    threshold: Exceeded | None = None
    """What was exceeded; absent where the person was staged before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReplayed(EventData):
    """An operator replayed it: the replay is an event of its own and ends by itself."""

    type: ClassVar[OutcomeType] = "event.replayed"
    replay: str
    """The replay's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScimResponded(EventData):
    """The end of a SCIM write that asked to be told later (RFC 9967 section 2.5.1.3)."""

    type: ClassVar[OutcomeType] = "scim.responded"
    event_uri: Literal["urn:ietf:params:scim:event:misc:asyncresp"]
    txn: str
    """What `Set-Txn` said; of a Bulk with `:` and the operation's index."""
    method: str
    status: str
    """The HTTP status that the request would have had."""
    bulk_id: str | None = None
    location: str | None = None
    version: str | None = None
    response: Mapping[str, Any] | None = None
    """The SCIM error of a write that failed (RFC 7644 section 3.12)."""
