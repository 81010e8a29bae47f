"""``provisioner user``: an operator's lock is one cause among others, and only theirs to lift."""

from __future__ import annotations

from service.directory import accounts
from service.workers import WorkerEvent
from tests.operators.house import House


def test_block_locks_out_at_once_as_a_leaver(house: House) -> None:
    user = house.create("ada@acme.example")

    ended = house.run(
        "user", "block", "acme", "ada@acme.example", "--reason", "lost laptop", "--json"
    )

    (row,) = ended.rows
    assert row["causes"] == ["locked-by-operator"]
    event = house.event(row["event"])
    assert (event.door, event.type, event.user_id) == ("operator", "operator.block", user.id)
    account = house.transact(lambda tx: accounts.get(tx, str(user.account_id)))
    assert account is not None
    assert account.leaver
    assert account.due_at is not None
    assert house.user(user.id).lock_reason == "lost laptop"


def test_block_supersedes_what_was_under_way(house: House) -> None:
    house.create("ada@acme.example")
    (created,) = house.events()

    house.run("user", "block", "acme", "ada@acme.example")

    assert house.event(created.id).state == "superseded"


def test_unblock_lifts_only_the_operators_cause(house: House) -> None:
    user = house.create("ada@acme.example", externalId="7")
    house.tell(WorkerEvent(type="worker.terminated", worker_id="7"))
    house.run("user", "block", "acme", user.id)

    lifted = house.run("user", "unblock", "acme", user.id, "--json")

    (row,) = lifted.rows
    assert row["causes"] == ["terminated-in-hr"]
    assert house.user(user.id).locked_at is None
    assert "terminated-in-hr" in house.run("user", "unblock", "acme", user.id).out


def test_unblocking_who_is_not_locked_is_no_event(house: House) -> None:
    user = house.create("ada@acme.example")
    before = house.events()

    ended = house.run("user", "unblock", "acme", user.id)

    assert ended.status == 0
    assert "was not locked" in ended.out
    assert house.events() == before
    assert house.run("audit", "--json").rows == []


def test_user_is_found_by_any_name_within_the_organization_only(house: House) -> None:
    user = house.create("ada@acme.example", externalId="x-7")
    house.tell(WorkerEvent(type="worker.hired", worker_id="x-7"))

    for name in (user.id, "ADA@acme.example", "x-7"):
        (shown,) = house.run("user", "show", "acme", name, "--json").rows
        assert shown["user"]["id"] == user.id
    for organization, name in (("acme", "nobody"), ("globex", user.id)):
        ended = house.run("user", "block", organization, name)
        assert (ended.status, ended.out) == (1, "")
        assert "Nobody in" in ended.err


def test_name_of_several_users_is_refused_with_their_ids(house: House) -> None:
    first = house.create("a@acme.example", externalId="same")
    second = house.create("b@acme.example", externalId="same")

    ended = house.run("user", "block", "acme", "same")

    assert ended.status == 1
    assert first.id in ended.err
    assert second.id in ended.err


def test_show_puts_desired_beside_observed_with_the_plan(house: House) -> None:
    user = house.create("ada@acme.example", name={"givenName": "Ada"})

    (shown,) = house.run("user", "show", "acme", user.id, "--json").rows
    text = house.run("user", "show", "acme", user.id).out

    aspects = {each["name"]: (each["desired"], each["observed"]) for each in shown["aspects"]}
    assert aspects["in Auth0"] == ("present", "absent")
    assert aspects["given name"] == ("Ada", "")
    assert aspects["member of acme"] == ("yes", "no")
    assert [step.split()[0] for step in shown["plan"]] == ["create-user", "add-member"]
    assert [moment["what"] for moment in shown["timeline"]] == ["scim users.create"]
    assert "create-user" in text
    assert "≠" in text
