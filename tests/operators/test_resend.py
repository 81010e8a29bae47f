"""Sending somebody's invitation once more, from the command line and from the console."""

from __future__ import annotations

import pytest

from service.directory import audit, ledger
from service.directory.ledger import Sent
from service.organizations import Policies
from service.people import User
from tests.operators.house import House, acme
from tests.operators.test_console_leavers import OWN, Browser


@pytest.fixture
def ada(house: House) -> User:
    house.declare(acme(policies=Policies(invite="ticket")))
    return house.create("ada@acme.example")


def wanted(house: House, user: User) -> tuple[Sent, ...]:
    account_id = house.user(user.id).account_id
    assert account_id is not None
    return house.transact(lambda tx: ledger.of_account(tx, account_id))


def press(house: House, user: User, **headers: str) -> int:
    path = f"/console/users/{user.id}/resend"
    sent = {name.replace("-", "_"): value for name, value in headers.items()}
    return Browser(house).ask("POST", path, {}, **sent).status_code


def test_a_resend_is_an_operators_event_that_waits_for_the_account(house: House, ada: User) -> None:
    ended = house.run("user", "resend", "acme", "ada@acme.example", "--actor", "olga", "--json")

    (row,) = ended.rows
    event = house.event(row["event"])
    assert (event.door, event.type, event.user_id) == ("operator", "operator.resend", ada.id)
    assert event.state == "accepted"
    (asked,) = wanted(house, ada)
    assert (asked.state, asked.kind, asked.event_id) == ("wanted", "ticket", event.id)
    (entry,) = house.transact(lambda tx: audit.listing(tx, subject=ada.id))
    assert (entry.actor, entry.action) == ("olga", "user.resend")


def test_a_second_resend_is_refused_while_the_first_is_on_its_way(house: House, ada: User) -> None:
    house.run("user", "resend", "acme", ada.id)

    again = house.run("user", "resend", "acme", ada.id)

    assert again.status == 1
    assert "on its way" in again.err
    assert len(wanted(house, ada)) == 1


def test_whoever_is_locked_out_is_sent_nothing(house: House, ada: User) -> None:
    house.run("user", "block", "acme", ada.id)

    ended = house.run("user", "resend", "acme", ada.id)

    assert ended.status == 1
    assert "locked-by-operator" in ended.err
    assert wanted(house, ada) == ()


def test_the_consoles_button_does_the_same(house: House, ada: User) -> None:
    assert "Send the invitation again" in Browser(house).ask("GET", f"/console/users/{ada.id}").text
    assert press(house, ada, **OWN) == 303
    assert [each.state for each in wanted(house, ada)] == ["wanted"]
    assert press(house, ada, **OWN) == 409
    assert len(wanted(house, ada)) == 1


def test_no_other_page_presses_the_button(house: House, ada: User) -> None:
    assert press(house, ada, **{"sec-fetch-site": "cross-site"}) == 403
    assert wanted(house, ada) == ()


def test_there_is_no_button_where_nobody_is_invited(house: House) -> None:
    user = house.create("bob@acme.example")
    assert "invitation" not in Browser(house).ask("GET", f"/console/users/{user.id}").text
    assert press(house, user, **OWN) == 409


def test_a_user_whom_nobody_knows_is_not_found(house: House) -> None:
    assert (
        Browser(house)
        .ask(
            "POST",
            "/console/users/nobody/resend",
            {},
            **{name.replace("-", "_"): value for name, value in OWN.items()},
        )
        .status_code
        == 404
    )
