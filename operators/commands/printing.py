"""How things are shown: JSON Lines for programs, tables for people. Logs never go to stdout."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson


def json_line(value: Any) -> None:
    """One object on one line of standard output. Bytes appear as text, or as base64 ``{"base64"}``."""
    sys.stdout.write(orjson.dumps(value, default=_plain).decode() + "\n")


def line(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A sentence for the person, not for the pipe."""
    sys.stderr.write(text + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as its content where nobody looks at it, else as wide as the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    width = None if sys.stdout.isatty() else 240
    Console(file=sys.stdout, width=width, highlight=False).print(shown)


def moment(at: datetime | None) -> str:
    """``2026-11-23 09:00:00``, in UTC."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def document(value: Any) -> dict[str, Any]:
    """A dataclass of the core as a JSON object."""
    return dataclasses.asdict(value)


def _cell(value: object) -> Any:
    from rich.text import Text

    if isinstance(value, datetime):
        return moment(value)
    return Text("" if value is None else str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def text_of(value: bytes) -> Any:
    import base64

    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
