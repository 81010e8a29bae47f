"""What nearly every write of the SCIM door comes to, in one statement: somebody new gets an account,
and who stays in changes.

Where a write does not take this course nothing is written, and service.directory.intent decides.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ARRAY, BindParameter, Integer, Table, Text, bindparam, column, text

from service.choosing import choose
from service.directory import inbox, people, waits
from service.directory import tables as t
from service.directory import user_rows as rows
from service.directory.database import Transaction
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.directory.prepared import Prepared
from service.errors import UniquenessConflict
from service.ids import account_key, new_ids
from service.organizations import Organization
from service.people import User, address_in, identifier_of, is_wanted

NAME_TAKEN: Final = "Another user of this organization has this userName."


def wanted_address(user: User, registered: Registered) -> tuple[str, str] | None:
    """Tenant and address of someone who is in; None who is out or has no address."""
    if not registered.wants(user):
        return None
    address = identifier_of(user, registered.organization)
    return (registered.organization.tenant, address) if address is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """What is written of somebody new: rows by column, and the addresses they are found by."""

    user: User
    row: Mapping[str, Any]
    account: Mapping[str, Any]
    event: Mapping[str, Any]
    emails: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staying:
    """What is written of somebody who stays in. ``row``: the columns that change."""

    user: User
    row: Mapping[str, Any]
    account_id: str
    identifier: str
    event: Mapping[str, Any]


def joining(
    organization: Organization, resource: Mapping[str, Any], received: Received
) -> Joining | None:
    """Somebody new with an account of their own, and the event that waits for it; None for one who
    is to have none. The organization is not at its end.
    """
    identifier = address_in(resource)
    if identifier is None or received.source_id:
        return None
    user_id, account_id, fresh = new_ids(received.at, 3)
    event_id = received.id or fresh
    decided = {"identifier": identifier, "account_id": account_id, "last_event_id": event_id}
    user = rows.new_user(organization, resource, received.at, id=user_id, **decided)
    if not is_wanted(user, organization):
        return None
    account = {
        "id": account_id,
        "tenant": organization.tenant,
        "connection": choose(organization, user, ()).name,
        "user_id": f"auth0|{account_key()}",
        "identifier": identifier,
        "revision": 1,
        "applied_revision": 0,
        "observed": {},
        "due_at": received.at,
        "modified_at": received.at,
    }
    return Joining(
        user=user,
        row=rows.first_columns(user) | decided,
        account=account,
        event=inbox.row_of(received, event_id, user.organization, user_id),
        emails=sorted(rows.email_keys(user)),
    )


def staying(registered: Registered, before: User, user: User, received: Received) -> Staying | None:
    """Someone who is in and stays in, under the same address; None where anything else is at stake.

    ``user``: as ``before`` is to be.
    """
    address = wanted_address(user, registered)
    account_id = before.account_id
    if address is None or before.withheld is not None or account_id is None or received.source_id:
        return None
    if wanted_address(before, registered) != address or before.identifier != address[1]:
        return None
    event_id = received.id or new_ids(received.at, 1)[0]
    decided: dict[str, Any] = {"last_event_id": event_id}
    if before.state != "pending" or before.detail is not None:
        decided |= {"state": "pending", "detail": None}
    return Staying(
        user=dataclasses.replace(user, **decided),
        row=rows.changed_columns(before, user) | decided,
        account_id=account_id,
        identifier=address[1],
        event=inbox.row_of(received, event_id, user.organization, user.id),
    )


def join(
    transaction: Transaction,
    registered: Registered,
    resource: Mapping[str, Any],
    received: Received,
) -> User | None:
    """Stores a user whom nobody knew, as ``joining`` has it.

    For one who holds the address of ``wanted_address``. None, and nothing written, where the address
    is somebody's already, or on SQLite, which gains nothing. Raises UniquenessConflict.
    """
    if transaction.dialect.name != "postgresql" or registered.decommissioned:
        return None
    new = joining(registered.organization, resource, received)
    if new is None:
        return None
    values = _named(account=new.account, event=new.event, user=new.row) | {"emails": new.emails}
    statement = _join(tuple(new.account), tuple(new.event), tuple(new.row))
    done = statement.first(transaction, values)
    assert done is not None, "a count is a row"
    if done["opened"] == 0:
        return None
    if done["stored"] == 0:
        raise UniquenessConflict(NAME_TAKEN)
    return new.user


def stay(
    transaction: Transaction,
    registered: Registered,
    before: User,
    user: User,
    received: Received,
) -> User | None:
    """Stores what changes of someone of whom ``staying`` has it, for one who holds ``before``.

    None, and nothing written, where it does not, or the account is not theirs any more.
    """
    stays = staying(registered, before, user, received)
    if stays is None:
        return None
    account = {
        "id": stays.account_id,
        "identifier": stays.identifier,
        "modified_at": received.at,
    }
    event, row = stays.event, stays.row
    if transaction.dialect.name == "postgresql":
        values = _named(account=account, event=event, user={**row, "id": user.id})
        done = _stay(tuple(event), tuple(row)).first(transaction, values)
    else:
        done = _TOUCH.first(transaction, _named(account=account))
        if done is not None:
            _ACCEPT.run(transaction, event)
            waits.wait(transaction, event["id"], stays.account_id, user.id, done["revision"])
            people.store(transaction, user.id, **row)
    return stays.user if done is not None else None


def _named(**rows: Mapping[str, Any]) -> dict[str, Any]:
    """The values of several rows, each name with that of its row before it."""
    return {f"{row}_{name}": value for row, known in rows.items() for name, value in known.items()}


def _bound(table: Table, row: str, names: Sequence[str]) -> list[BindParameter[Any]]:
    return [bindparam(f"{row}_{name}", type_=table.c[name].type) for name in names]


def _insert(table: Table, row: str, names: Sequence[str], source: str) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    bound = ", ".join(f":{row}_{name}" for name in names)
    return f"INSERT INTO {table.name} ({quoted}) SELECT {bound} FROM {source}"  # noqa: S608 - our own names


# Due already keeps its place, a leaver who came back too: as accounts.touch has it.
_TOUCHED: Final = (
    "UPDATE accounts SET revision = revision + 1, attempts = 0, error = NULL,"
    " due_at = CASE WHEN due_at < :account_modified_at THEN due_at ELSE :account_modified_at END,"
    " leaver = due_at IS NOT NULL AND leaver, modified_at = :account_modified_at"
    " WHERE id = :account_id AND identifier = :account_identifier AND closed_at IS NULL"
    " RETURNING revision"
)
_OF_ACCOUNT: Final = _bound(t.accounts, "account", ("id", "identifier", "modified_at"))
_TOUCH: Final = Prepared(text(_TOUCHED).bindparams(*_OF_ACCOUNT).columns(t.accounts.c.revision))
_ACCEPT: Final = Prepared(t.events.insert())
_WAIT: Final = "INSERT INTO waits (event_id, account_id, user_id, revision) SELECT :event_id,"


@functools.cache
def _stay(event: tuple[str, ...], user: tuple[str, ...]) -> Prepared:
    changes = ", ".join(f'"{name}" = :user_{name}' for name in user)
    statement = text(
        f"WITH touched AS ({_TOUCHED}),"  # noqa: S608 - our own names
        f" accepted AS ({_insert(t.events, 'event', event, 'touched')}),"
        f" waiting AS ({_WAIT} :account_id, :user_id, revision FROM touched)"
        f" UPDATE users SET {changes} FROM touched WHERE id = :user_id RETURNING touched.revision"
    )
    bound = [*_OF_ACCOUNT, *_bound(t.events, "event", event), *_bound(t.users, "user", user)]
    of = _bound(t.users, "user", ("id",))
    return Prepared(statement.bindparams(*bound, *of).columns(t.accounts.c.revision))


@functools.cache
def _join(account: tuple[str, ...], event: tuple[str, ...], user: tuple[str, ...]) -> Prepared:
    # Within an organization one user holds an address: the one with an account.
    free = (
        "(SELECT) AS here WHERE NOT EXISTS (SELECT FROM users WHERE organization ="
        " :user_organization AND identifier = :account_identifier AND account_id IS NOT NULL)"
    )
    statement = text(
        f"WITH opened AS ({_insert(t.accounts, 'account', account, free)}"  # noqa: S608 - our own names
        " ON CONFLICT DO NOTHING RETURNING id),"
        f" accepted AS ({_insert(t.events, 'event', event, 'opened')}),"
        f" waiting AS ({_WAIT} id, :user_id, 1 FROM opened),"
        f" stored AS ({_insert(t.users, 'user', user, 'opened')}"
        " ON CONFLICT DO NOTHING RETURNING id, organization),"
        " addressed AS (INSERT INTO user_emails (user_id, value_key, organization)"
        " SELECT stored.id, given.value_key, stored.organization"
        " FROM stored, unnest(:emails) AS given(value_key))"
        " SELECT (SELECT count(*) FROM opened) AS opened, (SELECT count(*) FROM stored) AS stored"
    )
    bound_values = [
        *_bound(t.accounts, "account", account),
        *_bound(t.events, "event", event),
        *_bound(t.users, "user", user),
        bindparam("emails", type_=ARRAY(Text)),
    ]
    told = column("opened", Integer), column("stored", Integer)
    return Prepared(statement.bindparams(*bound_values).columns(*told))
