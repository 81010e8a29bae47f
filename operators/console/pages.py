"""The console's pages: what each reads from the directory and which template shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from typing import Any, Final, get_args
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from operators import showing, showing_organization
from operators.commands.moments import since as moment_of
from operators.commands.printing import moment
from operators.console import deciding
from operators.console.access import Guarded, actor_of
from service.clock import Clock
from service.directory import (
    audit,
    organizations,
    outbox,
    overview,
    people,
    resends,
    staging,
    struggles,
)
from service.directory.database import Database, Transaction
from service.directory.events import Event, EventState, Filter
from service.errors import NotFound, Refused

_PAGE: Final = 50
_MOST_LEAVERS: Final = 200


def routes(
    *, database: Database, clock: Clock, password: str | None, open: bool = False
) -> list[BaseRoute]:
    """The console, to be mounted at a path of its own; links follow from where it is mounted.

    ``open`` lets everybody in, for a process that listens on loopback only.
    """
    pages = Console(database=database, clock=clock)
    guard = [Middleware(Guarded, password=password, open=open)]
    shown = {
        "/": pages.overview,
        "/events": pages.events,
        "/events/{id}": pages.event,
        "/users": pages.users,
        "/users/{id}": pages.user,
        "/organizations/{name}": pages.organization,
        "/leavers": pages.leavers,
        "/audit": pages.audit,
        "/style.css": pages.style,
        "/{rest:path}": pages.nowhere,
    }
    return [
        Route("/leavers", pages.decide, methods=["POST"], middleware=guard),
        Route("/users/{id}/resend", pages.resend, methods=["POST"], middleware=guard),
        *(Route(path, page, methods=["GET"], middleware=guard) for path, page in shown.items()),
    ]


class Console:
    """Answers the pages, each by one read of the directory, and the forms on them."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._templates = Environment(
            loader=PackageLoader("operators.console"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "moment": moment,
            "short": showing.short,
            "detail": showing.detail_of,
            "pretty": showing.pretty,
            "difference": showing_organization.difference,
        }
        self._style = (resources.files("operators.console") / "style.css").read_text()

    async def overview(self, request: Request) -> Response:
        def work(tx: Transaction) -> dict[str, Any]:
            return {
                "summary": overview.summary(tx),
                "registered": {each.organization.name: each for each in organizations.every(tx)},
                "trouble": overview.latest_events(tx, Filter(), trouble=True, limit=8),
                "outcomes": outbox.listing(tx, limit=15, newest=True)[::-1],
            }

        return self._page(
            request,
            "overview.html",
            await self._database.read(work),
            states=showing_organization.STATES,
        )

    async def organization(self, request: Request) -> Response:
        name, now = _storable(request.path_params["name"]), self._clock.now()
        shown = await self._database.read(
            lambda tx: showing_organization.organization(tx, name, now)
        )
        if shown is None:
            return self._missing(request, f"There is no organization {name}.")
        return self._page(request, "organization.html", shown=shown)

    async def events(self, request: Request) -> Response:
        asked = _asked(request, ("organization", "state", "error", "user", "since", "before"))
        trouble = request.query_params.get("trouble") == "1"
        retrying = request.query_params.get("retrying") == "1"
        problem, since = None, None
        if asked["since"]:
            try:
                since = moment_of(asked["since"], self._clock.now())
            except ValueError as mistake:
                problem = str(mistake)

        def work(tx: Transaction) -> dict[str, Any]:
            events = (
                [] if problem else _events(tx, asked, since, trouble=trouble, retrying=retrying)
            )
            return {
                "events": events,
                "struggling": struggles.of_events(tx, [event.id for event in events]),
                "organizations": [each.organization.name for each in organizations.every(tx)],
            }

        found = await self._database.read(work)
        older = None
        if len(found["events"]) == _PAGE:
            query = {name: value for name, value in asked.items() if value and name != "before"}
            query |= {"trouble": "1"} if trouble else {}
            query |= {"retrying": "1"} if retrying else {}
            older = urlencode(query | {"before": str(found["events"][-1].number)})
        return self._page(
            request,
            "events.html",
            found,
            asked=asked,
            trouble=trouble,
            retrying=retrying,
            problem=problem,
            older=older,
            states=get_args(EventState),
        )

    async def event(self, request: Request) -> Response:
        event_id = _storable(request.path_params["id"])
        try:
            shown = await self._database.read(lambda tx: showing.event(tx, event_id))
        except NotFound as error:
            return self._missing(request, str(error))
        facts = list(showing.facts(shown.event))
        sections = [part for part in showing.sections(shown) if part[0] != "outcomes"]
        return self._page(request, "event.html", shown=shown, facts=facts, sections=sections)

    async def users(self, request: Request) -> Response:
        key = _storable(request.query_params.get("q", "")).strip()
        found = await self._database.read(
            lambda tx: overview.matching_people(tx, key) if key else []
        )
        if len(found) == 1:
            return RedirectResponse(f"{_base(request)}/users/{found[0].id}", status_code=303)
        return self._page(request, "users.html", key=key, users=found)

    async def user(self, request: Request) -> Response:
        user_id, now = _storable(request.path_params["id"]), self._clock.now()

        shown = await self._database.read(lambda tx: _shown(tx, user_id, now))
        if shown is None:
            return self._missing(request, f"There is no user {user_id}.")
        return self._page(request, "user.html", shown=shown, said=None)

    async def resend(self, request: Request) -> Response:
        """A form without fields: who is invited again stands in its address."""
        user_id, now = _storable(request.path_params["id"]), self._clock.now()

        def work(tx: Transaction) -> None:
            resends.resend(tx, user_id, actor=actor_of(request), now=now)

        try:
            await self._database.transact(work)
        except NotFound as error:
            return self._missing(request, str(error))
        except Refused as refusal:
            shown = await self._database.read(lambda tx: _shown(tx, user_id, now))
            page = self._page(request, "user.html", shown=shown, said=str(refusal))
            page.status_code = 409
            return page
        return RedirectResponse(f"{_base(request)}/users/{user_id}", status_code=303)

    async def leavers(self, request: Request) -> Response:
        asked = _asked(request, ("organization", "done"))

        def work(tx: Transaction) -> dict[str, Any]:
            waiting = staging.waiting(tx)
            chosen = asked["organization"] or next(iter(waiting), "")
            staged = staging.listing(tx, chosen, limit=_MOST_LEAVERS)
            return {
                "waiting": waiting,
                "organization": chosen,
                "staged": staged,
                "until": staging.newest(tx, chosen),
            }

        found = await self._database.read(work)
        done = int(asked["done"][:9]) if asked["done"].isdecimal() else None
        return self._page(request, "leavers.html", found, done=done, at_once=deciding.AT_ONCE)

    async def decide(self, request: Request) -> Response:
        try:
            decision = deciding.read(await request.body())
        except deciding.Unusable:
            return PlainTextResponse("No page of this console sends that.\n", status_code=400)
        actor = actor_of(request)
        done = await deciding.carry_out(self._database, self._clock, decision, actor)
        query = urlencode({"organization": decision.organization, "done": done})
        return RedirectResponse(f"{_base(request)}/leavers?{query}", status_code=303)

    async def audit(self, request: Request) -> Response:
        entries = await self._database.read(lambda tx: audit.listing(tx, limit=200)[::-1])
        return self._page(request, "audit.html", entries=entries)

    async def style(self, _: Request) -> Response:
        return Response(self._style, media_type="text/css")

    async def nowhere(self, request: Request) -> Response:
        return self._missing(request, "There is no such page.")

    def _missing(self, request: Request, reason: str) -> Response:
        page = self._page(request, "missing.html", reason=reason)
        page.status_code = 404
        return page

    def _page(
        self,
        request: Request,
        template: str,
        found: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Response:
        body = self._templates.get_template(template).render(
            **(found or {}), **more, base=_base(request), now=self._clock.now()
        )
        return HTMLResponse(body)


def _shown(tx: Transaction, user_id: str, now: datetime) -> showing.ShownUser | None:
    found = people.get(tx, user_id)
    return showing.user(tx, found, now) if found is not None else None


def _base(request: Request) -> str:
    """Where the console is mounted, without a trailing slash."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _asked(request: Request, names: tuple[str, ...]) -> dict[str, str]:
    return {name: _storable(request.query_params.get(name, "")).strip() for name in names}


def _storable(text: str) -> str:
    """Without U+0000, which no database holds in a text, so that nothing is found by it."""
    return text.replace("\x00", "\ufffd")


def _events(
    tx: Transaction,
    asked: Mapping[str, str],
    since: datetime | None,
    *,
    trouble: bool,
    retrying: bool,
) -> list[Event]:
    before = int(asked["before"][:18]) if asked["before"].isdecimal() else None
    ids: list[str | None] = [None]
    if asked["user"]:
        ids = [user.id for user in overview.matching_people(tx, asked["user"])]
    found: dict[int, Event] = {}
    for user_id in ids:
        wanted = Filter(
            organization=asked["organization"] or None,
            state=asked["state"] or None,
            error=asked["error"] or None,
            user=user_id,
            since=since,
        )
        for event in overview.latest_events(
            tx, wanted, trouble=trouble, retrying=retrying, before=before, limit=_PAGE
        ):
            found[event.number] = event
    return [found[number] for number in sorted(found, reverse=True)][:_PAGE]
