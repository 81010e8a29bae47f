"""Garbage in cycles is looked for less often, and found all the same."""

import subprocess
import sys

_MAKES_CYCLES = """
import gc, resource
from service.memory import look_for_garbage_seldom

look_for_garbage_seldom()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(2_000_000):
    cycle = []
    cycle.append(cycle)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_two_million_cycles_take_no_more_room_than_what_is_made_between_two_looks() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _MAKES_CYCLES], capture_output=True, text=True, check=True
    )
    assert int(ended.stdout) < 50 * 1024  # KiB; all of them would be some 250 MiB
