"""The one error of reading and mapping: an input that cannot be used as it is, and why."""

from __future__ import annotations


class Unusable(Exception):
    """The producer must correct the event and send it under a new id.

    ``code`` is for machines (``lower_snake_case``), ``message`` a sentence for people. Neither
    repeats a value of the input, since both end up in logs and outcomes.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
