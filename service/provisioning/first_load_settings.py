"""How patient first loads are: numbers and times, no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from service.auth0.jobs import MOST_BYTES, TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLoadSettings:
    """When accounts are imported, and how long each thing is waited for. Times in seconds."""

    threshold: int = 500
    """New accounts of one connection from which on they are imported; 0: never."""
    most_bytes: int = MOST_BYTES
    most_accounts: int = 2_000
    still: float = 1.0
    """How long nobody more came with a hash, before a file that has room is begun."""
    poll: float = 0.5
    count_every: float = 5.0
    look_first: float = 1.0
    """How long after the upload a job is looked at first."""
    look_most: float = 10.0
    """The longest time between two looks at a job."""
    look_leaver: float = 2.0
    """The same while somebody in it leaves."""
    again: float = 10.0
    """How long an upload waits that Auth0 has no room for."""
    settle_doubt: float = 60.0
    """How long an upload without an answer is looked for before it is made again."""
    queue_most: float = 900.0
    """How long gathered accounts wait for Auth0 to take a further job."""
    give_up: float = TIMEOUT + 600.0
    keep: timedelta = timedelta(days=30)
