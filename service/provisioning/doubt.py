"""The record of operations whose answers may be lost, kept beside the account. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.directory.accounts import Account

Doubt = Mapping[str, Any]
"""What is recorded before a call, and stays while its answer is lost: the operation's document.
``also``: further operations in doubt. ``late``: those of a former owner, not yet taken up."""


def doubts_in(recorded: Doubt) -> list[Doubt]:
    """The operations in a record of doubt, one document each."""
    first = {name: value for name, value in recorded.items() if name not in ("also", "late")}
    return [*([first] if first else []), *recorded.get("also", ()), *recorded.get("late", ())]


def late_calls(account: Account) -> list[Doubt]:
    """Calls of a former owner that this turn has not taken up."""
    return list((account.doubt or {}).get("late", ()))


def recorded(doubts: Sequence[Doubt]) -> Doubt | None:
    if not doubts:
        return None
    return {**doubts[0], **({"also": list(doubts[1:])} if len(doubts) > 1 else {})}
