"""One turn at an organization's set-up, step by step: each is one transaction that records the last
result and what is about to be done. Knows the directory and the plan; makes no call itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from service.directory import decommissions, inbox, leases, locks, organizations, outbox, setups
from service.directory.database import Transaction
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.directory.setups import SetUpState
from service.organizations import Tenant
from service.outcomes.data import Error, OrganizationChanged, OrganizationRefused
from service.provisioning.setup import administrator
from service.provisioning.setup.desired import DesiredSetUp, desire
from service.provisioning.setup.effects import Done, Later, Refused
from service.provisioning.setup.observed import ObservedSetUp
from service.provisioning.setup.operations import Operation
from service.provisioning.setup.plan import Plan, Problem
from service.provisioning.turn import Owner

SET_UP: Final = "operator.set_up"
"""The event that lets accounts try again what could not be before."""
READING: Final = "read-set-up"
"""What stands for an operation while nothing but reading is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A set-up whose turn it is. ``attempts``: how many have failed since it was asked for."""

    organization: str
    revision: int
    attempts: int
    desired: DesiredSetUp


def begin(
    transaction: Transaction, name: str, tenant: Tenant, owner: Owner, now: datetime
) -> Job | None:
    """Opens a turn; None where there is nothing to do (any more)."""
    leases.require(transaction, owner.tenant, owner.fence)
    state = setups.hold(transaction, name)
    if state is None or state.due_at is None or state.due_at > now:
        return None
    registered = organizations.find(transaction, name)
    if registered is None or not _is_ours_to_do(registered, tenant):
        setups.forget(transaction, name)
        return None
    if state.doubt is None:  # so that whoever waits sees that somebody is at it
        reading = {"kind": READING, "name": registered.organization.auth0_name}
        setups.store(transaction, name, now, doubt=reading)
    return Job(
        organization=name,
        revision=state.revision,
        attempts=state.attempts,
        desired=desired_of(transaction, registered, tenant),
    )


def _is_ours_to_do(registered: Registered, tenant: Tenant) -> bool:
    organization = registered.organization
    return organization.tenant == tenant.name and organization.set_up.enabled


def desired_of(
    transaction: Transaction, registered: Registered, tenant: Tenant | None
) -> DesiredSetUp:
    """What the declaration wants; of an organization that ends, that nobody comes in by themselves, and
    once its accounts have gone, the end of all that was made for it.
    """
    organization = registered.organization
    if not registered.decommissioned:
        return desire(organization, tenant)
    ending = decommissions.find(transaction, organization.name)
    if ending is None or ending.stage not in ("dismantling", "ended"):
        return desire(organization, tenant, closed=True)
    others = [
        each.organization
        for each in organizations.every(transaction)
        if each.organization.tenant == organization.tenant
        and each.organization.name != organization.name
        and not each.decommissioned
    ]
    return desire(organization, tenant, dismantle=True, others=others)


def record(
    transaction: Transaction,
    job: Job,
    owner: Owner,
    now: datetime,
    *,
    observed: ObservedSetUp,
    plan: Plan,
    done: tuple[Operation, Done] | None = None,
) -> bool:
    """Keeps the picture, what was done and what is about to be. False: the wish has changed since,
    so this turn ends here.
    """
    leases.require(transaction, owner.tenant, owner.fence)
    state = setups.hold(transaction, job.organization)
    assert state is not None, "a set-up is never taken out of the table"
    if done is not None:
        _tell(transaction, job.organization, *done, now=now)
    replaced = _is_replaced(state, observed) and not job.desired.dismantle
    if replaced:
        organizations.replaced(transaction, job.organization)
    following = plan.operations[0] if plan.operations else None
    setups.store(
        transaction,
        job.organization,
        now,
        observed=observed.as_document(),
        observed_at=now,
        plan=[str(each) for each in plan.operations],
        doubt=following.as_document() if following is not None else None,
        changed=state.changed or done is not None or replaced,
    )
    return state.revision == job.revision


def _is_replaced(state: SetUpState, observed: ObservedSetUp) -> bool:
    """Whether the Organization that was seen last is gone, and all memberships with it."""
    before = (state.observed or {}).get("organization")
    now = observed.organization
    return before is not None and (now is None or now.id != before["id"])


def _tell(
    transaction: Transaction, organization: str, operation: Operation, done: Done, *, now: datetime
) -> None:
    told = OrganizationChanged(
        operation=operation.kind, subject=operation.name, auth0_request_id=done.request_id
    )
    outbox.emit(transaction, told, now=now, organization=organization)


def tell_found(
    transaction: Transaction,
    job: Job,
    owner: Owner,
    now: datetime,
    *,
    left: Plan,
) -> None:
    """Tells of a write whose answer was lost, where reading shows that it was done."""
    leases.require(transaction, owner.tenant, owner.fence)
    state = setups.hold(transaction, job.organization)
    doubt = state.doubt if state is not None else None
    if doubt is None or doubt["kind"] == READING:
        return
    if doubt in [each.as_document() for each in left.operations]:
        return
    told = OrganizationChanged(operation=str(doubt["kind"]), subject=str(doubt["name"]))
    outbox.emit(transaction, told, now=now, organization=job.organization)
    setups.store(transaction, job.organization, now, doubt=None, changed=True)


def postpone(
    transaction: Transaction, job: Job, later: Later, owner: Owner, now: datetime, until: datetime
) -> None:
    """Leaves the set-up due at ``until``; what is in doubt stays recorded, over failed reads too."""
    leases.require(transaction, owner.tenant, owner.fence)
    state = setups.hold(transaction, job.organization)
    if state is None or state.revision != job.revision:
        return  # asked for anew, and due at once
    error = {"class": "transient", "message": later.reason, "problems": []}
    setups.store(
        transaction,
        job.organization,
        now,
        due_at=until,
        attempts=state.attempts + (1 if later.counted else 0),
        error=error if later.counted else state.error,
        doubt=state.doubt if later.doubt else None,
    )


def finish(
    transaction: Transaction,
    job: Job,
    owner: Owner,
    now: datetime,
    *,
    problems: Collection[Problem] = (),
    refused: Refused | None = None,
) -> None:
    """The set-up is as declared, or as near as it gets: what is in the way is told."""
    leases.require(transaction, owner.tenant, owner.fence)
    state = setups.hold(transaction, job.organization)
    registered = organizations.find(transaction, job.organization)
    assert state is not None
    assert registered is not None
    if state.revision != job.revision:
        return
    told = [*problems, *([refused.problem] if refused is not None else [])]
    goes_on = not (job.desired.dismantle or job.desired.closed)
    if not told and goes_on:
        told += administrator.appoint(transaction, registered, state, now)
    if state.changed and goes_on:
        _let_accounts_try_again(transaction, job.organization, now)
    setups.store(
        transaction,
        job.organization,
        now,
        due_at=None,
        doubt=None,
        attempts=0,
        changed=False,
        error=_error(told) if told else None,
        **({} if told else {"applied_revision": state.revision}),
    )
    if told:
        errors = tuple(_as_outcome(each, refused) for each in told)
        outbox.emit(
            transaction, OrganizationRefused(errors=errors), now=now, organization=job.organization
        )


def _error(problems: list[Problem]) -> Mapping[str, Any]:
    return {
        "class": "operator",
        "message": " ".join(each.message for each in problems),
        "problems": [asdict(each) for each in problems],
    }


def _as_outcome(problem: Problem, refused: Refused | None) -> Error:
    answered = refused is not None and refused.problem == problem
    # What Auth0 said stays with operators: it may repeat what it was sent.
    message = problem.message.partition("):")[0] + ")." if answered else problem.message
    return Error(
        kind="operator",
        code=problem.code,
        message=message,
        http_status=refused.status if refused is not None and answered else None,
        auth0_request_id=refused.request_id if refused is not None and answered else None,
    )


def _let_accounts_try_again(transaction: Transaction, organization: str, now: datetime) -> None:
    """What was refused for want of an Organization, a connection or a role may go now."""
    if not locks.accounts_of(transaction, organization):
        return
    received = Received(door="operator", source=locks.SOURCE, type=SET_UP, at=now)
    event_id = inbox.admit(transaction, received, organization).event_id
    locks.touch_organization(transaction, organization, event_id=event_id, now=now)
