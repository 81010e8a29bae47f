"""Admission without doubles: what is an input of its own, and what repeats one."""

from dataclasses import replace

from service.directory import ending, events, inbox, outbox
from service.directory.database import Transaction, Work
from service.directory.inbox import Received
from service.workers import WorkerEvent
from tests.directory.customer import START, Customer

HIRED = WorkerEvent(
    type="worker.hired", worker_id="w1", attributes={"email": "ann@hoekstra.example"}
)


def record(offset: int, body: bytes = b"a", **given: str) -> Received:
    return Received(
        door="kafka",
        source="hr.events",
        type=given.get("type", "worker.hired"),
        at=START,
        topic="hr.events",
        partition=0,
        offset=offset,
        body=body,
        source_id=given.get("source_id"),
    )


async def test_a_redelivered_record_is_no_new_input(hoekstra: Customer) -> None:
    first = await hoekstra.deliver(HIRED, record(7))
    again = await hoekstra.deliver(HIRED, record(7))
    assert (first.verdict, again.verdict) == ("new", "redelivery")
    assert first.event_id == again.event_id
    assert await hoekstra.states() == ["accepted"]


async def test_the_same_event_sent_twice_is_a_duplicate_that_names_the_first(
    hoekstra: Customer,
) -> None:
    first = await hoekstra.deliver(HIRED, record(7, source_id="e1"))
    again = await hoekstra.deliver(HIRED, record(8, source_id="e1"))
    assert again.verdict == "duplicate"
    assert await hoekstra.states() == ["accepted", "duplicate"]
    told = (await hoekstra.outcomes())[-1]
    assert told.data["repeats"] == first.event_id


async def test_a_redelivered_duplicate_is_no_new_input_either(hoekstra: Customer) -> None:
    for offset in (7, 8, 8, 7):
        await hoekstra.deliver(HIRED, record(offset, source_id="e1"))
    assert await hoekstra.states() == ["accepted", "duplicate"]


async def test_an_id_used_again_for_another_body_is_rejected(hoekstra: Customer) -> None:
    await hoekstra.deliver(HIRED, record(7, source_id="e1"))
    again = await hoekstra.deliver(HIRED, record(8, b"another", source_id="e1"))
    assert again.verdict == "conflict"
    assert await hoekstra.states() == ["accepted", "rejected"]
    assert await hoekstra.last_problem() == "id_reuse_conflict"


async def test_an_id_used_again_for_another_type_is_rejected(hoekstra: Customer) -> None:
    """In a binary CloudEvent the type is a header, and the body may be the same."""
    await hoekstra.deliver(HIRED, record(7, source_id="e1"))
    ending = replace(HIRED, type="worker.terminated")
    again = await hoekstra.deliver(ending, record(8, source_id="e1", type=ending.type))
    assert again.verdict == "conflict"


async def test_a_topic_made_anew_counts_its_offsets_anew(hoekstra: Customer) -> None:
    await hoekstra.deliver(HIRED, record(7, b"of the first topic"))
    other = await hoekstra.deliver(HIRED, record(7, b"of the second topic"))
    assert other.verdict == "new"


async def test_sources_and_organizations_have_ids_of_their_own(
    clinics: tuple[Customer, Customer],
) -> None:
    received = record(7, source_id="e1")
    inputs = [
        (clinics[0], received),
        (clinics[0], replace(received, source="other", offset=8)),
        (clinics[1], replace(received, offset=9)),
    ]
    assert [(await who.deliver(HIRED, what)).verdict for who, what in inputs] == ["new"] * 3


async def test_an_event_of_no_organization_repeats_its_id_too(hoekstra: Customer) -> None:
    received = Received(door="kafka", source="hr", type="x", at=START, source_id="e1", body=b"a")
    verdicts = [
        (await hoekstra.database.transact(lambda tx: inbox.admit(tx, received, None))).verdict
        for _ in range(2)
    ]
    assert verdicts == ["new", "duplicate"]


async def test_an_event_ends_once(hoekstra: Customer) -> None:
    admission = await hoekstra.deliver(HIRED, record(7))
    ended = [
        await hoekstra.database.transact(
            lambda tx: ending.finish(tx, admission.event_id, "succeeded", now=START)
        )
        for _ in range(2)
    ]
    assert ended == [True, False]
    assert len(await hoekstra.outcomes()) == 1


async def test_a_body_is_kept_to_the_byte(hoekstra: Customer) -> None:
    body = b'{"a":\t1}\n\x00\xff'
    admission = await hoekstra.deliver(HIRED, record(7, body))
    kept = await hoekstra.database.read(lambda tx: events.get(tx, admission.event_id))
    assert kept is not None
    assert kept.body == body


async def test_a_topic_made_anew_may_say_of_another_worker_what_was_said_of_one(
    hoekstra: Customer,
) -> None:
    """Tombstones have no bytes, and binary CloudEvents keep their type and id in headers."""
    gone = WorkerEvent(type="worker.deleted", worker_id="w1")
    tombstone = replace(record(7, b"", type=gone.type), body=None, key=b"w1")
    for received in (tombstone, replace(tombstone, key=b"w2")):
        event = replace(gone, worker_id=(received.key or b"").decode())
        assert (await hoekstra.deliver(event, received)).verdict == "new"
    assert (await hoekstra.deliver(gone, tombstone)).verdict == "redelivery"
    first = record(8, source_id="e1")
    assert (await hoekstra.deliver(HIRED, first)).verdict == "new"
    for source_id, kind in (("e2", "worker.hired"), ("e3", "worker.terminated")):
        event = replace(HIRED, type=kind)
        again = replace(first, source_id=source_id, type=kind)
        assert (await hoekstra.deliver(event, again)).verdict == "new"


async def test_an_event_is_the_same_in_whichever_form_it_was_sent(hoekstra: Customer) -> None:
    binary = replace(record(7, b'{"a":1}', source_id="e1"), content=b"what it says")
    structured = replace(record(8, b'{"data":{"a": 1}}', source_id="e1"), content=b"what it says")
    verdicts = [(await hoekstra.deliver(HIRED, each)).verdict for each in (binary, structured)]
    assert verdicts == ["new", "duplicate"]


async def test_a_source_that_calls_itself_like_a_customer_does_not_write_in_their_sequence(
    clinics: tuple[Customer, Customer],
) -> None:
    """Outcomes of what no organization may answer for are keyed by source, and a source may lie."""
    user = await clinics[1].create("ann@clinics.example")
    known = {outcome.key for outcome in await clinics[1].outcomes()} | {
        *("clinic-b", f"clinic-b:{user.id}", "tenant:main", "installation")
    }

    def refuse(source: str) -> Work[str]:
        def work(tx: Transaction) -> str:
            received = Received(door="kafka", source=source, type="x", at=START, body=b"")
            admission = inbox.admit(tx, received, None)
            ending.finish(tx, admission.event_id, "rejected", now=START)
            return outbox.listing(tx, event_id=admission.event_id)[0].key

        return work

    database = clinics[0].database
    told = {await database.transact(refuse(source)) for source in sorted(known)}
    assert not told & known
    assert await database.transact(refuse("hr.events")) == "hr.events"
    assert await database.transact(refuse("//hr.example/x")) == "//hr.example/x"


async def test_an_id_that_is_made_of_an_address_is_told_to_nobody(hoekstra: Customer) -> None:
    named = record(7, source_id="left:ann@hoekstra.example:2026-03-02")
    await hoekstra.deliver(HIRED, named)
    await hoekstra.deliver(HIRED, replace(named, offset=8))
    await hoekstra.deliver(HIRED, record(9, b"b", source_id="hr@2026-03-02"))
    await hoekstra.apply()
    ends = {outcome.event_id: outcome.data["event"] for outcome in await hoekstra.outcomes()}
    assert [each["sourceId"] for each in ends.values()].count("hr@2026-03-02") == 1
    assert "ann@" not in str([outcome.data for outcome in await hoekstra.outcomes()])
