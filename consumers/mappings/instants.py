"""Dates, local times and instants as HR systems write them, and when each of them takes effect. Pure.

A date begins at midnight of its zone; a termination's day is still worked (docs/adr/0007).
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal, cast
from zoneinfo import ZoneInfo

from consumers.cloudevents import rfc_3339
from consumers.unusable import Unusable

Boundary = Literal["start", "end"]
Moment = date | datetime
"""A day; or a datetime, local where it has no ``tzinfo``."""

FAR_FUTURE: Final = datetime(9999, 12, 31, tzinfo=UTC)
_FAR_PAST: Final = datetime(1, 1, 1, tzinfo=UTC)
_DATE: Final = re.compile(r"^\d{4}-\d\d-\d\d$")
_LOCAL: Final = re.compile(r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?$")
_MS_DATE: Final = re.compile(r"^/Date\((-?\d{1,15})(?:[+-]\d{4})?\)/$")
_ISO_BASIC: Final = re.compile(
    r"^\d{4}-?\d\d-?\d\d[Tt ]\d\d:?\d\d(?::?\d\d(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
)
_NUMBER: Final = re.compile(r"^-?\d{1,15}(?:\.\d{1,9})?$")
_LONGEST: Final = 100


class InvalidFormat(ValueError):
    """No such format of dates."""


def effective_at(
    text: str | None, zone: str | None, *, type: str, immediate: bool = False
) -> datetime | None:
    """When a canonical event takes effect, in UTC; None means now. Raises Unusable.

    A bare date is meant in ``zone`` (UTC where none is given). It starts at midnight, save for
    ``worker.terminated``: HR dates a termination by the last day of work, and that day is still
    worked, so access ends when the day does. An immediate termination does not wait for that.
    """
    if text is None:
        return None
    found = _first(text, CANONICAL)
    if found is None:
        raise Unusable("invalid_effective_at", "effective_at is neither RFC 3339 nor a date.")
    return begins(found, zone, boundary_of(type, immediate=immediate))


def boundary_of(type: str, *, immediate: bool = False) -> Boundary:
    """The end of its day that an event which names only a date takes effect at."""
    return "end" if type == "worker.terminated" and not immediate else "start"


def begins(moment: Moment, zone: str | None, boundary: Boundary) -> datetime | None:
    """The instant that is meant, in UTC; None for "always was". Raises Unusable for a bad zone, and
    for a local time without one.
    """
    try:
        if not isinstance(moment, datetime):
            day = moment + timedelta(days=1) if boundary == "end" else moment
            return datetime.combine(day, time(), known_zone(zone or "UTC")).astimezone(UTC)
        if moment.tzinfo is None:
            if zone is None:
                raise Unusable(
                    "invalid_effective_at",
                    "effective_at has neither an offset nor a zone beside it.",
                )
            return moment.replace(tzinfo=known_zone(zone)).astimezone(UTC)
        return moment.astimezone(UTC)
    except OverflowError:
        # 9999-12-31 stands for "no end in sight"; 0001-01-01 for "always was".
        return None if moment.year < 1000 else FAR_FUTURE


def known_zone(name: str) -> ZoneInfo:
    """Raises Unusable."""
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):  # unknown, a folder of the database, or a path
        raise Unusable("invalid_zone", "zone is not an IANA time zone.") from None


Format = Callable[[Any], Moment | None]
"""What a value is in this format, None where it is not in it. Raises OverflowError."""


def formats(names: str | Sequence[str]) -> tuple[Format, ...]:
    """The formats of these names, in order. Raises InvalidFormat."""
    return tuple(_format(name) for name in ([names] if isinstance(names, str) else names))


def read(value: Any, tried: Sequence[Format]) -> Moment | None:
    """The moment that a value names in the first format that fits; None where none does."""
    return _first(value, tried)


def _first(value: Any, tried: Sequence[Format]) -> Moment | None:
    if isinstance(value, str):
        value = value.strip()
        if len(value) > _LONGEST:
            return None
    for each in tried:
        try:
            found = each(value)
        except OverflowError:
            return _FAR_PAST if str(value).startswith(("0", "-", "/Date(-")) else FAR_FUTURE
        except ValueError:
            continue
        if found is not None:
            return found
    return None


def _rfc_3339(value: Any) -> Moment | None:
    return rfc_3339(value) if isinstance(value, str) else None


def _date(value: Any) -> Moment | None:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    return date.fromisoformat(value)


def _local(value: Any) -> Moment | None:
    if not isinstance(value, str) or not _LOCAL.fullmatch(value):
        return None
    return datetime.fromisoformat(value.upper())


def _iso_basic(value: Any) -> Moment | None:
    if not isinstance(value, str) or not _ISO_BASIC.fullmatch(value):
        return None
    return datetime.fromisoformat(value.upper())


def _midnight_utc_date(value: Any) -> Moment | None:
    """A day that was written as its midnight in UTC, whatever the zone: only the date counts."""
    if not isinstance(value, str):
        return None
    found = rfc_3339(value) or _local(value) or _date(value) or _iso_basic(value) or _ms_date(value)
    return found.date() if isinstance(found, datetime) else found


def _unix(value: Any) -> Moment | None:
    seconds = _number(value)
    return None if seconds is None else _epoch(seconds)


def _unix_ms(value: Any) -> Moment | None:
    milliseconds = _number(value)
    return None if milliseconds is None else _epoch(milliseconds / 1000)


def _ms_date(value: Any) -> Moment | None:
    """As SAP's OData V2 writes it; an offset beside it changes nothing, the number is UTC."""
    match = _MS_DATE.fullmatch(value) if isinstance(value, str) else None
    return _epoch(int(match[1]) / 1000) if match else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def _epoch(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


_NAMED: Final[Mapping[str, Format]] = {
    "rfc3339": _rfc_3339,
    "date": _date,
    "local": _local,
    "unix": _unix,
    "unix-ms": _unix_ms,
    "ms-date": _ms_date,
    "iso-basic": _iso_basic,
    "midnight-utc-date": _midnight_utc_date,
}
CANONICAL: Final[tuple[Format, ...]] = (_date, _local, _rfc_3339)
_STRPTIME: Final = "strptime:"
_DIRECTIVES: Final = re.compile(r"%(.)", re.DOTALL)
_KNOWN_DIRECTIVES: Final = frozenset("YymdBbAaHIMSfpzj%")
_OF_TIME: Final = frozenset("HIMSfp")


def _format(name: str) -> Format:
    if (found := _NAMED.get(name)) is not None:
        return found
    if name.startswith(_STRPTIME):
        return _strptime(name.removeprefix(_STRPTIME))
    raise InvalidFormat(
        f"there is no format {name}: use {', '.join(_NAMED)} or {_STRPTIME}… such as"
        f" {_STRPTIME}%d/%m/%Y"
    )


@functools.lru_cache(maxsize=256)
def _strptime(pattern: str) -> Format:
    directives = set(cast("list[str]", _DIRECTIVES.findall(pattern)))
    complete = directives & {"Y", "y"} and ("j" in directives or directives >= {"d"})
    if len(pattern) > _LONGEST or not complete or directives - _KNOWN_DIRECTIVES:
        raise InvalidFormat(
            f"{_STRPTIME}{pattern}: name at least a year and a day, by the directives"
            f" {' '.join(f'%{each}' for each in sorted(_KNOWN_DIRECTIVES))}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            datetime.strptime("", pattern)
    except re.error:
        raise InvalidFormat(f"{_STRPTIME}{pattern}: a directive stands in it twice") from None
    except Warning as warning:
        raise InvalidFormat(f"{_STRPTIME}{pattern}: {warning}") from None
    except ValueError:
        pass  # of course: the text was empty
    has_time = bool(directives & _OF_TIME)

    def read(value: Any) -> Moment | None:
        if not isinstance(value, str):
            return None
        found = datetime.strptime(value, pattern)
        return found if has_time else found.date()

    return read
