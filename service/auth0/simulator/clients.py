"""Applications of a tenant, and its login route, as far as Organizations and invitations ask for them."""

from service.auth0.simulator.errors import Refusal
from service.auth0.simulator.operation import Answer, Call, Operation
from service.auth0.simulator.shapes import selected

_ROUTE = "https://app.example/login"


def _get(call: Call) -> Answer:
    found = call.world.row(
        "SELECT * FROM clients WHERE tenant = ? AND client_id = ?", call.params["id"]
    )
    if found is None:
        raise Refusal(
            status=404, message="The client does not exist", error_code="inexistent_client"
        )
    shown: dict[str, object] = {
        "client_id": found["client_id"],
        "name": found["name"],
        "app_type": "non_interactive" if found["machine"] else "regular_web",
        "organization_usage": "allow" if found["organizations_allowed"] else "deny",
    }
    if found["login_route"] and not found["machine"]:
        shown["initiate_login_uri"] = _ROUTE
    return Answer(body=selected([shown], call.query)[0])


def _settings(_: Call) -> Answer:
    """Nothing of the tenant's own: each application has its route, or none."""
    return Answer(body={})


OPERATIONS = (
    Operation("GET", "/clients/{id}", "clients_read", ("read:clients",), _get),
    Operation("GET", "/tenants/settings", "tenants_read", ("read:tenant_settings",), _settings),
)
