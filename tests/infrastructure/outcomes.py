"""Holds every outcome that a test writes against the JSON Schema of its type."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from jsonschema import Draft202012Validator

from service.directory import outbox
from service.directory.outbox import Draft
from service.outcomes.catalogue import OutcomeType
from service.outcomes.entries import ENTRIES
from service.outcomes.schemas import strict_schema_of


class Watch:
    """Stands before the outbox. ``faults``: what did not fit, as sentences."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._write = outbox.emit_many

    def start(self) -> None:
        outbox.emit_many = self._emit_many

    def stop(self) -> None:
        outbox.emit_many = self._write

    def taken(self) -> list[str]:
        """The faults since the last time."""
        faults, self.faults = self.faults, []
        return faults

    def _emit_many(self, transaction: Any, drafts: Sequence[Draft]) -> list[str]:
        for draft in drafts:
            ids = {
                "organization": draft.organization,
                "userId": draft.user_id,
                "eventId": draft.event_id,
            }
            self.faults += faults_in(draft.data.type, draft.data.document() | ids)
        return self._write(transaction, drafts)


def faults_in(outcome: OutcomeType, payload: dict[str, Any]) -> list[str]:
    """What is wrong with the value of a record, by the strict schema of its type."""
    found = _validator(outcome).iter_errors(payload)
    return [f"{outcome}: {error.json_path}: {error.message}" for error in found]


@functools.cache
def _validator(outcome: OutcomeType) -> Draft202012Validator:
    return Draft202012Validator(strict_schema_of(ENTRIES[outcome]))
