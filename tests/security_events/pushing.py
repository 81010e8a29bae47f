"""Transmitters that are quick about it, for as long as a test wants them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from joserfc.jwk import ECKey, RSAKey

from service.clock import SystemClock
from service.directory.database import Database
from service.security_events.keys import SigningKeys, read_keys
from service.security_events.transmitter import Transmitter, TransmitterSettings

QUICK = TransmitterSettings(
    poll_every=0.02, lease=1.0, within=0.5, turn=1.0, stop_within=1.0, first_wait=0.05
)
ISSUER = "https://scim.test"


def keys_of(*keys: ECKey | RSAKey) -> SigningKeys:
    made = read_keys("".join(key.as_pem(private=True).decode() for key in keys))
    assert made is not None
    return made


def new_keys() -> SigningKeys:
    return keys_of(ECKey.generate_key("P-256"))


@asynccontextmanager
async def transmitting(
    database: Database,
    keys: SigningKeys,
    *,
    owner: str = "a#1",
    settings: TransmitterSettings = QUICK,
) -> AsyncGenerator[asyncio.Task[None]]:
    """A transmitter that runs until it is left, with its task: cancelled, it dies as it stands."""
    transmitter = Transmitter(
        database=database,
        clock=SystemClock(),
        keys=keys,
        issuer=ISSUER,
        owner=owner,
        settings=settings,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(transmitter.run(stop))
    try:
        yield running
    finally:
        stop.set()
        await asyncio.gather(running, return_exceptions=True)
