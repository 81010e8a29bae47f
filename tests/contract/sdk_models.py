"""Which of auth0-python's models reads the answer of which operation, read off its client's code.

Knows the SDK's clients (``users``, ``organizations.members``, …), not what the answers mean.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from auth0.management import AsyncAuth0
from auth0.management.core.pagination import AsyncPager
from pydantic import TypeAdapter, ValidationError

_REQUEST: Final = re.compile(
    r'httpx_client\.request\(\s*f?"(?P<path>[^"]*)",(?:.*?)method="(?P<method>[A-Z]+)"', re.DOTALL
)
_PARAMETER: Final = re.compile(r"\{[^{}]*(?:\([^()]*\))?[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Models:
    """Readers by method and path, in which each parameter is ``{}``."""

    readers: Mapping[tuple[str, str], Any]

    @classmethod
    @functools.cache
    def of_sdk(cls) -> Models:
        """Read once in a process: it takes two seconds."""
        client = AsyncAuth0(base_url="http://auth0.invalid/api/v2", token="unused")
        return cls(dict(_readers(client, set())))

    def problems(self, method: str, template: str, body: Any) -> list[str]:
        """What the model cannot read of a successful answer; empty where it reads everything."""
        reader = self.readers.get((method, _blank(template)))
        if reader is None:
            return ["auth0-python has no such operation"]
        try:
            _adapter(reader, isinstance(body, dict)).validate_python(body)
        except ValidationError as error:
            return [
                f"auth0-python: {problem['loc']}: {problem['msg']}" for problem in error.errors()
            ]
        return []


def _readers(client: Any, seen: set[int]) -> Iterator[tuple[tuple[str, str], Any]]:
    if id(client) in seen:
        return
    seen.add(id(client))
    for name, member in inspect.getmembers(type(client)):
        if isinstance(member, property) and not name.startswith("_"):
            part = getattr(client, name)
            if type(part).__module__.startswith("auth0.management.") and "Raw" not in name:
                yield from _readers(part, seen)
    raw = getattr(client, "with_raw_response", None)
    if raw is None:
        return
    for name, method in inspect.getmembers(type(raw), inspect.isfunction):
        found = None if name.startswith("_") else _REQUEST.search(inspect.getsource(method))
        if found is not None:
            read = typing.get_type_hints(method)["return"]
            yield (found["method"], _blank(found["path"])), read


def _blank(path: str) -> str:
    return "/" + _PARAMETER.sub("{}", path).strip("/")


@functools.cache
def _adapter(reader: Any, is_object: bool) -> TypeAdapter[Any]:
    first, *others = typing.get_args(reader)
    read: Any = first
    if typing.get_origin(reader) is AsyncPager:
        read = others[0] if is_object else types.GenericAlias(list, (first,))
    elif first is type(None):
        read = Any  # the SDK does not look at this body
    return TypeAdapter(read)
