"""A publisher that is killed while it pushes, over and over: no token is lost, none out of its turn."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

import pytest
from joserfc.jwk import ECKey, KeySet
from starlette.responses import Response

from service.directory import migrate, streams
from service.directory.database import open_database
from service.security_events.keys import read_keys
from tests.infrastructure.processes import RunningProcess, provisioner, start
from tests.kill.conftest import ENVIRONMENT
from tests.security_events.customer import listened_to, tell
from tests.security_events.receiver import ACCEPTED, Push, receiving, verified

pytestmark = pytest.mark.kill
TOKENS, KILLS = 60, 6


async def test_killed_between_the_answer_and_its_note_it_repeats_tokens_and_loses_none(
    tmp_path: Path, random: Random
) -> None:
    url = f"sqlite:///{tmp_path / 'directory.db'}"
    keys = read_keys(_signing_key(tmp_path))
    assert keys is not None
    await migrate.upgrade(url)
    database = open_database(url)
    running: list[RunningProcess] = []
    dead = asyncio.Event()
    to_kill_at = set(random.sample(range(1, TOKENS), KILLS))

    async with receiving() as receiver:
        customer = await listened_to(database, "hoekstra", receiver.url)
        user = await customer.create("ann@hoekstra.example")
        for _ in range(TOKENS):
            await tell(customer, "access.revoked", user, {"revoked": True})
        queued = await database.read(lambda tx: streams.waiting(tx, "hoekstra", TOKENS))
        await database.close()  # the file is the publisher's now

        async def answer(_: Push) -> Response:
            if len({push.jti for push in receiver.taken}) + 1 in to_kill_at:
                to_kill_at.remove(len({push.jti for push in receiver.taken}) + 1)
                running[-1].kill()
                dead.set()
            return ACCEPTED

        receiver.answer = answer
        for life in range(KILLS + 1):
            dead.clear()
            running.append(_publisher(tmp_path, url, f"publisher-{life}"))
            async with asyncio.timeout(30):
                await (dead.wait() if life < KILLS else _all(receiver.taken))
        assert running[-1].stop() == 0

    jtis = [push.jti for push in receiver.taken]
    assert list(dict.fromkeys(jtis)) == [each.event.jti for each in queued]
    assert len(jtis) == TOKENS + KILLS
    database = open_database(url)
    assert await database.read(lambda tx: streams.waiting(tx, "hoekstra", TOKENS)) == []
    await database.close()
    published = KeySet.import_key_set(keys.as_document())  # pyright: ignore[reportArgumentType]
    claims = [verified(push, published)[1] for push in receiver.taken]
    assert len({str(each) for each in claims}) == TOKENS  # a repeat is the same to the last claim


async def test_serve_ends_in_time_though_a_receiver_hangs_and_pushes_again_later(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'directory.db'}"
    _signing_key(tmp_path)
    await migrate.upgrade(url)
    database = open_database(url)
    asked, hanging = asyncio.Event(), asyncio.Event()
    async with receiving() as receiver:
        customer = await listened_to(database, "hoekstra", receiver.url)
        user = await customer.create("ann@hoekstra.example")
        await tell(customer, "access.revoked", user, {"revoked": True})
        await database.close()

        async def hang(_: Push) -> Response:
            asked.set()
            await hanging.wait()
            return ACCEPTED

        receiver.answer = hang
        process = _publisher(tmp_path, url, "publisher")
        async with asyncio.timeout(30):
            await asked.wait()
        began = time.monotonic()
        assert await asyncio.to_thread(process.stop) == 0, str(process)
        assert time.monotonic() - began < 15
        hanging.set()
        receiver.answer = _accept
        again = _publisher(tmp_path, url, "again")
        async with asyncio.timeout(30):
            while len(receiver.taken) < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        assert await asyncio.to_thread(again.stop) == 0, str(again)
    assert len({push.jti for push in receiver.taken}) == 1


async def _accept(_: Push) -> Response:
    return ACCEPTED


def _signing_key(folder: Path) -> str:
    pem = ECKey.generate_key("P-256").as_pem(private=True).decode()
    (folder / "keys.pem").write_text(pem)
    return pem


def _publisher(folder: Path, url: str, name: str) -> RunningProcess:
    return start(
        provisioner("serve", "--roles", "publisher", "--port", "0"),
        name=name,
        directory=folder,
        environment=ENVIRONMENT
        | {
            "PROVISIONER_DATABASE_URL": url,
            "PROVISIONER_INSTANCE": "publisher-0",
            "PROVISIONER_TOKEN_PEPPER": "x" * 32,
            "PROVISIONER_PUBLIC_URL": "https://scim.test",
            "PROVISIONER_SET_SIGNING_KEYS_FILE": str(folder / "keys.pem"),
        },
    )


async def _all(taken: list[Push]) -> None:
    while len({push.jti for push in taken}) < TOKENS:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)
