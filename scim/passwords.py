"""Bodies as they may be stored: without passwords, and without what a schema says is never kept."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final

import orjson

from scim.errors import ScimError

_DEEPEST: Final = 32
_NONE: Final = frozenset[str]()


def storable(document: object, secret: Set[str] = _NONE) -> bytes:
    """A body as it may be stored; ``secret`` as in ``without_passwords``. Raises ScimError 400 for
    one that nests too deep.
    """
    try:
        body = orjson.dumps(document)
    except orjson.JSONEncodeError:  # too deep even for that
        return orjson.dumps(without_passwords(document, secret))
    # Written anew nothing of ASCII is escaped, so what is not seen here is nowhere.
    shallow = body.count(b"{") + body.count(b"[") <= _DEEPEST
    if shallow and body.isascii() and not _may_hold(body.lower(), secret):
        return body
    return orjson.dumps(without_passwords(document, secret))


def without_passwords(document: object, secret: Set[str] = _NONE, depth: int = 0) -> Any:
    """A body as it may be stored: passwords gone wherever they stand, in PATCH operations too.

    So are attributes of the names in ``secret``, which are in lower case. Raises ScimError 400 for a
    body that nests too deep for any resource.
    """
    if depth > _DEEPEST:
        raise ScimError(400, f"The body nests deeper than {_DEEPEST} levels.", "invalidSyntax")
    if isinstance(document, dict):
        paths = [value for key, value in document.items() if key.casefold() == "path"]
        hidden = any(_is_hidden(path, secret) for path in paths)
        kept = {
            key: without_passwords(value, secret, depth + 1)
            for key, value in document.items()
            if not _is_hidden(key, secret) and not (hidden and key.casefold() == "value")
        }
        if hidden:  # brackets in a path may compare with a password
            kept |= {key: "password" for key in kept if key.casefold() == "path"}
        return kept
    if isinstance(document, list):
        return [without_passwords(value, secret, depth + 1) for value in document]
    return _unpacked(document, secret, depth) if isinstance(document, str) else document


def _unpacked(text: str, secret: Set[str], depth: int) -> str:
    """Some clients write JSON into a string of JSON: that is looked through as well."""
    if text.lstrip()[:1] not in ("{", "[") or not _may_hold(text.casefold().encode(), secret):
        return text
    try:
        packed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.dumps(without_passwords(packed, secret, depth + 1)).decode()


def _may_hold(folded: bytes, secret: Set[str]) -> bool:
    return b"password" in folded or any(name.encode() in folded for name in secret)


def _is_hidden(name: object, secret: Set[str]) -> bool:
    if not isinstance(name, str):
        return False
    folded = name.casefold()
    return "password" in folded or (bool(secret) and _attribute_in(folded) in secret)


def _attribute_in(path: str) -> str:
    """``urn:example:Staff:keys[type eq "door"].value`` is about ``keys``."""
    return path.partition("[")[0].rpartition(":")[2].partition(".")[0].strip()
