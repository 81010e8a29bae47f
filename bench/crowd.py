"""Thousands of people who are in Auth0 and in the directory as they should be: copies of one who came
there by the lanes, written as rows to both. The simulator must keep its state on disk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, select, update

from service.directory import accounts, people
from service.directory import tables as t
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.people import User
from tests.directory.crowd import settle_in
from tests.provisioning.world import World

_AT_ONCE: Final = 5_000
_TABLES: Final = ("users", "identities", "user_index", "members", "member_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody in the crowd. ``auth0_id``: of the user in Auth0."""

    user_id: str
    account_id: str
    auth0_id: str
    address: str


async def copies(world: World, of: User, count: int, *, name: str) -> list[Person]:
    """So many more people like somebody who is settled, in the same organization."""
    model, connection = await _model(world, of)
    now = world.clock.now()
    found: list[Person] = []
    for start in range(0, count, _AT_ONCE):
        some = min(_AT_ONCE, count - start)

        def settle(tx: Transaction, some: int = some, start: int = start) -> list[Person]:
            ids = settle_in(tx, of.organization, some, now, name=f"{name}{start}")
            made = _people(tx, ids)
            _observe(tx, made, model, connection)
            return made

        made = await world.database.transact(settle)
        _plant(world, model, made)
        found += made
    return found


def strangers(world: World, of: Person, count: int) -> None:
    """So many users of the same connection whom the directory knows nothing of."""
    made = [
        Person(
            user_id="",
            account_id="",
            auth0_id=f"auth0|stranger{number:06}",
            address=f"stranger{number}@elsewhere.example",
        )
        for number in range(count)
    ]
    _plant(world, of, made, tables=_TABLES[:3])


def spoil(world: World, statement: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Changes the simulator's state behind everybody's back."""
    with closing(_opened(world)) as database, database:
        database.executemany(statement, rows)


async def _model(world: World, of: User) -> tuple[Person, Account]:
    def look(tx: Transaction) -> Account:
        user = people.get(tx, of.id)
        assert user is not None
        assert user.account_id is not None
        assert user.state == "applied"
        account = accounts.get(tx, user.account_id)
        assert account is not None
        return account

    account = await world.database.read(look)
    model = Person(
        user_id=of.id,
        account_id=account.id,
        auth0_id=account.user_id,
        address=account.identifier,
    )
    return model, account


def _people(tx: Transaction, ids: Sequence[str]) -> list[Person]:
    joined = t.users.join(t.accounts, t.accounts.c.id == t.users.c.account_id)
    rows = tx.execute(
        select(t.users.c.id, t.accounts.c.id, t.accounts.c.user_id, t.accounts.c.identifier)
        .select_from(joined)
        .where(t.users.c.id.between(ids[0], ids[-1]), t.users.c.id.in_(ids))
    )
    return [
        Person(user_id=row[0], account_id=row[1], auth0_id=row[2], address=row[3]) for row in rows
    ]


def _observe(tx: Transaction, made: Sequence[Person], model: Person, account: Account) -> None:
    """What was seen of the model, with each one's own address."""
    text = orjson.dumps(account.observed).decode()
    of = t.accounts.c
    tx.execute(
        update(t.accounts).where(of.id == bindparam("its")).values(observed=bindparam("seen")),
        [{"its": p.account_id, "seen": orjson.loads(_as(text, model, p))} for p in made],
    )


def _plant(
    world: World, model: Person, made: Sequence[Person], *, tables: Sequence[str] = _TABLES
) -> None:
    with closing(_opened(world)) as database, database:
        for table in tables:
            rows = database.execute(
                f"SELECT * FROM {table} WHERE tenant = 'main' AND user_id = ?", (model.auth0_id,)
            ).fetchall()
            for row in rows:
                _copy(database, table, dict(row), model, made)


def _copy(
    database: sqlite3.Connection,
    table: str,
    row: Mapping[str, Any],
    model: Person,
    made: Sequence[Person],
) -> None:
    kept = {name: value for name, value in row.items() if name != "seq"}
    text = json.dumps(kept)
    marks = ", ".join("?" * len(kept))
    database.executemany(
        f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({marks})",
        (tuple(json.loads(_as(text, model, person)).values()) for person in made),
    )


def _as(text: str, model: Person, person: Person) -> str:
    """The model's document with another one's ids and address; none of them needs escaping."""
    for name in ("auth0_id", "account_id", "address"):
        text = text.replace(getattr(model, name), getattr(person, name))
    own, other = (each.auth0_id.partition("|")[2] for each in (model, person))
    return text.replace(own, other)


def _opened(world: World) -> sqlite3.Connection:
    database = sqlite3.connect(world.folder / "auth0" / "simulator.sqlite3", timeout=30)
    database.row_factory = sqlite3.Row
    return database
