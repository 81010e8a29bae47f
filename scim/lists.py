"""Answers lists of one resource type or of all: by index (RFC 7644 section 3.4.2.4), or by cursor
(RFC 9865). Knows no SQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scim.cursors import Cursor, Cursors
from scim.errors import ScimError
from scim.http import Answer, Request
from scim.listing import Asked, Found, Window, asked_by, list_response
from scim.query_string import two_filters
from service.directory.pages import Position, Walk
from service.organizations import Organization

Handler = Callable[[Request, Organization], Awaitable[Answer]]
Search = Callable[[Request, Organization, Asked, Window], Awaitable[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the resources of a type are found."""

    resource_type: str
    search: Search


class Lists:
    """Several sources make one list: all of the first, then all of the next."""

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    def by_query(self, *sources: Source) -> Handler:
        async def answer(request: Request, organization: Organization) -> Answer:
            asked = asked_by(request.query)
            return await self._answer(_Asking(request, organization, asked, sources))

        return answer

    def by_body(self, *sources: Source) -> Handler:
        async def answer(request: Request, organization: Organization) -> Answer:
            document = request.json()
            if not isinstance(document, dict):
                raise ScimError(400, "The body must be a JSON object.", "invalidSyntax")
            if sum(key.casefold() == "filter" for key in document) > 1:
                raise two_filters()
            asked = asked_by({key.casefold(): value for key, value in document.items()})
            return await self._answer(_Asking(request, organization, asked, sources))

        return answer

    async def _answer(self, asking: _Asking) -> Answer:
        if asking.asked.cursor is None:
            return Answer(document=await _by_index(asking))
        return Answer(document=await self._by_cursor(asking))

    async def _by_cursor(self, asking: _Asking) -> dict[str, Any]:
        asked = asking.asked
        opened = None
        if asked.cursor:
            opened = self._cursors.open(
                asked.cursor, organization=asking.organization.name, query=asking.identity
            )
            if opened.count != asked.count:
                raise ScimError(
                    400, f"Ask for {opened.count} again, as for the first page.", "invalidCount"
                )
        walk = opened.walk if opened is not None else Walk()
        start = opened.resource_type if opened is not None else asking.sources[0].resource_type
        strip = await _strip(asking, walk, start, counted=opened is None)
        total = opened.total if opened is not None else strip.total
        links: dict[str, str] = {}
        if asked.count > 0:
            first = walk == Walk() and start == asking.sources[0].resource_type
            if strip.more or walk.backward:
                links["nextCursor"] = self._link(asking, strip.last, total, backward=False)
            if strip.more if walk.backward else not first:
                links["previousCursor"] = self._link(asking, strip.first, total, backward=True)
        return list_response(strip.resources, total=total, start_index=None) | links

    def _link(
        self, asking: _Asking, end: tuple[str, Position] | None, total: int, *, backward: bool
    ) -> str:
        """The cursor that goes on from an end of a page; of an empty page, from the list's end."""
        far = asking.sources[-1 if backward else 0].resource_type
        resource_type, position = end if end is not None else (far, None)
        return self._cursors.seal(
            Cursor(
                resource_type=resource_type,
                walk=Walk(position=position, backward=backward),
                count=asking.asked.count,
                total=total,
            ),
            organization=asking.organization.name,
            query=asking.identity,
        )


@dataclass(frozen=True, slots=True)
class _Asking:
    request: Request
    organization: Organization
    asked: Asked
    sources: Sequence[Source]

    @property
    def identity(self) -> bytes:
        return self.asked.identity(tuple(source.resource_type for source in self.sources))

    async def find(self, source: Source, window: Window) -> Found:
        return await source.search(self.request, self.organization, self.asked, window)


class _Refusals:
    """An attribute that only one type has finds nothing in the others; one that none has is wrong."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._most = len(sources)
        self._refused: list[ScimError] = []

    def add(self, error: ScimError) -> None:
        self._refused.append(error)
        if len(self._refused) == self._most or error.scim_type == "invalidCursor":
            raise self._refused[-1]


async def _by_index(asking: _Asking) -> dict[str, Any]:
    asked = asking.asked
    total = 0
    resources: list[Mapping[str, Any]] = []
    refusals = _Refusals(asking.sources)
    for source in asking.sources:
        offset = max(0, asked.start_index - 1 - total)
        window = Window(offset=offset, limit=asked.count - len(resources))
        try:
            found = await asking.find(source, window)
        except ScimError as error:
            refusals.add(error)
            continue
        total += found.total or 0
        resources += found.resources
    return list_response(resources, total=total, start_index=asked.start_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Strip:
    """A page of a walk: whether there is more in its direction, and where it begins and ends."""

    resources: Sequence[Mapping[str, Any]]
    total: int
    more: bool
    first: tuple[str, Position] | None
    last: tuple[str, Position] | None


async def _strip(asking: _Asking, walk: Walk, start: str, *, counted: bool) -> _Strip:
    sources = list(asking.sources)
    if walk.backward:
        sources.reverse()
    while sources[0].resource_type != start:
        del sources[0]
    refusals = _Refusals(sources)
    pages: list[tuple[str, Found]] = []
    wanted, total, more = asking.asked.count, 0, False
    for source in sources:
        window = Window(limit=wanted, walk=walk, counted=counted)
        if more or asking.asked.count == 0:  # nothing of it is shown, but it counts
            window = Window(limit=0)
        walk = Walk(backward=walk.backward)
        try:
            found = await asking.find(source, window)
        except ScimError as error:
            refusals.add(error)
            continue
        pages.append((source.resource_type, found))
        wanted -= len(found.resources)
        total += found.total or 0
        more = more or found.more
        if more and not counted:
            break
    if walk.backward:
        pages.reverse()
    firsts = [(name, page.first) for name, page in pages if page.first is not None]
    lasts = [(name, page.last) for name, page in pages if page.last is not None]
    return _Strip(
        resources=[resource for _, page in pages for resource in page.resources],
        total=total,
        more=more,
        first=firsts[0] if firsts else None,
        last=lasts[-1] if lasts else None,
    )
