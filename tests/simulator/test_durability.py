"""Rules of what outlives a restart, and a SIGKILL."""

import asyncio
import sys
from pathlib import Path

import httpx

from service.auth0.simulator.lag import NO_LAG, Lag
from tests.conftest import StartProcess
from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import Auth0, Clock

ANN = "ann@hoekstra.example"

SERVER = """
import json, socket, sys, uvicorn
from pathlib import Path
from service.auth0.simulator.app import create_simulator
from service.auth0.simulator.limits import UNLIMITED
listener = socket.create_server(("127.0.0.1", 0))
app = create_simulator(data_dir=Path(sys.argv[1]), limits=UNLIMITED)
url = f"http://127.0.0.1:{listener.getsockname()[1]}"
print(json.dumps({"ready": True, "url": url}), flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical")).run([listener])
"""


async def test_state_tokens_faults_and_pending_delays_outlive_a_restart(
    open_tenant: OpenTenant, clock: Clock, tmp_path: Path
) -> None:
    lag = Lag(member_added=(9.0, 9.0), revocation=(9.0, 9.0), search=(9.0, 9.0), jobs=(9.0, 9.0))
    first = await open_tenant(data_dir=tmp_path, lag=lag)
    user = await first.create_user(ANN)
    await first.login(ANN)
    organization = await first.organization()
    path = f"/organizations/{organization}/members"
    await first.post(path, {"members": [user["user_id"]]})
    await first.post(f"/users/{user['user_id']}/revoke-access", {})
    job = await first.post("/jobs/users-exports", {})
    await first.control("faults", {"kind": "status", "times": 2, "match": {"path": "/roles"}})
    await first.send("GET", "/roles")
    before = await first.state()

    second = await open_tenant(data_dir=tmp_path, lag=NO_LAG)
    second.token = first.token
    assert await second.state() == before
    assert await second.get(path) == []
    assert await second.get("/users") == []
    assert len((await second.state())["sessions"]) == 1
    assert [(await second.send("GET", "/roles")).status_code for _ in range(2)] == [503, 200]
    clock.advance(9)
    assert [row["user_id"] for row in await second.get(path)] == [user["user_id"]]
    assert [row["email"] for row in await second.get("/users")] == [ANN]
    assert (await second.state())["sessions"] == []
    assert (await second.get(f"/jobs/{job['id']}"))["status"] == "completed"


async def test_samples_are_not_planted_over_what_is_there(
    open_tenant: OpenTenant, tmp_path: Path
) -> None:
    first = await open_tenant(data_dir=tmp_path)
    await first.send("DELETE", f"/organizations/{await first.organization()}")
    after = await first.state()
    second = await open_tenant(data_dir=tmp_path)
    assert await second.state() == after


async def test_nothing_answered_is_lost_by_a_sigkill(
    start_process: StartProcess, tmp_path: Path
) -> None:
    data_dir = tmp_path / "auth0"
    answered: list[str] = []

    async def create_until_killed(auth0: Auth0, name: str, enough: asyncio.Event) -> None:
        for number in range(1000):
            try:
                user = await auth0.create_user(f"{name}.{number}@hoekstra.example")
            except httpx.TransportError:
                return
            answered.append(user["email"])
            if len(answered) % 40 == 0:
                enough.set()

    for turn in range(3):
        server = start_process([sys.executable, "-c", SERVER, data_dir], name="simulator")
        async with httpx.AsyncClient(base_url=server.ready_line()["url"], timeout=5) as http:
            auth0 = Auth0(http)
            await auth0.sign_in()
            known = {row["email"] for row in (await auth0.state())["users"]}
            assert known >= set(answered)
            enough = asyncio.Event()
            callers = [
                asyncio.create_task(create_until_killed(auth0, f"{turn}.{caller}", enough))
                for caller in range(4)
            ]
            await enough.wait()
            server.kill()
            await asyncio.gather(*callers)
    assert len(answered) >= 120
