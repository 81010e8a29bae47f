"""What a client prefers (RFC 7240), of which one thing matters here: to be told of the end later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

WRITES: Final = frozenset(("POST", "PUT", "PATCH", "DELETE"))
# Possessive, and matched once for each comma: a header costs no more than its length.
_PREFERENCE: Final = re.compile(
    r'\s*+([!#$%&\'*+.^_`|~0-9A-Za-z-]++)(?:\s*+=\s*+("(?:[^"\\]|\\.)*+"|[^\s;,"]*+))?+\s*+(?:;[^,]*+)?+(?:,|$)'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """A request that is answered 202, its end told under ``txn`` (RFC 9967 section 2.5.1).

    ``method``, ``status`` and ``bulk_id`` are told in place of the request's own: it may be the
    last step of an operation of a Bulk.
    """

    txn: str
    method: str | None = None
    status: int | None = None
    bulk_id: str | None = None


def prefers_async(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether ``Prefer`` asks for ``respond-async``.

    With a ``wait`` above zero it does not: what is answered at once is never later than that.
    """
    sent: dict[str, str] = {}
    for name, value in headers:
        if name == b"prefer":
            for preference, given in _preferences(value.decode("latin-1")):
                sent.setdefault(preference.casefold(), given.strip('"'))  # the first one counts
    wait = sent.get("wait", "")
    return "respond-async" in sent and not (wait.isdecimal() and int(wait[:9]) > 0)


def _preferences(text: str) -> Iterator[tuple[str, str]]:
    """Names with their values; what is none is passed over to the next comma."""
    at = 0
    while at < len(text):
        found = _PREFERENCE.match(text, at)
        if found is not None:
            yield found[1], found[2] or ""
        at = found.end() if found is not None else text.find(",", at) + 1 or len(text)
