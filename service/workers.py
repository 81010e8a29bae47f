"""Canonical worker events: what an HR system says about one person's employment. Pure.

Knows the canonical types and what each means for status; not where events come from, nor storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

Status = Literal["active", "on_leave", "suspended", "terminated", "deleted"]
Kind = Literal["status", "attributes"]

STATUS_AFTER: Final[Mapping[str, Status]] = {
    "worker.hired": "active",
    "worker.rehired": "active",
    "worker.leave_started": "on_leave",
    "worker.leave_ended": "active",
    "worker.suspended": "suspended",
    "worker.terminated": "terminated",
    "worker.deleted": "deleted",
    "worker.hire_rescinded": "terminated",
    "worker.termination_rescinded": "active",
}
RESCINDS: Final[Mapping[str, frozenset[str]]] = {
    "worker.hire_rescinded": frozenset({"worker.hired", "worker.rehired"}),
    "worker.termination_rescinded": frozenset({"worker.terminated"}),
}
"""What a rescission takes back, where it is still scheduled."""

TYPES: Final = frozenset(STATUS_AFTER) | {"worker.changed", "worker.snapshot"}
OUT: Final[frozenset[str]] = frozenset({"suspended", "terminated", "deleted"})

ATTRIBUTES: Final = (
    "email",
    "user_name",
    "given_name",
    "family_name",
    "display_name",
    "title",
    "department",
)
"""Attributes that provisioning reads; others are kept and ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent:
    """One canonical event. ``effective_at`` None means now; ``groups`` None means not said."""

    type: str
    worker_id: str
    effective_at: datetime | None = None
    sequence: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    groups: tuple[str, ...] | None = None
    immediate: bool = False

    @property
    def status(self) -> Status | None:
        """The employment status that this event brings, None where it says nothing about it."""
        return STATUS_AFTER.get(self.type)

    @property
    def kind(self) -> Kind:
        """Which of the worker's two schedules this event belongs to."""
        return "attributes" if self.status is None else "status"
