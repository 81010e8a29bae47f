"""Rules of ordered faults. Dropped connections are shown on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn

from service.auth0.simulator.app import create_simulator
from service.auth0.simulator.lag import NO_LAG
from service.auth0.simulator.limits import UNLIMITED
from tests.simulator.driver import PASSWORD, Auth0, Clock

ANN = "ann@hoekstra.example"
NEW_USER = {
    "connection": "hoekstra-users",
    "email": ANN,
    "password": PASSWORD,
    "verify_email": False,
}
ON_CREATE = {"match": {"method": "POST", "path": "/users"}}


@pytest.fixture(params=["httptools", "h11"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Auth0]:
    """The simulator under uvicorn, over TCP."""
    app = create_simulator(data_dir=None, lag=NO_LAG, limits=UNLIMITED)
    config = uvicorn.Config(app, log_level="critical", http=request.param, lifespan="on")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(server.serve([listener]))
        async with httpx.AsyncClient(base_url=address, timeout=5) as http:
            caller = Auth0(http)
            await caller.sign_in()
            yield caller
        server.should_exit = True
        await serving


async def emails(auth0: Auth0) -> list[str]:
    return [row["email"] for row in (await auth0.state())["users"]]


async def test_connection_dropped_before_the_commit_leaves_nothing(served: Auth0) -> None:
    await served.control("faults", {**ON_CREATE, "kind": "drop-before", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        await served.send("POST", "/users", NEW_USER)
    assert await emails(served) == []
    (call,) = await served.calls()
    assert (call["status"], call["fault"]) == (None, "drop-before")
    assert (await served.send("POST", "/users", NEW_USER)).status_code == 201


async def test_connection_dropped_after_the_commit_leaves_the_user(served: Auth0) -> None:
    await served.control("faults", {**ON_CREATE, "kind": "drop-after-commit", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        await served.send("POST", "/users", NEW_USER)
    assert await emails(served) == [ANN]
    (call,) = await served.calls()
    assert (call["status"], call["fault"]) == (201, "drop-after-commit")
    assert (await served.send("POST", "/users", NEW_USER)).status_code == 409


async def test_hanging_call_answers_nobody(served: Auth0) -> None:
    await served.control("faults", {**ON_CREATE, "kind": "hang", "times": 1})
    with pytest.raises(httpx.ReadTimeout):
        await served.http.post(
            "/api/v2/users",
            json=NEW_USER,
            headers={"authorization": f"Bearer {served.token}"},
            timeout=0.2,
        )
    assert await emails(served) == []


async def test_hanging_call_may_have_committed_and_end_in_a_drop(served: Auth0) -> None:
    fault = {**ON_CREATE, "kind": "hang", "seconds": 0.05, "after_commit": True}
    await served.control("faults", fault)
    with pytest.raises(httpx.RemoteProtocolError):
        await served.send("POST", "/users", NEW_USER)
    assert await emails(served) == [ANN]


async def test_drop_is_the_same_exception_in_process(auth0: Auth0) -> None:
    await auth0.control("faults", {**ON_CREATE, "kind": "drop-after-commit"})
    with pytest.raises(httpx.RemoteProtocolError):
        await auth0.send("POST", "/users", NEW_USER)
    assert await emails(auth0) == [ANN]


async def test_status_fault_answers_instead_of_acting(auth0: Auth0) -> None:
    await auth0.control("faults", {**ON_CREATE, "kind": "status", "status": 503, "times": 2})
    for _ in range(2):
        refusal = await auth0.refused("POST", "/users", NEW_USER)
        assert (refusal["statusCode"], refusal["error"]) == (503, "Service Unavailable")
    assert await emails(auth0) == []
    assert (await auth0.send("POST", "/users", NEW_USER)).status_code == 201
    assert [call["status"] for call in await auth0.calls()] == [503, 503, 201]


async def test_status_fault_after_the_commit_hides_a_success(auth0: Auth0) -> None:
    fault = {**ON_CREATE, "kind": "status", "status": 500, "after_commit": True}
    await auth0.control("faults", fault)
    assert (await auth0.send("POST", "/users", NEW_USER)).status_code == 500
    assert await emails(auth0) == [ANN]


async def test_gateway_page_is_html(auth0: Auth0) -> None:
    await auth0.control("faults", {"kind": "html-502", "times": 1})
    answer = await auth0.send("GET", "/users")
    assert answer.status_code == 502
    assert answer.headers["content-type"].startswith("text/html")


async def test_latency_delays_an_otherwise_normal_answer(auth0: Auth0) -> None:
    await auth0.control("faults", {**ON_CREATE, "kind": "latency", "seconds": 0.1})
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await auth0.send("POST", "/users", NEW_USER)).status_code == 201
    assert loop.time() - began >= 0.1


@pytest.mark.parametrize(
    ("match", "meets"),
    [
        ({}, True),
        ({"method": "get"}, True),
        ({"method": "POST"}, False),
        ({"path": "/users/auth0|k1/organizations"}, True),
        ({"path": "/users/auth0%7Ck1/organizations"}, True),
        ({"path": "/api/v2/users/auth0|k1/organizations"}, True),
        ({"path": "/users/*"}, True),
        ({"path": "/api/v2/users/*/organizations"}, True),
        ({"path": "/users/{id}/organizations"}, True),
        ({"path": "/users/{id}"}, False),
        ({"path": "/users"}, False),
        ({"path": "*"}, True),
        ({"tenant": "conglomerate"}, False),
    ],
)
async def test_fault_meets_calls_by_method_path_and_tenant(
    auth0: Auth0, match: dict[str, str], meets: bool
) -> None:
    await auth0.create_user(ANN, user_id="k1")
    await auth0.control("faults", {"match": match, "kind": "status", "status": 500})
    answer = await auth0.send("GET", "/users/auth0%7Ck1/organizations")
    assert answer.status_code == (500 if meets else 200)


async def test_token_requests_can_fail_too(auth0: Auth0) -> None:
    fault = {"match": {"path": "/oauth/token"}, "kind": "status", "status": 503}
    await auth0.control("faults", fault)
    assert (await auth0.sign_in()).status_code == 503


@pytest.mark.parametrize("match", [{}, {"method": "POST"}, {"path": "*"}])
async def test_token_request_never_spends_a_fault_meant_for_calls(
    auth0: Auth0, match: dict[str, str]
) -> None:
    await auth0.control("faults", {"match": match, "kind": "status", "times": 1})
    assert (await auth0.sign_in()).status_code == 200
    assert (await auth0.send("POST", "/users", NEW_USER)).status_code == 503


async def test_ordered_429_carries_rate_headers(auth0: Auth0, clock: Clock) -> None:
    await auth0.control("faults", {"kind": "status", "status": 429, "times": 1})
    answer = await auth0.send("GET", "/users")
    assert answer.json()["errorCode"] == "too_many_requests"
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert int(answer.headers["x-ratelimit-reset"]) == clock.now + 1


async def test_fault_can_bring_headers_and_a_body_of_its_own(auth0: Auth0) -> None:
    fault = {"kind": "status", "status": 409, "body": {"a": 1}, "headers": {"retry-after": "2"}}
    await auth0.control("faults", fault)
    answer = await auth0.send("GET", "/users")
    assert (answer.status_code, answer.json()) == (409, {"a": 1})
    assert answer.headers["retry-after"] == "2"


async def test_probability_meets_a_share_of_the_calls(auth0: Auth0) -> None:
    await auth0.control("faults", {"kind": "status", "status": 500, "probability": 0.3})
    statuses = [(await auth0.send("GET", "/users")).status_code for _ in range(200)]
    assert 30 < statuses.count(500) < 90


async def test_cleared_faults_meet_nobody(auth0: Auth0) -> None:
    await auth0.control("faults", {"kind": "status"})
    assert (await auth0.http.delete("/simulator/faults")).status_code == 204
    assert (await auth0.send("GET", "/users")).status_code == 200


@pytest.mark.parametrize(
    "rule",
    [
        [],
        {},
        {"kind": "explode"},
        {"kind": "status", "status": "500"},
        {"kind": "status", "status": 99},
        {"kind": "latency", "seconds": -1},
        {"kind": "status", "probability": 2},
        {"kind": "status", "times": 0},
        {"kind": "status", "match": {"url": "/users"}},
        {"kind": "status", "headers": {"a": 1}},
        {"kind": "status", "matches": {}},
    ],
)
async def test_unreadable_fault_is_a_400_that_says_why(auth0: Auth0, rule: object) -> None:
    answer = await auth0.http.post("/simulator/faults", json=rule)
    assert answer.status_code == 400
    assert answer.json()["error"]
