"""The rows of a file of users: what each says, and what became of it, as the job tells. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import orjson

from service.directory.imports import Held
from service.organizations import LISTED, MARKER
from service.sealing import SealBroken, Sealer

Verdict = Literal["inserted", "duplicate", "refused", "unknown", "absent"]
"""What a row came to. ``duplicate``: somebody has the address or the id. ``unknown``: it is to be
read. ``absent``: it was read, and nobody is there: of those alone who have a hash."""
_PREFIX: Final = "auth0|"


def row_of(held: Held) -> dict[str, Any]:
    """An account's row in the file: the same whenever it is made."""
    sent = (held.doubt or {})["sent"]
    named = {name: value for name, value in sent["profile"].items() if value}
    return named | {
        # Auth0 puts the provider before it, also where it is there already.
        "user_id": held.user_id.removeprefix(_PREFIX),
        "email": sent["email"],
        "email_verified": sent["email_verified"],
        "app_metadata": {MARKER: {"account": held.id}}
        | ({LISTED: sent["listed"]} if sent.get("listed") else {}),
    }


def row_with_hash(held: Held, sealer: Sealer) -> dict[str, Any] | None:
    """As ``row_of``, with what came with the person, who has a hash; None where its seal is broken."""
    assert held.sealed is not None
    try:
        brought: dict[str, Any] = orjson.loads(sealer.open(held.sealed, owner=held.id))
    except SealBroken:
        return None
    row = row_of(held)
    if brought.pop("email", row["email"]) != row["email"]:
        brought["email_verified"] = False  # of an address that has changed since nobody has said so
    metadata = {**brought.pop("app_metadata", {}), **row["app_metadata"]}
    return row | brought | {"app_metadata": metadata}


def verdicts(
    held: Iterable[Held],
    errors: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any] | None,
    *,
    sent: int,
) -> dict[str, Verdict]:
    """What each row came to, by account, as the job's error rows and its summary tell. Pure.

    Rows that no error names were inserted only where all that were ``sent`` are accounted for: each
    error is about one of ``held``, and the summary counts the errors, the others as inserted, and
    nothing else. Else they are unknown.
    """
    rows = {each.id: _keys(each) for each in held}
    known = {key for keys in rows.values() for key in keys}
    named: dict[str, Verdict] = {}
    count = 0
    agree = True
    for error in errors:
        user, count = error.get("user") or {}, count + 1
        codes = {str(each.get("code")) for each in error.get("errors") or ()}
        taken = "DUPLICATED_USER" in codes
        about = {
            key.lower() for key in (user.get("user_id"), user.get("email")) if isinstance(key, str)
        }
        agree = agree and not about.isdisjoint(known)
        for key in about:
            named[key] = "duplicate" if taken else "refused"
    said = summary or {}
    whole = {"failed": count, "inserted": sent - count, "total": sent}
    agree = agree and {name: said.get(name) for name in whole} == whole and not said.get("updated")
    others: Verdict = "inserted" if agree else "unknown"
    return {
        account: named.get(user_id) or named.get(email) or others
        for account, (user_id, email) in rows.items()
    }


def refusals(held: Iterable[Held], errors: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Why Auth0 refused rows, by account: codes and paths, never its words, which may repeat a hash."""
    why: dict[str, str] = {}
    for error in errors:
        user = error.get("user") or {}
        told = sorted({_reason(each) for each in error.get("errors") or ()})
        for key in (user.get("user_id"), user.get("email")):
            if isinstance(key, str) and told:
                why[key.lower()] = ", ".join(told)
    keys = {each.id: _keys(each) for each in held}
    found = {account: why.get(by_id) or why.get(email) for account, (by_id, email) in keys.items()}
    return {account: reason for account, reason in found.items() if reason is not None}


def _reason(error: Mapping[str, Any]) -> str:
    code, path = str(error.get("code")), str(error.get("path") or "")
    named = code if _CODE.fullmatch(code) else "refused"
    return f"{named} at {path}" if _PATH.fullmatch(path) else named


_CODE: Final = re.compile(r"[A-Z_]{1,60}")
_PATH: Final = re.compile(r"[a-z_./\[\]0-9]{1,60}")


def _keys(held: Held) -> tuple[str, str]:
    """What an error names a row by."""
    row = row_of(held)
    return str(row["user_id"]).lower(), str(row["email"]).lower()
