"""Logging for people and for machines: structlog to stderr, with secrets and addresses kept out."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any, Final, Literal

import structlog

from service.errors import ConfigurationError

_SECRET: Final = ("password", "secret", "token", "ticket", "authorization", "pepper", "link")


def redact(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor that hides values under names that hold credentials, whoever logs them."""
    for name in entry:
        if any(word in name.lower() for word in _SECRET) and isinstance(entry[name], str):
            entry[name] = "[redacted]"
    return entry


def locate(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor that tells where an exception comes from, and not what it says (``told``)."""
    given = entry.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        entry["exception"] = told(error)
    return entry


def told(error: BaseException) -> str:
    """A traceback without messages: a database's repeats the row, an HTTP client's the address."""
    return "\nwhich led to\n".join(reversed(list(_chain(error))))


def _chain(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        said = f": {error}" if isinstance(error, ConfigurationError) else ""
        frames = "".join(traceback.format_tb(error.__traceback__))
        yield f"{frames}{type(error).__module__}.{type(error).__qualname__}{said}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


class Formatter(logging.Formatter):
    """For what libraries log: their words, and of exceptions what ``told`` tells."""

    def formatException(self, ei: Any) -> str:
        return told(ei[1]) if ei[1] is not None else ""


def configure(form: Literal["json", "text"], level: str) -> None:
    """Sets up logging of the whole process, once, from the composition root."""
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The other one shows every frame's variables: people's data, and slowly.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            locate,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler])
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
