"""The simulator speaks as Auth0 does: to auth0-python's models, and by Auth0's own document."""

import pytest
from auth0.management import ConflictError, TooManyRequestsError
from auth0.management.core.api_error import ApiError

from service.auth0.simulator import changes, connections, invitations, organizations, tickets
from service.auth0.simulator.operation import Operation, Router
from service.auth0.simulator.shapes import Shape
from service.auth0.simulator.simulation import OPERATIONS
from tests.contract.conftest import Wire
from tests.contract.document import LEFT_OUT, Document
from tests.contract.journey import STEPS, Step
from tests.simulator.driver import PASSWORD

ROUTER = Router.of(OPERATIONS)


def operations_met(wire: Wire) -> set[str]:
    met: set[str] = set()
    for request, _ in wire.exchanges:
        path = request.url.raw_path.decode().partition("?")[0].partition("/api/v2")[2]
        found = ROUTER.find(request.method, path)
        assert found is not None, f"{request.method} {path}"
        met.add(name(found[0]))
    return met


def name(operation: Operation) -> str:
    return f"{operation.method} {operation.template}"


async def test_every_operation_is_read_by_the_sdks_models(wire: Wire) -> None:
    for step in STEPS:
        await step(wire)
    assert operations_met(wire) == {name(operation) for operation in OPERATIONS}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_exchange_fits_the_document(wire: Wire, document: Document, step: Step) -> None:
    await step(wire)
    assert wire.exchanges
    problems = [
        problem
        for request, response in wire.exchanges
        for problem in document.problems(request, response)
    ]
    assert problems == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_operation_and_its_scopes_are_in_the_document(
    document: Document, operation: Operation
) -> None:
    declared = document.find(operation.method, operation.template)
    if (operation.method, operation.template) in LEFT_OUT:
        assert declared is None
        return
    assert declared is not None
    assert set(operation.scopes) <= declared.scopes


@pytest.mark.parametrize(
    ("method", "path", "shape"),
    [
        ("POST", "/users", changes.CREATE),
        ("PATCH", "/users/{id}", changes.UPDATE),
        ("POST", "/organizations", organizations.CREATE),
        ("PATCH", "/organizations/{id}", organizations.UPDATE),
        ("POST", "/organizations/{id}/enabled_connections", organizations.ENABLE),
        ("POST", "/organizations/{id}/invitations", invitations.CREATE),
        ("POST", "/tickets/password-change", tickets.CREATE),
        ("POST", "/connections", connections.CREATE),
        ("PATCH", "/connections/{id}", connections.UPDATE),
    ],
)
def test_bodies_take_the_documents_properties(
    document: Document, method: str, path: str, shape: Shape
) -> None:
    known = document.properties(method, path)
    newer = {"cross_app_access_requesting_app"}
    assert set(shape) == set(known) - newer
    required = {key for key, rule in shape.items() if rule.required}
    assert required == {key for key, is_required in known.items() if is_required}


async def test_taken_address_is_the_sdks_conflict(wire: Wire) -> None:
    async def create() -> None:
        await wire.sdk.users.create(
            connection="hoekstra-users",
            email="ann@hoekstra.example",
            password=PASSWORD,
            verify_email=False,
        )

    await create()
    with pytest.raises(ConflictError) as conflict:
        await create()
    assert conflict.value.body["errorCode"] == "auth0_idp_error"
    assert "x-ratelimit-remaining" in (conflict.value.headers or {})


async def test_faults_reach_the_sdk_as_its_errors(wire: Wire) -> None:
    await wire.caller.control("faults", {"kind": "html-502", "times": 1})
    with pytest.raises(ApiError) as refused:
        await wire.sdk.users.get("auth0|x")
    assert refused.value.status_code == 502
    assert isinstance(refused.value.body, str)
    await wire.caller.control("faults", {"kind": "status", "status": 429, "times": 1})
    with pytest.raises(TooManyRequestsError):
        await wire.sdk.users.get("auth0|x")
