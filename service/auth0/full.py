"""Organizations that take no more members: learnt by one refusal, and asked again now and then.

Auth0 documents the limit, not the answer beyond it: ``Answer.is_full`` says what is taken for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import structlog

from service.auth0.answers import Answer
from service.clock import Clock

log = structlog.get_logger(__name__)

_LONGEST: Final = 300.0
"""Seconds between two probes of one Organization at most."""
_APART: Final = 0.02
"""Seconds by which those who wait come back one after the other."""


@dataclass(slots=True)
class _Full:
    refusal: Answer
    until: float
    after: float
    told: bool = False
    """Whether somebody had the refusal itself for an answer."""
    held: int = 0
    """How many were sent away since the last probe."""


class FullOrganizations:
    """Those of one tenant, by id. ``first``: seconds until the first probe; twice as long to each
    further one."""

    def __init__(self, clock: Clock, *, first: float = 15.0) -> None:
        self._clock = clock
        self._first = first
        self._known: dict[str, _Full] = {}

    def held(self, organization_id: str) -> Answer | None:
        """The answer for who would be added now; None where it is to be asked for, by them."""
        full, now = self._known.get(organization_id), self._clock.monotonic()
        if full is None:
            return None
        if now >= full.until:  # whoever asks first is the probe
            full.until, full.held = now + full.after, 0
            return None
        return self._waiting(full, now)

    def found(self, organization_id: str, refusal: Answer) -> Answer:
        """Notes that one user was refused; what they are answered: the first of all the refusal, so
        that an operator hears of it, whoever probes later that they wait like the others."""
        full, now = self._known.get(organization_id), self._clock.monotonic()
        if full is None or not full.told:
            self._begin(organization_id, refusal).told = True
            return refusal
        full.refusal, full.after = refusal, min(full.after * 2, _LONGEST)
        full.until, full.held = now + full.after, 0
        return self._waiting(full, now)

    def found_together(self, organization_id: str, refusal: Answer) -> Answer:
        """As ``found`` of several in one request, of whom one will be asked for alone; what the
        others are answered."""
        full = self._known.get(organization_id) or self._begin(organization_id, refusal)
        return self._waiting(full, self._clock.monotonic())

    def took(self, organization_id: str) -> None:
        """There is room."""
        if self._known.pop(organization_id, None) is not None:
            log.info("organization.has_room", auth0_organization=organization_id)

    def _begin(self, organization_id: str, refusal: Answer) -> _Full:
        if (full := self._known.get(organization_id)) is None:
            log.warning(
                "organization.full",
                auth0_organization=organization_id,
                status=refusal.status,
                code=refusal.code,
            )
            until = self._clock.monotonic() + self._first
            full = self._known[organization_id] = _Full(refusal, until=until, after=self._first)
        return full

    def _waiting(self, full: _Full, now: float) -> Answer:
        full.held += 1
        after = max(full.until - now, 0.0) + full.held * _APART
        return replace(full.refusal, verdict="full", retry_after=after)
