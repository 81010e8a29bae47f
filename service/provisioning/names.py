"""Names of one Auth0 tenant to their ids, looked up once and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from service.auth0.answers import Answer
from service.auth0.calls import ANOTHER_FIRST
from service.auth0.client import Auth0Client
from service.provisioning.setup.observed import Mark
from service.provisioning.setup.plan import OF_ANOTHER

_BELIEVED: Final = 60.0
_KEPT: Final = 600.0
"""Seconds after which roles are listed anew: one may have been given another name."""
_MISSED: Final = 10.0
"""Seconds for which what is not there is not looked for again, however many ask for it."""


@dataclass(frozen=True, slots=True)
class _Missing:
    answer: Answer
    until: float
    made: int
    """How much had been made through our client when it was looked for."""


class Names:
    """Organizations, roles and connections by name; for a short while also what there is not.

    Whoever asks while the answer is on its way waits for that one.
    """

    def __init__(self, client: Auth0Client) -> None:
        self._client = client
        self._organizations: dict[str, str] = {}
        self._marks: dict[str, Mark | None] = {}
        """Whose the Organizations are that are known."""
        self._roles: dict[str, str] = {}
        self._listed_at: float | None = None
        self._connections: dict[str, str] = {}
        self._missing: dict[str, _Missing] = {}
        self._doubted_at = -_BELIEVED
        self._asking: dict[asyncio.Task[Any], asyncio.Future[Answer]] = {}
        """Who waits for an answer, and how to have them wait no more."""
        self._under_way: dict[str, asyncio.Task[Answer]] = {}

    async def organization(
        self, name: str, *, leaver: bool = False, entering: str = ""
    ) -> str | Answer:
        """The id, or the answer that says why there is none.

        ``entering``: which organization of ours lets somebody in; refused where we made the
        Organization for another one.
        """
        if name not in self._organizations:
            what = f"organization {name}"
            if (missing := self._missed(what)) is not None:
                return missing
            # A leaver does not wait for a call that has a joiner's rank.
            look = self._look_up(name, leaver=leaver)
            answer = await (look if leaver else self._together(what, look))
            if answer.verdict != "ok":
                return self._miss(what, answer)
            self._organizations[name] = answer.data["id"]
            self._marks[name] = Mark.of(answer.data.get("metadata"))
        mark = self._marks[name]
        if entering and mark is not None and mark.organization != entering:
            del self._organizations[name]  # the mark may be mended
            said = f"the Organization {name} is that of {mark.organization}"
            return Answer(verdict="refused", status=409, code=OF_ANOTHER, message=said)
        return self._organizations[name]

    def doubt(self, ids: Collection[str]) -> None:
        """A call that named these was refused, which may be their fault: as ``forget``, where that
        was not done within the last minute."""
        now = self._client.clock.monotonic()
        if now - self._doubted_at >= _BELIEVED:
            self._doubted_at = now
            self.forget(ids)

    def forget(self, ids: Collection[str]) -> None:
        """These may be of something that was made anew under its name: they are looked up again."""
        for known in (self._organizations, self._roles, self._connections):
            for name in [name for name, known_id in known.items() if known_id in ids]:
                del known[name]

    async def connection(self, name: str) -> str | Answer:
        """The id, or the answer that says why there is none."""
        if name not in self._connections:
            what = f"connection {name}"
            if (missing := self._missed(what)) is not None:
                return missing
            answer = await self._together(what, self._look_up_connection(name))
            if answer.verdict != "ok":
                return answer
            found = [each["id"] for each in answer.data if each.get("name") == name]
            if not found:
                return self._miss(what, _none("connection", name))
            self._connections[name] = found[0]
        return self._connections[name]

    async def roles(self, names: tuple[str, ...]) -> list[str] | Answer:
        """The ids of all of them, or the answer that says why not."""
        missing = self._missing_role(names)
        if missing is not None and (known := self._missed(f"role {missing}")) is not None:
            return known
        if names and (missing is not None or self._is_old()):
            answer = await self._together("roles", self._list_roles())
            if answer.verdict != "ok":
                return answer
            if (missing := self._missing_role(names)) is not None:
                return self._miss(f"role {missing}", _none("role", missing))
        return [self._roles[name] for name in names]

    def _missing_role(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name not in self._roles), None)

    def _is_old(self) -> bool:
        now = self._client.clock.monotonic()
        return self._listed_at is None or now - self._listed_at >= _KEPT

    def _miss(self, what: str, answer: Answer) -> Answer:
        if answer.verdict == "not-found":
            until = self._client.clock.monotonic() + _MISSED
            self._missing[what] = _Missing(answer, until=until, made=self._client.made)
        return answer

    def _missed(self, what: str) -> Answer | None:
        """The answer of a moment ago that there is no such thing; None where it may be there by now."""
        missing = self._missing.get(what)
        if missing is None:
            return None
        if missing.made == self._client.made and self._client.clock.monotonic() < missing.until:
            return missing.answer
        del self._missing[what]
        return None

    def recall(self, task: asyncio.Task[Any]) -> None:
        """Has this task wait no more for an answer that is on its way; others still do."""
        if (released := self._asking.get(task)) is not None and not released.done():
            released.set_result(Answer(verdict="withheld", message=ANOTHER_FIRST))

    async def give_up(self) -> None:
        """Ends what is still being looked up: nobody waits for it any more."""
        asked = list(self._under_way.values())
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    async def _look_up(self, name: str, *, leaver: bool) -> Answer:
        return await self._client.organization_by_name(name, leaver=leaver)

    async def _look_up_connection(self, name: str) -> Answer:
        return await self._client.connection_by_name(name)

    async def _list_roles(self) -> Answer:
        answer, listed = Answer(verdict="ok"), dict[str, str]()
        for page in range(10):
            answer = await self._client.roles(page)
            if answer.verdict != "ok":
                return answer
            listed |= {role["name"]: role["id"] for role in answer.data}
            if len(answer.data) < 100:
                break
        self._roles, self._listed_at = listed, self._client.clock.monotonic()
        return answer

    async def _together(self, what: str, ask: Coroutine[Any, Any, Answer]) -> Answer:
        asker, task = asyncio.current_task(), self._under_way.get(what)
        if self._client.is_recalled(asker):
            ask.close()
            return Answer(verdict="withheld", message=ANOTHER_FIRST)
        if task is not None:
            ask.close()
        else:
            task = self._under_way[what] = asyncio.create_task(ask)
            task.add_done_callback(lambda ended: self._answered(what, ended))
            if asker is not None:
                self._client.stand_for(task, asker)
        return await (asyncio.shield(task) if asker is None else self._released(asker, task))

    async def _released(self, asker: asyncio.Task[Any], task: asyncio.Task[Answer]) -> Answer:
        """The answer, or that the asker was called back before it came."""
        released = self._asking[asker] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((task, released), return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._asking[asker]
        return task.result() if task.done() else released.result()

    def _answered(self, what: str, ended: asyncio.Task[Answer]) -> None:
        self._under_way.pop(what, None)
        if not ended.cancelled():
            ended.exception()  # nobody may wait for it any more


def _none(what: str, name: str) -> Answer:
    message = f"no {what} named {name}"
    return Answer(verdict="not-found", status=404, code=f"unknown_{what}", message=message)
