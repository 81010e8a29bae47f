"""Custom domains of a tenant, as far as calls depend on them: which one the links of a call carry.

Sources: docs on multiple custom domains; a recorded 409 `custom_domain_conflict` where several are
verified and a user is created without naming one.
"""

from collections.abc import Sequence

from service.auth0.simulator.errors import Refusal, bad_body
from service.auth0.simulator.operation import Call, World

HEADER = "auth0-custom-domain"


def declare(world: World, domains: Sequence[str]) -> None:
    """These are verified from now on, and no others; the first is the default one."""
    world.run("DELETE FROM custom_domains WHERE tenant = ?")
    for position, domain in enumerate(domains):
        world.run(
            "INSERT INTO custom_domains (tenant, domain, position) VALUES (?, ?, ?)",
            domain,
            position,
        )


def verified(world: World) -> list[str]:
    """The default one first."""
    rows = world.rows("SELECT domain FROM custom_domains WHERE tenant = ? ORDER BY position")
    return [row["domain"] for row in rows]


def link_base(call: Call) -> str:
    """Where a link begins that this call makes. Raises Refusal where the header names no domain."""
    _known(call)
    named = call.custom_domain or next(iter(verified(call.world)), None)
    return call.base_url if named is None else f"https://{named}"


def require_one(call: Call) -> None:
    """Raises Refusal where several are verified and the call names none of them."""
    _known(call)
    if call.custom_domain is None and len(verified(call.world)) > 1:
        raise Refusal(
            status=409,
            message=f"Several custom domains are verified: name one of them as {HEADER}",
            error_code="custom_domain_conflict",
        )


def _known(call: Call) -> None:
    if call.custom_domain is not None and call.custom_domain not in verified(call.world):
        raise bad_body(f"{HEADER} names no verified custom domain")
