"""Mails that Auth0 would have sent: kept as a list, so that tests can count them."""

from service.auth0.simulator.operation import World


def send(world: World, *, kind: str, recipient: str, subject: str) -> None:
    """Note a mail. kind: `verification`, `invitation` or `change_password`; subject: the id of
    the user or invitation it is about."""
    world.run(
        "INSERT INTO mails (tenant, at, kind, recipient, subject) VALUES (?, ?, ?, ?, ?)",
        world.now,
        kind,
        recipient,
        subject,
    )
