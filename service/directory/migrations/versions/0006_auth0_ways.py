"""Auth0 in more ways: what was sent to whom, and until when it is open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("effects", sa.Column("event_id", sa.String(36)))
    op.add_column("effects", sa.Column("address", sa.Text()))
    op.add_column("effects", sa.Column("auth0_organization", sa.Text()))
    op.add_column("effects", sa.Column("reference", sa.Text()))
    op.add_column("effects", sa.Column("expires_at", _INSTANT))
    op.add_column("effects", sa.Column("ended", sa.String(10)))
    op.execute("UPDATE effects SET kind = 'ticket' WHERE kind = 'invitation'")
