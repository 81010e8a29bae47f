"""Cursors (RFC 9865): where a walk through a listing stands, sealed, so that nobody reads or makes one.

Nothing is stored for them. Knows no listing and no HTTP.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from scim.errors import ScimError
from service.clock import Clock
from service.directory.pages import Key, Position, Walk

TIMEOUT_SECONDS: Final = 3600
_NONCE_BYTES: Final = 12
_SEALED: Final = re.compile(r"[A-Za-z0-9_-]{40,32768}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A walk's next step: from where in which resource type, and what its first page settled."""

    resource_type: str
    walk: Walk
    count: int
    total: int


class Cursors:
    """Seals and opens them with AES-GCM, under a key of the installation and the organization."""

    def __init__(self, *, pepper: bytes, clock: Clock) -> None:
        self._pepper = pepper
        self._clock = clock

    def seal(self, cursor: Cursor, *, organization: str, query: bytes) -> str:
        """Text of RFC 3986's unreserved characters; opens for the same ``query`` alone."""
        position = cursor.walk.position
        told = [
            int(self._clock.now().timestamp()),
            cursor.resource_type,
            cursor.walk.backward,
            cursor.count,
            cursor.total,
            position and [position.id, _written(position.key), position.kind],
        ]
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher(organization).encrypt(nonce, orjson.dumps(told), query)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, text: str, *, organization: str, query: bytes) -> Cursor:
        """Raises ScimError 400 ``invalidCursor`` for what was not sealed for this, whatever it is,
        and ``expiredCursor`` for what was sealed too long ago.
        """
        if not _SEALED.fullmatch(text):
            raise invalid_cursor()
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            told = orjson.loads(self._cipher(organization).decrypt(nonce, rest, query))
        except (ValueError, InvalidTag) as error:
            raise invalid_cursor() from error
        issued, resource_type, backward, count, total, place = told
        if self._clock.now().timestamp() - issued > TIMEOUT_SECONDS:
            raise ScimError(
                400,
                f"The cursor is older than {TIMEOUT_SECONDS} seconds: start again with an empty"
                " cursor.",
                "expiredCursor",
            )
        position = place and Position(id=place[0], key=_read(place[1]), kind=place[2])
        walk = Walk(position=position, backward=backward)
        return Cursor(resource_type=resource_type, walk=walk, count=count, total=total)

    def _cipher(self, organization: str) -> AESGCM:
        info = b"scim cursors of " + organization.encode()
        return AESGCM(HKDF(SHA256(), length=32, salt=None, info=info).derive(self._pepper))


def invalid_cursor() -> ScimError:
    """The same for every reason, so that a cursor of somebody else's tells nothing."""
    return ScimError(
        400,
        "The cursor does not belong to this query: repeat all other parameters as they were, or"
        " start with an empty cursor.",
        "invalidCursor",
    )


def _written(key: Key | None) -> Any:
    match key:
        case datetime():
            return {"instant": key.isoformat()}
        case Decimal():
            return {"decimal": str(key)}
        case _:
            return key


def _read(written: Any) -> Key | None:
    match written:
        case {"instant": text}:
            return datetime.fromisoformat(text)
        case {"decimal": text}:
            return Decimal(text)
        case _:
            return written
