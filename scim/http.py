"""One SCIM request and its answer over ASGI: bodies with a limit, parameters, validators. No routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.types import Receive, Send

from scim.errors import ScimError
from scim.preferences import Later
from service.tracing import Trace, trace_of

LARGEST_BODY: Final = 1024 * 1024
MEDIA_TYPE: Final = b"application/scim+json"
_OVERRIDES: Final = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_TAG: Final = re.compile(r'(?:W/)?"(\d{1,9})"')


class Disconnected(Exception):
    """The client has gone: there is nobody to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request below an organization's base URL. ``query`` has its names in lower case."""

    method: str
    organization: str
    segments: tuple[str, ...]
    base_url: str
    """Of the organization, without a slash at its end."""
    headers: Mapping[bytes, bytes]
    query: Mapping[str, str]
    body: bytes = b""
    later: Later | None = None
    """The wish to be told of the request's end later; None: it is answered as usual."""
    correlation_id: str | None = None
    """What its event has in common with others; None: nothing."""

    @property
    def url(self) -> str:
        return "/".join((self.base_url, *self.segments))

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None

    def json(self) -> Any:
        """The body as JSON, a mark before it passed over (RFC 8259 section 8.1).

        Raises ScimError 400 ``invalidSyntax``.
        """
        try:
            return orjson.loads(self.body.removeprefix(_BYTE_ORDER_MARK))
        except orjson.JSONDecodeError as error:
            raise ScimError(400, "The body is not valid JSON.", "invalidSyntax") from error

    @property
    def trace(self) -> Trace:
        return trace_of(self.header(b"traceparent"), self.header(b"tracestate"))

    def require_match(self, version: int) -> None:
        """Raises ScimError 412 where If-Match names other versions (RFC 7644 section 3.14), or
        If-None-Match this one (RFC 9110 section 13.1.2).
        """
        wanted = self.header(b"if-match")
        if self.is_known(version) or (wanted is not None and not _names(wanted, version)):
            raise ScimError(412, f'The resource is at version W/"{version}": read it, then repeat.')

    def is_known(self, version: int) -> bool:
        """Whether If-None-Match says that the client has this version."""
        known = self.header(b"if-none-match")
        return known is not None and _names(known, version)


def _names(header: str, version: int) -> bool:
    return header.strip() == "*" or str(version) in _TAG.findall(header)


def etag(version: int) -> str:
    return f'W/"{version}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``document`` None is an answer without a body."""

    status: int = 200
    document: Any = None
    headers: tuple[tuple[str, str], ...] = field(default=())


def refusal(error: ScimError) -> Answer:
    return Answer(status=error.status, document=error.as_document(), headers=error.headers)


def intended_method(method: str, headers: Mapping[bytes, bytes]) -> str:
    """What a POST with X-HTTP-Method-Override stands for: PUT, PATCH or DELETE, as SCIM 1.1 had it.

    Other methods stay what they are, so that nothing that looks like a read ever writes. Raises
    ScimError 400 for any other override.
    """
    override = headers.get(b"x-http-method-override")
    if method != "POST" or override is None:
        return method
    meant = override.decode("latin-1").strip().upper()
    if meant not in _OVERRIDES:
        raise ScimError(400, "X-HTTP-Method-Override takes PUT, PATCH or DELETE, sent by POST.")
    return meant


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, *, largest: int = LARGEST_BODY
) -> bytes:
    """The whole body. Raises ScimError 413 over ``largest`` bytes, before more is read, 415 where
    it is compressed, and Disconnected.
    """
    if headers.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        raise ScimError(
            415,
            "Send the body as it is, without Content-Encoding.",
            headers=(("Accept-Encoding", "identity"),),
        )
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced[:20]) > largest:
        raise too_large(largest)
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        length += len(part)
        if length > largest:
            raise too_large(largest)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def too_large(largest: int) -> ScimError:
    return ScimError(413, f"A body has at most {largest} bytes: send the change in parts.")


async def send_answer(answer: Answer, send: Send, *, head: bool = False) -> None:
    """``head``: headers as for GET, and no body (RFC 9110 section 9.3.2)."""
    body = b""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.document is not None:
        body = orjson.dumps(answer.document, option=orjson.OPT_UTC_Z)
        headers.append((b"content-type", MEDIA_TYPE))
    if answer.status not in (204, 304):
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})
