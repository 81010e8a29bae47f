"""How things are shown: JSON Lines for programs, tables for people. Logs never go to stdout."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

_ANY_WIDTH = 100_000
_NARROWEST = 80


def json_line(value: Any) -> None:
    """One object on one line of standard output. Bytes appear as text, or as base64 ``{"base64"}``."""
    sys.stdout.write(orjson.dumps(value, default=_plain).decode() + "\n")


def line(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A sentence for the person, not for the pipe."""
    sys.stderr.write(text + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, fold: bool = False) -> None:
    """A table where it fits the terminal; else each row's cells one after the other.

    Ids are never broken: they are there to be copied. Where nobody looks, any width fits. What is
    empty leaves standard output empty. ``fold``: keep the columns and break cells instead.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    listed = [[_cell(value) for value in row] for row in rows]
    if not listed:
        note("Nothing to show.")
        return
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in listed:
        shown.add_row(*(Text(cell) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    fits = Measurement.get(console, console.options.update(width=_ANY_WIDTH), shown).maximum
    if not sys.stdout.isatty():
        console.width = max(fits, _NARROWEST)
    if fold or fits <= console.width:
        console.print(shown)
        return
    for row in listed:
        for number, text in enumerate(_packed((cell for cell in row if cell), console.width)):
            line(text if number == 0 else f"    {text}")


def _packed(cells: Iterable[str], width: int) -> Iterable[str]:
    """Cells on as few lines as hold them; a line that continues a row is indented by four."""
    shown = ""
    for cell in cells:
        if shown and len(shown) + len(cell) + 2 > width - 4:
            yield shown
            shown = ""
        shown += f"  {cell}" if shown else cell
    yield shown


def moment(at: datetime | None) -> str:
    """``2026-11-23 09:00:00``, in UTC."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def document(value: Any) -> dict[str, Any]:
    """A dataclass of the core as a JSON object."""
    return dataclasses.asdict(value)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value)
    return "" if value is None else str(value)


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
