"""A query string to parameters: as a form, except for plus signs that their sender left unescaped.

Knows of filters only where their text values begin and end.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, unquote_plus

from scim.errors import ScimError, invalid_filter

_TEXTS: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?$)')


def parameters(raw: bytes) -> dict[str, str]:
    """The parameters by their names in lower case; of a name that comes twice the last one.

    Raises ScimError 400 ``invalidFilter`` for a second filter, since neither may be dropped.
    """
    found: dict[str, str] = {}
    for pair in raw.decode("utf-8", "replace").split("&") if raw else ():
        if not pair:
            continue
        name, _, value = pair.partition("=")
        folded = unquote_plus(name).casefold()
        meant = _filter(value) if folded == "filter" else unquote_plus(value)
        if folded == "filter" and found.get(folded, meant) != meant:
            raise two_filters()
        found[folded] = meant
    return found


def two_filters() -> ScimError:
    return invalid_filter("There is more than one filter: join them with and.")


def _filter(value: str) -> str:
    """A form's writers escape a plus sign and write spaces as one; others write spaces as ``%20``.

    Some of those leave a plus sign in an address as it is. The spaces between a filter's words tell
    who wrote it.
    """
    kept = unquote(value)
    if "+" not in value:
        return kept
    between = _TEXTS.sub("", kept)
    return kept if " " in between and "+" not in between else unquote_plus(value)
