"""What a client prefers (RFC 7240), of which one thing matters here: to be told of the end later."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

WRITES: Final = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_PREFERENCE: Final = re.compile(
    r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*))?\s*(?:;[^,]*)?(?:,|$)'
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
            for preference, given in _PREFERENCE.findall(value.decode("latin-1")):
                sent.setdefault(preference.casefold(), given.strip('"'))  # the first one counts
    wait = sent.get("wait", "")
    return "respond-async" in sent and not (wait.isdecimal() and int(wait[:9]) > 0)
