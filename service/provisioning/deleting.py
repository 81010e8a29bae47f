"""Whether somebody who is out may be deleted: by policy nobody whom others have changed since. Pure.

A deletion cannot be taken back, so the user is read first. An operator's word needs no such look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from service.directory.events import Problem
from service.provisioning import operations as op
from service.provisioning.desired import Desired
from service.provisioning.observed import DELETION, Observed
from service.provisioning.operations import Operation

_CODE: Final = "changed_by_another"
_WHAT_TO_DO: Final = (
    " It is locked and kept: put right what is wrong and replay, or 'provisioner user release'."
)


def is_due(desired: Desired, observed: Observed) -> bool:
    """Of a user who is a part of another one the rest is not ours, so it is kept."""
    return desired.delete and not observed.linked and DELETION not in observed.refused


def unread(desired: Desired, observed: Observed) -> Observed:
    """The picture without what was seen in an earlier turn, and must be seen before a deletion."""
    if observed.fresh or desired.deletes_by_order or not is_due(desired, observed):
        return observed
    return replace(observed, foreign=None)


def delete(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """The last of a leaving: two reads, and the deletion where nothing speaks against it."""
    if not desired.deletes_by_order:
        if not observed.fresh:
            yield op.ReadUser(subject=desired.principal)
        elif observed.foreign is None:
            yield op.ReadMemberships(subject=desired.principal)
        elif _why_not(observed) is not None:
            return
    yield op.DeleteUser(subject=desired.principal)


def judged(desired: Desired, observed: Observed, revision: int) -> Observed:
    """The picture with the reason why nothing is deleted, as soon as it is seen: a block that was
    lifted is put back before the turn ends."""
    asked = is_due(desired, observed) and not desired.deletes_by_order
    if not asked or not observed.fresh or observed.presence != "present":
        return observed
    why = _why_not(observed)
    if why is None:
        return observed
    problem = Problem(kind="conflict", code=_CODE, message=f"Not deleted: {why}.{_WHAT_TO_DO}")
    refused = problem.as_document() | {"revision": revision}
    return replace(observed, refused={**observed.refused, DELETION: refused})


def _why_not(observed: Observed) -> str | None:
    if observed.lifted:
        return "somebody has lifted our block in Auth0"
    if not observed.marked:
        return "the user in Auth0 does not carry our mark any more"
    if observed.foreign:
        return f"others have made the user a member of {', '.join(observed.foreign)}"
    return None
