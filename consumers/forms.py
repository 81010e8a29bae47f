"""A form (``application/x-www-form-urlencoded``) as the JSON object that it stands for. Pure.

Some HR systems post their webhooks so. Values are text; ``data[id]=7`` and ``ids[0]=7`` nest.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from consumers.unusable import Unusable

MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 1000
MAX_DEPTH: Final = 10
_NAME: Final = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]+\])*)$")
_PART: Final = re.compile(r"\[([^\[\]]+)\]")


def parse_form(body: bytes) -> dict[str, Any]:
    """Raises Unusable. A name that comes more than once is a list; a name without brackets in pairs
    stands as it is.
    """
    try:
        fields = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise Unusable(
            "malformed_form", f"The body is no form in UTF-8 of {MAX_FIELDS} fields at most."
        ) from None
    found: dict[str, Any] = {}
    for name, value in fields:
        _put(found, _path(name), value)
    return {name: _listed(value) for name, value in found.items()}


def _path(name: str) -> list[str]:
    match = _NAME.fullmatch(name)
    if match is None:
        return [name]
    path = [match[1], *cast("list[str]", _PART.findall(match[2]))]
    if len(path) > MAX_DEPTH:
        raise Unusable("malformed_form", f"A form may nest {MAX_DEPTH} deep at most.")
    return path


def _put(found: dict[str, Any], path: list[str], value: str) -> None:
    *outer, last = path
    for name in outer:
        inner = found.setdefault(name, {})
        if not isinstance(inner, dict):
            raise _contradiction()
        found = cast("dict[str, Any]", inner)
    held = found.get(last)
    if isinstance(held, dict):
        raise _contradiction()
    if isinstance(held, list):
        cast("list[Any]", held).append(value)
    else:
        found[last] = value if held is None else [held, value]


def _contradiction() -> Unusable:
    return Unusable("malformed_form", "A field of the form is both a value and a group of fields.")


def _listed(value: Any) -> Any:
    """Objects whose names are 0, 1, 2 and so on are lists."""
    if not isinstance(value, dict):
        return value
    members = {name: _listed(held) for name, held in cast("dict[str, Any]", value).items()}
    if all(str(index) in members for index in range(len(members))):
        return [members[str(index)] for index in range(len(members))]
    return members
