"""How often Python looks for garbage in cycles: for a process that makes much, and little of it in cycles."""

from __future__ import annotations

import gc
from typing import Final

_NEW_OBJECTS: Final = 10_000
"""So many more objects made than freed start a look; of Python's own 700 every batch makes several.

Everything stands still until they are looked through and freed: some 10 ms. Intake takes no less of the
processor with five times as many, which stop the loop for 50 ms, and for longer where others have the cores.
"""


def look_for_garbage_seldom() -> None:
    """Leaves what start-up made alone from now on, and looks through the rest less often.

    For the start of a process, once all is imported. Intake takes a sixth less of the processor so.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
