"""In which tenants there is something to do, of which kind: for those who wait for work. One statement for
all tenants, however many; counts nothing, and holds nobody back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    exists,
    false,
    literal_column,
    or_,
    select,
    true,
    union_all,
)

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.prepared import Prepared

Aspect = Literal[
    "accounts",
    "fan-outs",
    "looks",
    "set-ups",
    "imports",
    "drift",
    "paused",
    "free",
    "calendar",
    "decommissions",
    "snapshots",
]
"""``accounts``: that are due; ``looks``: at who is awaited; ``free``: the tenant has no owner."""
Prospect = tuple[Aspect, str]
"""A kind of work and the tenant; an empty name for what belongs to no tenant."""

SOON: Final[frozenset[Aspect]] = frozenset({"accounts", "fan-outs"})
"""What people wait for: looked for often. All others: seldom."""


def soon(transaction: Transaction, now: datetime) -> list[Prospect]:
    """What there is to do of SOON."""
    return _found(transaction, _SOON, now)


def later(transaction: Transaction, now: datetime) -> list[Prospect]:
    """What there is to do of all other kinds."""
    return _found(transaction, _LATER, now)


def _found(transaction: Transaction, query: Prepared, now: datetime) -> list[Prospect]:
    return [(row["aspect"], row["tenant"]) for row in query.all(transaction, {"now": now})]


_NOW: Final = bindparam("now", type_=t.accounts.c.due_at.type)
_ACCOUNTS, _TENANTS = t.accounts.c, t.tenants.c


def _tenants(aspect: Aspect, *which: ColumnElement[bool]) -> Select[Any]:
    return select(_named(aspect), _TENANTS.name.label("tenant")).where(*which)


def _anybody(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether such an account is in the tenant: a stretch of an index that begins with it."""
    return exists().where(_ACCOUNTS.tenant == _TENANTS.name, *which)


def _of_tenants(aspect: Aspect, column: Any, *which: ColumnElement[bool]) -> Select[Any]:
    """Of a table of which few rows are open."""
    return select(_named(aspect), column.label("tenant")).where(*which).distinct()


def _somewhere(aspect: Aspect, whether: ColumnElement[bool]) -> Select[Any]:
    return select(_named(aspect), literal_column("''").label("tenant")).where(whether)


def _named(aspect: Aspect) -> ColumnElement[Any]:
    return literal_column(f"'{aspect}'").label("aspect")


def _all_of(selects: Sequence[Select[Any]]) -> Prepared:
    return Prepared(union_all(*selects))


_SOON: Final = _all_of(
    [
        _tenants(
            "accounts",
            _TENANTS.paused_at.is_(None),
            or_(  # each a stretch of the index
                _anybody(_ACCOUNTS.leaver == true(), _ACCOUNTS.due_at <= _NOW),
                _anybody(_ACCOUNTS.leaver == false(), _ACCOUNTS.due_at <= _NOW),
            ),
        ),
        _somewhere("fan-outs", exists().select_from(t.fanouts)),
    ]
)
_LATER: Final = _all_of(
    [
        _tenants("looks", _TENANTS.paused_at.is_(None), _anybody(_ACCOUNTS.look_at <= _NOW)),
        _tenants(
            "imports",
            _TENANTS.paused_at.is_(None),
            _anybody(_ACCOUNTS.leaver == false(), _ACCOUNTS.due_at <= _NOW),
        ),
        _of_tenants("imports", t.imports.c.tenant, t.imports.c.ended_at.is_(None)),
        _of_tenants("set-ups", t.setups.c.tenant, t.setups.c.due_at <= _NOW),
        _of_tenants("drift", t.drift_checks.c.tenant, t.drift_checks.c.ended_at.is_(None)),
        _of_tenants("drift", t.drift_findings.c.tenant, t.drift_findings.c.correcting),
        _tenants("paused", _TENANTS.paused_at.is_not(None)),
        _tenants("free", or_(_TENANTS.owner.is_(None), _TENANTS.lease_until <= _NOW)),
        _somewhere("calendar", exists().where(t.schedule.c.due_at <= _NOW)),
        _somewhere("decommissions", exists().where(t.decommissions.c.ended_at.is_(None))),
        _somewhere("snapshots", exists().where(t.snapshots.c.ended_at.is_(None))),
    ]
)
