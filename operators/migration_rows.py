"""A file of people with their password hashes, in the shape of Auth0's bulk imports: what each row says,
or what to mend in it. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson

from service.auth0.password_hashes import problem_of_bcrypt, problem_of_custom
from service.organizations import LISTED, MARKER
from service.people import is_address

MOST_ROW_BYTES: Final = 50_000
_BETWEEN: Final = re.compile(r"[\s,]*")
_REST_UNREAD: Final = "not JSON from here on: nothing after it was read"
_TEXTS: Final = {
    "given_name": 150,
    "family_name": 150,
    "name": 300,
    "nickname": 300,
    "username": 128,
    "picture": 2_000,
    "external_id": 250,
}
_HASHES: Final = ("password_hash", "custom_password_hash")
_METADATA: Final = ("app_metadata", "user_metadata")
_BROUGHT: Final = (*_HASHES, *_METADATA, "username", "nickname", "picture", "mfa_factors")
"""What goes into the job's row as it is, and is kept nowhere else but sealed."""
_KNOWN: Final = frozenset({*_TEXTS, *_BROUGHT, "email", "email_verified", "user_id", "blocked"})
_KEPT_BY_US: Final = frozenset({MARKER, LISTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A row that cannot be taken, and what to mend. Repeats no hash."""

    line: int
    email: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """A person of the file, packed: a file may have hundreds of thousands of them."""

    line: int
    email: str
    external_id: str | None
    blocked: bool
    has_own_id: bool
    packed_resource: bytes = field(repr=False)
    packed_brought: bytes = field(repr=False)

    @property
    def resource(self) -> Mapping[str, Any]:
        """As SCIM has it."""
        return orjson.loads(self.packed_resource)

    @property
    def brought(self) -> Mapping[str, Any]:
        """For the job's row alone."""
        return orjson.loads(self.packed_brought)


def rows_of(content: bytes) -> Iterator[tuple[int, Any | Mistake]]:
    """The rows of a JSON array, or of JSON Lines, with their lines."""
    if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _of_array(content)
        return
    for number, text in enumerate(content.splitlines(), start=1):
        text = text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
        if not text.strip():
            continue
        yield number, _row(number, text)


def _row(line: int, text: str | bytes) -> Any | Mistake:
    """What a row says: by the stricter reader, so that it can be written again as it is."""
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return Mistake(line=line, email=None, reason="not JSON in UTF-8")


def _of_array(content: bytes) -> Iterator[tuple[int, Any | Mistake]]:
    line = 1
    try:
        text = content.decode("utf-8-sig")
        decoder, at = json.JSONDecoder(), text.index("[") + 1
        line += text.count("\n", 0, at)
        while True:
            gap = _BETWEEN.match(text, at)
            start = gap.end() if gap is not None else at
            line, at = line + text.count("\n", at, start), start
            if text[at : at + 1] == "]":
                return
            _, end = decoder.raw_decode(text, at)
            yield line, _row(line, text[at:end])
            line, at = line + text.count("\n", at, end), end
    except json.JSONDecodeError as error:
        yield error.lineno, Mistake(line=error.lineno, email=None, reason=_REST_UNREAD)
    except RecursionError:
        yield line, Mistake(line=line, email=None, reason=_REST_UNREAD)
    except UnicodeDecodeError:
        yield 1, Mistake(line=1, email=None, reason="not UTF-8")


def read(line: int, row: Any) -> Coming | Mistake:
    """A row as a person, or what is to be mended in it."""
    if isinstance(row, Mistake):
        return row
    if not isinstance(row, dict):
        return Mistake(line=line, email=None, reason="a row is an object")
    told = {name: value for name, value in cast("dict[str, Any]", row).items() if value is not None}
    email = told.get("email")
    named = email if isinstance(email, str) else None
    problem = _problem(told)
    if problem is not None:
        return Mistake(line=line, email=named, reason=problem)
    assert named is not None
    return _coming(line, named.lower(), told)


def _problem(row: Mapping[str, Any]) -> str | None:
    if not is_address(row.get("email")):
        return "email is needed, and is to be an address"
    if unknown := sorted(set(row) - _KNOWN):
        return f"Auth0's imports know no {', '.join(map(repr, unknown))}: leave it out"
    for name, most in _TEXTS.items():
        if name in row and not (isinstance(row[name], str) and 0 < len(row[name]) <= most):
            return f"{name} is a text of 1 to {most} characters"
        if "\x00" in row.get(name, ""):
            return f"{name} holds a NUL character: take it out"
    for name in ("email_verified", "blocked"):
        if not isinstance(row.get(name, False), bool):
            return f"{name} is true or false"
    return _problem_of_password(row) or _problem_of_rest(row)


def _problem_of_password(row: Mapping[str, Any]) -> str | None:
    given = [name for name in _HASHES if name in row]
    if len(given) != 1:
        return (
            "give password_hash (bcrypt) or custom_password_hash, one of them: people without a"
            " password come by SCIM or HR events"
        )
    if given == ["password_hash"]:
        return problem_of_bcrypt(row["password_hash"])
    return problem_of_custom(row["custom_password_hash"])


def _problem_of_rest(row: Mapping[str, Any]) -> str | None:
    for name in _METADATA:
        if not isinstance(row.get(name, {}), dict):
            return f"{name} is an object"
    if kept := sorted(_KEPT_BY_US & set(row.get("app_metadata", {}))):
        return f"app_metadata.{kept[0]} is written by us: leave it out"
    factors = row.get("mfa_factors", [])
    if not isinstance(factors, list) or not all(
        isinstance(each, dict) for each in cast("list[object]", factors)
    ):
        return "mfa_factors is a list of objects"
    if len(orjson.dumps(dict(row))) > MOST_ROW_BYTES:
        return f"the row is larger than {MOST_ROW_BYTES} bytes: shorten its metadata"
    return None


def _coming(line: int, email: str, row: Mapping[str, Any]) -> Coming:
    name = {
        "givenName": row.get("given_name"),
        "familyName": row.get("family_name"),
    }
    resource: dict[str, Any] = {
        "userName": email,
        "emails": [{"value": email, "primary": True}],
        "name": {key: value for key, value in name.items() if value},
        "displayName": row.get("name"),
        "nickName": row.get("nickname"),
        "externalId": row.get("external_id"),
        "active": not row.get("blocked", False),
    }
    brought = {key: row[key] for key in _BROUGHT if key in row}
    return Coming(
        line=line,
        email=email,
        external_id=row.get("external_id"),
        blocked=bool(row.get("blocked", False)),
        has_own_id="user_id" in row,
        packed_resource=_packed(
            {key: value for key, value in resource.items() if value not in (None, {})}
        ),
        packed_brought=_packed(
            {
                **brought,
                "email": email,  # what the file says to be verified
                "email_verified": bool(row.get("email_verified", False)),
            }
        ),
    )


def _packed(value: Mapping[str, Any]) -> bytes:
    """As JSON, in no more memory than that takes: what orjson returns holds 4 kB."""
    return bytes(memoryview(orjson.dumps(value)))


def gathered(content: bytes) -> tuple[list[Coming], list[Mistake]]:
    """Everybody whom a file names, each once, and what is to be mended."""
    coming: list[Coming] = []
    mistakes: list[Mistake] = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in rows_of(content):
        person = read(line, row)
        if isinstance(person, Coming) and (twice := _twice(person, seen)) is not None:
            person = Mistake(line=line, email=person.email, reason=twice)
        if isinstance(person, Mistake):
            mistakes.append(person)
        else:
            coming.append(person)
    return coming, mistakes


def _twice(person: Coming, seen: dict[tuple[str, str], int]) -> str | None:
    username = person.brought.get("username")
    keys = {
        "email": person.email,
        "external_id": person.external_id,
        "username": username.lower() if username else None,
    }
    named = [(name, key) for name, key in keys.items() if key]
    for each in named:
        if each in seen:
            return f"line {seen[each]} has the same {each[0]}: keep one of them"
    seen.update(dict.fromkeys(named, person.line))
    return None
