"""What outcomes are called elsewhere: their events in RFC 9967, RISC 1.0 and CAEP 1.0. Pure.

A counterpart says the same of the same thing to receivers of security event tokens (RFC 8417).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from service.outcomes.catalogue import OutcomeType

Specification = Literal["RFC 9967", "RISC", "CAEP"]
SCIM: Final = "urn:ietf:params:scim:event:"
RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterpart:
    """``full``: the event's URI where values are told and not only the names of attributes, if it
    has another then. ``only``: a condition as words; empty: always."""

    specification: Specification
    uri: str
    full: str = ""
    only: str = ""


def _scim(name: str) -> Counterpart:
    return Counterpart(specification="RFC 9967", uri=SCIM + name)


def _told(name: str, only: str = "") -> Counterpart:
    """A provisioning event in its two forms: ``notice`` and ``full`` (RFC 9967 section 2.4)."""
    prefix = f"{SCIM}prov:{name}"
    return Counterpart(
        specification="RFC 9967", uri=f"{prefix}:notice", full=f"{prefix}:full", only=only
    )


def _risc(name: str, only: str = "") -> Counterpart:
    return Counterpart(specification="RISC", uri=RISC + name, only=only)


COUNTERPARTS: Final[Mapping[OutcomeType, tuple[Counterpart, ...]]] = {
    "user.created": (_told("create"),),
    "user.adopted": (_told("create"),),
    "user.updated": (
        _told("patch"),
        _risc("identifier-changed", only="`changed` names `email`"),
    ),
    "user.blocked": (_scim("prov:deactivate"), _risc("account-disabled")),
    "user.unblocked": (_scim("prov:activate"), _risc("account-enabled")),
    "user.deleted": (_scim("prov:delete"), _risc("account-purged")),
    "membership.added": (_told("patch", only="about the group"),),
    "membership.removed": (_told("patch", only="about the group"),),
    "roles.changed": (_told("patch", only="about the group"),),
    "access.revoked": (
        Counterpart(specification="CAEP", uri=f"{CAEP}session-revoked", only="`revoked` is true"),
    ),
    "scim.responded": (_scim("misc:asyncresp"),),
}
"""Outcomes that are not here have none."""
