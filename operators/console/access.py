"""Who may see the console, and what a browser may do with its pages. Knows nothing of the pages."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS: Final = {
    # No script at all: whatever a customer's system sends us stays text.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guarded:
    """An application behind HTTP Basic (RFC 7617): any user name, one password.

    Without a password nobody gets in, unless it is explicitly ``open``.
    """

    def __init__(self, app: ASGIApp, *, password: str | None, open: bool) -> None:
        self._app = app
        self._password = password
        self._open = open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD") and not _is_own_form(request, self._open):
            return PlainTextResponse(
                "Only the console's own pages may do this, in a browser and over HTTPS (or on this"
                " machine).\n",
                status_code=403,
            )
        if self._open:
            return None
        if not self._password:
            return PlainTextResponse(
                "The console has no password: set PROVISIONER_CONSOLE_PASSWORD (or"
                " PROVISIONER_CONSOLE_PASSWORD_FILE) and restart.\n",
                status_code=403,
            )
        if secrets.compare_digest(_password_of(request), self._password.encode()):
            return None
        return PlainTextResponse(
            "Log in with the console's password; any user name will do.\n",
            status_code=401,
            headers={"WWW-Authenticate": 'Basic realm="console", charset="UTF-8"'},
        )


def _is_own_form(request: Request, open: bool) -> bool:
    """Whether one of our own pages sent this, as the browser says (W3C Fetch Metadata).

    A browser adds the password by itself, whoever's page sends a form. Where nobody is asked for
    one, a name that somebody else pointed at this machine is no page of ours either.
    """
    if request.headers.get("sec-fetch-site") != "same-origin":
        return False
    return not open or request.url.hostname in _LOOPBACK


_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def actor_of(request: Request) -> str:
    """Whom the audit log names: the user name that the browser was given."""
    user = _given(request).partition(b":")[0].decode("utf-8", "replace").replace("\x00", "")
    return f"console: {user[:100]}" if user else "console"


def _password_of(request: Request) -> bytes:
    return _given(request).partition(b":")[2]


def _given(request: Request) -> bytes:
    """``user:password``, as given."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
