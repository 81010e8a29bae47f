"""What a user is to us, whether they are in or out, and what Auth0 should know of them. Pure.

Two sources speak of one person: a SCIM resource and an HR record. Neither undoes the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from service.organizations import JoinKey, Organization

Cause = Literal[
    "inactive-in-scim",
    "deleted-in-scim",
    "terminated-in-hr",
    "suspended-in-hr",
    "deleted-in-hr",
    "on-leave-in-hr",
    "locked-by-operator",
    "organization-decommissioned",
]
State = Literal["pending", "applied", "waiting", "failed", "staged"]

_ADDRESS: Final = re.compile(r"^[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f.]+(\.[^@\s\x00-\x1f.]+)*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person in one organization, as stored: desired state of both sources, and its status.

    ``resource`` is the SCIM resource in canonical attribute names, without ``id``, ``meta``,
    ``schemas`` and ``groups``; None where only HR knows the person. ``worker`` maps an HR attribute
    to ``[value, order]``. ``employment`` is the status that follows from all that HR said, which
    ``employment_order``, ``leave`` and ``employments`` hold: see service.directory.people.
    ``withheld``: see Withheld.
    """

    id: str
    organization: str
    resource: Mapping[str, Any] | None = None
    external_id: str | None = None
    join_key: str | None = None
    active: bool = True
    deleted_at: datetime | None = None
    worker_id: str | None = None
    worker: Mapping[str, Any] | None = None
    employment: str | None = None
    employment_order: list[int | None] | None = None
    leave: list[Any] | None = None
    employments: Mapping[str, Any] | None = None
    locked_at: datetime | None = None
    lock_reason: str | None = None
    released_at: datetime | None = None
    identifier: str | None = None
    account_id: str | None = None
    state: State = "pending"
    detail: str | None = None
    last_applied_at: datetime | None = None
    last_event_id: str | None = None
    withheld: Mapping[str, Any] | None = None
    version: int = 1
    created_at: datetime
    modified_at: datetime

    @property
    def in_scim(self) -> bool:
        """Whether the SCIM door shows this user."""
        return self.resource is not None and self.deleted_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Causes that do not count, since many left at once: each with the event that said it.

    ``staged``: until an operator decides. ``refused``: an operator said no; until the cause's source
    speaks of it again. ``groups``: those that a deleted user was in, for whom the roles stay.
    """

    staged: Mapping[Cause, str] = field(default_factory=dict[Cause, str])
    refused: Mapping[Cause, str] = field(default_factory=dict[Cause, str])
    groups: tuple[str, ...] = ()

    @property
    def causes(self) -> set[Cause]:
        return {*self.staged, *self.refused}

    def as_document(self) -> dict[str, Any] | None:
        """None where nothing is withheld."""
        if not self.causes:
            return None
        groups = list(self.groups) if "deleted-in-scim" in self.causes else []
        return {"staged": dict(self.staged), "refused": dict(self.refused), "groups": groups}


def withheld_of(user: User) -> Withheld:
    told = user.withheld or {}
    return Withheld(
        staged=told.get("staged", {}),
        refused=told.get("refused", {}),
        groups=tuple(told.get("groups", ())),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What Auth0's root attributes should say. None means that no source says anything."""

    given_name: str | None = None
    family_name: str | None = None
    name: str | None = None


def causes(user: User, organization: Organization, *, decommissioned: bool = False) -> set[Cause]:
    """Every cause for which this person must be out. Each is lifted by its own source only."""
    found: set[Cause] = set()
    if user.deleted_at is not None:
        found.add("deleted-in-scim")
    elif user.resource is not None and not user.active:
        found.add("inactive-in-scim")
    match user.employment:
        case "terminated":
            found.add("terminated-in-hr")
        case "suspended":
            found.add("suspended-in-hr")
        case "deleted":
            found.add("deleted-in-hr")
        case "on_leave" if organization.policies.on_leave == "block":
            found.add("on-leave-in-hr")
        case _:
            pass
    if user.locked_at is not None:
        found.add("locked-by-operator")
    if decommissioned:
        found.add("organization-decommissioned")
    return found


def is_wanted(user: User, organization: Organization, *, decommissioned: bool = False) -> bool:
    """Whether this person is in: some source has them, and no cause speaks against it, save for
    those that are withheld.
    """
    found = causes(user, organization, decommissioned=decommissioned)
    if user.withheld is None:
        return not found and (user.in_scim or user.employment in ("active", "on_leave"))
    return found <= withheld_of(user).causes and (
        bool(found) or user.in_scim or user.employment in ("active", "on_leave")
    )


ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


def join_key_of(resource: Mapping[str, Any], organization: Organization) -> str | None:
    """What HR calls the person of this SCIM resource by, where it says so; see ``worker_key``."""
    match organization.join:
        case "externalId":
            value = resource.get("externalId")
        case "userName":
            value = resource.get("userName")
        case "employeeNumber":
            value = (resource.get(ENTERPRISE) or {}).get("employeeNumber")
    return worker_key(value, organization.join) if isinstance(value, str) and value else None


def worker_key(worker_id: str, join: JoinKey) -> str:
    """A worker id as it is compared: ``externalId`` knows upper and lower case apart, the other
    attributes do not (RFC 7643 sections 3.1, 4.1.1 and 4.3).
    """
    return worker_id if join == "externalId" else worker_id.strip().casefold()


def is_address(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 254 and bool(_ADDRESS.fullmatch(value))


def identifier_of(user: User, organization: Organization) -> str | None:
    """The lower-case address that this person logs in with, or None where there is none.

    The primary e-mail (a single one counts as primary), else ``userName`` where it is an address.
    """
    scim, hr = _scim_address(user.resource or {}), _hr_address(user)
    first, second = (hr, scim) if organization.source_of("email") == "hr" else (scim, hr)
    chosen = first or second
    return chosen.lower() if chosen else None


def address_in(resource: Mapping[str, Any]) -> str | None:
    """As ``identifier_of``, of somebody new of whom nothing but this resource is known."""
    said = _scim_address(resource)
    return said.lower() if said else None


def spellings_of(user: User, identifier: str) -> set[str]:
    """How the sources write this address where they use capitals: identity providers keep theirs, and
    Auth0 tells them apart.
    """
    resource = user.resource or {}
    said = [entry.get("value") for entry in resource.get("emails") or []]
    said += [resource.get("userName"), *(worker_attribute(user, of) for of in _HR_ADDRESSES)]
    return {
        each
        for each in said
        if isinstance(each, str) and each != identifier and each.lower() == identifier
    }


def _scim_address(resource: Mapping[str, Any]) -> str | None:
    emails = [entry for entry in resource.get("emails") or [] if is_address(entry.get("value"))]
    primary = [entry for entry in emails if entry.get("primary") is True]
    if primary or len(emails) == 1:
        return (primary or emails)[0]["value"]
    user_name = resource.get("userName")
    if is_address(user_name):
        return user_name
    work = [entry for entry in emails if str(entry.get("type", "")).lower() == "work"]
    return (work or emails)[0]["value"] if emails else None


_HR_ADDRESSES: Final = ("email", "user_name")


def _hr_address(user: User) -> str | None:
    if not user.worker:
        return None
    for attribute in _HR_ADDRESSES:
        value = worker_attribute(user, attribute)
        if is_address(value):
            return value
    return None


def worker_attribute(user: User, attribute: str) -> Any:
    entry = (user.worker or {}).get(attribute)
    return entry[0] if entry else None


def profile_of(user: User, organization: Organization) -> Profile:
    """The profile from both sources; for each attribute the source that counts goes first."""
    resource = user.resource or {}
    name = resource.get("name") or {}
    scim = {
        "given_name": name.get("givenName"),
        "family_name": name.get("familyName"),
        "display_name": resource.get("displayName") or name.get("formatted"),
    }
    chosen: dict[str, str | None] = {}
    for attribute, from_scim in scim.items():
        from_hr = worker_attribute(user, attribute)
        pair = (from_hr, from_scim)
        first, second = pair if organization.source_of(attribute) == "hr" else pair[::-1]
        chosen[attribute] = _text(first) or _text(second)
    parts = [part for part in (chosen["given_name"], chosen["family_name"]) if part]
    return Profile(
        given_name=_cut(chosen["given_name"], 150),
        family_name=_cut(chosen["family_name"], 150),
        name=_cut(chosen["display_name"] or " ".join(parts), 300),
    )


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _cut(value: str | None, longest: int) -> str | None:
    """Auth0 refuses longer root attributes (150 and 300 characters)."""
    return value[:longest] if value else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberChange:
    """What becomes of a group's members. ``replace``: ``add`` is all that is left of them."""

    replace: bool = False
    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()
