"""Whatever comes in, every operation answers, and never with a 5xx."""

from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth0.simulator.lag import NO_LAG
from service.auth0.simulator.limits import UNLIMITED, RateLimiter
from service.auth0.simulator.operation import Operation
from service.auth0.simulator.simulation import OPERATIONS, Received, Simulation
from service.auth0.simulator.store import Store
from tests.infrastructure.examples import tried_on
from tests.simulator.driver import PASSWORD, Clock

CREDENTIALS = {
    "grant_type": "client_credentials",
    "client_id": "provisioner",
    "client_secret": "simulator-secret",
}
WORDS = st.sampled_from(
    [
        "auth0|ann",
        "hoekstra-users",
        "metahexa-ad",
        "ann@hoekstra.example",
        "sample-app",
        "auth0",
        PASSWORD,
        "",
        "\0",
    ]
)
NAMES = st.sampled_from(
    [
        "connection",
        "email",
        "password",
        "user_id",
        "name",
        "blocked",
        "username",
        "members",
        "roles",
        "app_metadata",
        "ttl_sec",
        "organization_id",
        "connection_id",
        "client_id",
        "inviter",
        "invitee",
        "identity",
        "provider",
        "strategy",
        "format",
        "fields",
        "limit",
        "options",
        "enabled_clients",
        "enabled_connections",
        "session_id",
        "status",
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(), WORDS, st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner)),
    max_leaves=8,
)
BODIES = st.one_of(VALUES, st.dictionaries(NAMES, VALUES))
QUERIES = st.dictionaries(
    st.sampled_from(
        [
            "page",
            "per_page",
            "take",
            "from",
            "include_totals",
            "fields",
            "sort",
            "q",
            "email",
            "connection",
            "identifier",
        ]
    ),
    st.one_of(WORDS, st.text(), st.sampled_from(["0", "1", "100", "true", "email:a*"])),
)


@pytest.fixture(scope="module")
def simulation() -> Iterator[Simulation]:
    clock = Clock()
    simulation = Simulation(
        store=Store(None),
        limiter=RateLimiter(UNLIMITED, clock),
        clock=clock,
        random=Random(3),
        lag=NO_LAG,
        sessions_api=True,
    )
    simulation.plant()
    yield simulation
    simulation.store.close()


@given(
    operation=st.sampled_from(OPERATIONS),
    body=BODIES,
    query=QUERIES,
    identifier=st.sampled_from(["auth0%7Cann", "x", "%00", "%FF", "name"]),
    garbage=st.one_of(st.none(), st.binary(max_size=50)),
)
@tried_on(300)
def test_any_input_gets_an_answer_below_500(
    simulation: Simulation,
    operation: Operation,
    body: Any,
    query: dict[str, str],
    identifier: str,
    garbage: bytes | None,
) -> None:
    token = simulation.token("main", CREDENTIALS).body["access_token"]
    segments = [
        identifier if segment.startswith("{") else segment
        for segment in operation.template.split("/")
    ]
    received = Received(
        tenant="main",
        method=operation.method,
        path="/".join(segments),
        query=query,
        body=orjson.dumps(body) if garbage is None else garbage,
        content_type="application/json",
        authorization=f"Bearer {token}",
        base_url="http://auth0.test",
        custom_domain=None,
    )
    reply = simulation.call(received, None)
    assert 200 <= reply.answer.status < 500
    orjson.dumps(reply.answer.body)
