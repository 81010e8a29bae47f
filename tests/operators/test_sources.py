"""``provisioner events sources`` and ``resume``: which source is stopped, and letting it go on."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select
from starlette.applications import Starlette

from consumers.admission import NotUnderstood, input_problem
from consumers.cloudevents import STRUCTURED
from consumers.storing import Fuse, store
from operators.health import Health, health_routes
from service.clock import SystemClock
from service.directory import audit, depths, enrichments, fuses, inbox, organizations, tables
from service.directory.database import Transaction, open_database
from service.directory.inbox import Received
from service.enrichment import Credential, Enrichment
from service.metrics import Metrics
from service.organizations import EventSource
from tests.operators.house import House, hired


def blow(house: House, *, upto: int = 50) -> None:
    asyncio.run(_blow(house, upto))


async def _blow(house: House, upto: int) -> None:
    database = open_database(house.url)
    inputs = [
        NotUnderstood(
            organization="acme",
            ended="deadlettered",
            problem=input_problem("unmapped_type", "No mapping knows this type."),
            received=Received(
                door="kafka",
                source="hr.events",
                type="x",
                at=house.at,
                topic="hr.events",
                partition=0,
                offset=offset,
                headers=[("content-type", base64.b64encode(STRUCTURED.encode()).decode())],
                body=hired(f"w-{offset}"),
            ),
        )
        for offset in range(upto)
    ]
    await store(database, inputs, Fuse(source="hr.events", limit=50))
    await database.close()


def source(house: House, name: str = "hr.events") -> dict[str, Any]:
    rows = house.run("events", "sources", "--json").rows
    return next(row for row in rows if row["name"] == name)


def thin(house: House, credential: Path) -> str:
    """A source that asks, and an event of it that was asked about in vain; its id."""
    return asyncio.run(_thin(house, credential))


async def _thin(house: House, credential: Path) -> str:
    database = open_database(house.url)
    enrichment = Enrichment(
        url="https://hr.example/workers/{worker_id}", credential=Credential(file=str(credential))
    )
    source = EventSource(
        name="people", organizations=("acme",), webhook=True, enrichment=enrichment
    )
    received = Received(door="http", source="people", type="x", at=house.at, source_id="1")

    def work(transaction: Transaction) -> str:
        organizations.apply_source(transaction, source)
        admission = inbox.admit(transaction, received, "acme")
        enrichments.wait(
            transaction,
            admission.event_id,
            organization="acme",
            worker_id="w1",
            source="people",
            order=[None, admission.number],
            now=house.at,
        )
        (wanted,) = enrichments.claim(
            transaction, "people", owner="o", now=house.at, lease=timedelta(seconds=9), limit=9
        )
        error = {"code": "enrichment_denied", "message": "hr.example does not take it."}
        enrichments.put_off(transaction, wanted, "o", due_at=house.at, error=error)
        return admission.event_id

    event_id = await database.transact(work)
    await database.close()
    return event_id


def test_events_that_wait_for_an_answer_are_told_with_the_reason(
    house: House, tmp_path: Path
) -> None:
    event_id = thin(house, tmp_path / "secret")
    told = source(house, "people")
    assert (told["asks"], told["waiting"]) == ("hr.example", 1)
    assert told["no_answer"]["code"] == "enrichment_denied"
    assert "enrichment_denied" in house.run("events", "sources").out
    shown = house.run("events", "show", event_id).out
    assert "asked in vain 1 times" in shown
    assert "hr.example does not take it." in shown
    document = house.run("events", "show", event_id, "--json").rows[0]
    assert document["enrichment"]["attempts"] == 1


def test_doctor_tells_of_an_enrichment_that_cannot_work(house: House, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    thin(house, secret)
    said = house.run("doctor").out
    assert "1 events wait since" in said
    assert "cannot read" in said
    secret.write_text("s3cret\n")
    assert "its credential is in" in house.run("doctor").out


def test_sources_tell_what_they_read_and_how_many_events_failed(house: House) -> None:
    blow(house, upto=3)
    told = house.run("events", "sources").out
    assert "3 of 50" in told
    assert "hr.events" in told


def test_a_stopped_source_is_told_and_let_go_on_with_a_trace(house: House) -> None:
    blow(house)
    stopped = source(house)
    assert (stopped["failures"], stopped["fuse"], stopped["lag"]) == (50, 50, None)
    assert stopped["organizations"] == ["acme"]
    assert stopped["stopped_at"] is not None
    assert stopped["last_failure"]["code"] == "unmapped_type"
    told = house.run("doctor").out
    assert "provisioner events resume hr.events" in told

    assert house.run("events", "resume", "hr.events", "--actor", "ada").status == 0

    assert source(house)["stopped_at"] is None
    assert source(house)["failures"] == 0
    (entry,) = house.transact(lambda tx: audit.listing(tx, subject="hr.events"))
    assert (entry.actor, entry.action) == ("ada", "source.resume")
    assert entry.detail["failures"] == 50


def test_only_a_source_that_is_stopped_can_go_on(house: House) -> None:
    for name, why in (("hr.events", "is not stopped"), ("payroll", "no source payroll")):
        ended = house.run("events", "resume", name)
        assert ended.status == 1
        assert why in ended.err


def test_applying_a_source_that_differs_lets_it_go_on(house: House, tmp_path: Path) -> None:
    blow(house)
    file = tmp_path / "sources.toml"
    file.write_text('[[sources]]\nname = "hr.events"\norganizations = ["acme"]\nfuse = 50\n')
    assert house.run("org", "apply", str(file)).status == 0
    assert source(house)["stopped_at"] is not None  # nothing differs
    file.write_text('[[sources]]\nname = "hr.events"\norganizations = ["acme"]\nfuse = 60\n')
    assert house.run("org", "apply", str(file)).status == 0
    assert source(house)["stopped_at"] is None


def test_sources_that_share_a_topic_are_stopped_and_go_on_together(
    house: House, tmp_path: Path
) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(
        '[[sources]]\nname = "second"\ntopic = "hr.events"\norganizations = ["globex"]\n'
    )
    house.run("org", "apply", str(file))
    blow(house)
    assert source(house, "second")["stopped_at"] is not None
    assert house.run("events", "resume", "second").status == 0
    assert source(house)["stopped_at"] is None


def test_the_metric_names_every_source(house: House) -> None:
    measured = house.transact(lambda tx: depths.measure(tx, house.at))
    page = Metrics().render(measured).decode()
    assert 'provisioner_source_stopped{source="hr.events"} 0.0' in page
    blow(house)
    measured = house.transact(lambda tx: depths.measure(tx, house.at))
    page = Metrics().render(measured).decode()
    assert 'provisioner_source_stopped{source="hr.events"} 1.0' in page


async def test_readiness_says_what_is_wrong_and_stays(house: House) -> None:
    class Stopped:
        is_ready = True
        problems = ("Source hr.events is stopped.",)

        def tell_metrics(self) -> None: ...

    database = open_database(house.url)
    health = Health(database=database, clock=SystemClock(), metrics=Metrics(), intake=Stopped())
    transport = httpx.ASGITransport(Starlette(routes=health_routes(health)))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        answer = await client.get("/readyz")
    await database.close()
    assert answer.status_code == 200
    assert answer.json()["problems"] == ["Source hr.events is stopped."]


def test_what_failed_before_the_source_stopped_is_replayed_once_it_is_mended(house: House) -> None:
    blow(house, upto=60)
    failed = house.events(state="deadlettered")
    assert len(failed) == 50
    house.transact(lambda tx: fuses.reset(tx, "hr.events"))
    ended = house.run("events", "replay", "--error", "unmapped_type", "--json")
    assert {row["verdict"] for row in ended.rows} == {"replayed"}
    assert len(ended.rows) == len(house.transact(people_of_acme)) == 50


def people_of_acme(tx: Transaction) -> list[str]:
    query = select(tables.users.c.worker_id).where(tables.users.c.organization == "acme")
    return list(tx.execute(query).scalars())


def test_applying_a_mapping_that_differs_lets_the_sources_go_on_that_it_reads(
    house: House, tmp_path: Path
) -> None:
    mapping, file = tmp_path / "ours.yaml", tmp_path / "sources.yaml"
    rules = "mapping: ours\nversion: {}\nrules: [{{subject: payload.id, type: worker.hired}}]\n"
    file.write_text(
        "mappings: [ours.yaml]\nsources:\n"
        "  - {name: hr.events, organizations: [acme], mapping: ours}\n"
        "  - {name: hooks, organizations: [acme], mapping: ours, webhook: true}\n"
        "  - {name: others, organizations: [acme], webhook: true}\n"
    )
    mapping.write_text(rules.format(1))
    assert house.run("org", "apply", str(file)).status == 0
    blow(house)
    for name in ("hooks", "others"):
        row = {"source": name, "failures": 50, "blown_at": house.at}
        house.transact(lambda tx, it=row: tx.execute(tables.fuses.insert().values(**it)))
        assert source(house, name)["stopped_at"] is not None
    mapping.write_text(rules.format(2))
    assert house.run("org", "apply", str(file)).status == 0
    stopped = [source(house, name)["stopped_at"] is not None for name in ("hr.events", "hooks")]
    assert stopped == [False, False]
    assert source(house, "others")["stopped_at"] is not None
