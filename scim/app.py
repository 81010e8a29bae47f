"""The SCIM 2.0 door as an ASGI application: who is asking, what for, and every error in SCIM form.

Mounted at ``/scim/v2``; its own paths start with the organization's name.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from starlette.types import Receive, Scope, Send

from scim import discovery
from scim.admission import Admission, needed
from scim.authentication import Authentication
from scim.bulk import Bulk
from scim.bulk_request import LARGEST_BULK
from scim.cursors import Cursors
from scim.door import Door
from scim.errors import ScimError, ScimType
from scim.extensions import Catalogues
from scim.groups import Groups
from scim.http import (
    LARGEST_BODY,
    Answer,
    Disconnected,
    Request,
    intended_method,
    read_body,
    refusal,
    send_answer,
)
from scim.issuers import Issuers
from scim.lists import Lists, Source
from scim.preferences import WRITES, Later, prefers_async
from scim.query_string import parameters
from scim.schema import load_catalogue
from scim.users import Users
from service.clock import Clock
from service.directory.database import Database, is_unavailable
from service.errors import NotFound, ProvisionerError, Refused, UniquenessConflict, VersionConflict
from service.ids import new_id
from service.limiting import UNLIMITED, Limit
from service.organizations import Organization

_LOG: Final = structlog.stdlib.get_logger(__name__)
_NOTHING_HERE: Final = (
    "There is nothing at this path: the base URL ends in the organization's name, without a slash."
)
_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,100}")
_RETRY_AFTER_SECONDS: Final = 5

Handler = Callable[[Request, Organization], Awaitable[Answer]]
OneHandler = Callable[[Request, Organization, str], Awaitable[Answer]]

_REFUSALS: Final[Mapping[type[ProvisionerError], tuple[int, ScimType | None]]] = {
    NotFound: (404, None),
    UniquenessConflict: (409, "uniqueness"),
    VersionConflict: (412, None),
    Refused: (400, "invalidValue"),
}


def create_app(
    *,
    database: Database,
    clock: Clock,
    pepper: bytes,
    base_url: str | None = None,
    limit: Limit = UNLIMITED,
    on_use: Callable[[str], None] = lambda _: None,
    on_refused: Callable[[str], None] = lambda _: None,
) -> ScimApp:
    """The door. ``base_url``: scheme and host under which clients reach this server, without the
    path that it is mounted at; None takes them from each request. ``limit``: of one organization's
    requests. ``on_use`` is told the id of each token that was found valid, ``on_refused`` whose
    requests were too many (see Admission).
    """
    door = Door(database=database, clock=clock, catalogues=Catalogues(load_catalogue()))
    authentication = Authentication(
        database=database, clock=clock, pepper=pepper, issuers=Issuers(clock=clock), on_use=on_use
    )
    return ScimApp(
        door=door,
        admission=Admission(authentication, limit=limit, clock=clock, on_refused=on_refused),
        cursors=Cursors(pepper=pepper, clock=clock),
        base_url=base_url.rstrip("/") if base_url else None,
    )


class ScimApp:
    """Dispatches requests; stateless but for tokens remembered and requests counted."""

    def __init__(
        self,
        *,
        door: Door,
        admission: Admission,
        cursors: Cursors,
        base_url: str | None,
    ) -> None:
        self._door = door
        self._admission = admission
        self._base_url = base_url
        self._users = Users(door)
        self._groups = Groups(door)
        self._bulk = Bulk(door, self._perform, admission.spend)
        self._lists = Lists(cursors)
        self._of_users = Source(resource_type="User", search=self._users.search)
        self._of_groups = Source(resource_type="Group", search=self._groups.search)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"SCIM is spoken over http, not over {scope['type']}")
        try:
            answer = await self._answer(scope, receive)
        except Disconnected:
            return
        await send_answer(answer, send, head=scope["method"] == "HEAD")

    async def close(self) -> None:
        """Ends what is still asked of issuers."""
        await self._admission.close()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        try:
            return await self._admitted(scope, receive)
        except Disconnected:
            raise
        except Exception as error:
            return refusal(_as_scim(error))

    async def _perform(self, request: Request, organization: Organization) -> Answer:
        """A request within a Bulk to its answer, errors included."""
        try:
            handlers = self._handlers(request.segments)
            if request.method not in handlers:
                raise _not_allowed(handlers)
            return await handlers[request.method](request, organization)
        except Exception as error:
            return refusal(_as_scim(error))

    async def _admitted(self, scope: Scope, receive: Receive) -> Answer:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        organization, *segments = path.strip("/").split("/")
        headers = dict(scope["headers"])
        method = intended_method(scope["method"], headers)
        if method == "HEAD":
            method = "GET"
        client = scope.get("client")
        registered = await self._admission.admit(
            organization,
            headers.get(b"authorization"),
            needs=needed(method, segments),
            client=client[0] if client else "",
        )
        handlers = self._handlers(tuple(segments))
        if method not in handlers:
            raise _not_allowed(handlers)
        largest = LARGEST_BULK if segments == ["Bulk"] else LARGEST_BODY
        request = Request(
            method=method,
            organization=organization,
            segments=tuple(segments),
            base_url=self._base(scope, headers) + "/" + organization,
            headers=headers,
            query=parameters(scope.get("query_string", b"")),
            body=await read_body(headers, receive, largest=largest),
            later=self._later(method, scope),
        )
        return await handlers[method](request, registered.organization)

    def _later(self, method: str, scope: Scope) -> Later | None:
        if method not in WRITES or not prefers_async(scope["headers"]):
            return None
        return Later(txn=new_id(self._door.clock.now()))

    def _base(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
        mounted: str = scope.get("root_path", "")
        if self._base_url is not None:
            return self._base_url + mounted
        server = scope.get("server") or ("localhost", None)
        host = headers.get(b"host", str(server[0]).encode()).decode("latin-1")
        return f"{scope.get('scheme', 'http')}://{host}{mounted}"

    def _handlers(self, segments: tuple[str, ...]) -> Mapping[str, Handler]:
        """Method to handler for a path below the organization's. Raises ScimError 404."""
        match segments:
            case ():
                return {"GET": self._lists.by_query(self._of_users, self._of_groups)}
            case (".search",):
                return {"POST": self._lists.by_body(self._of_users, self._of_groups)}
            case ("Users",):
                return {"GET": self._lists.by_query(self._of_users), "POST": self._users.create}
            case ("Groups",):
                return {"GET": self._lists.by_query(self._of_groups), "POST": self._groups.create}
            case ("Users", ".search"):
                return {"POST": self._lists.by_body(self._of_users)}
            case ("Groups", ".search"):
                return {"POST": self._lists.by_body(self._of_groups)}
            case ("Users", user_id):
                users = self._users
                return _single(user_id, users.get, users.replace, users.patch, users.delete)
            case ("Groups", group_id):
                groups = self._groups
                return _single(group_id, groups.get, groups.replace, groups.patch, groups.delete)
            case ("Bulk",):
                return {"POST": self._bulk.carry_out}
            case ("Me", *_):
                return dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), _not_implemented)
            case _:
                return {"GET": self._discovery(segments)}

    def _discovery(self, segments: tuple[str, ...]) -> Handler:
        async def answer(request: Request, organization: Organization) -> Answer:
            catalogue = self._door.catalogues.of(organization)
            if "filter" in request.query:
                raise ScimError(403, "Discovery takes no filter (RFC 7644 section 4).")
            base_url = request.base_url
            match segments:
                case ("ServiceProviderConfig",):
                    attributes = request.query.get("attributes", "")
                    document = discovery.service_provider_config(
                        base_url, organization, attributes=attributes
                    )
                case ("ResourceTypes",):
                    document = discovery.resource_types(catalogue, base_url)
                case ("ResourceTypes", name):
                    document = discovery.resource_type(catalogue, name, base_url)
                case ("Schemas",):
                    document = discovery.schemas(catalogue, base_url)
                case _:
                    document = discovery.schema(catalogue, segments[-1], base_url)
            return Answer(document=document)

        match segments:
            case ("ServiceProviderConfig" | "ResourceTypes" | "Schemas",):
                return answer
            case ("ResourceTypes" | "Schemas", _):
                return answer
            case _:
                raise ScimError(404, _NOTHING_HERE)


def _single(
    resource_id: str, get: OneHandler, replace: OneHandler, patch: OneHandler, delete: OneHandler
) -> Mapping[str, Handler]:
    if not _ID.fullmatch(resource_id):
        raise ScimError(404, "There is no resource with this id.")

    def bound(handler: OneHandler) -> Handler:
        return lambda request, organization: handler(request, organization, resource_id)

    return {
        "GET": bound(get),
        "PUT": bound(replace),
        "PATCH": bound(patch),
        "DELETE": bound(delete),
    }


async def _not_implemented(request: Request, _: Organization) -> Answer:
    raise ScimError(501, f"{request.segments[0]} is not offered here.")


def _not_allowed(handlers: Mapping[str, Handler]) -> ScimError:
    allowed = ", ".join(sorted({*handlers, "HEAD"} if "GET" in handlers else handlers))
    return ScimError(405, f"This path takes {allowed}.", headers=(("Allow", allowed),))


def _as_scim(error: Exception) -> ScimError:
    if isinstance(error, ScimError):
        return error
    return _of_the_core(error) if isinstance(error, ProvisionerError) else _unexpected(error)


def _of_the_core(error: ProvisionerError) -> ScimError:
    for kind, (status, scim_type) in _REFUSALS.items():
        if isinstance(error, kind):
            return ScimError(status, str(error), scim_type)
    return _unexpected(error)


def _unexpected(error: Exception) -> ScimError:
    """Said without internals; logged without the message, which may hold a person's data."""
    if is_unavailable(error):
        _LOG.warning("the database does not answer", error=type(error).__name__)
        return ScimError(
            503,
            "The service cannot store anything at the moment: try again.",
            headers=(("Retry-After", str(_RETRY_AFTER_SECONDS)),),
        )
    where = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("a SCIM request failed unexpectedly", error=type(error).__name__, where=where)
    return ScimError(500, "The service failed; the request may be repeated.")
