"""The catalogue: complete, described, and as the files say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from operators import asyncapi, schemas
from operators.schemas import FOLDER
from service.outcomes.catalogue import ENDINGS, TYPES
from service.outcomes.entries import ENTRIES, Entry
from service.outcomes.schemas import schema_of, strict
from service.workers import SNAPSHOT_COMPLETED
from service.workers import TYPES as WORKER_TYPES
from tests.infrastructure.outcomes import faults_in

EVERY = list(ENTRIES.values())


def test_every_type_has_an_entry() -> None:
    assert set(ENTRIES) == TYPES
    assert {entry.name for entry in EVERY if entry.ends} == ENDINGS


@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: entry.name)
def test_examples_fit_their_schemas(entry: Entry) -> None:
    schema = schema_of(entry)
    Draft202012Validator.check_schema(schema)
    assert list(Draft202012Validator(strict(schema)).iter_errors(entry.payload())) == []
    assert entry.sentence.endswith(".")


@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: entry.name)
def test_every_member_is_demanded_by_its_own_schema_or_may_be_left_out(entry: Entry) -> None:
    payload = entry.payload()
    needed = schema_of(entry)["required"]
    for name in payload:
        less = {key: value for key, value in payload.items() if key != name}
        assert bool(faults_in(entry.name, less)) == (name in needed), name


def test_a_member_that_no_schema_names_is_a_fault_and_readers_let_it_pass() -> None:
    entry = ENTRIES["user.created"]
    more = entry.payload() | {"email": "lena@hoekstra.example"}
    assert faults_in("user.created", more)
    assert Draft202012Validator(schema_of(entry)).is_valid(more)


def test_files_follow_from_the_code_and_break_no_released_reader() -> None:
    assert list(schemas.problems()) == []


def test_a_stale_a_missing_and_a_stray_file_are_told_apart(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    schemas.release(tmp_path)
    assert list(schemas.problems(tmp_path)) == []
    (tmp_path / "README.md").write_text("old")
    (tmp_path / "asyncapi.yaml").unlink()
    (tmp_path / "schemas" / "user.gone.v1.json").write_text("{}")
    told = "\n".join(schemas.problems(tmp_path))
    assert "README.md does not follow from the code: run 'make schemas'" in told
    assert "asyncapi.yaml is missing" in told
    assert "user.gone.v1.json belongs to no outcome" in told


# AsyncAPI: held against its official JSON Schema by hand when it was written; its form here.


def resolved(document: Any, reference: str) -> Any:
    """What a reference means, in the document or in a file beside it."""
    file, _, pointer = reference.partition("#")
    found = yaml.safe_load((FOLDER / file).read_text()) if file else document
    for step in pointer.strip("/").split("/") if pointer.strip("/") else []:
        found = found[step]
    return found


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [each for item in node for each in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [each for value in node.values() for each in references(value)]


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())
    found = references(document)
    assert len(found) > 2 * len(EVERY)
    for reference in found:
        assert resolved(document, reference), reference


def test_the_asyncapi_document_has_the_form_of_version_3() -> None:
    document = asyncapi.document()
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {"provisioning.outcomes", "provisioning.deadletters", "hr.events"}
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].startswith("#/channels/")
    for message in document["components"]["messages"].values():
        assert message["bindings"]["kafka"]["bindingVersion"] == "0.5.0"


def test_every_example_of_the_asyncapi_document_fits_its_payload() -> None:
    document = asyncapi.document()
    for message in document["components"]["messages"].values():
        for example in message.get("examples", []):
            schema = resolved(document, message["payload"]["schema"]["$ref"])
            errors = Draft202012Validator(schema).iter_errors(example["payload"])
            assert [error.message for error in errors] == [], message["name"]


def test_the_asyncapi_document_names_every_header_that_is_written() -> None:
    letters = asyncapi.document()["components"]["messages"]["deadletter"]["headers"]["properties"]
    written = Path("service/outcomes/deadletter.py").read_text()
    assert set(re.findall(r'"(dlq-[a-z-]+)"', written)) == set(letters)


def test_the_asyncapi_document_names_every_type_that_is_taken_in() -> None:
    headers = asyncapi.document()["components"]["messages"]["worker"]["headers"]["properties"]
    assert set(headers["ce_type"]["enum"]) == {*WORKER_TYPES, SNAPSHOT_COMPLETED}
