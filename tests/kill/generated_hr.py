"""HR of an organization, generated: what happens to its workers, and how deliveries of it go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import orjson

WORKERS, EVENTS = 500, 5_000
_HIRED_BEFORE = 100
"""Workers who are there, and have their accounts, before the rest happens."""
_WINDOW, _COPIES = 100, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One event of a worker, in the order that HR gives it."""

    worker: str
    sequence: int
    type: str
    data: dict[str, Any]

    @property
    def body(self) -> bytes:
        return orjson.dumps(
            {
                "specversion": "1.0",
                "id": f"{self.worker}-{self.sequence}",
                "source": "//hr",
                "type": self.type,
                "data": {"worker_id": self.worker, "sequence": self.sequence, **self.data},
            }
        )


class Worker:
    """One worker's story so far."""

    def __init__(self, name: str, *, random: Random, start: datetime) -> None:
        self.name = name
        self._random = random
        self._start = start
        self._sequence = 0
        self._is_in = False

    def hired(self) -> Signal:
        self._is_in = True
        return self._tell("worker.hired", **self._person(f"{self.name}@hoekstra.example"))

    def next(self) -> Signal:
        """What happens next: mostly a change, now and then a leave, an end or a return."""
        chance = self._random.random()
        if not self._is_in:
            if chance < 0.5:
                self._is_in = True
                return self._tell("worker.rehired")
            return self._tell("worker.changed", attributes={"title": self._word()})
        if chance < 0.45:
            return self._tell("worker.changed", attributes={"title": self._word()})
        if chance < 0.6:
            groups = [each for each in ("Administrators", "Bookkeeping") if self._coin()]
            return self._tell("worker.changed", groups=groups)
        if chance < 0.7:
            return self._tell("worker.leave_started" if self._coin() else "worker.leave_ended")
        if chance < 0.75:
            return self._tell("worker.snapshot", **self._person(f"{self.name}@hoekstra.example"))
        if chance < 0.80:
            address = f"{self.name}.{self._word()}@hoekstra.example"
            return self._tell("worker.changed", attributes={"email": address})
        if chance < 0.85:  # takes back what may lie ahead, else confirms who is in
            return self._tell("worker.termination_rescinded")
        if chance < 0.92:
            days = timedelta(days=self._random.randrange(1, 300))
            return self._tell("worker.terminated", effective_at=(self._start - days).isoformat())
        if chance < 0.97:
            self._is_in = False
            return self._tell("worker.terminated", immediate=True)
        soon = self._start + timedelta(seconds=self._random.uniform(5, 25))
        return self._tell("worker.terminated", effective_at=soon.isoformat())

    def _tell(self, type: str, **data: Any) -> Signal:
        self._sequence += 1
        return Signal(worker=self.name, sequence=self._sequence, type=type, data=data)

    def _person(self, address: str) -> dict[str, Any]:
        names = {"given_name": self._word(), "family_name": self._word()}
        return {"attributes": {"email": address, **names}}

    def _word(self) -> str:
        return f"{self._random.choice('abcdefgh')}{self._random.randrange(10**6)}"

    def _coin(self) -> bool:
        return self._random.random() < 0.5


def history(random: Random, start: datetime) -> tuple[list[Signal], list[Signal]]:
    """EVENTS events over WORKERS workers, in order: those before the rest, and the rest.

    A worker's events come in bursts, so that neighbours are about the same person. Some take effect
    within the half minute after ``start``.
    """
    workers = [Worker(f"w-{n}", random=random, start=start) for n in range(WORKERS)]
    before = [each.hired() for each in workers[:_HIRED_BEFORE]]
    there, joining = workers[:_HIRED_BEFORE], workers[_HIRED_BEFORE:]
    rest: list[Signal] = []
    while (left := EVENTS - len(before) - len(rest)) > 0:
        if joining and (random.random() < 0.2 or left <= 2 * len(joining)):
            there.append(joining.pop())
            rest.append(there[-1].hired())
            continue
        worker = random.choice(there)
        rest += [worker.next() for _ in range(min(random.randrange(1, 6), left - len(joining)))]
    return before, rest


def gone_wrong(signals: Sequence[Signal], random: Random) -> list[Signal]:
    """Each event five times, and out of place by up to a hundred."""
    copies = [
        (place + random.uniform(0, _WINDOW), copy, signal)
        for place, signal in enumerate(signals)
        for copy in range(_COPIES)
    ]
    return [signal for _, _, signal in sorted(copies, key=lambda each: each[:2])]
