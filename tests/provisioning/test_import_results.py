"""What an import job says is believed as far as it adds up; who leaves does not wait for it to end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from service.directory import imports
from service.directory import tables as t
from service.directory.imports import Held
from service.organizations import MassLeavers, Policies
from service.provisioning import import_rows
from tests.provisioning.auth0 import call
from tests.provisioning.test_first_loads import (
    IMPORT,
    QUICK,
    alone_first,
    load,
    require_each_is_there_once,
    tenancy,
)
from tests.provisioning.world import World

PEOPLE = 3


def _held(number: int) -> Held:
    sent = {"email": f"p{number}@x.example", "email_verified": False, "profile": {}}
    return Held(
        id=f"a{number}",
        user_id=f"auth0|k{number}",
        leaver=False,
        doubt={"kind": "create-user", "sent": sent},
    )


HELD = [_held(number) for number in range(PEOPLE)]
TAKEN = [{"code": "DUPLICATED_USER"}]


def _summary(**said: int) -> dict[str, int]:
    return {"failed": 0, "updated": 0, "inserted": PEOPLE, "total": PEOPLE, **said}


def _verdicts(errors: list[Any], summary: dict[str, int] | None) -> list[str]:
    return list(import_rows.verdicts(HELD, errors, summary, sent=PEOPLE).values())


def test_rows_of_a_job_that_adds_up_are_believed() -> None:
    assert _verdicts([], _summary()) == ["inserted"] * 3
    one = {"user": {"email": "P1@x.example"}, "errors": TAKEN}
    summary = _summary(failed=1, inserted=2)
    assert _verdicts([one], summary) == ["inserted", "duplicate", "inserted"]


@pytest.mark.parametrize(
    "summary",
    [
        None,
        {},
        _summary(inserted=2),
        _summary(inserted=2, total=2),
        _summary(total=4, inserted=4),
        _summary(updated=1),
        _summary(failed=1),
    ],
)
def test_a_summary_that_does_not_add_up_leaves_all_to_be_read(
    summary: dict[str, int] | None,
) -> None:
    assert _verdicts([], summary) == ["unknown"] * 3


@pytest.mark.parametrize(
    "error",
    [
        {"errors": TAKEN},
        {"user": {}, "errors": TAKEN},
        {"user": {"email": "somebody@else.example"}, "errors": []},
        {"user": {"email": None}, "errors": None},
    ],
)
def test_an_error_about_nobody_who_was_sent_may_be_about_anybody(error: dict[str, Any]) -> None:
    assert _verdicts([error], _summary(failed=1, inserted=2)) == ["unknown"] * 3


@pytest.fixture
async def quiet(world: World) -> World:
    many = MassLeavers(count=1000)
    await world.declare(hoekstra={"policies": Policies(invite="none", mass_leavers=many)})
    return world


async def test_who_leaves_while_a_job_runs_on_is_blocked_as_soon_as_there_is_a_user(
    quiet: World,
) -> None:
    """A job makes users one by one, and may last for two hours."""
    people = await load(quiet, 30)
    await quiet.fault("job-hangs", "POST", IMPORT)
    await alone_first(quiet, accounts=30)
    for person in people[:25]:
        await quiet.change(person, active=False)
    account = await quiet.database.read(
        lambda tx: tx.execute(
            select(t.accounts.c.id, t.accounts.c.user_id).where(
                t.accounts.c.identifier == "p24@hoekstra.example"
            )
        ).one()
    )
    made = {
        "connection": "hoekstra-users",
        "email": "p24@hoekstra.example",
        "user_id": account.user_id.removeprefix("auth0|"),
        "password": "Someone-elses-1!",
        "app_metadata": {"auth0_provisioner": {"account": account.id}},
    }
    await call(quiet, "POST", "/users", made)
    quiet.work(tenancy(quiet, settings=replace(QUICK, settle_doubt=60.0)))

    async def is_blocked() -> bool:
        user = await quiet.auth0_user("p24@hoekstra.example")
        return user is not None and user["blocked"]

    await quiet.until(is_blocked, 6.0)


async def test_error_rows_that_cannot_be_read_hold_nobody_for_hours(quiet: World) -> None:
    people = await load(quiet)
    await quiet.fault("html-502", "GET", "/jobs/*/errors")
    await alone_first(quiet)
    quiet.work(tenancy(quiet, settings=replace(QUICK, settle_doubt=0.05)))
    await quiet.settled()
    await require_each_is_there_once(quiet, people)
    assert await quiet.database.read(lambda tx: imports.open_ones(tx, "main")) == []
