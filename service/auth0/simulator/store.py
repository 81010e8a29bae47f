"""The simulator's state: one SQLite file (or memory), its tables, and transactions.

Knows no HTTP and no rules. A transaction is committed when its block ends, so whatever is answered
after it survives SIGKILL.
"""

import secrets
import sqlite3
import string
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS tenants (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clients (
    tenant TEXT, client_id TEXT, name TEXT, secret TEXT, scopes TEXT, machine INTEGER,
    organizations_allowed INTEGER DEFAULT 1, login_route INTEGER DEFAULT 1,
    PRIMARY KEY (tenant, client_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    digest TEXT PRIMARY KEY, tenant TEXT, client_id TEXT, issued_at REAL, expires_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS custom_domains (
    tenant TEXT, domain TEXT, position INTEGER, PRIMARY KEY (tenant, domain)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS connections (
    tenant TEXT, id TEXT, name TEXT, strategy TEXT, document TEXT,
    PRIMARY KEY (tenant, id), UNIQUE (tenant, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS connection_clients (
    tenant TEXT, connection_id TEXT, client_id TEXT, PRIMARY KEY (tenant, connection_id, client_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (
    tenant TEXT, user_id TEXT, email TEXT, document TEXT, PRIMARY KEY (tenant, user_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS users_by_email ON users (tenant, email);
CREATE TABLE IF NOT EXISTS identities (
    tenant TEXT, provider TEXT, id TEXT, connection TEXT, user_id TEXT,
    email_key TEXT, username_key TEXT, PRIMARY KEY (tenant, provider, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS identity_email
    ON identities (tenant, connection, email_key) WHERE email_key IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS identity_username
    ON identities (tenant, connection, username_key) WHERE username_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS identity_owner ON identities (tenant, user_id);
CREATE TABLE IF NOT EXISTS user_index (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, user_id TEXT, due REAL, document TEXT
);
CREATE INDEX IF NOT EXISTS user_index_by_user ON user_index (tenant, user_id, due, seq);
CREATE TABLE IF NOT EXISTS organizations (
    tenant TEXT, id TEXT, name TEXT, document TEXT, PRIMARY KEY (tenant, id), UNIQUE (tenant, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS organization_connections (
    tenant TEXT, organization_id TEXT, connection_id TEXT, document TEXT,
    PRIMARY KEY (tenant, organization_id, connection_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    tenant TEXT, organization_id TEXT, user_id TEXT, added_at REAL,
    PRIMARY KEY (tenant, organization_id, user_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_by_user ON members (tenant, user_id);
CREATE TABLE IF NOT EXISTS member_index (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, organization_id TEXT, user_id TEXT,
    due REAL, added_at REAL
);
CREATE INDEX IF NOT EXISTS member_index_by_member
    ON member_index (tenant, organization_id, user_id, due, seq);
CREATE INDEX IF NOT EXISTS member_index_by_user ON member_index (tenant, user_id);
CREATE INDEX IF NOT EXISTS member_index_by_time
    ON member_index (tenant, organization_id, added_at, user_id);
CREATE TABLE IF NOT EXISTS member_roles (
    tenant TEXT, organization_id TEXT, user_id TEXT, role_id TEXT,
    PRIMARY KEY (tenant, organization_id, user_id, role_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roles (
    tenant TEXT, id TEXT, name TEXT, description TEXT,
    PRIMARY KEY (tenant, id), UNIQUE (tenant, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invitations (
    tenant TEXT, id TEXT, organization_id TEXT, created_at REAL, expires_at REAL, document TEXT,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tickets (
    tenant TEXT, secret TEXT, user_id TEXT, created_at REAL, expires_at REAL, used_at REAL,
    document TEXT, PRIMARY KEY (tenant, secret)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    tenant TEXT, id TEXT, user_id TEXT, client_id TEXT, organization_id TEXT, created_at REAL,
    revoked_at REAL, PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_user ON sessions (tenant, user_id);
CREATE TABLE IF NOT EXISTS refresh_tokens (
    tenant TEXT, id TEXT, user_id TEXT, client_id TEXT, session_id TEXT, created_at REAL,
    revoked_at REAL, PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS refresh_tokens_by_user ON refresh_tokens (tenant, user_id);
CREATE TABLE IF NOT EXISTS jobs (
    tenant TEXT, id TEXT, type TEXT, status TEXT, created_at REAL, due REAL,
    document TEXT, input TEXT, output TEXT, errors TEXT, PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_pending ON jobs (due) WHERE status = 'pending';
CREATE TABLE IF NOT EXISTS export_links (
    secret TEXT PRIMARY KEY, tenant TEXT, job_id TEXT, expires_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imported_passwords (
    tenant TEXT NOT NULL, user_id TEXT NOT NULL, PRIMARY KEY (tenant, user_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS brute_force_blocks (
    tenant TEXT, user_id TEXT, identifier TEXT, ip TEXT, connection TEXT,
    PRIMARY KEY (tenant, user_id, ip)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS happenings (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, due REAL, type TEXT, document TEXT
);
CREATE INDEX IF NOT EXISTS happenings_due ON happenings (tenant, due, seq);
CREATE TABLE IF NOT EXISTS mails (
    number INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, at REAL, kind TEXT, recipient TEXT,
    subject TEXT
);
CREATE TABLE IF NOT EXISTS faults (
    id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT, remaining INTEGER
);
CREATE TABLE IF NOT EXISTS calls (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, tenant TEXT, method TEXT, path TEXT,
    status INTEGER, endpoint_group TEXT, fault TEXT
);
"""

TENANT_TABLES = (
    "custom_domains",
    "connections",
    "connection_clients",
    "users",
    "identities",
    "user_index",
    "organizations",
    "organization_connections",
    "members",
    "member_index",
    "member_roles",
    "roles",
    "invitations",
    "tickets",
    "sessions",
    "refresh_tokens",
    "jobs",
    "export_links",
    "brute_force_blocks",
    "mails",
    "happenings",
)
"""What a reset empties. Clients and tokens stay, so callers keep their access."""

ALPHABET = string.ascii_letters + string.digits


class Store:
    """One connection to the state. Transactions are short, synchronous and one at a time."""

    def __init__(self, data_dir: Path | None) -> None:
        """Open `simulator.sqlite3` in `data_dir`, which is created, or memory where it is None."""
        self._file = ":memory:"
        if data_dir is not None:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._file = str(data_dir / "simulator.sqlite3")
        self._lock = threading.Lock()
        self._connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL leaves the last commits to the operating system: safe against SIGKILL.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.executescript(SCHEMA)
        return connection

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """A write transaction: committed at the end of the block, rolled back on any exception."""
        with self._lock:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file; state in memory is lost."""
        self._connection.close()


def new_id(prefix: str, length: int = 16) -> str:
    """A fresh identifier in Auth0's style, such as `org_` and 16 letters and digits."""
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))


def stable_id(prefix: str, *names: str, length: int = 16) -> str:
    """An identifier that follows from names, for samples that should look the same everywhere."""
    number = int.from_bytes(sha256("\0".join(names).encode()).digest())
    letters: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[digit])
    return prefix + "".join(letters)


def timestamp(at: float) -> str:
    """Seconds since the epoch as Auth0 writes them: UTC, milliseconds, `Z`."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
