"""What an answer of Auth0 means for an organization's set-up. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from service.auth0.answers import Answer
from service.provisioning.effects import Later, TenantRefused
from service.provisioning.setup import operations as op
from service.provisioning.setup.operations import Operation
from service.provisioning.setup.perform import INDEX_LAGS, NOT_EMPTY
from service.provisioning.setup.plan import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """``id``: Auth0's, of what was made; empty for anything else."""

    id: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The same call will be refused again: an operator must act, then apply again."""

    problem: Problem
    status: int | None = None
    request_id: str | None = None


Effect = Done | Later | Refused | TenantRefused[Refused]

MOST_CONFLICTS: Final = 5
"""So often may Auth0 say that there is one of this name and show none, before we give up: names of
deleted ones stay taken for a while."""


def interpret(operation: Operation | None, answer: Answer, *, attempts: int) -> Effect:
    """What this answer means. ``operation``: None for a read, which settles no doubt where it fails.
    ``attempts``: failed ones before it.
    """
    effect = _interpret(operation, answer, attempts)
    if operation is None and isinstance(effect, Later):
        return replace(effect, doubt=True)
    return effect


def _interpret(operation: Operation | None, answer: Answer, attempts: int) -> Effect:
    what = operation.kind.replace("-", " ") if operation is not None else "read the set-up"
    match answer.verdict:
        case "ok":
            data = answer.data if isinstance(answer.data, dict) else {}
            return Done(id=str(data.get("id") or ""), request_id=answer.request_id)
        case "rate-limited":
            return Later(
                reason="rate limited by Auth0", after=answer.retry_after or 0.0, counted=False
            )
        case "unreachable":
            return Later(reason=f"not reached: {answer.message}")
        case "withheld":
            return Later(reason=f"put off: {answer.message}", after=0.0, counted=False)
        case "doubtful":
            said = answer.status or answer.message
            return Later(reason=f"no clear answer from Auth0 to {what} ({said})", doubt=True)
        case "unauthorized":
            return TenantRefused(
                reason=answer.message or "Auth0 refused the token", status=answer.status
            )
        case "forbidden":
            return _forbidden(what, answer)
        case "not-found" if isinstance(operation, op.DeleteConnection | op.DeleteOrganization):
            return Done(request_id=answer.request_id)
        case "not-found" if attempts < MOST_CONFLICTS:
            return Later(reason=f"what {what} needs has gone meanwhile", after=0.5)
        case "conflict" if attempts < MOST_CONFLICTS:
            return Later(reason=f"Auth0 has one of this name already ({what})", doubt=True)
        case "refused" if answer.code == INDEX_LAGS:
            return Later(reason=answer.message)
        case _:
            return _refused(what, answer)


def _forbidden(what: str, answer: Answer) -> Effect:
    if answer.lacks_scope:
        needed = answer.message.partition("any of:")[2].strip() or "its scope"
        advice = f"Grant {needed} to our application (Applications, APIs, Management API), then"
        return _problem("insufficient_scope", what, answer, f"{advice} apply again.")
    if answer.code == "insufficient_entitlement":
        return _problem(
            "insufficient_entitlement",
            what,
            answer,
            "The tenant's plan does not include it: change the plan, or what is declared.",
        )
    return TenantRefused(
        reason=answer.message or "Auth0 forbids this call: check the scopes",
        status=answer.status,
        alone=_refused(what, replace(answer, code=answer.problem_code or "forbidden")),
    )


def _refused(what: str, answer: Answer) -> Refused:
    if answer.code == NOT_EMPTY:
        return _problem(
            NOT_EMPTY,
            what,
            answer,
            "They are none of ours: move or delete them in Auth0, then decommission again.",
        )
    if answer.verdict == "conflict":
        advice = "Look for it in Auth0, or choose another name; then apply again."
        return _problem("name_taken", what, answer, advice)
    return _problem(
        answer.problem_code or "bad_request",
        what,
        answer,
        "Correct what Auth0 names, then apply again.",
    )


def _problem(code: str, what: str, answer: Answer, advice: str) -> Refused:
    said = f": {answer.message}" if answer.message else ""
    status = f"{answer.status}, " if answer.status else ""
    return Refused(
        problem=Problem(
            code=code, message=f"Auth0 refused to {what} ({status}{code}){said}.", advice=advice
        ),
        status=answer.status,
        request_id=answer.request_id,
    )
