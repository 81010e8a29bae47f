"""Which topics rest while Auth0 catches up: by tenant, and the count is bounded."""

from sqlalchemy import update

from consumers.backlog import full_tenants, resting_topics
from consumers.mappings.canonical import MAPPINGS
from consumers.records import Route
from service.directory import depths, inbox, tables
from service.directory.database import Database, Transaction
from service.directory.depths import Backlog
from service.directory.inbox import Received
from tests.consumers.support import START


def test_a_tenant_is_full_at_high_water() -> None:
    backlog = Backlog(open_events={"main": 100, "other": 99}, tenant_of={})
    assert full_tenants(backlog, 100) == {"main"}
    assert full_tenants(backlog, 101) == frozenset()
    assert full_tenants(backlog, 0) == frozenset()


def test_only_topics_of_its_organizations_rest() -> None:
    def route(topic: str, *names: str) -> Route:
        return Route(source=topic, topic=topic, organizations=names, mapper=MAPPINGS["canonical"])

    routes = {
        "a": route("a", "acme"),
        "b": route("b", "globex"),
        "both": route("both", "globex", "acme"),
        "c": route("c", "unknown"),
    }
    tenant_of = {"acme": "main", "globex": "other"}
    assert resting_topics(routes, tenant_of, {"main"}) == {"a": "main", "both": "main"}


async def test_what_has_ended_or_lies_ahead_is_no_backlog_and_counting_is_bounded(
    database: Database,
) -> None:
    def fill(tx: Transaction) -> None:
        for number in range(30):
            received = Received(
                door="kafka", source="hr", source_id=f"e-{number}", type="x", at=START
            )
            inbox.admit(tx, received, "acme" if number % 3 else "globex")
        for state, low in (("succeeded", 3), ("scheduled", 6)):
            tx.execute(
                update(tables.events)
                .where(tables.events.c.source_id.in_([f"e-{low + n}" for n in range(3)]))
                .values(state=state)
            )

    await database.transact(fill)
    counted = await database.read(lambda tx: depths.backlog(tx, 1000))
    assert counted.open_events == {"main": 24}
    assert counted.tenant_of == {"acme": "main", "globex": "main"}
    assert (await database.read(lambda tx: depths.backlog(tx, 20))).open_events == {"main": 20}
    assert (await database.read(lambda tx: depths.backlog(tx, 0))).open_events == {}
