"""How long Auth0 takes to show what it has accepted: ranges that delays are drawn from."""

from dataclasses import dataclass
from random import Random

Range = tuple[float, float]
"""Shortest and longest delay in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Delays between an accepted write and its effect. Drawn once, then kept as a due time.

    search: a user's creation, change or removal in `GET /users`.
    member_added, member_removed: the same in `GET /organizations/{id}/members`.
    revocation: an accepted revocation of sessions and refresh tokens.
    jobs: the run of an import or export.
    events: until the feed of events tells of something; each has its own, so they change places.
    """

    search: Range = (0.5, 3.0)
    member_added: Range = (0.5, 3.0)
    member_removed: Range = (5.0, 10.0)
    revocation: Range = (0.5, 3.0)
    jobs: Range = (1.0, 3.0)
    events: Range = (0.05, 0.5)


NO_LAG = Lag(
    search=(0.0, 0.0),
    member_added=(0.0, 0.0),
    member_removed=(0.0, 0.0),
    revocation=(0.0, 0.0),
    jobs=(0.0, 0.0),
    events=(0.0, 0.0),
)
"""Everything shows at once, for tests that are not about lag."""


def drawn(delay: Range, random: Random) -> float:
    """One delay from a range."""
    shortest, longest = delay
    return shortest if longest <= shortest else random.uniform(shortest, longest)
