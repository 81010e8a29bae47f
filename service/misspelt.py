"""What is told of a mistake in a configuration: pydantic's own words, but for keys that there are not."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_ALIKE: Final = 0.6


def said(mistake: ErrorDetails, of: type[BaseModel]) -> str:
    """Of one of a ValidationError's; ``of``: the model that was read."""
    if mistake["type"] != "extra_forbidden":
        return mistake["msg"].removeprefix("Value error, ")
    *place, key = mistake["loc"]
    known = sorted(_keys(of, place))
    meant = difflib.get_close_matches(str(key), known, 1, _ALIKE)
    hint = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(known)}."
    return f"there is no such key; {hint}"


def _keys(model: type[BaseModel], place: Sequence[int | str]) -> set[str]:
    """The keys of what stands at a place, as they are written in a file."""
    models = [model]
    for part in place:
        inner = [
            found
            for each in models
            for name, field in each.model_fields.items()
            if part in (name, field.alias)
            for found in _models_in(field.annotation)
        ]
        models = inner or models  # a list's index, or the member of a union
    return {field.alias or name for each in models for name, field in each.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
