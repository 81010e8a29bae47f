"""What a day leaves behind, in a form in which two days can be compared."""

from __future__ import annotations

import mailbox
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.directory import events, outbox
from service.directory.database import Database
from service.directory.events import Event, Filter
from service.directory.outbox import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class EndState:
    """Auth0 as the simulator shows it, without the random keys: users by (tenant, connection,
    e-mail) with whether they are blocked, and the roles by (tenant, Organization, e-mail)."""

    users: dict[tuple[str, str, str], bool]
    members: dict[tuple[str, str, str], tuple[str, ...]]


async def end_state(simulator_url: str) -> EndState:
    async with httpx.AsyncClient(base_url=simulator_url) as http:
        state: dict[str, list[dict[str, Any]]] = (await http.get("/simulator/state")).json()
    keys = [(user["tenant"], user["connection"], user["email"]) for user in state["users"]]
    assert len(keys) == len(set(keys)), f"twin users: {keys}"
    addresses = {(user["tenant"], user["user_id"]): user["email"] for user in state["users"]}
    return EndState(
        users={
            key: bool(user.get("blocked")) for key, user in zip(keys, state["users"], strict=True)
        },
        members={
            (
                member["tenant"],
                member["organization"],
                addresses[member["tenant"], member["user_id"]],
            ): tuple(sorted(member["roles"]))
            for member in state["members"]
        },
    )


async def all_outcomes(database: Database) -> list[Outcome]:
    return await database.read(lambda tx: outbox.listing(tx, limit=100_000))


async def all_events(database: Database) -> list[Event]:
    return await database.read(lambda tx: events.listing(tx, Filter(), limit=100_000))


def require_each_once(outcomes: list[Outcome], events: list[Event]) -> None:
    """Every id once, every key's sequence without gaps, one ending for each event, and nothing
    that happens to a user once told twice, or taken for somebody else's doing."""
    ids = Counter(outcome.id for outcome in outcomes)
    assert max(ids.values()) == 1
    sequences: dict[str, list[int]] = {}
    endings: Counter[str] = Counter()
    for outcome in outcomes:
        sequences.setdefault(outcome.key, []).append(outcome.sequence)
        name = outcome.type.removeprefix("io.auth0-provisioner.").removesuffix(".v1")
        passing = ("event.scheduled", "event.staged", "event.replayed")
        if name.startswith("event.") and name not in passing and outcome.event_id:
            endings[outcome.event_id] += 1
    for key, numbers in sequences.items():
        assert numbers == list(range(1, len(numbers) + 1)), (key, numbers)
    still = [event.id for event in events if event.state in ("accepted", "scheduled", "staged")]
    assert not still, f"a day leaves no event open: {still}"
    assert endings == Counter(event.id for event in events)
    effects = Counter((outcome.user_id, outcome.type) for outcome in outcomes)
    once = (".user.created.", ".user.adopted.", ".user.deleted.")
    for (user_id, name), count in effects.items():
        assert count == 1 or not any(part in name for part in once), (user_id, name, count)
        assert ".drift." not in name, "only we have changed anything"


def mails_by_address(folder: Path) -> Counter[str]:
    if not folder.exists():
        return Counter()
    maildir = mailbox.Maildir(folder, create=False)
    return Counter(str(message["To"]) for message in maildir)


def require_mails_at_most_once(folder: Path, outcomes: list[Outcome]) -> None:
    """Nobody is mailed twice, and a mail that did not arrive was flagged as doubtful."""
    mails = mails_by_address(folder)
    assert set(mails.values()) <= {1}, mails
    told = [outcome for outcome in outcomes if ".invitation.sent." in outcome.type]
    sent = [outcome for outcome in told if outcome.data["delivery"] == "sent"]
    doubtful = [outcome for outcome in told if outcome.data["delivery"] == "doubtful"]
    people = Counter(outcome.user_id for outcome in told)
    assert set(people.values()) <= {1}, "one invitation is told of once"
    assert len(sent) <= len(mails) <= len(sent) + len(doubtful)
