"""Logging for people and for machines: structlog to stderr, with secrets and addresses kept out."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog

_SECRET: Final = ("password", "secret", "token", "ticket", "authorization", "pepper", "link")


def redact(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor that hides values under names that hold credentials, whoever logs them."""
    for name in entry:
        if any(word in name.lower() for word in _SECRET) and isinstance(entry[name], str):
            entry[name] = "[redacted]"
    return entry


def configure(form: Literal["json", "text"], level: str) -> None:
    """Sets up logging of the whole process, once, from the composition root."""
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s"
    )
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
