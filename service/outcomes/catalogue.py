"""The outcome events by name. What each means, who they are keyed by, which ones end an event."""

from __future__ import annotations

from typing import Final, Literal, get_args

PREFIX: Final = "io.auth0-provisioner."
SUFFIX: Final = ".v1"

Effect = Literal[
    "user.created",
    "user.adopted",
    "user.updated",
    "user.blocked",
    "user.unblocked",
    "user.deleted",
    "membership.added",
    "membership.removed",
    "roles.changed",
    "invitation.sent",
    "invitation.expired",
    "invitation.withdrawn",
    "access.revoked",
    "drift.detected",
    "drift.corrected",
    "tenant.paused",
    "tenant.resumed",
    "organization.changed",
    "organization.refused",
    "organization.decommissioned",
]
Ending = Literal[
    "event.succeeded",
    "event.superseded",
    "event.rejected",
    "event.deadlettered",
    "event.duplicate",
    "event.cancelled",
    "event.discarded",
]
Passing = Literal["event.scheduled", "event.staged", "event.replayed"]
Answer = Literal["scim.responded"]
"""The end of a request that asked to be told of it later (RFC 9967), beside the event's own ending."""
OutcomeType = Effect | Ending | Passing | Answer

ENDINGS: Final = frozenset(get_args(Ending))
TYPES: Final = (
    frozenset(get_args(Effect))
    | ENDINGS
    | frozenset(get_args(Passing))
    | frozenset(get_args(Answer))
)


def full_name(outcome: OutcomeType) -> str:
    """The CloudEvents type, such as ``io.auth0-provisioner.user.created.v1``."""
    return f"{PREFIX}{outcome}{SUFFIX}"
