"""Where adds and removals of members are gathered: up to ten of one Organization in one request.

Who is in a request is decided when its turn has come, so gathering costs no time while calls need
not wait. Each asker gets an answer of its own. Knows no accounts and no database.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from service.auth0.answers import Answer, Verdict
from service.auth0.calls import ANOTHER_FIRST
from service.auth0.client import Auth0Client
from service.auth0.full import FullOrganizations

MOST: Final = 10
"""Members in one request at most (Management API, organization members)."""
_SINGLY: Final[tuple[Verdict, ...]] = ("refused", "not-found", "conflict")
"""What may be the fault of one among those in a request."""
_NO_ORGANIZATION: Final = "No organization found"
"""How a 404 begins that is about the Organization; it has no ``errorCode``."""
_LOOK_AGAIN: Final = 0.1

Verb = Literal["add", "remove"]


@dataclass(slots=True, eq=False)
class _Wish:
    """One user to add or to remove. ``alone``: it was in a request that was refused."""

    user_id: str
    leaver: bool
    number: int
    task: asyncio.Task[Any] | None
    answer: asyncio.Future[Answer]
    alone: bool = False

    @property
    def order(self) -> tuple[bool, int]:
        return not self.leaver, self.number


@dataclass(slots=True, eq=False)
class _Line:
    """Who waits to be added to one Organization, or removed from it; and the requests to come."""

    organization_id: str
    verb: Verb
    wishes: list[_Wish] = field(default_factory=list[_Wish])
    calls: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    """Requests that have not had their turn, the oldest first."""

    def drop_answered(self) -> None:
        self.wishes = [wish for wish in self.wishes if not wish.answer.done()]

    @property
    def together(self) -> int:
        return sum(not wish.alone for wish in self.wishes)

    @property
    def calls_needed(self) -> int:
        return len(self.wishes) - self.together + math.ceil(self.together / MOST)

    @property
    def urgent(self) -> int:
        """How many of the requests to come are for leavers."""
        return math.ceil(sum(wish.leaver for wish in self.wishes) / MOST)

    def take(self) -> list[_Wish]:
        """Whoever is in the next request: leavers before others, then who came first."""
        self.drop_answered()
        self.wishes.sort(key=lambda wish: wish.order)
        if not self.wishes:
            return []
        first = self.wishes[0]
        taken = [first] if first.alone else [w for w in self.wishes if not w.alone][:MOST]
        self.wishes = [wish for wish in self.wishes if wish not in taken]
        return taken


class Memberships:
    """Adds members to the Organizations of one tenant and removes them.

    A request that is not full waits for companions while there is a backlog: while callers say that
    more accounts wait than are worked (``crowded``), or users that are to be made wait for their
    turn, and for ``linger`` seconds at most. One with a leaver in it never waits for company.
    """

    def __init__(
        self, client: Auth0Client, *, linger: float = 10.0, full_again: float = 15.0
    ) -> None:
        """``full_again``: seconds until an Organization that was full is asked again."""
        self.crowded = False
        self._client = client
        self._clock = client.clock
        self._linger = linger
        self._number = 0
        self._full = FullOrganizations(client.clock, first=full_again)
        self._lines: dict[tuple[str, Verb], _Line] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def gathered(self) -> int:
        """How many wait for a request to have its turn."""
        return sum(len(line.wishes) for line in self._lines.values())

    async def add(self, organization_id: str, user_id: str, *, leaver: bool = False) -> Answer:
        """As Auth0Client's ``add_members`` for one user; ``full`` without a call where the
        Organization was found to be."""
        return await self._ask("add", organization_id, user_id, leaver)

    async def remove(self, organization_id: str, user_id: str, *, leaver: bool = False) -> Answer:
        """As Auth0Client's ``remove_members`` for one user."""
        return await self._ask("remove", organization_id, user_id, leaver)

    def recall(self, task: asyncio.Task[Any]) -> None:
        """Withholds what this task waits for, unless it is in a request that has had its turn."""
        for line in list(self._lines.values()):
            for wish in line.wishes:
                if wish.task is task and not wish.answer.done():
                    wish.answer.set_result(Answer(verdict="withheld", message=ANOTHER_FIRST))
            self._see_to(line)

    async def close(self) -> None:
        """Gives up what is under way; who still waits for it gets a doubtful answer."""
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _ask(self, verb: Verb, organization_id: str, user_id: str, leaver: bool) -> Answer:
        task = asyncio.current_task()
        if self._client.is_recalled(task):
            return Answer(verdict="withheld", message=ANOTHER_FIRST)
        if verb == "add" and (held := self._full.held(organization_id)) is not None:
            return held
        line = self._lines.setdefault((organization_id, verb), _Line(organization_id, verb))
        self._number += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        wish = _Wish(user_id, leaver, self._number, task, answer)
        line.wishes.append(wish)
        self._see_to(line)
        try:
            return await answer
        except asyncio.CancelledError:
            answer.cancel()  # the others in its request go on
            self._see_to(line)
            raise

    def _see_to(self, line: _Line) -> None:
        """Has as many requests come as are needed, with a leaver's rank where one is wanted."""
        line.drop_answered()
        while len(line.calls) > line.calls_needed:
            line.calls.pop().cancel()
        while len(line.calls) < line.calls_needed:
            call = asyncio.create_task(self._request(line))
            # It stands where the first of those stands for whom no request is on its way yet; one
            # that follows a refusal stands last, so that refusals hold nobody up.
            started = [wish for wish in line.wishes if wish.task is not None and not wish.alone]
            later = len(line.calls) * MOST
            if later < len(started) and (task := started[later].task) is not None:
                self._client.stand_for(call, task)
            line.calls.append(call)
            self._under_way.add(call)
            call.add_done_callback(self._under_way.discard)
        for call in line.calls[: line.urgent]:
            self._client.hurry(call)
        key = (line.organization_id, line.verb)
        # While a request was under way another line may have begun under the same name.
        if not line.wishes and not line.calls and self._lines.get(key) is line:
            del self._lines[key]

    async def _request(self, line: _Line) -> None:
        """One request, from before its turn until everyone in it has an answer."""
        call = asyncio.current_task()
        assert call is not None
        batch: list[_Wish] | None = None

        def members() -> Sequence[str]:
            nonlocal batch
            if batch is None:  # asked again where the token was renewed
                batch = line.take()
                line.calls.remove(call)
                self._see_to(line)
            return [wish.user_id for wish in batch]

        answer: Answer | Exception = Answer(verdict="withheld", message="stopping")
        try:
            await self._companions(line, call)
            answer = await self._send(line, members)
        except asyncio.CancelledError:
            if batch is not None:
                answer = Answer(verdict="doubtful", message="the request was given up")
        except Exception as error:
            answer = error
        if call in line.calls:
            members()  # there was no turn: then none for those whose it would have been
        self._deliver(line, batch or [], answer)

    async def _send(self, line: _Line, members: Callable[[], Sequence[str]]) -> Answer:
        send = self._client.add_members if line.verb == "add" else self._client.remove_members
        return await send(line.organization_id, members, leaver=line.urgent > 0)

    async def _companions(self, line: _Line, call: asyncio.Task[None]) -> None:
        """Waits until this request is full, or need not be."""
        until = self._clock.monotonic() + self._linger
        while (
            self._backlog()
            and not line.urgent
            and line.together < MOST * (line.calls.index(call) + 1)
            and line.together == len(line.wishes)
            and self._clock.monotonic() < until
        ):
            await self._clock.sleep(_LOOK_AGAIN)

    def _backlog(self) -> bool:
        if self._client.stopped:
            return False
        return self.crowded or self._client.waiting("users-write") > 0

    def _deliver(self, line: _Line, batch: list[_Wish], answer: Answer | Exception) -> None:
        """Answers everyone in a request; each again, by itself, where one of several is at fault."""
        waiting = [wish for wish in batch if not wish.answer.done()]
        if isinstance(answer, Answer) and line.verb == "add":
            answer, waiting = self._learn(line, answer, waiting, together=len(batch) > 1)
        if isinstance(answer, Exception):
            for wish in waiting:
                wish.answer.set_exception(answer)
        elif not _may_be_one_of_them(answer) or len(batch) == 1:
            for wish in waiting:
                wish.answer.set_result(answer)
        else:
            line = self._lines.setdefault((line.organization_id, line.verb), line)
            for wish in waiting:
                self._number += 1
                wish.alone, wish.number = True, self._number
            line.wishes += waiting
        self._see_to(line)

    def _learn(
        self, line: _Line, answer: Answer, waiting: list[_Wish], *, together: bool
    ) -> tuple[Answer, list[_Wish]]:
        """What a request to add tells of the Organization; its answer, and whom that is still for.

        There may be room for one where there is none for ten: the first is asked for again, alone.
        """
        if answer.verdict == "ok":
            self._full.took(line.organization_id)
        if not answer.is_full or not waiting:
            return answer, waiting
        if not together:
            return self._full.found(line.organization_id, answer), waiting
        for wish in [*waiting[1:], *line.wishes]:
            if not wish.answer.done():
                wish.answer.set_result(self._full.found_together(line.organization_id, answer))
        return replace(answer, verdict="refused"), waiting[:1]


def _may_be_one_of_them(answer: Answer) -> bool:
    """Whether a request was refused for what may be the fault of one of those in it."""
    return answer.verdict in _SINGLY and not answer.message.startswith(_NO_ORGANIZATION)
