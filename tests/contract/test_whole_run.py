"""What a run wrote down of its simulators is held against Auth0's description, and can fail it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.auth0.simulator.exchanges import Exchange, ExchangeLog
from service.auth0.simulator.simulation import OPERATIONS
from tests.contract.document import LOCATION
from tests.contract.sdk_models import Models
from tests.contract.whole_run import problems_in

CREATED = Exchange(
    method="POST",
    template="/users",
    path="/users",
    query={},
    content_type="application/json",
    request={"connection": "hoekstra-users", "email": "ann@hoekstra.example"},
    status=201,
    response={"user_id": "auth0|1", "email": "ann@hoekstra.example", "blocked": False},
)


def told(folder: Path, *exchanges: Exchange) -> list[str]:
    log = ExchangeLog(folder)
    for exchange in exchanges:
        log(exchange)
    looked_at, problems = problems_in(folder)
    assert looked_at == len(exchanges)
    return problems


def test_an_exchange_as_auth0_describes_it_is_no_problem(tmp_path: Path) -> None:
    assert told(tmp_path, CREATED) == []


def test_an_answer_that_the_sdk_cannot_read_is_told(tmp_path: Path) -> None:
    (problem, *_) = told(tmp_path, replace(CREATED, response={"user_id": ["auth0|1"]}))
    assert problem.startswith("POST /users 201: ")


@pytest.mark.skipif(not LOCATION.exists(), reason="Auth0's OpenAPI document is not at hand")
def test_a_request_with_a_property_that_auth0_does_not_know_is_told(tmp_path: Path) -> None:
    request = CREATED.request | {"mail": "ann@hoekstra.example"}
    (problem,) = told(tmp_path, replace(CREATED, request=request))
    assert "mail" in problem


def test_of_each_form_a_few_are_kept_and_half_a_line_is_passed_over(tmp_path: Path) -> None:
    log = ExchangeLog(tmp_path)
    for number in range(50):
        log(replace(CREATED, response={"user_id": f"auth0|{number}"}))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'{"method":"PO')
    assert problems_in(tmp_path) == (3, [])


def test_the_sdk_has_a_model_for_every_operation() -> None:
    models = Models.of_sdk()
    unknown = [
        operation.template
        for operation in OPERATIONS
        if operation.template != "/events"  # a stream, which the journey has the SDK read
        and models.problems(operation.method, operation.template, None)
        == ["auth0-python has no such operation"]
    ]
    assert unknown == []
