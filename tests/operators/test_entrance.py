"""SCIM's door answers for all of its path, and for nothing beside it."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from operators.entrance import Entrance


async def scim(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"scim at {scope['root_path']}")(scope, receive, send)


async def others(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("others")(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/scim/v2/hoekstra/Users", "scim at /scim/v2"),
        ("/scim/v2/", "scim at /scim/v2"),
        ("/scim/v2", "scim at /scim/v2"),
        ("/scim/v20/hoekstra/Users", "others"),
        ("/events/scim/v2/hoekstra", "others"),
        ("/", "others"),
    ],
)
async def test_a_path_leads_to_one_door(path: str, answer: str) -> None:
    assert await _ask(Entrance(scim=scim, others=others), path) == answer


async def test_a_process_without_scim_has_no_such_door() -> None:
    assert await _ask(Entrance(scim=None, others=others), "/scim/v2/hoekstra/Users") == "others"


async def _ask(entrance: Entrance, path: str) -> str:
    transport = httpx.ASGITransport(entrance)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return (await http.get(path)).text
