"""Who may ask the SCIM door, for what, and how often."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from structlog.testing import capture_logs

from scim.app import create_app
from scim.issuers import ASKED_AGAIN_AFTER, FRESH_FOR, KEPT_FOR
from service.clock import SystemClock
from service.directory import credentials, locks, organizations
from service.directory.database import Database, Work, open_database
from service.limiting import UNLIMITED, Limit
from service.organizations import Organization, TokenScope
from service.strangers import WRONG_TOKENS
from tests.infrastructure.schema import migrated_sqlite
from tests.scim.client import CORE_USER, PATCH_OP, PEPPER, organization
from tests.scim.issuer import Issuer, listening
from tests.scim.test_protocol import assert_error


@dataclass
class MovedClock(SystemClock):
    """A clock that stands still, but for what a test moves it by."""

    started: datetime = field(default_factory=SystemClock().now)
    ahead: float = 0.0

    def now(self) -> datetime:
        return self.started + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return 1_000_000.0 + self.ahead


class Counting:
    """A database that counts how often it is asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.reads = 0

    async def transact(self, work: Work[Any]) -> Any:
        return await self._database.transact(work)

    async def read(self, work: Work[Any]) -> Any:
        self.reads += 1
        return await self._database.read(work)

    async def look_up(self, work: Work[Any]) -> Any:
        self.reads += 1
        return await self._database.look_up(work)

    async def close(self) -> None:
        await self._database.close()


@dataclass(kw_only=True)
class Entrance:
    """The door with organizations, and callers that come from addresses of their own."""

    database: Counting
    clock: MovedClock
    limit: Limit = UNLIMITED
    used: list[str] = field(default_factory=list[str])
    refused: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.app = create_app(
            database=self.database,
            clock=self.clock,
            pepper=PEPPER,
            limit=self.limit,
            on_use=self.used.append,
            on_refused=self.refused.append,
        )

    async def declare(self, configured: Organization) -> None:
        now = self.clock.now()
        await self.database.transact(lambda tx: organizations.apply(tx, configured, now))

    async def token(
        self, *scopes: TokenScope, name: str = "hoekstra", lifetime: timedelta | None = None
    ) -> str:
        return await self.database.transact(
            lambda tx: credentials.create(
                tx,
                organization=name,
                door="scim",
                pepper=PEPPER,
                now=self.clock.now(),
                lifetime=lifetime,
                scopes=scopes or ("read", "write"),
            )
        )

    async def ask(
        self,
        token: str | None,
        method: str = "GET",
        path: str = "Users?count=0",
        *,
        name: str = "hoekstra",
        client: str = "192.0.2.1",
        **request: Any,
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, client=(client, 4711))
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://scim.test") as http:
            return await http.request(method, f"/{name}/{path}", headers=headers, **request)


@asynccontextmanager
async def entrance(path: Path, limit: Limit = UNLIMITED) -> AsyncGenerator[Entrance]:
    database = Counting(open_database(migrated_sqlite(path / "directory.db")))
    try:
        opened = Entrance(database=database, clock=MovedClock(), limit=limit)
        await opened.declare(organization())
        await opened.declare(organization("globex"))
        yield opened
        await opened.app.close()
    finally:
        await database.close()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Entrance]:
    async with entrance(tmp_path) as opened:
        yield opened


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Entrance]:
    """Two requests at once, and one more every ten seconds."""
    async with entrance(tmp_path, Limit(rate=0.1, burst=2)) as opened:
        yield opened


# Scopes

MESSAGES = "urn:ietf:params:scim:api:messages:2.0"
READS = [
    ("GET", "Users", None),
    ("GET", "Groups", None),
    ("GET", "ServiceProviderConfig", None),
    ("POST", ".search", {}),
    ("POST", "Users/.search", {"count": 1}),
]
WRITES = [
    ("POST", "Users", {"schemas": [CORE_USER], "userName": "ada@hoekstra.example"}),
    ("PUT", "Users/unknown", {"schemas": [CORE_USER], "userName": "ada@hoekstra.example"}),
    ("PATCH", "Users/unknown", {"schemas": [PATCH_OP], "Operations": []}),
    ("DELETE", "Users/unknown", None),
    ("POST", "Bulk", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), READS)
async def test_reading_needs_read_and_nothing_else(
    door: Entrance, method: str, path: str, body: Any
) -> None:
    reader, writer = await door.token("read"), await door.token("write")
    assert (await door.ask(reader, method, path, json=body)).status_code == 200
    assert_lacks(await door.ask(writer, method, path, json=body), "read")


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_writing_needs_write_and_nothing_else(
    door: Entrance, method: str, path: str, body: Any
) -> None:
    reader, writer = await door.token("read"), await door.token("write")
    assert_lacks(await door.ask(reader, method, path, json=body), "write")
    assert (await door.ask(writer, method, path, json=body)).status_code not in (401, 403)


async def test_a_reader_changes_nothing(door: Entrance) -> None:
    reader = await door.token("read")
    for method, path, body in WRITES:
        await door.ask(reader, method, path, json=body)
    assert (await door.ask(reader)).json()["totalResults"] == 0


@pytest.mark.parametrize("path", ["/Users/.search", "/Users/%2Esearch", "/.search", "/%2esearch"])
async def test_a_writer_searches_by_no_bulk_request(door: Entrance, path: str) -> None:
    writer = await door.token("write")
    operations = [{"method": "POST", "path": path, "bulkId": "b-1", "data": {"count": 9}}]
    body = {"schemas": [f"{MESSAGES}:BulkRequest"], "Operations": operations}
    answer = await door.ask(writer, "POST", "Bulk", json=body)
    assert answer.status_code == 200
    assert answer.json()["Operations"][0]["status"] == "404"


async def test_bulk_requests_at_the_same_time_do_not_pass_the_limit(limited: Entrance) -> None:
    token, admitted, go = await limited.token(), list[int](), asyncio.Event()
    operations = [{"method": "DELETE", "path": "/Users/nobody"}] * 100
    whole = orjson.dumps({"schemas": [f"{MESSAGES}:BulkRequest"], "Operations": operations})

    async def body() -> AsyncGenerator[bytes]:
        """Is asked for once its request is admitted."""
        admitted.append(1)
        if len(admitted) == 2:
            go.set()
        await go.wait()
        yield whole

    asked = [limited.ask(token, "POST", "Bulk", content=body()) for _ in range(2)]
    answers = sorted(await asyncio.gather(*asked), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["retry-after"] == "990"


async def test_a_head_request_is_told_by_status_and_header(door: Entrance) -> None:
    assert (await door.ask(None, "HEAD")).status_code == 401
    lacking = await door.ask(await door.token("write"), "HEAD")
    assert lacking.status_code == 403
    assert 'scope="read"' in lacking.headers["www-authenticate"]


def assert_lacks(answer: httpx.Response, scope: str) -> None:
    assert_error(answer, 403)
    assert f"scope {scope}" in answer.json()["detail"]
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{scope}"' in challenge


# Tokens of ours


async def test_an_error_is_named_only_to_who_sent_a_token(door: Entrance) -> None:
    without, wrong = await door.ask(None), await door.ask("ap_0_x")
    assert without.headers["www-authenticate"] == 'Bearer realm="scim"'
    assert wrong.headers["www-authenticate"] == 'Bearer realm="scim", error="invalid_token"'
    assert without.content == wrong.content


async def test_an_expired_token_opens_nothing(door: Entrance) -> None:
    token = await door.token(lifetime=timedelta(hours=1))
    assert (await door.ask(token)).status_code == 200
    door.clock.ahead += 3604
    assert_error(await door.ask(token), 401)


async def test_a_revoked_token_opens_nothing_after_three_seconds(door: Entrance) -> None:
    token = await door.token()
    assert (await door.ask(token)).status_code == 200
    now = door.clock.now()
    key_id = token.split("_")[1]
    await door.database.transact(lambda tx: credentials.revoke(tx, "hoekstra", key_id, now))
    door.clock.ahead += 3
    assert_error(await door.ask(token), 401)


async def test_uses_are_told_by_id_and_at_no_request_of_a_remembered_token(door: Entrance) -> None:
    token = await door.token()
    for _ in range(5):
        await door.ask(token)
    assert door.used == [token.split("_")[1]]
    door.clock.ahead += 3
    await door.ask(token)
    assert door.used == [token.split("_")[1]] * 2
    await door.ask("ap_0123_wrong")
    assert len(door.used) == 2


async def test_a_token_that_comes_many_times_at_once_is_looked_at_once(door: Entrance) -> None:
    token = await door.token()
    door.database.reads = 0
    answers = await asyncio.gather(*(door.ask(token, path="Schemas") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert door.database.reads == 1


# The rate


async def test_over_its_limit_an_organization_is_told_when_to_come_again(
    limited: Entrance,
) -> None:
    token, other = await limited.token(), await limited.token(name="globex")
    user = {"schemas": [CORE_USER], "userName": "ada@hoekstra.example"}
    for _ in range(2):
        assert (await limited.ask(token)).status_code == 200
    with capture_logs() as logged:
        for _ in range(3):
            answer = await limited.ask(token, "POST", "Users", json=user)
            assert_error(answer, 429)
            assert answer.headers["retry-after"] == "10"
    assert (await limited.ask(other, name="globex")).status_code == 200
    assert limited.refused == ["organization"] * 3
    assert [entry["organization"] for entry in logged] == ["hoekstra"]
    limited.clock.ahead += 10
    found = await limited.ask(token)
    assert found.status_code == 200
    assert found.json()["totalResults"] == 0


async def test_tokens_of_an_organization_share_its_budget(limited: Entrance) -> None:
    first, second = await limited.token(), await limited.token()
    assert (await limited.ask(first)).status_code == 200
    assert (await limited.ask(second)).status_code == 200
    assert_error(await limited.ask(first), 429)
    assert_error(await limited.ask(second), 429)


async def test_wrong_tokens_do_not_spend_a_customers_budget(limited: Entrance) -> None:
    token = await limited.token()
    for number in range(20):
        assert_error(await limited.ask(f"ap_{number:x}_wrong"), 401)
    assert (await limited.ask(token)).status_code == 200
    assert (await limited.ask(token)).status_code == 200


async def test_who_waits_as_told_is_served_on_and_on(limited: Entrance) -> None:
    token = await limited.token()
    served = 0
    for _ in range(30):
        answer = await limited.ask(token, path="Schemas")
        served += answer.status_code == 200
        limited.clock.ahead += float(answer.headers.get("retry-after", "0"))
    assert served >= 15


async def test_there_is_no_limit_unless_one_is_given(door: Entrance) -> None:
    token = await door.token()
    answers = [await door.ask(token, path="Schemas") for _ in range(600)]
    assert {answer.status_code for answer in answers} == {200}


# Floods of wrong tokens


async def test_a_wrong_token_is_looked_at_once_in_a_while(door: Entrance) -> None:
    door.database.reads = 0
    for _ in range(WRONG_TOKENS.burst * 3):
        assert_error(await door.ask("ap_0123_wrong"), 401)
    assert door.database.reads == 1
    door.clock.ahead += 3
    assert_error(await door.ask("ap_0123_wrong"), 401)
    assert door.database.reads == 2


async def test_what_cannot_be_a_token_costs_no_read(door: Entrance) -> None:
    door.database.reads = 0
    for wrong in ("x", "ap_", "ap_x_y", "e.f.g", "x" * 30_000, "ap_1_" + "y" * 300):
        assert_error(await door.ask(wrong), 401)
    assert_error(await door.ask("ap_1_y", name="NOT A NAME"), 401)
    assert door.database.reads == 0


async def test_a_client_has_so_many_wrong_tokens_and_a_known_token_is_served_all_the_same(
    door: Entrance,
) -> None:
    known = await door.token()
    assert (await door.ask(known)).status_code == 200
    door.database.reads = 0
    flood = [await door.ask(f"ap_{number:x}_wrong") for number in range(300)]
    refused = [answer for answer in flood if answer.status_code == 429]
    assert len(refused) > 200
    for answer in refused:
        assert_error(answer, 429)
        assert int(answer.headers["retry-after"]) >= 1
    assert door.database.reads <= 300 - len(refused)
    assert set(door.refused) == {"client"}

    assert (await door.ask(known)).status_code == 200
    door.clock.ahead += 3  # when it has to be looked at again
    for number in range(300, 400):
        await door.ask(f"ap_{number:x}_wrong")
    assert (await door.ask(known)).status_code == 200
    fresh = await door.token()
    assert_error(await door.ask(fresh), 429)
    assert (await door.ask(fresh, client="192.0.2.2")).status_code == 200
    door.clock.ahead += 1
    assert (await door.ask(fresh)).status_code == 200


async def test_what_a_client_says_of_its_address_does_not_count(door: Entrance) -> None:
    statuses: list[int] = []
    for number in range(WRONG_TOKENS.burst * 2):
        transport = httpx.ASGITransport(app=door.app, client=("2001:db8::" + f"{number:x}", 1))
        headers = {
            "Authorization": f"Bearer ap_{number:x}_wrong",
            "X-Forwarded-For": f"10.0.0.{number}",
            "Forwarded": f"for=10.0.0.{number}",
        }
        async with httpx.AsyncClient(transport=transport, base_url="http://scim.test") as http:
            statuses.append((await http.get("/hoekstra/Users", headers=headers)).status_code)
    assert 429 in statuses


async def test_right_tokens_are_not_charged_to_their_client(door: Entrance) -> None:
    token = await door.token()
    for number in range(WRONG_TOKENS.burst * 2):
        spaced = "Bearer" + " " * (1 + number) + token  # each looked at anew
        transport = httpx.ASGITransport(app=door.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://scim.test") as http:
            answer = await http.get("/hoekstra/Schemas", headers={"Authorization": spaced})
            assert answer.status_code == 200


# Tokens of the customer's own issuer


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with listening() as opened:
        yield opened


async def test_a_token_of_the_issuer_opens_its_organization_alone(
    door: Entrance, issuer: Issuer
) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth()))
    token = issuer.token()
    assert (await door.ask(token)).status_code == 200
    created = await door.ask(token, "POST", "Users", json={"userName": "ada@hoekstra.example"})
    assert created.status_code == 201
    assert_error(await door.ask(token, name="globex"), 401)
    assert_error(await door.ask(token, name="nobody"), 401)
    assert (await door.ask(await door.token())).status_code == 200
    assert door.used[1:] == []


async def test_who_shares_an_issuer_does_not_share_its_clients(
    door: Entrance, issuer: Issuer
) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth(clients=("theirs",))))
    await door.declare(organization("globex", scim_oauth=issuer.oauth(clients=("globex-sync",))))
    token = issuer.token(client_id="globex-sync")
    assert (await door.ask(token, name="globex")).status_code == 200
    assert_error(await door.ask(token), 401)


@pytest.mark.parametrize(
    "changes",
    [{"iss": "https://evil.example"}, {"aud": "x"}, {"exp": 1}, {"client_id": "x"}, {"nbf": 2**40}],
    ids=str,
)
async def test_a_token_that_is_not_valid_is_told_what_every_wrong_one_is(
    door: Entrance, issuer: Issuer, changes: dict[str, Any]
) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth()))
    wrong = await door.ask(issuer.token(**changes))
    assert_error(wrong, 401)
    assert wrong.content == (await door.ask(None)).content
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]


@pytest.mark.parametrize("algorithm", [["ES256"], {}, None, 7, "none", "HS256", "es256"], ids=str)
async def test_a_token_of_no_algorithm_of_ours_is_a_wrong_one(
    door: Entrance, issuer: Issuer, algorithm: object
) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth()))
    _, payload, signature = issuer.token().split(".")
    header = urlsafe_b64encode(orjson.dumps({"alg": algorithm, "kid": "k-1"})).decode().rstrip("=")
    assert_error(await door.ask(f"{header}.{payload}.{signature}"), 401)
    assert issuer.asked == []


async def test_the_log_says_once_a_minute_why_tokens_of_an_issuer_are_refused(
    door: Entrance, issuer: Issuer
) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth()))
    with capture_logs() as logged:
        for audience in ("x", "y"):
            assert_error(await door.ask(issuer.token(aud=audience)), 401)
        door.clock.ahead += 61
        assert_error(await door.ask(issuer.token(client_id="z")), 401)
    assert [(entry["organization"], entry["because"]) for entry in logged] == [
        ("hoekstra", "aud does not hold scim_oauth.audience"),
        ("hoekstra", "its client is not in scim_oauth.clients"),
    ]


async def test_scopes_of_the_issuer_are_mapped_to_ours(door: Entrance, issuer: Issuer) -> None:
    oauth = issuer.oauth(scopes={"scim.read": ["read"], "scim.write": ["write"]})
    await door.declare(organization(scim_oauth=oauth))
    reader = issuer.token(scope="scim.read openid")
    assert (await door.ask(reader)).status_code == 200
    assert_lacks(await door.ask(reader, "POST", "Users", json={"userName": "x"}), "write")
    assert_lacks(await door.ask(issuer.token(scope="openid")), "read")


async def test_a_decommissioned_organization_is_closed_to_its_issuer(
    door: Entrance, issuer: Issuer
) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth()))
    now = door.clock.now()
    await door.database.transact(
        lambda tx: locks.decommission(tx, "hoekstra", actor="tests", now=now)
    )
    token = issuer.token()
    for _ in range(2):  # the second time it is remembered
        assert_error(await door.ask(token), 403)


async def test_the_rate_counts_tokens_of_the_issuer_too(limited: Entrance, issuer: Issuer) -> None:
    await limited.declare(organization(scim_oauth=issuer.oauth()))
    answers = [await limited.ask(issuer.token(jti=str(number))) for number in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_discovery_tells_what_the_organization_takes(door: Entrance, issuer: Issuer) -> None:
    async def schemes(name: str) -> list[tuple[str, bool]]:
        token = await door.token(name=name)
        answer = await door.ask(token, path="ServiceProviderConfig", name=name)
        found = answer.json()["authenticationSchemes"]
        assert all(each["name"] and each["description"] and each["specUri"] for each in found)
        return [(each["type"], each["primary"]) for each in found]

    await door.declare(organization("globex", scim_oauth=issuer.oauth()))
    assert await schemes("hoekstra") == [("oauthbearertoken", True)]
    assert await schemes("globex") == [("oauth2", True), ("oauthbearertoken", False)]


# The issuer's keys


async def test_keys_are_asked_for_once_however_many_come(door: Entrance, issuer: Issuer) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth()))
    tokens = [issuer.token(jti=str(number)) for number in range(20)]
    answers = await asyncio.gather(*(door.ask(token) for token in tokens))
    assert {answer.status_code for answer in answers} == {200}
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_keys_are_asked_for_anew_when_they_are_old(door: Entrance, issuer: Issuer) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth(jwks_url=f"{issuer.url}/keys")))
    withdrawn = issuer.token()
    assert (await door.ask(withdrawn)).status_code == 200
    issuer.rotate("k-2")
    door.clock.ahead += FRESH_FOR + 1
    assert_error(await door.ask(withdrawn), 401)
    assert issuer.asked == ["/keys", "/keys"]


async def test_an_unknown_key_is_asked_for_but_not_without_end(
    door: Entrance, issuer: Issuer
) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth(jwks_url=f"{issuer.url}/keys")))
    assert (await door.ask(issuer.token())).status_code == 200
    door.clock.ahead += ASKED_AGAIN_AFTER
    issuer.rotate("k-2")
    rotated = issuer.token(header={"kid": "k-2"})
    assert (await door.ask(rotated)).status_code == 200
    for number in range(20):
        assert_error(await door.ask(issuer.token(header={"kid": f"x-{number}"})), 401)
    assert len(issuer.asked) == 2


async def test_keys_are_kept_while_the_issuer_is_down_though_not_for_ever(
    door: Entrance, issuer: Issuer
) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth()))
    assert (await door.ask(issuer.token())).status_code == 200
    issuer.status = 500
    later = issuer.token(exp=2**33)
    for ahead in (FRESH_FOR + 1, 3600, KEPT_FOR / 2):
        door.clock.ahead += ahead
        with capture_logs() as logged:
            assert (await door.ask(later)).status_code == 200
        assert logged[0]["issuer"] == issuer.url
    door.clock.ahead += KEPT_FOR
    answer = await door.ask(later)
    assert_error(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1
    issuer.status = 200
    door.clock.ahead += ASKED_AGAIN_AFTER
    assert (await door.ask(later)).status_code == 200


async def test_a_silent_issuer_delays_nobody_else(door: Entrance, issuer: Issuer) -> None:
    await door.declare(organization(scim_oauth=issuer.oauth()))
    issuer.answers.clear()
    waiting = [asyncio.create_task(door.ask(issuer.token(jti=str(number)))) for number in range(20)]
    while not issuer.asked:  # noqa: ASYNC110 - what is asked comes over a socket
        await asyncio.sleep(0.01)
    async with asyncio.timeout(2):
        ours, theirs = await door.token(), await door.token(name="globex")
        assert (await door.ask(ours)).status_code == 200
        assert (await door.ask(theirs, name="globex")).status_code == 200
    assert not any(task.done() for task in waiting)
    issuer.answers.set()
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


@pytest.mark.parametrize(
    "metadata",
    [
        b"{}",
        b'{"issuer": "https://another.example", "jwks_uri": "http://127.0.0.1:1/keys"}',
        b"not JSON",
        b"[" * 10_000,
        b" " * 300_000,
    ],
)
async def test_without_usable_metadata_keys_are_where_many_have_them(
    door: Entrance, issuer: Issuer, metadata: bytes
) -> None:
    issuer.documents["/.well-known/openid-configuration"] = metadata
    issuer.documents["/.well-known/jwks.json"] = issuer.documents.pop("/keys")
    await door.declare(organization(scim_oauth=issuer.oauth()))
    assert (await door.ask(issuer.token())).status_code == 200


@pytest.mark.parametrize("keys", [b"not JSON", b"{}", b'{"keys": []}', b" " * 300_000])
async def test_keys_that_cannot_be_read_are_no_word_on_the_token(
    door: Entrance, issuer: Issuer, keys: bytes
) -> None:
    issuer.documents["/keys"] = keys
    await door.declare(organization(scim_oauth=issuer.oauth()))
    assert_error(await door.ask(issuer.token()), 503)
