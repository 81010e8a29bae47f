"""Starts aiokafka's clients, so that one whose start is cancelled leaves no connection behind."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable
from typing import Any

from aiokafka.conn import AIOKafkaConnection


async def started(starting: Awaitable[Any]) -> None:
    """Awaits the ``start`` or ``bootstrap`` of a client of aiokafka.

    The first connection is known to ``AIOKafkaClient.bootstrap`` alone until a broker has named the
    others. aiokafka 0.14 closes it after an error, and forgets it when cancelled, as a timeout does.
    """
    try:
        await starting
    except BaseException as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            left = frame.f_locals.get("bootstrap_conn")
            if isinstance(left, AIOKafkaConnection):
                left.close()
        raise
