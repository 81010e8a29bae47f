"""Plans that are taken back before their day: as if they had never been made, for all other plans."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.directory.customer import Customer, days

ANN = "ann@hoekstra.example"
FIRST, LAST = 5, 90
ON_DATABASE = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_people = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What HR says: on which day it takes effect, None: now; and its place in the order."""

    kind: str
    day: int | None = None
    sequence: int


async def say(customer: Customer, worker_id: str, words: Sequence[Word]) -> None:
    for word in words:
        attributes = {"email": f"{worker_id}@hoekstra.example"} if "hired" in word.kind else {}
        at = days(word.day) if word.day is not None else None
        await customer.hr(word.kind, worker_id, at=at, sequence=word.sequence, **attributes)


async def at(customer: Customer, day: float) -> None:
    customer.now = days(day)
    while await customer.run_due():
        pass


async def employment(customer: Customer, worker_id: str) -> str | None:
    found = [user for user in await customer.everyone() if user.worker_id == worker_id]
    return found[0].employment if found else None


TERM = (
    Word(kind="hired", day=FIRST, sequence=1),
    Word(kind="terminated", day=LAST, sequence=2),
)


@pytest.mark.parametrize(
    "words", [*itertools.permutations((*TERM, Word(kind="termination_rescinded", sequence=3)))]
)
async def test_a_hire_comes_though_its_planned_end_was_rescinded(
    hoekstra: Customer, words: Sequence[Word]
) -> None:
    await say(hoekstra, "w1", words)
    await at(hoekstra, FIRST - 0.1)
    assert await hoekstra.account("w1") is None
    await at(hoekstra, FIRST)
    assert await hoekstra.is_in("w1")
    assert await hoekstra.account("w1") is not None
    await at(hoekstra, LAST + 1)
    assert await hoekstra.is_in("w1")


@pytest.mark.parametrize(
    "words", [*itertools.permutations((*TERM, Word(kind="hire_rescinded", sequence=3)))]
)
async def test_a_rescinded_hire_never_comes_nor_does_its_end_lock_anybody_out(
    hoekstra: Customer, words: Sequence[Word]
) -> None:
    await say(hoekstra, "w1", words)
    for day in (FIRST, LAST):
        await at(hoekstra, day)
        assert not await hoekstra.is_in("w1")
        assert await hoekstra.account("w1") is None


async def test_a_rescinded_rehire_does_not_take_back_the_termination_before_it(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    leaves = await hoekstra.hr("terminated", "w1", at=days(10))
    await hoekstra.hr("rehired", "w1", at=days(20))
    await hoekstra.hr("hire_rescinded", "w1")
    assert await hoekstra.state_of(leaves) == "scheduled"
    await at(hoekstra, 10)
    assert not await hoekstra.is_in("w1")
    await at(hoekstra, 20)
    assert not await hoekstra.is_in("w1")


async def test_the_end_of_a_planned_rehire_is_taken_back_and_not_the_termination_in_force(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    await hoekstra.hr("terminated", "w1")
    await hoekstra.hr("rehired", "w1", at=days(FIRST))
    await hoekstra.hr("terminated", "w1", at=days(LAST))
    await hoekstra.hr("termination_rescinded", "w1")
    assert not await hoekstra.is_in("w1")
    await at(hoekstra, FIRST)
    assert await hoekstra.is_in("w1")
    await at(hoekstra, LAST)
    assert await hoekstra.is_in("w1")


async def test_a_suspension_that_came_late_stands_beside_a_rescinded_plan(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, email=ANN)
    await hoekstra.hr("terminated", "w1", sequence=3, at=days(30))
    await hoekstra.hr("termination_rescinded", "w1", sequence=4)
    await hoekstra.hr("suspended", "w1", sequence=2)
    assert not await hoekstra.is_in("w1")


async def test_a_rescinded_plan_that_is_sent_late_again_stays_rescinded(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, email=ANN)
    await hoekstra.hr("terminated", "w1", sequence=3, at=days(30))
    await hoekstra.hr("termination_rescinded", "w1", sequence=4)
    late = await hoekstra.hr("terminated", "w1", sequence=2)
    assert await hoekstra.state_of(late) == "superseded"
    assert await hoekstra.is_in("w1")


NOW = st.sampled_from(["hired", "suspended", "leave_started", "leave_ended"])


@ON_DATABASE
@given(
    before=st.lists(NOW, max_size=3),
    hire=st.none() | st.integers(1, 3),
    leave=st.none() | st.integers(1, 3),
)
async def test_an_end_that_is_planned_and_rescinded_leaves_every_day_as_it_was(
    hoekstra: Customer, before: list[str], hire: int | None, leave: int | None
) -> None:
    words = [Word(kind=kind, sequence=n) for n, kind in enumerate(before)]
    if hire is not None:
        words.append(Word(kind="rehired", day=hire, sequence=10))
    if leave is not None:
        words.append(Word(kind="leave_started", day=leave, sequence=11))
    taken_back = [
        Word(kind="terminated", day=20, sequence=20),
        Word(kind="termination_rescinded", sequence=21),
    ]
    number = next(_people)
    plain, other = f"plain{number}", f"other{number}"
    hoekstra.now = days(0)
    await say(hoekstra, plain, words)
    await say(hoekstra, other, [*words, *taken_back])
    for day in (0, 1, 2, 3, 19, 21):
        await at(hoekstra, day)
        assert await employment(hoekstra, plain) == await employment(hoekstra, other)


@ON_DATABASE
@given(before=st.lists(NOW, max_size=3), end=st.none() | st.integers(1, 3))
async def test_a_hire_that_is_planned_and_rescinded_leaves_every_day_as_it_was(
    hoekstra: Customer, before: list[str], end: int | None
) -> None:
    words = [Word(kind=kind, sequence=n) for n, kind in enumerate(before)]
    if end is not None and before:
        words.append(Word(kind="terminated", day=end, sequence=10))
    taken_back = [
        Word(kind="rehired", day=20, sequence=20),
        Word(kind="hire_rescinded", sequence=21),
    ]
    number = next(_people)
    plain, other = f"plain{number}", f"other{number}"
    hoekstra.now = days(0)
    await say(hoekstra, plain, words)
    await say(hoekstra, other, [*words, *taken_back])
    for day in (0, 1, 2, 3, 19, 21):
        await at(hoekstra, day)
        assert await employment(hoekstra, plain) == await employment(hoekstra, other)
