"""The sources of events: what each is, and letting a stopped one go on. Asks the database only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.directory import audit, enrichments, fuses, organizations
from service.directory.database import Transaction
from service.directory.enrichments import Backlog
from service.directory.fuses import Fuse
from service.errors import NotFound, Refused
from service.organizations import EventSource


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """A source as declared, and its fuse. ``failures``: events that failed one after the other."""

    name: str
    topic: str | None
    mapping: str
    organizations: tuple[str, ...]
    fuse: int
    failures: int = 0
    stopped_at: datetime | None = None
    last_failure: Mapping[str, Any] | None = None
    lag: int | None = None
    """Records not yet taken in; None where the brokers cannot tell."""
    asks: str | None = None
    """The host that is asked about workers whom events only name."""
    waiting: int = 0
    """Events that wait for its answer."""
    waiting_since: datetime | None = None
    no_answer: Mapping[str, Any] | None = None
    """The newest reason why there is none."""


def listing(transaction: Transaction) -> list[SourceFacts]:
    """Every source, by name, without its lag. Sources that share a topic share its fuse; a webhook has
    its own.
    """
    counted = fuses.every(transaction)
    sources = organizations.sources(transaction)
    by_topic = {
        each.topic: counted[each.name] for each in sources if each.topic and each.name in counted
    }
    waiting = enrichments.backlogs(transaction)
    return [
        _facts(
            source,
            by_topic.get(source.topic) if source.topic else counted.get(source.name),
            waiting.get(source.name),
        )
        for source in sources
    ]


def resume(transaction: Transaction, name: str, *, actor: str, now: datetime) -> None:
    """Lets a stopped source go on. Raises NotFound, and Refused where it is not stopped."""
    known = {source.name: source for source in organizations.sources(transaction)}
    if name not in known:
        raise NotFound(f"There is no source {name}: 'provisioner events sources' shows them.")
    before = next(each for each in listing(transaction) if each.name == name)
    if not reset(transaction, known[name]):
        raise Refused(f"{name} is not stopped: 'provisioner events sources' shows which are.")
    audit.record(
        transaction,
        actor=actor,
        action="source.resume",
        now=now,
        subject=name,
        detail={"failures": before.failures, "last": before.last_failure},
    )


def reset(transaction: Transaction, source: EventSource) -> bool:
    """Lets a source go on, with all those of its topic; whether one of them was stopped.

    They are read as one, so they are stopped as one.
    """
    known = organizations.sources(transaction)
    topic = source.topic
    sharing = {each.name for each in known if topic is not None and each.topic == topic}
    stopped = [fuses.reset(transaction, name) for name in sorted(sharing | {source.name})]
    return any(stopped)


def reset_readers(transaction: Transaction, mapping: str) -> None:
    """Lets all sources go on that are read by a mapping which has changed."""
    for source in organizations.sources(transaction):
        if source.mapping == mapping:
            reset(transaction, source)


def _facts(source: EventSource, fuse: Fuse | None, waiting: Backlog | None) -> SourceFacts:
    return SourceFacts(
        name=source.name,
        topic=source.topic,
        mapping=source.mapping,
        organizations=source.organizations,
        fuse=source.fuse,
        failures=fuse.failures if fuse else 0,
        stopped_at=fuse.blown_at if fuse else None,
        last_failure=fuse.detail if fuse else None,
        asks=source.enrichment.host if source.enrichment else None,
        waiting=waiting.waiting if waiting else 0,
        waiting_since=waiting.since if waiting else None,
        no_answer=waiting.error if waiting else None,
    )
