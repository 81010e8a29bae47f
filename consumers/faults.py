"""Where a fault of ours lies, for the log: no message and no values, since those are personal data."""

from __future__ import annotations

import traceback


def place_of(error: BaseException) -> str:
    """Such as ``KeyError at mapping.py:17 in canonical``: the kind, and the innermost frame."""
    while error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    file = frames[-1].filename.rpartition("/")[2]
    return f"{type(error).__name__} at {file}:{frames[-1].lineno} in {frames[-1].name}"
