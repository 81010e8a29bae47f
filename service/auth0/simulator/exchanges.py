"""What was asked of the Management API and what it answered, kept as JSON Lines for whoever wants to
hold it against Auth0's own description. Knows no description; keeps a few of each form.
"""

import os
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

_MOST_OF_A_FORM: Final = 3
_MOST_OF_AN_OPERATION: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One call. `path` is below `/api/v2` and still percent-encoded; bodies are JSON or None."""

    method: str
    template: str
    path: str
    query: dict[str, str]
    content_type: str
    request: Any
    status: int
    response: Any


Observe = Callable[[Exchange], None]


class ExchangeLog:
    """Writes exchanges into a file of its own in `folder`; only the first few of each form."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._forms: Counter[Any] = Counter()
        self._operations: Counter[Any] = Counter()

    def __call__(self, exchange: Exchange) -> None:
        operation = exchange.method, exchange.template, exchange.status
        form = (
            *operation,
            frozenset(exchange.query),
            _form(exchange.request),
            _form(exchange.response),
        )
        self._forms[form] += 1
        if self._forms[form] > _MOST_OF_A_FORM:
            return
        self._operations[operation] += 1
        if self._operations[operation] > _MOST_OF_AN_OPERATION:
            return
        with self._file.open("ab") as lines:
            lines.write(orjson.dumps(asdict(exchange)) + b"\n")


def _form(value: Any) -> Any:
    """The names and types in a JSON value, without what they hold."""
    if isinstance(value, dict):
        return frozenset((name, _form(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return ("list", frozenset(_form(inner) for inner in value))
    return type(value).__name__
