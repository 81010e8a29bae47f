"""Who is who: identifiers, accounts, one person from two sources, and coming back."""

import pytest

from service.directory import users
from service.directory.database import Database
from service.errors import NotFound, UniquenessConflict, VersionConflict
from service.organizations import Connection, Organization
from service.people import is_address
from tests.directory.customer import Customer, registered

ANN = "ann@hoekstra.example"
BOB = "bob@hoekstra.example"


# Identifiers


@pytest.mark.parametrize(
    ("user_name", "emails", "identifier"),
    [
        ("ann", [{"value": "A@x.example"}, {"value": BOB, "primary": True}], BOB),
        ("ann", [{"value": "Ann@Hoekstra.Example"}], ANN),
        (BOB, [{"value": ANN}], ANN),
        (ANN, [], ANN),
        (ANN, [{"value": "not an address"}], ANN),
        ("ann", [], None),
    ],
)
async def test_the_identifier_is_the_primary_email_else_a_user_name_that_is_an_address(
    hoekstra: Customer,
    user_name: str,
    emails: list[dict[str, object]],
    identifier: str | None,
) -> None:
    user = await hoekstra.create(user_name, emails=emails)
    assert user.identifier == identifier


async def test_a_user_without_an_address_is_stored_and_told_why_nothing_happens(
    hoekstra: Customer,
) -> None:
    user = await hoekstra.create("ann")
    assert (user.state, user.account_id) == ("waiting", None)
    assert user.detail is not None
    assert "e-mail" in user.detail
    event = (await hoekstra.events())[0]
    assert (event.state, event.result) == ("succeeded", "waiting")


async def test_an_address_that_comes_later_makes_the_account(hoekstra: Customer) -> None:
    user = await hoekstra.create("ann")
    user = await hoekstra.change(user, emails=[{"value": ANN}])
    assert (user.state, user.identifier) == ("pending", ANN)
    assert user.account_id is not None


async def test_a_second_user_with_an_address_is_stored_as_failed(hoekstra: Customer) -> None:
    await hoekstra.create("ann", emails=[{"value": ANN}])
    second = await hoekstra.create("ann.2", emails=[{"value": ANN.upper()}])
    assert (second.state, second.account_id) == ("failed", None)
    assert await hoekstra.states() == ["accepted", "deadlettered"]
    assert await hoekstra.last_problem() == "identifier_in_use"


async def test_a_change_to_an_address_in_use_fails_and_keeps_the_account(
    hoekstra: Customer,
) -> None:
    await hoekstra.create(ANN)
    bob = await hoekstra.create(BOB)
    changed = await hoekstra.change(bob, emails=[{"value": ANN}])
    assert (changed.state, changed.account_id) == ("failed", bob.account_id)
    account = await hoekstra.account(bob)
    assert account is not None
    assert account.identifier == BOB


async def test_an_address_is_free_again_when_its_user_has_moved_to_another(
    hoekstra: Customer,
) -> None:
    ann = await hoekstra.create("ann", emails=[{"value": ANN}])
    await hoekstra.change(ann, emails=[{"value": "ann.b@hoekstra.example"}])
    second = await hoekstra.create("ann.2", emails=[{"value": ANN}])
    assert second.state == "pending"
    assert second.account_id != ann.account_id


async def test_a_user_name_is_one_users_whatever_its_case(hoekstra: Customer) -> None:
    ann = await hoekstra.create(ANN)
    bob = await hoekstra.create(BOB)
    with pytest.raises(UniquenessConflict):
        await hoekstra.create(ANN.upper())
    with pytest.raises(UniquenessConflict):
        await hoekstra.change(bob, userName=ANN.title())
    assert await hoekstra.states() == ["accepted", "accepted"]
    assert (await hoekstra.change(ann, userName=ANN.upper())).version == 2


async def test_a_user_name_is_free_again_when_its_user_is_deleted(hoekstra: Customer) -> None:
    ann = await hoekstra.create("ann")
    await hoekstra.delete(ann)
    assert (await hoekstra.create("ann")).id != ann.id


async def test_a_line_break_makes_no_address() -> None:
    assert is_address(ANN)
    assert not is_address(ANN + "\n")


async def test_an_account_key_tells_nothing_of_the_address(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN)
    account = await hoekstra.account(user)
    assert account is not None
    assert account.user_id.startswith("auth0|")
    assert "ann" not in account.user_id
    assert account.due_at is not None


async def test_after_its_account_was_closed_a_user_gets_a_new_one(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN)
    await hoekstra.apply()
    before = await hoekstra.account(user)
    await hoekstra.close_account_of(user)
    await hoekstra.change(user, displayName="Ann")
    after = await hoekstra.account(user)
    assert before is not None
    assert after is not None
    assert before.user_id != after.user_id
    assert after.closed_at is None
    assert len(await hoekstra.apply()) == 1
    assert await hoekstra.states() == ["succeeded", "succeeded"]


async def test_a_leaver_whose_account_is_closed_leaves_nothing_to_wait_for(
    hoekstra: Customer,
) -> None:
    user = await hoekstra.create(ANN)
    await hoekstra.apply()
    await hoekstra.close_account_of(user)
    await hoekstra.delete(user)
    assert await hoekstra.states() == ["succeeded", "succeeded"]


# Organizations side by side


async def test_organizations_of_the_shared_model_share_a_persons_account(
    clinics: tuple[Customer, Customer],
) -> None:
    a, b = clinics
    in_a, in_b = await a.create(ANN), await b.create(ANN)
    assert in_a.account_id == in_b.account_id
    assert {in_a.state, in_b.state} == {"pending"}


async def test_within_a_shared_organization_one_user_holds_an_account(
    clinics: tuple[Customer, Customer],
) -> None:
    a, _ = clinics
    ann = await a.create("ann", emails=[{"value": ANN}])
    await a.change(ann, emails=[{"value": BOB}])
    taker = await a.create("taker", emails=[{"value": ANN}])
    assert (taker.state, taker.account_id) == ("failed", None)


async def test_a_shared_account_keeps_its_address(clinics: tuple[Customer, Customer]) -> None:
    a, _ = clinics
    ann = await a.create("ann", emails=[{"value": ANN}])
    await a.change(ann, emails=[{"value": BOB}])
    account = await a.account(ann)
    assert account is not None
    assert account.identifier == ANN


async def test_two_isolated_organizations_never_share_an_account(database: Database) -> None:
    pool = (Connection(name="pool"),)
    one = await registered(database, Organization(name="one", connections=pool))
    two = await registered(database, Organization(name="two", connections=pool))
    await one.create(ANN)
    assert (await two.create(ANN)).state == "failed"


async def test_an_organization_does_not_see_anothers_user(
    clinics: tuple[Customer, Customer],
) -> None:
    a, b = clinics
    user = await a.create(ANN)
    with pytest.raises(NotFound):
        await b.change(user, displayName="Mallory")
    with pytest.raises(NotFound):
        await b.delete(user)


async def test_a_change_of_an_old_version_is_refused(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN)
    await hoekstra.change(user, displayName="Ann")
    with pytest.raises(VersionConflict):
        await hoekstra.database.transact(
            lambda tx: users.delete(
                tx, hoekstra.registered, user.id, hoekstra.scim("deleted"), if_match=1
            )
        )
    assert await hoekstra.states() == ["accepted", "accepted"]


# Coming back


async def test_who_comes_back_with_the_same_external_id_takes_the_account_back(
    hoekstra: Customer,
) -> None:
    before = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.delete(before)
    after = await hoekstra.create(ANN, externalId="w1")
    assert after.id != before.id
    assert (after.account_id, after.state) == (before.account_id, "pending")
    assert (await hoekstra.user(before)).account_id is None
    await hoekstra.apply()
    assert await hoekstra.states() == ["superseded", "superseded", "succeeded"]


async def test_who_comes_back_with_the_same_address_alone_waits_for_an_operator(
    hoekstra: Customer,
) -> None:
    before = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.delete(before)
    after = await hoekstra.create(ANN, externalId="w2")
    assert (after.state, after.account_id) == ("failed", None)
    assert await hoekstra.last_problem() == "identifier_of_former_user"


async def test_an_address_of_a_former_user_is_not_taken_over_by_a_change(
    hoekstra: Customer,
) -> None:
    await hoekstra.delete(await hoekstra.create(ANN))
    bob = await hoekstra.change(await hoekstra.create(BOB), emails=[{"value": ANN}])
    assert bob.state == "failed"
    assert await hoekstra.last_problem() == "identifier_of_former_user"


async def test_who_comes_back_stays_out_while_hr_says_so(hoekstra: Customer) -> None:
    before = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr("terminated", "w1")
    await hoekstra.delete(before)
    after = await hoekstra.create(ANN, externalId="w1")
    assert not await hoekstra.is_in(after)
    await hoekstra.hr("rehired", "w1")
    assert await hoekstra.is_in(after)


async def test_of_several_former_users_the_one_with_the_account_is_succeeded(
    hoekstra: Customer,
) -> None:
    with_account = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.delete(with_account)
    without = await hoekstra.create("ann", externalId="w2")
    await hoekstra.delete(await hoekstra.change(without, externalId="w1"))
    after = await hoekstra.create(ANN, externalId="w1")
    assert after.account_id == with_account.account_id


# One person from two sources


async def test_scim_joins_what_hr_knew_by_external_id(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    known = await hoekstra.user("w1")
    joined = await hoekstra.create("ann", externalId="w1")
    assert (joined.id, joined.account_id) == (known.id, known.account_id)
    assert joined.worker_id == "w1"


async def test_hr_joins_what_scim_knew_by_worker_id(hoekstra: Customer) -> None:
    known = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr("terminated", "w1")
    assert (await hoekstra.user("w1")).id == known.id
    assert not await hoekstra.is_in(known)


async def test_nobody_is_joined_by_address_alone(hoekstra: Customer) -> None:
    known = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr("terminated", "w2", email=ANN)
    assert await hoekstra.is_in(known)
    assert len(await hoekstra.everyone()) == 2


async def test_an_external_id_that_comes_later_joins_hr(hoekstra: Customer) -> None:
    known = await hoekstra.create(ANN)
    await hoekstra.change(known, externalId="w1")
    await hoekstra.hr("terminated", "w1")
    assert not await hoekstra.is_in(known)
    assert len(await hoekstra.everyone()) == 1


async def test_an_external_id_that_comes_after_hr_joins_too(hoekstra: Customer) -> None:
    known = await hoekstra.create("ann", emails=[{"value": ANN}])
    await hoekstra.hr("terminated", "w1", email=ANN)
    joined = await hoekstra.change(known, externalId="w1")
    assert joined.worker_id == "w1"
    assert not await hoekstra.is_in(known)
    await hoekstra.hr("rehired", "w1")
    assert await hoekstra.is_in(known)


async def test_a_late_join_takes_over_the_account_that_hr_had_made(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    of_hr = await hoekstra.user("w1")
    failed = await hoekstra.create("ann", emails=[{"value": ANN}])
    assert failed.state == "failed"
    joined = await hoekstra.change(failed, externalId="w1")
    assert (joined.state, joined.account_id) == ("pending", of_hr.account_id)
    assert (await hoekstra.user(of_hr.id)).account_id is None


async def test_of_two_accounts_a_late_join_leaves_one_blocked(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email="ann@old.example")
    of_hr = await hoekstra.user("w1")
    of_scim = await hoekstra.create(ANN)
    await hoekstra.apply()
    joined = await hoekstra.change(of_scim, externalId="w1")
    assert joined.account_id == of_scim.account_id
    assert not await hoekstra.is_in(of_hr.id)
    assert set(await hoekstra.apply()) == {of_hr.account_id, of_scim.account_id}
    assert set(await hoekstra.states()) == {"succeeded"}


async def test_of_two_accounts_a_late_join_keeps_the_one_with_the_persons_address(
    database: Database,
) -> None:
    customer = await registered(
        database,
        Organization(
            name="hoekstra",
            connections=(Connection(name="users"),),
            attributes_from={"email": "hr"},
        ),
    )
    await customer.hr("hired", "w1", email=ANN)
    of_hr = await customer.user("w1")
    of_scim = await customer.create(BOB)
    joined = await customer.change(of_scim, externalId="w1")
    assert (joined.state, joined.account_id) == ("pending", of_hr.account_id)
    assert (await customer.user(of_hr.id)).account_id == of_scim.account_id
    assert not await customer.is_in(of_hr.id)


async def test_who_is_joined_cannot_shake_off_what_hr_said(hoekstra: Customer) -> None:
    known = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr("terminated", "w1")
    await hoekstra.hr("hired", "w2", email=BOB)
    changed = await hoekstra.change(known, externalId="w2", active=True)
    assert changed.worker_id == "w1"
    assert not await hoekstra.is_in(known)


async def test_hr_does_not_bring_back_who_was_deleted_in_scim(hoekstra: Customer) -> None:
    known = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.delete(known)
    await hoekstra.hr("hired", "w1", email=ANN)
    assert not await hoekstra.is_in(known)
    assert len(await hoekstra.everyone()) == 1


async def test_the_source_that_counts_for_the_address_is_the_configured_one(
    database: Database,
) -> None:
    customer = await registered(
        database,
        Organization(
            name="hoekstra",
            connections=(Connection(name="users"),),
            attributes_from={"email": "hr"},
        ),
    )
    user = await customer.create(ANN, externalId="w1")
    await customer.hr("hired", "w1", email=BOB)
    assert (await customer.user(user)).identifier == BOB
