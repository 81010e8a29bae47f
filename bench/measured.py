"""What a load saw, in figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a load saw. Times in milliseconds."""

    name: str
    requests: int
    per_second: float
    p50: float
    p99: float
    failures: int

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


def measured(name: str, took: Sequence[float], *, elapsed: float, failures: int) -> Measured:
    """From the seconds that each request took, and those that all of them took together."""
    cuts = [0.0] * 99
    if len(took) > 1:
        cuts = statistics.quantiles(took, n=100, method="inclusive")
    elif took:
        cuts = [took[0]] * 99
    return Measured(
        name=name,
        requests=len(took),
        per_second=round(len(took) / elapsed, 1),
        p50=round(cuts[49] * 1000, 2),
        p99=round(cuts[98] * 1000, 2),
        failures=failures,
    )
