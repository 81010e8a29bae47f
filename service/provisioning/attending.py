"""Follows up what was heard of a tenant's users. What cannot be taken in keeps nothing else back.

Knows who is to be looked at from ``attention``; not where news comes from.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from service.directory.database import Transaction, is_unavailable
from service.errors import LostLease
from service.provisioning import attention
from service.provisioning.attention import Mark, Places
from service.provisioning.hearing import Heard
from service.provisioning.tenancy import Tenure

log = structlog.get_logger(__name__)


async def attend(tenure: Tenure, news: Sequence[Heard]) -> None:
    """Marks whomever it is about, which may be repeated. Raises LostLease, and what the database
    raises while it is away.
    """
    if not news:
        return
    # What fails here is no event's fault, and none is passed over for it.
    places = await tenure.database.read(lambda tx: attention.places_of(tx, tenure.tenant))
    await _attend(tenure, news, places)


async def _attend(tenure: Tenure, news: Sequence[Heard], places: Places) -> None:
    try:
        await _mark(tenure, news, places)
    except LostLease:
        raise
    except Exception as error:
        if is_unavailable(error):
            raise
        if len(news) == 1:
            # Without the trace, which holds the event.
            told = {"kind": news[0].kind, "error": type(error).__name__}
            log.error("feed.not_taken_in", tenant=tenure.tenant, **told)
            return
        for each in news:
            await _attend(tenure, [each], places)


async def _mark(tenure: Tenure, news: Sequence[Heard], places: Places) -> None:
    def look_up(tx: Transaction) -> Sequence[Mark]:
        return attention.look_up(tx, tenure.tenant, news, places)

    now = tenure.clock.now()
    for one in await tenure.database.read(look_up):
        await tenure.database.transact(lambda tx, it=one: attention.mark(tx, it, tenure.owner, now))
