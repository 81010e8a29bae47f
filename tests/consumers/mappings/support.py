"""Mappings written in a test, and what they make of a payload."""

from datetime import UTC, datetime
from textwrap import dedent, indent
from typing import Any

from consumers.cloudevents import Envelope
from consumers.mappings.canonical import Mapped
from consumers.mappings.compiling import Compiled
from consumers.mappings.engine import Arrived, Found, read
from consumers.mappings.packs import checked
from consumers.unusable import Unusable

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def mapping(rules: str, more: str = "") -> Compiled:
    """A mapping of these rules (YAML, a list)."""
    text = f"mapping: test\nversion: 1\nrules:\n{indent(dedent(rules), '  ')}\n{dedent(more)}"
    return checked(text, where="test.yaml")[1]


def rule(keys: str = "", more: str = "") -> Compiled:
    """A mapping of one rule: worker.changed of ``payload.id``, with these keys beside that."""
    lines = dedent(keys).strip().splitlines()
    given = "\n".join(f"  {line}" for line in lines)
    known = {line.partition(":")[0] for line in lines}
    subject = "" if "subject" in known else "  subject: payload.id\n"
    kind = "" if "type" in known else "  type: worker.changed\n"
    return mapping(f"- name: only\n{kind}{subject}{given}", more)


def found(made: Compiled, payload: Any, **more: Any) -> list[Found]:
    return read(made, arrived(payload, **more))


def arrived(payload: Any, **more: Any) -> Arrived:
    given: dict[str, Any] = {"payload": payload, "source": "hr", "at": NOW}
    return Arrived(**given | more)


def one(made: Compiled, payload: Any, **more: Any) -> Mapped:
    (only,) = found(made, payload, **more)
    assert isinstance(only.result, Mapped), only.result
    return only.result


def unusable(made: Compiled, payload: Any, **more: Any) -> Unusable:
    (only,) = found(made, payload, **more)
    assert isinstance(only.result, Unusable), only.result
    return only.result


def envelope(data: Any, **attributes: Any) -> Envelope:
    given: dict[str, Any] = {"id": "e-1", "source": "/hr", "type": "com.example.moved"}
    return Envelope(**given | attributes, data=data)
