"""The control API under `/simulator`: for tests and people, never logged as calls."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import wraps
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.auth0.simulator import (
    blocks,
    custom_domains,
    faults,
    login,
    oauth,
    profiles,
    state,
    tickets,
)
from service.auth0.simulator.faults import FaultError
from service.auth0.simulator.simulation import Simulation


class ControlError(Exception):
    """A control request that cannot be read; the text says what to change."""


def answered(body: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(body), status, media_type="application/json")


Endpoint = Callable[[Request], Awaitable[Response]]


def routes(simulation: Simulation) -> list[Route]:
    """All routes of the control API."""
    control = _Control(simulation)
    return [
        Route("/simulator/state", _clear(control.state)),
        Route("/simulator/calls", _clear(control.calls)),
        Route("/simulator/faults", _clear(control.list_faults)),
        Route("/simulator/faults", _clear(control.order_fault), methods=["POST"]),
        Route("/simulator/faults", _clear(control.clear_faults), methods=["DELETE"]),
        Route("/simulator/login", _clear(control.login), methods=["POST"]),
        Route("/simulator/reset", _clear(control.reset), methods=["POST"]),
        Route("/simulator/tickets/use", _clear(control.use_ticket), methods=["POST"]),
        Route("/simulator/clients", _clear(control.client), methods=["POST"]),
        Route("/simulator/custom-domains", _clear(control.custom_domains), methods=["POST"]),
        Route("/simulator/tokens/expire", _clear(control.expire_tokens), methods=["POST"]),
        Route("/simulator/brute-force", _clear(control.brute_force), methods=["POST"]),
        Route("/simulator/health", _clear(control.health)),
    ]


def _clear(endpoint: Endpoint) -> Endpoint:
    """Answer a 400 with the reason where a control request cannot be read."""

    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (ControlError, FaultError) as error:
            return answered({"error": str(error)}, 400)

    return guarded


async def _body(request: Request, *known: str) -> dict[str, Any]:
    raw = await request.body()
    try:
        body = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        raise ControlError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise ControlError("the body is not an object")
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise ControlError(f"unknown properties: {', '.join(unknown)}; known: {', '.join(known)}")
    return body


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ControlError(f"{name} is a string")
    return value


def _required(body: dict[str, Any], name: str) -> str:
    value = _text(body, name)
    if not value:
        raise ControlError(f"{name} is required")
    return value


class _Control:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def health(self, request: Request) -> Response:
        return answered({"status": "ok"})

    async def state(self, request: Request) -> Response:
        wanted = request.query_params.get("tenant")
        shown: dict[str, list[dict[str, Any]]] = {}
        names = self._simulation.tenants()
        for tenant in names if wanted is None else [wanted]:
            with self._simulation.world(tenant) as world:
                for name, rows in state.of_tenant(world).items():
                    shown.setdefault(name, []).extend(rows)
        with self._simulation.store.transaction() as db:
            shown["faults"] = state.of_faults(db)
        return answered({"tenants": [{"tenant": name} for name in names], **shown})

    async def calls(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not after.isdigit():
            raise ControlError("after is the number of a call")
        return answered(self._simulation.calls(int(after)))

    async def list_faults(self, request: Request) -> Response:
        with self._simulation.store.transaction() as db:
            return answered(state.of_faults(db))

    async def order_fault(self, request: Request) -> Response:
        try:
            rule = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            raise ControlError("the body is not JSON") from None
        with self._simulation.store.transaction() as db:
            return answered({"id": faults.order(db, rule)}, 201)

    async def clear_faults(self, request: Request) -> Response:
        with self._simulation.store.transaction() as db:
            faults.clear(db)
        return Response(status_code=204)

    async def login(self, request: Request) -> Response:
        body = await _body(
            request,
            "tenant",
            "connection",
            "email",
            "organization",
            "subject",
            "attributes",
            "invitation",
        )
        attributes = body.get("attributes")
        if attributes is not None and not isinstance(attributes, dict):
            raise ControlError("attributes is an object")
        wish = login.Attempt(
            connection=_required(body, "connection"),
            email=_required(body, "email"),
            organization=_text(body, "organization"),
            subject=_text(body, "subject"),
            attributes=attributes,
            invitation=_text(body, "invitation"),
        )
        tenant = _text(body, "tenant") or self._tenant_of(wish.connection)
        with self._simulation.world(tenant) as world:
            outcome = login.attempt(world, wish)
        return answered({"tenant": tenant, **asdict(outcome)})

    def _tenant_of(self, connection: str) -> str:
        """The tenant that has a connection of that name; `main` where several or none do."""
        with self._simulation.store.transaction() as db:
            found = db.execute("SELECT tenant FROM connections WHERE name = ?", (connection,))
            tenants = [row["tenant"] for row in found]
        return tenants[0] if len(tenants) == 1 else "main"

    async def reset(self, request: Request) -> Response:
        body = await _body(request, "tenant", "seed")
        self._simulation.reset(_text(body, "tenant"), replant=body.get("seed") is True)
        return answered({"reset": True})

    async def use_ticket(self, request: Request) -> Response:
        body = await _body(request, "tenant", "ticket", "password")
        ticket, password = _required(body, "ticket"), _text(body, "password")
        reason: str | None = "unknown_ticket"
        wanted = _text(body, "tenant")
        for tenant in self._simulation.tenants() if wanted is None else [wanted]:
            with self._simulation.world(tenant) as world:
                reason = tickets.use(world, ticket, password)
            if reason != "unknown_ticket":
                break
        return answered({"used": reason is None, "reason": reason})

    async def client(self, request: Request) -> Response:
        body = await _body(request, "tenant", "client_id", "client_secret", "scopes")
        scopes = body.get("scopes")
        if scopes is not None and not (
            isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes)
        ):
            raise ControlError("scopes is a list of strings, or null for all")
        with self._simulation.world(_text(body, "tenant") or "main") as world:
            oauth.open_tenant(world)
            oauth.add_client(
                world,
                client_id=_required(body, "client_id"),
                secret=_text(body, "client_secret") or oauth.CLIENT_SECRET,
                scopes=scopes,
            )
        return answered({"client_id": body["client_id"]}, 201)

    async def custom_domains(self, request: Request) -> Response:
        body = await _body(request, "tenant", "domains")
        domains = body.get("domains")
        if not isinstance(domains, list) or not all(isinstance(each, str) for each in domains):
            raise ControlError("domains is a list of strings")
        with self._simulation.world(_text(body, "tenant") or "main") as world:
            oauth.open_tenant(world)
            custom_domains.declare(world, list(dict.fromkeys(domains)))
        return answered({"domains": domains}, 201)

    async def expire_tokens(self, request: Request) -> Response:
        body = await _body(request, "tenant")
        with self._simulation.world(_text(body, "tenant") or "main") as world:
            ended = world.run("DELETE FROM tokens WHERE tenant = ?")
        return answered({"expired": ended})

    async def brute_force(self, request: Request) -> Response:
        body = await _body(request, "tenant", "connection", "email", "ip")
        connection, email = _required(body, "connection"), _required(body, "email")
        with self._simulation.world(_text(body, "tenant") or self._tenant_of(connection)) as world:
            user_id = profiles.owner(world, connection, email.lower())
            if user_id is None:
                raise ControlError("there is no such user in that connection")
            blocks.place(
                world,
                user_id=user_id,
                identifier=email.lower(),
                ip=_text(body, "ip") or "192.0.2.1",
                connection=connection,
            )
        return answered({"blocked": user_id}, 201)
