"""What is told of one event or one user: everything that the directory knows, gathered to be shown.

Reads only; used by the command line and by the console alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from service.directory import (
    accounts,
    audit,
    enrichments,
    events,
    fanouts,
    moves,
    organizations,
    outbox,
    overview,
    sequels,
)
from service.directory.accounts import Account
from service.directory.audit import Entry
from service.directory.database import Transaction
from service.directory.events import Event, Filter
from service.directory.organizations import Registered
from service.directory.outbox import Outcome
from service.errors import NotFound
from service.outcomes.catalogue import PREFIX, SUFFIX
from service.people import Cause, User
from service.provisioning import granting
from service.provisioning.desired import Desired
from service.provisioning.observed import Observed
from service.provisioning.plan import plan
from service.provisioning.residents import joint_wish, residents_of

_MOST = 200
_SESSIONS = {"possible": "may be open", "owed": "still to be revoked", "revoked": "revoked"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEvent:
    """One event with everything that hangs on it."""

    event: Event
    waits_for: Sequence[str]
    untouched_users: int
    enrichment: Mapping[str, Any] | None
    """Of a thin event that waits for an answer: ``attempts``, ``due_at`` and the last ``error``."""
    """How many users an event of many accounts has still to touch."""
    outcomes: Sequence[Outcome]
    replays: Sequence[Event]
    audit: Sequence[Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of a user's timeline. ``event_id``: where it leads."""

    at: datetime
    what: str
    detail: str
    event_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """One thing that is wanted of an account, beside what was last seen of it."""

    name: str
    desired: str
    observed: str

    @property
    def differs(self) -> bool:
        return self.desired not in ("", self.observed)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerAccount:
    """``left_at``: since when the person is out there, None while it is needed still."""

    account: Account
    left_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownUser:
    """One user: status, what is wanted and seen, what would be done next, and what has happened."""

    user: User
    registered: Registered
    causes: Sequence[Cause]
    account: Account | None
    neighbours: Sequence[User]
    formers: Sequence[FormerAccount]
    """Where they lived before they moved to another connection."""
    aspects: Sequence[Aspect]
    plan: Sequence[str]
    timeline: Sequence[Moment]


def event(transaction: Transaction, event_id: str) -> ShownEvent:
    """Raises NotFound."""
    return ShownEvent(
        event=events.require(transaction, event_id),
        waits_for=overview.waits_for(transaction, event_id),
        untouched_users=fanouts.left(transaction, event_id),
        enrichment=enrichments.of_event(transaction, event_id),
        outcomes=outbox.listing(transaction, event_id=event_id, limit=_MOST, newest=True),
        replays=sequels.replays_of(transaction, event_id),
        audit=audit.listing(transaction, subject=event_id),
    )


def user(transaction: Transaction, found: User, now: datetime) -> ShownUser:
    """Everything about a user of the directory."""
    registered = organizations.find(transaction, found.organization)
    if registered is None:
        raise NotFound(f"There is no organization {found.organization}.")
    account = accounts.get(transaction, found.account_id) if found.account_id else None
    wanted, observed, neighbours = None, None, []
    if account is not None:
        residents = residents_of(transaction, account)
        neighbours = [
            each.user for each in residents if each.user.id != found.id and not each.former
        ]
        observed = Observed.from_document(account.observed)
        wanted = joint_wish(residents, account, now)
    return ShownUser(
        user=found,
        registered=registered,
        causes=sorted(registered.causes(found)),
        account=account,
        neighbours=neighbours,
        formers=[
            FormerAccount(account=former, left_at=each.left_at)
            for each in moves.of_users(transaction, [found.id])
            if (former := accounts.get(transaction, each.account_id)) is not None
        ],
        aspects=list(_aspects(wanted, observed)) if wanted and observed else [],
        plan=[str(step) for step in plan(wanted, observed)] if wanted and observed else [],
        timeline=_timeline(transaction, found, account),
    )


def facts(shown: Event) -> Iterator[tuple[str, str]]:
    """An event's own columns that say something, named for people."""
    ended = f"{shown.state} ({shown.result})" if shown.result else shown.state
    pairs: list[tuple[str, object]] = [
        ("id", shown.id),
        ("state", ended),
        ("organization", shown.organization),
        ("type", shown.type),
        ("door", shown.door),
        ("source", shown.source),
        ("source id", shown.source_id),
        ("topic", shown.topic and f"{shown.topic}/{shown.partition}@{shown.offset}"),
        ("user", shown.user_id),
        ("accepted", _instant(shown.accepted_at)),
        ("effective", _instant(shown.effective_at)),
        ("finished", _instant(shown.finished_at)),
        ("cause", shown.causation_id),
        ("correlation", shown.correlation_id),
        ("error", shown.error and f"{shown.error['code']}: {shown.error['message']}"),
    ]
    return ((name, str(value)) for name, value in pairs if value)


def sections(shown: ShownEvent) -> Iterator[tuple[str, list[str]]]:
    """What hangs on an event, as headed lines; empty parts are left out."""
    parts: list[tuple[str, Iterable[str]]] = [
        ("waits for", [*shown.waits_for, *_answer(shown.enrichment)]),
        (
            "outcomes",
            (
                f"{_instant(each.created_at)}  {short(each.type)}  {detail_of(each)}".rstrip()
                for each in shown.outcomes
            ),
        ),
        (
            "replays",
            (f"{_instant(e.accepted_at)}  {e.id}  {e.state}" for e in shown.replays),
        ),
        (
            "operators",
            (f"{_instant(e.at)}  {e.actor}  {e.action}  {compact(e.detail)}" for e in shown.audit),
        ),
    ]
    for heading, rows in parts:
        if listed := list(rows):
            yield heading, listed


def _answer(enrichment: Mapping[str, Any] | None) -> Iterator[str]:
    if enrichment is None:
        return
    yield "an answer about its worker"
    if enrichment["error"] is not None:
        yield (
            f"asked in vain {enrichment['attempts']} times, again at"
            f" {_instant(enrichment['due_at'])}: {enrichment['error']['message']}"
        )


def pretty(body: bytes | None) -> str:
    """A body as indented JSON where it is JSON, else as text; bytes that are neither are escaped."""
    if body is None:
        return "(none)"
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "backslashreplace")


def short(outcome_type: str) -> str:
    """``user.created`` of ``io.auth0-provisioner.user.created.v1``."""
    return outcome_type.removeprefix(PREFIX).removesuffix(SUFFIX)


_NOT_SHOWN = frozenset(
    ("event", "error", "latencyMs", "attempts", "auth0RequestId", "user", "values")
)


def detail_of(outcome: Outcome, *, known_user: str | None = None) -> str:
    """What an outcome says beyond its type, in few words. ``known_user``: the Auth0 id told anyway."""
    told = {
        name: value
        for name, value in outcome.data.items()
        if name not in _NOT_SHOWN and value not in (None, [], {}, known_user)
    }
    error = outcome.data.get("error")
    if error:
        told = {"error": error.get("code")} | told
    return compact(told)


def _aspects(wanted: Desired, observed: Observed) -> Iterator[Aspect]:
    here = observed.presence == "present"
    yield Aspect(
        name="in Auth0",
        desired="absent" if wanted.delete else "present" if wanted.wanted else "",
        observed=observed.presence,
    )
    access = "blocked" if observed.blocked else "allowed"
    if observed.blocked and not observed.blocked_by_us:
        access = "blocked by somebody else"
    desired = "allowed" if wanted.wanted else "blocked" if wanted.model != "shared" else ""
    yield Aspect(name="access", desired=desired, observed=access if here else "")
    yield Aspect(name="address", desired=wanted.email, observed=observed.email or "")
    for name in ("given_name", "family_name", "name"):
        yield Aspect(
            name=name.replace("_", " "),
            desired=getattr(wanted.profile, name) or "",
            observed=getattr(observed.profile, name) or "",
        )
    for name in sorted({*wanted.memberships, *observed.memberships, *wanted.leavers}):
        wish, have = wanted.memberships.get(name), granting.held(observed, name)
        yield Aspect(
            name=f"member of {name}",
            desired=_membership(tuple(sorted(wish.roles)) if wish else None),
            observed=_membership(have),
        )
    yield Aspect(
        name="sessions",
        desired="revoked" if not wanted.wanted and wanted.model != "shared" else "",
        observed=_SESSIONS[observed.sessions] if here else "",
    )
    for each in wanted.invitations:
        sure = "" if each.state == "done" else f", {each.state}"
        until = f"open until {_instant(each.open_until)}{sure}"
        yield Aspect(name="invitation", desired="", observed=until)
    if wanted.delete_at is not None:
        yield Aspect(name="deletion", desired=_instant(wanted.delete_at), observed="")
    for scope, problem in sorted(observed.refused.items()):
        yield Aspect(
            name=f"refused {scope}".strip(), desired="", observed=str(problem.get("message", ""))
        )


def _membership(roles: tuple[str, ...] | None) -> str:
    if roles is None:
        return "no"
    return f"yes: {', '.join(sorted(roles))}" if roles else "yes"


def _timeline(transaction: Transaction, found: User, account: Account | None) -> list[Moment]:
    moments = [
        Moment(
            at=each.accepted_at,
            what=each.type if each.type.startswith(each.door) else f"{each.door} {each.type}",
            detail=each.state if each.error is None else f"{each.state}: {each.error['code']}",
            event_id=each.id,
        )
        for each in overview.latest_events(transaction, Filter(user=found.id), limit=_MOST)
    ]
    moments += [
        Moment(
            at=each.created_at,
            what=f"→ {short(each.type)}",
            detail=detail_of(each, known_user=account.user_id if account else None),
            event_id=each.event_id,
        )
        for each in outbox.listing(
            transaction,
            organization=found.organization,
            user_id=found.id,
            limit=_MOST,
            newest=True,
        )
    ]
    return sorted(moments, key=lambda moment: moment.at)


def _instant(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def compact(value: Any) -> str:
    """A mapping in one line: ``name=value name=value``."""
    return " ".join(f"{name}={_scalar(item)}" for name, item in dict(value).items())


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
