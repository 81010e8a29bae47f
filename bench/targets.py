"""What our server is to reach beside its peers, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.contenders import (
    BARE,
    DURABLE,
    OURS_ON_POSTGRES,
    OURS_ON_SQLITE,
    SAME_WRITE,
    SCIM2_SERVER,
    STARLETTES,
)
from bench.intake import Taken
from bench.load import Operation
from bench.scim import Row

_Known = dict[tuple[str, Operation, int], Row]
_EVENTS: Final = 5000.0
_FLAT: Final = 1.2
"""How many times the memory at ten thousand users a million may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target and what came of it; ``by_cpu``: the same ratio in processor time a request, which
    holds while others use the machine. None where one side was not measured.
    """

    target: str
    wanted: float
    at_most: bool
    reached: float | None
    by_cpu: float | None

    @property
    def met(self) -> bool | None:
        if self.reached is None:
            return None
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted

    def as_row(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def verdicts(rows: Iterable[Row]) -> list[Verdict]:
    """Every target, in the order in which they are stated; at the largest size both sides have."""
    known: _Known = {(row.server, row.operation, row.stored): row for row in rows}
    beside = _Beside(known)
    writes: tuple[Operation, ...] = ("create", "PATCH")
    reads: tuple[Operation, ...] = ("get", "userName eq")
    ours = (OURS_ON_SQLITE, OURS_ON_POSTGRES)
    return [
        beside.faster(OURS_ON_SQLITE, "get", SCIM2_SERVER, 5.0),
        beside.faster(OURS_ON_SQLITE, "get", BARE, 1 / 3),
        *(beside.faster(OURS_ON_SQLITE, write, SCIM2_SERVER, 4.0) for write in writes),
        *(beside.faster(OURS_ON_SQLITE, write, SAME_WRITE, 0.5) for write in writes),
        *(beside.faster(OURS_ON_SQLITE, write, DURABLE, 0.5) for write in writes),
        *(beside.faster(OURS_ON_POSTGRES, write, SCIM2_SERVER, 1.5) for write in writes),
        *(beside.slower_when_large(server, read) for server in ours for read in reads),
        *(beside.flat(server) for server in ours),
    ]


def intake_verdicts(rows: Iterable[Taken]) -> list[Verdict]:
    """Events a second on one core, durable in Postgres. None where one was lost or doubled."""
    found = next((row for row in rows if row.database == "postgres" and not row.wrong), None)
    return [
        Verdict(
            target="intake on Postgres: events a second",
            wanted=_EVENTS,
            at_most=False,
            reached=found.per_second if found is not None else None,
            by_cpu=found.per_cpu_second if found is not None else None,
        )
    ]


class _Beside:
    """Compares rows."""

    def __init__(self, known: _Known) -> None:
        self._known = known

    def faster(self, server: str, operation: Operation, peer: str, wanted: float) -> Verdict:
        """At the largest size that both have; a peer without sizes is taken as it is."""
        mine, other = self._of(server, operation), self._of(peer, operation)
        if peer in STARLETTES:
            common = [(mine.get(10_000, mine.get(0)), other.get(0))]
        else:
            common = [(mine[size], other[size]) for size in sorted(mine.keys() & other.keys())]
        ours, theirs = common[-1] if common else (None, None)
        return Verdict(
            target=f"{operation}: {server} to {peer}",
            wanted=round(wanted, 2),
            at_most=False,
            reached=_ratio(ours, theirs, lambda row: row.per_second),
            by_cpu=_ratio(theirs, ours, lambda row: row.cpu),
        )

    def slower_when_large(self, server: str, operation: Operation) -> Verdict:
        sizes = self._of(server, operation)
        small, large = sizes.get(10_000), sizes.get(1_000_000)
        return Verdict(
            target=f"{operation}: {server}, 10,000 to 1,000,000 users",
            wanted=1.5,
            at_most=True,
            reached=_ratio(small, large, lambda row: row.per_second),
            by_cpu=_ratio(large, small, lambda row: row.cpu),
        )

    def flat(self, server: str) -> Verdict:
        """The last operation's row has the peak of them all."""
        sizes = self._of(server, "create")
        small, large = sizes.get(10_000), sizes.get(1_000_000)
        return Verdict(
            target=f"peak memory: {server}, 1,000,000 to 10,000 users",
            wanted=_FLAT,
            at_most=True,
            reached=_ratio(large, small, lambda row: row.memory),
            by_cpu=None,
        )

    def _of(self, server: str, operation: Operation) -> dict[int, Row]:
        return {
            stored: row
            for (name, done, stored), row in self._known.items()
            if (name, done) == (server, operation)
        }


def _ratio(
    above: Row | None, below: Row | None, figure: Callable[[Row], float | None]
) -> float | None:
    if above is None or below is None:
        return None
    upper, lower = figure(above), figure(below)
    return round(upper / lower, 2) if upper is not None and lower else None
