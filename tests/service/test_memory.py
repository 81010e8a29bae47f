"""Garbage in cycles is looked for less often, and found all the same."""

import subprocess
import sys

_MAKES_CYCLES = """
import gc, resource
from service.memory import look_for_garbage_seldom

most = 0
def note(phase, info):
    global most
    most = max(most, info.get("collected", 0))

look_for_garbage_seldom()
gc.callbacks.append(note)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(2_000_000):
    cycle = []
    cycle.append(cycle)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, most)
"""


def _grown_and_most_found() -> tuple[int, int]:
    """KiB of memory, and objects that one look found."""
    ended = subprocess.run(
        [sys.executable, "-c", _MAKES_CYCLES], capture_output=True, text=True, check=True
    )
    grown, most = ended.stdout.split()
    return int(grown), int(most)


def test_two_million_cycles_take_no_more_room_than_what_is_made_between_two_looks() -> None:
    grown, most = _grown_and_most_found()
    assert grown < 50 * 1024  # all of them would be some 250 MiB
    assert most < 15_000, "everything stands still while so much is freed"
