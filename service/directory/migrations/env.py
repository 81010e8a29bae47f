"""What Alembic runs to reach a revision. The connection and its transaction are migrate's."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from service.directory import migrate, tables


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=tables.metadata, render_as_batch=True)
    context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:  # the alembic command line, when a revision is drafted
    migrate.run(os.environ["PROVISIONER_DATABASE_URL"], _migrate)
