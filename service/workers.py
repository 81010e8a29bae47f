"""Canonical worker events: what an HR system says about one person, and what holds after it. Pure.

Knows the canonical types and their order; not where events come from, nor storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args

Status = Literal["active", "on_leave", "suspended", "terminated", "deleted"]
"""In order: who is active is in the most."""
Kind = Literal["status", "leave", "attributes"]
Order = list[int | None]
"""``[sequence or None, number of acceptance]``: see ``is_newer``."""

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
_LETS_IN: Final = RESCINDS["worker.hire_rescinded"]

TYPES: Final = frozenset(STATUS_AFTER) | {"worker.changed", "worker.snapshot"}
SNAPSHOT_COMPLETED: Final = "worker.snapshot_completed"
"""Of no single worker: a full export has been sent, and who was not in it is missing."""
OUT: Final[frozenset[str]] = frozenset({"suspended", "terminated", "deleted"})
LEAVERS: Final = frozenset(name for name, status in STATUS_AFTER.items() if status in OUT)
"""Types by which a person goes out."""
LEAVE: Final = frozenset({"worker.leave_started", "worker.leave_ended"})

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
    """One canonical event. ``effective_at`` None means now; ``groups`` None means not said.

    ``employment_id``: which of a person's employments it speaks of; None: of all of them.
    ``snapshot``: the full export that it is a line of. One of SNAPSHOT_COMPLETED has no worker, and
    says in ``count`` how many workers that export names.
    """

    type: str
    worker_id: str
    effective_at: datetime | None = None
    sequence: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    groups: tuple[str, ...] | None = None
    immediate: bool = False
    employment_id: str | None = None
    snapshot: str | None = None
    count: int | None = None

    @property
    def status(self) -> Status | None:
        """The employment status that this event brings, None where it says nothing about it."""
        return STATUS_AFTER.get(self.type)

    @property
    def kind(self) -> Kind:
        """What this event speaks of. Each kind is ordered, and scheduled, apart from the others."""
        if self.status is None:
            return "attributes"
        return "leave" if self.type in LEAVE else "status"


def is_newer(order: Order, than: Order | None) -> bool:
    """By ``sequence`` where both have one, else by order of acceptance."""
    if than is None:
        return True
    if order[0] is not None and than[0] is not None and order[0] != than[0]:
        return order[0] > than[0]
    return (order[1] or 0) > (than[1] or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The newest words on an employment. ``order``: of the one on its status; ``leave``: ``[on leave,
    order]``, which never brings back who is out: HR systems end a leaver's leave, too.
    ``rescinded``: the order of the rescission, by its type, if it is that word or newer: then it took
    back what was only planned. Older words of what it takes back do not count, all others do.
    """

    status: Status | None = None
    order: Order | None = None
    leave: list[Any] | None = None
    rescinded: Mapping[str, Order] = field(default_factory=dict[str, Order])

    @property
    def standing(self) -> Status | None:
        """The status that follows from both."""
        if self.status in OUT or self.leave is None:
            return self.status
        return "on_leave" if self.leave[0] and is_newer(self.leave[1], self.order) else "active"

    def after(self, event: WorkerEvent, order: Order) -> Said | None:
        """What holds after an event; None where a newer one of its kind was heard before."""
        if event.kind == "leave":
            if not is_newer(order, self.leave[1] if self.leave else None):
                return None
            return replace(self, leave=[event.status == "on_leave", order])
        if self.takes_back(event, order):
            return None
        if not is_newer(order, self.order):
            # A hire is not made moot by the rescission of its end: both say in.
            rescission = self.rescinded.get("worker.termination_rescinded")
            is_confirmed = rescission is not None and rescission == self.order
            return self if event.type in _LETS_IN and is_confirmed else None
        newer = {name: by for name, by in self.rescinded.items() if is_newer(by, order)}
        if event.type in RESCINDS:
            newer[event.type] = order
        return replace(self, status=event.status, order=order, rescinded=newer)

    def rescinding(self, event: WorkerEvent, order: Order) -> Said:
        """This, with a rescission noted that takes back only what was planned."""
        if not is_newer(order, self.rescinded.get(event.type)):
            return self
        return replace(self, rescinded={**self.rescinded, event.type: order})

    def takes_back(self, event: WorkerEvent, order: Order) -> bool:
        """Whether a newer rescission was heard of what this event says, or of the hire before it."""
        if any(
            event.type in RESCINDS[name] and not is_newer(order, by)
            for name, by in self.rescinded.items()
        ):
            return True
        unhired = self.rescinded.get("worker.hire_rescinded")
        return (
            self.status is None
            and self.leave is None
            and unhired is not None
            and event.status in OUT
            and not is_newer(order, unhired)
        )

    def since(self, whole: Said) -> Said:
        """What is left of this where a word on all of a person's employments replaces older ones."""
        kept = self
        if self.order is not None and not is_newer(self.order, whole.order):
            kept = replace(kept, status=None, order=None)
        if self.leave is not None and not (
            is_newer(self.leave[1], whole.order)
            and is_newer(self.leave[1], whole.leave[1] if whole.leave else None)
        ):
            kept = replace(kept, leave=None)
        newer = {name: by for name, by in self.rescinded.items() if is_newer(by, whole.order)}
        return kept if newer == self.rescinded else replace(kept, rescinded=newer)

    def within(self, whole: Said) -> Said:
        """This, with what was said of all where nothing newer was said of this one."""
        of_status = whole if self.status is None else self
        return Said(status=of_status.status, order=of_status.order, leave=self.leave or whole.leave)


@dataclass(frozen=True, slots=True, kw_only=True)
class Employment:
    """What HR's events make of a person so far, the same in whichever order they arrived.

    A person may have several employments at once, and is as much in as the one of them that is most.
    ``whole``: what was said without an ``employment_id``, which replaces what was said of each
    before. ``named``: what was said of each since.
    """

    whole: Said = Said()
    named: Mapping[str, Said] = field(default_factory=dict[str, Said])

    @property
    def status(self) -> Status | None:
        heard = [said for said in self.named.values() if said.status or said.leave]
        if not heard:
            return self.whole.standing
        standing = {said.within(self.whole).standing for said in heard}
        return next((status for status in _MOST_IN if status in standing), None)

    def after(self, event: WorkerEvent, order: Order) -> Employment | None:
        """What holds after an event on status or leave; None where a newer one was heard before."""
        if event.employment_id is None:
            whole = self.whole.after(event, order)
            return None if whole is None else _employment(whole, self.named)
        if event.kind == "status" and self.whole.takes_back(event, order):
            return None
        said = self.named.get(event.employment_id, Said()).after(event, order)
        if said is None or said.since(self.whole) != said:
            return None
        return _employment(self.whole, {**self.named, event.employment_id: said})

    def rescinded_after(
        self, event: WorkerEvent, order: Order, *, planned: bool, begins: bool
    ) -> Employment | None:
        """What holds after a rescission. Of a change that was only ``planned``: the same as before.

        But of a termination that had come about when its date was moved, both are taken back: else
        it would depend on the hour whether the person is in. Not where a hire is planned before
        (``begins``): then it is the end of that hire, which is to come as planned.
        """
        ends = event.type == "worker.termination_rescinded"
        if planned:
            stays = begins or not (ends and self._of(event) == "terminated")
        else:
            stays = begins and ends and self._of(event) is None
        return self._rescinding(event, order) if stays else self.after(event, order)

    def _of(self, event: WorkerEvent) -> Status | None:
        """The status of the employment that an event speaks of."""
        if event.employment_id is None:
            return self.status
        return self.named.get(event.employment_id, Said()).within(self.whole).standing

    def _rescinding(self, event: WorkerEvent, order: Order) -> Employment:
        if event.employment_id is None:
            return replace(self, whole=self.whole.rescinding(event, order))
        said = self.named.get(event.employment_id, Said()).rescinding(event, order)
        return replace(self, named={**self.named, event.employment_id: said})


_MOST_IN: Final[Sequence[Status]] = get_args(Status)


def _employment(whole: Said, named: Mapping[str, Said]) -> Employment:
    left = {name: said.since(whole) for name, said in named.items()}
    return Employment(
        whole=whole, named={name: said for name, said in left.items() if said != Said()}
    )


def displaces(newer: WorkerEvent, older: WorkerEvent, at: datetime) -> bool:
    """Whether a planned event falls away where a newer one of its kind takes effect ``at``.

    A planned date is moved by another of its type, and what was to come later is overtaken. What
    comes before still stands: a fixed-term hire is planned together with its end. Plans for another
    employment stand, too.
    """
    if newer.kind == "attributes":
        return newer.type == "worker.snapshot" or _named(older) <= _named(newer)
    assert older.effective_at is not None
    if not _covers(newer, older):
        return False
    if newer.type == "worker.termination_rescinded" and older.type in _LETS_IN:
        return False
    return newer.type == older.type or rescinds(newer, older) or older.effective_at >= at


def rescinds(newer: WorkerEvent, older: WorkerEvent) -> bool:
    return older.type in RESCINDS.get(newer.type, frozenset()) and _covers(newer, older)


def lets_in(newer: WorkerEvent, older: WorkerEvent) -> bool:
    """Whether what is planned is a hire of the employment that a newer event speaks of."""
    return older.type in _LETS_IN and _covers(newer, older)


def follows(newer: WorkerEvent, older: WorkerEvent, at: datetime) -> bool:
    """Whether what is planned belongs to a hire ``at`` that a newer event rescinds: its end, say."""
    assert older.effective_at is not None
    return (
        newer.type == "worker.hire_rescinded" and _covers(newer, older) and older.effective_at >= at
    )


def _covers(newer: WorkerEvent, older: WorkerEvent) -> bool:
    return newer.employment_id is None or newer.employment_id == older.employment_id


_ALL: Final = "*"
"""Stands among a worker's attributes for those that the newest snapshot did not name."""


def attributes_after(
    worker: Mapping[str, Any], event: WorkerEvent, order: Order
) -> dict[str, Any] | None:
    """Attributes to ``[value, order]`` after an event; None where newer ones had said it all.

    A snapshot also clears what it does not name, against older events that come late, too.
    """
    said = dict(event.attributes)
    if event.groups is not None:
        said["groups"] = list(event.groups)
    floor: Order | None = worker[_ALL][1] if _ALL in worker else None
    merged = {
        name: entry
        for name, entry in worker.items()
        if event.type != "worker.snapshot" or is_newer(entry[1], order)
    }
    heard = not said
    for name, value in said.items():
        if name != _ALL and is_newer(order, worker[name][1] if name in worker else floor):
            merged[name] = [value, order]
            heard = True
    if event.type == "worker.snapshot" and is_newer(order, floor):
        merged[_ALL] = [None, order]
        heard = True
    return merged if heard else None


def _named(event: WorkerEvent) -> set[str]:
    return set(event.attributes) | ({"groups"} if event.groups is not None else set())
