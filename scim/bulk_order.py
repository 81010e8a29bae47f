"""Which operations of a Bulk may run now: the order as sent, except that an operation waits for those
it refers to. Knows what they say of each other, not how they are carried out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scim.bulk_references import references, referring, resolve, without
from scim.bulk_request import BulkOperation
from scim.errors import ScimError, invalid_value
from scim.operations import PATCH_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is to be done now for an operation, its references resolved.

    ``final``: its outcome is the operation's. ``refused``: it cannot be done, and why. ``created``:
    the path of the resource that an earlier step made.
    """

    operation: BulkOperation
    method: str
    segments: tuple[str, ...]
    data: Any = None
    final: bool = True
    refused: ScimError | None = None
    created: tuple[str, ...] | None = None


@dataclass(slots=True, kw_only=True)
class _Waiting:
    operation: BulkOperation
    needs: frozenset[str]
    after: int | None = None
    """The operation on the same resource before this one."""
    created: tuple[str, ...] | None = None


class Agenda:
    """What is left of a Bulk. ``next`` says what comes now, ``settle`` what came of it."""

    def __init__(self, operations: Sequence[BulkOperation]) -> None:
        self._creators = {
            operation.bulk_id: operation.index
            for operation in reversed(operations)  # of two with one bulkId the first counts
            if operation.creates and operation.bulk_id is not None
        }
        self._ids: dict[str, str] = {}
        self._failed: set[str] = set()
        self._waiting: dict[int, _Waiting] = {}
        last: dict[tuple[str, ...], int] = {}
        for operation in operations:
            self._waiting[operation.index] = _Waiting(
                operation=operation,
                needs=self._needs(operation),
                after=last.get(operation.segments),
            )
            if len(operation.segments) > 1:
                last[operation.segments] = operation.index

    def next(self, most: int) -> list[Step]:
        """What to do now, in any order, all of it before ``next`` is asked again; empty at the end.

        More than one where nothing that they do depends on the order.
        """
        chosen: list[Step] = []
        touched: set[str] = set()
        for waiting in self._ready():
            step = self._step(waiting)
            names = independent(step)
            alike = not chosen or step.method == chosen[0].method
            if chosen and (names is None or not alike or names & touched):
                break
            chosen.append(step)
            if names is None or len(chosen) >= most:
                break
            touched |= names
        if not chosen and self._waiting:
            return [self._relaxed(self._of_a_circle())]
        return chosen

    def settle(self, step: Step, segments: tuple[str, ...] | None) -> None:
        """``segments``: the path of the resource that a step was about; None where it failed."""
        operation = step.operation
        waiting = self._waiting.pop(operation.index)
        name = operation.bulk_id
        if name and self._creators.get(name) == operation.index and waiting.created is None:
            if segments is None:
                self._failed.add(name)
            else:
                self._ids[name] = segments[-1]
        if not step.final and segments is not None:
            waiting.created = segments
            self._waiting[operation.index] = waiting

    def left(self) -> list[Step]:
        """What has not been done, and will not be: refused, in the order as sent."""
        error = ScimError(424, "Not carried out: the request had as many errors as failOnErrors.")
        return [_refused(waiting, error) for _, waiting in sorted(self._waiting.items())]

    def _needs(self, operation: BulkOperation) -> frozenset[str]:
        parts = [operation.data, *operation.segments[1:]]
        return frozenset(references(parts, self._creators))

    def _unsettled(self, waiting: _Waiting) -> Iterator[str]:
        for name in waiting.needs:
            if name in self._creators and name not in self._ids and name not in self._failed:
                yield name

    def _ready(self) -> Iterator[_Waiting]:
        """From the first that need not wait to the first after it that must."""
        begun = False
        for index in sorted(self._waiting):
            waiting = self._waiting[index]
            if self._must_wait(waiting):
                if begun:
                    return
                continue
            begun = True
            yield waiting

    def _must_wait(self, waiting: _Waiting) -> bool:
        if waiting.after in self._waiting:
            return True
        unsettled = next(self._unsettled(waiting), None)
        return unsettled is not None and self._hindrance(waiting) is None

    def _step(self, waiting: _Waiting) -> Step:
        hindrance = self._hindrance(waiting)
        if hindrance is not None:
            return _refused(waiting, hindrance)
        operation = waiting.operation
        if waiting.created is None:
            return self._resolved(waiting, operation.data, final=True)
        added = resolve(referring(operation.data, waiting.needs), self._ids)
        patch = {"schemas": [PATCH_SCHEMA], "Operations": [{"op": "add", "value": added}]}
        return Step(
            operation=operation,
            method="PATCH",
            segments=waiting.created,
            data=patch,
            created=waiting.created,
        )

    def _resolved(self, waiting: _Waiting, data: Any, *, final: bool) -> Step:
        operation = waiting.operation
        return Step(
            operation=operation,
            method=operation.method,
            segments=tuple(resolve(list(operation.segments), self._ids)),
            data=resolve(data, self._ids),
            final=final,
        )

    def _hindrance(self, waiting: _Waiting) -> ScimError | None:
        """Why an operation cannot be carried out, whatever comes; None where nothing is known."""
        if waiting.operation.refused is not None:
            return waiting.operation.refused
        for name in sorted(waiting.needs):
            if name not in self._creators:
                return invalid_value(f"No POST of this request has the bulkId {name[:100]}.")
            if name in self._failed:
                made = "Created, but without its reference: " if waiting.created else ""
                detail = f"{made}what has the bulkId {name[:100]} was not created."
                return ScimError(409, detail[0].upper() + detail[1:])
        return None

    def _of_a_circle(self) -> _Waiting:
        """The first operation of a circle: all that are left wait for one, or are in one."""
        seen: dict[int, None] = {}
        index = min(self._waiting)
        while index not in seen:
            seen[index] = None
            waiting = self._waiting[index]
            if waiting.after is not None and waiting.after in self._waiting:
                index = waiting.after
            else:
                index = self._creators[min(self._unsettled(waiting))]
        path = list(seen)
        return self._waiting[min(path[path.index(index) :])]

    def _relaxed(self, waiting: _Waiting) -> Step:
        """Creates it without what refers to resources that do not exist yet; a later step adds that."""
        waiting.needs = frozenset(self._unsettled(waiting))
        data = without(waiting.operation.data, waiting.needs)
        return self._resolved(waiting, data, final=False)


def _refused(waiting: _Waiting, error: ScimError) -> Step:
    operation = waiting.operation
    return Step(
        operation=operation,
        method=operation.method,
        segments=waiting.created or operation.segments,
        refused=error,
        created=waiting.created,
    )


_NAMING: Final = ("username", "externalid")


def independent(step: Step) -> frozenset[str] | None:
    """What a step takes or touches, by name; None where it must run alone.

    Creates of users depend on the order where they take the same name or address, or are the same
    person; deletions where they are of the same user. Others see what came before them.
    """
    if step.refused is not None:
        return frozenset()
    if step.segments[0] != "Users" or not step.final or step.created is not None:
        return None
    if step.method == "DELETE":
        return frozenset(step.segments[1:])
    return frozenset(_taken(step.data)) if step.method == "POST" else None


def _taken(value: object, *, naming: bool = False) -> Iterator[str]:
    if isinstance(value, str):
        if naming or "@" in value:
            yield value.casefold()
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _taken(part, naming=naming or key.casefold().endswith(_NAMING))
    elif isinstance(value, list):
        for part in value:
            yield from _taken(part, naming=naming)
