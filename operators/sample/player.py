"""Plays the sample day through the public doors, and checks how each step ends.

Every step carries a trace id of its own, so after a crash the player looks a step up before it
repeats it: what was accepted is found by its trace.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

import httpx
import orjson

from operators.sample.day import Change, Create, Ending, Step, Worker, as_cloudevent
from service.clock import Clock
from service.directory import events, outbox
from service.directory.database import Database
from service.directory.events import OPEN, Event

_REFERENCE: Final = re.compile(r"\{id:([^}]+)\}")


class Unavailable(Exception):
    """The installation cannot take it in just now: look, then repeat."""


class Doors(Protocol):
    """How the day reaches the installation."""

    def scim(self, organization: str) -> httpx.AsyncClient:
        """A client whose base URL and token are the organization's."""
        ...

    async def hr(self, organization: str, event: Mapping[str, Any], traceparent: str) -> None:
        """Hands an HR event over, durably. ``event``: CloudEvents attributes, and ``data``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A step and what came of it. ``effects``: short outcome names, in order. ``anew``: whether
    it was done just now, or found done by an earlier start of the process."""

    step: Step
    event: Event | None
    effects: tuple[str, ...] = ()
    expected: Ending | None = None
    anew: bool = True

    @property
    def as_expected(self) -> bool:
        wanted, event = self.expected, self.event
        if event is None:
            return False
        if wanted is None:
            return event.state == "scheduled"
        code = (event.error or {}).get("code")
        return (event.state, event.result, code) == (wanted.outcome, wanted.state, wanted.code)


class Player:
    """Plays one day. ``day`` is its id: the same id continues the same day."""

    def __init__(
        self,
        day: str,
        started: datetime,
        *,
        doors: Doors,
        database: Database,
        clock: Clock,
        patience: float = 60.0,
    ) -> None:
        self._day = day
        self._started = started
        self._doors = doors
        self._database = database
        self._clock = clock
        self._patience = patience

    async def play(self, steps: Sequence[Step], tell: Callable[[Played], None]) -> list[Played]:
        """Every step in order, each to its end; then all of them looked at once more."""
        for step in steps:
            anew = await self._see_to(step)
            tell(replace(await self._outcome_of(step, step.ending), anew=anew))
        late = {step.later[0]: step.later[1] for step in steps if step.later is not None}
        return [await self._outcome_of(step, late.get(step.name, step.ending)) for step in steps]

    async def _see_to(self, step: Step) -> bool:
        """Does a step unless it was accepted before (False); after a lost answer it looks first."""
        deadline = self._clock.monotonic() + self._patience
        anew = False
        while await self._find(step) is None:
            anew = True
            try:
                await self._do(step)
                break
            except (httpx.TransportError, Unavailable):
                if self._clock.monotonic() > deadline:
                    raise
                await self._clock.sleep(0.2)
        return anew

    def traceparent(self, step: Step) -> str:
        digest = hashlib.sha256(f"{self._day}/{step.name}".encode()).hexdigest()
        return f"00-{digest[:32]}-{digest[32:48]}-01"

    async def _find(self, step: Step) -> Event | None:
        trace = self.traceparent(step)
        return await self._database.read(lambda tx: events.by_trace(tx, trace))

    async def _outcome_of(self, step: Step, ending: Ending | None) -> Played:
        """Waits until the step's event has ended (or is scheduled, where that is expected)."""
        deadline = self._clock.monotonic() + self._patience
        while True:
            event = await self._find(step)
            waiting = event is None or event.state in OPEN
            scheduled = event is not None and event.state == "scheduled" and ending is None
            if not waiting or scheduled or self._clock.monotonic() > deadline:
                break
            await self._clock.sleep(0.05)
        effects = await self._effects(event) if event is not None else ()
        return Played(step=step, event=event, effects=effects, expected=ending)

    async def _effects(self, event: Event) -> tuple[str, ...]:
        found = await self._database.read(lambda tx: outbox.listing(tx, event_id=event.id))
        return tuple(outcome.type.split(".", 2)[2].removesuffix(".v1") for outcome in found)

    async def _do(self, step: Step) -> None:
        match step.action:
            case Worker():
                event = as_cloudevent(step, step.action, self._day, self._started)
                await self._doors.hr(step.organization, event, self.traceparent(step))
            case Create():
                await self._create(step, step.action)
            case Change():
                await self._change(step, step.action)

    async def _create(self, step: Step, create: Create) -> None:
        body = await self._filled(step.organization, create.body)
        await self._send(step, "POST", f"/{create.kind}", body)

    async def _change(self, step: Step, change: Change) -> None:
        scim_id = await self._id(step.organization, change.kind, change.key, change.name)
        body = await self._filled(step.organization, change.body) if change.body else None
        await self._send(step, change.method, f"/{change.kind}/{scim_id}", body)

    async def _send(
        self, step: Step, method: str, path: str, body: Mapping[str, Any] | None
    ) -> None:
        answer = await self._doors.scim(step.organization).request(
            method,
            path.removeprefix("/"),
            content=orjson.dumps(body) if body is not None else None,
            headers={
                "Content-Type": "application/scim+json",
                "traceparent": self.traceparent(step),
            },
        )
        _require_accepted(answer, step.name)

    async def _filled(self, organization: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body with ``{id:NAME}`` replaced by the ids of users."""
        text = orjson.dumps(body).decode()
        for name in set(_REFERENCE.findall(text)):
            text = text.replace(
                f"{{id:{name}}}", await self._id(organization, "Users", "userName", name)
            )
        return orjson.loads(text)

    async def _id(self, organization: str, kind: str, key: str, name: str) -> str:
        answer = await self._doors.scim(organization).get(
            kind, params={"filter": f'{key} eq "{name}"', "attributes": "id"}
        )
        _require_accepted(answer, name)
        found = answer.json()["Resources"]
        if not found:
            raise RuntimeError(f"{organization} has no {kind} with {key} {name}")
        return found[0]["id"]


def _require_accepted(answer: httpx.Response, what: str) -> None:
    if answer.status_code in (429, 503):
        raise Unavailable(f"{what}: {answer.status_code}")
    if answer.is_error:
        raise RuntimeError(
            f"{what}: {answer.request.url} answered {answer.status_code}: {answer.text}"
        )


class HttpDoors:
    """Both doors over HTTP: SCIM, and CloudEvents in binary mode."""

    def __init__(
        self, url: str, tokens: Mapping[str, tuple[str, str]], *, timeout: float = 30.0
    ) -> None:
        """``tokens``: organization to its SCIM token and its events token."""
        self._tokens = tokens
        self._url = url
        self._http = httpx.AsyncClient(timeout=timeout)
        self._scim = {
            name: httpx.AsyncClient(
                base_url=f"{url}/scim/v2/{name}/",
                headers={"Authorization": f"Bearer {scim}"},
                timeout=timeout,
            )
            for name, (scim, _) in tokens.items()
        }

    def scim(self, organization: str) -> httpx.AsyncClient:
        return self._scim[organization]

    async def hr(self, organization: str, event: Mapping[str, Any], traceparent: str) -> None:
        attributes = {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}
        answer = await self._http.post(
            f"{self._url}/events/{organization}",
            content=orjson.dumps(event["data"]),
            headers=attributes
            | {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {self._tokens[organization][1]}",
                "traceparent": traceparent,
            },
        )
        _require_accepted(answer, str(event["id"]))

    async def close(self) -> None:
        await asyncio.gather(
            self._http.aclose(), *(client.aclose() for client in self._scim.values())
        )
