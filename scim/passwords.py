"""Bodies as they may be stored: without passwords."""

from __future__ import annotations

from typing import Any, Final

import orjson

from scim.errors import ScimError

_DEEPEST: Final = 32


def storable(document: object) -> bytes:
    """A body as it may be stored. Raises ScimError 400 for one that nests too deep."""
    try:
        body = orjson.dumps(document)
    except orjson.JSONEncodeError:  # too deep even for that
        return orjson.dumps(without_passwords(document))
    # Written anew nothing of ASCII is escaped, so what is not seen here is nowhere.
    shallow = body.count(b"{") + body.count(b"[") <= _DEEPEST
    if shallow and body.isascii() and b"password" not in body.lower():
        return body
    return orjson.dumps(without_passwords(document))


def without_passwords(document: object, depth: int = 0) -> Any:
    """A body as it may be stored: passwords gone wherever they stand, in PATCH operations too.

    Raises ScimError 400 for a body that nests too deep for any resource.
    """
    if depth > _DEEPEST:
        raise ScimError(400, f"The body nests deeper than {_DEEPEST} levels.", "invalidSyntax")
    if isinstance(document, dict):
        paths = [value for key, value in document.items() if key.casefold() == "path"]
        hidden = any(_is_password(path) for path in paths)
        kept = {
            key: without_passwords(value, depth + 1)
            for key, value in document.items()
            if not _is_password(key) and not (hidden and key.casefold() == "value")
        }
        if hidden:  # brackets in a path may compare with a password
            kept |= {key: "password" for key in kept if key.casefold() == "path"}
        return kept
    if isinstance(document, list):
        return [without_passwords(value, depth + 1) for value in document]
    return document


def _is_password(name: object) -> bool:
    return isinstance(name, str) and "password" in name.casefold()
