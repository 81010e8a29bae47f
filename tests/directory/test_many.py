"""Look-ups for many at once, on both databases."""

from __future__ import annotations

from service.directory import tables as t
from service.directory.many import LookUp
from tests.directory.customer import Customer


async def test_a_condition_may_name_a_column_that_is_looked_up_by(hoekstra: Customer) -> None:
    by_name = LookUp(
        t.users,
        ("organization", "user_name_key"),
        ("id",),
        where="deleted_at IS NULL AND user_name_key IS NOT NULL",
    )
    ada = await hoekstra.create("ada@hoekstra.example")
    wanted = [(hoekstra.name, "eva@hoekstra.example"), (hoekstra.name, "ada@hoekstra.example")]
    found = await hoekstra.database.read(lambda tx: by_name.all(tx, wanted))
    assert [(at, row["id"]) for at, row in found] == [(1, ada.id)]
