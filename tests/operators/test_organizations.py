"""``provisioner org``: declaring is idempotent, names its mistakes, and leaves a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from operators import declaring
from service.directory import accounts, audit, credentials
from service.directory.credentials import TokenDoor
from service.directory.database import Transaction, open_database
from service.organizations import Installation
from tests.operators.house import Ended, House, run

DECLARED = """
[[organizations]]
name = "initech"
display_name = "Initech"
verified_domains = ["initech.example"]
connections = [{ name = "initech-users" }]
roles = { Admins = "admin" }

[[sources]]
name = "hr"
topic = "hr.initech"
organizations = ["initech"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "organizations.toml"
    path.write_text(DECLARED)
    return path


def apply(house: House, path: Path, text: str | None = None, *options: str) -> Ended:
    if text is not None:
        path.write_text(text)
    return house.run("org", "apply", str(path), "--json", *options)


def verdicts(ended: Ended) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in ended.rows}


def test_apply_declares_and_applying_again_changes_nothing(house: House, file: Path) -> None:
    first, second = apply(house, file), apply(house, file)

    assert verdicts(first) == {"initech": "new", "hr": "new"}
    assert verdicts(second) == {"initech": "unchanged", "hr": "unchanged"}
    listed = house.run("org", "list", "--json").rows
    assert [(row["name"], row["version"]) for row in listed] == [
        ("acme", 1),
        ("globex", 1),
        ("initech", 1),
    ]


def test_dry_run_names_the_keys_that_differ_and_stores_nothing(house: House, file: Path) -> None:
    apply(house, file)
    changed = DECLARED.replace('Admins = "admin"', 'Admins = "owner"')

    ended = apply(house, file, changed, "--dry-run")

    assert ended.rows[0]["keys"] == ["roles.Admins"]
    assert ended.rows[0]["applied"] is False
    assert house.run("org", "show", "initech", "--json").rows[0]["roles"] == {"Admins": "admin"}


def test_yaml_is_read_as_well(house: House, tmp_path: Path) -> None:
    path = tmp_path / "organizations.yaml"

    ended = apply(house, path, "organizations: [{name: umbrella, connections: [{name: u}]}]")

    assert verdicts(ended) == {"umbrella": "new"}


@pytest.mark.parametrize(
    "text", ["sources: [{name: a, zone: 2026-13-45}]", "sources: " + "[" * 5000]
)
def test_yaml_that_cannot_be_read_is_told_as_such(house: House, tmp_path: Path, text: str) -> None:
    ended = apply(house, tmp_path / "organizations.yaml", text)

    assert ended.status == 1
    assert "not YAML" in ended.err
    assert "Traceback" not in ended.err


SEVERAL = """
organizations: [{name: one, connections: [{name: u1}]}, {name: two, connections: [{name: u2}]}]
sources:
  - name: people
    webhook: true
    organizations: [one, two]
    enrichment: {url: "https://hr.example/{worker_id}"}
"""


def test_a_webhook_of_several_organizations_asks_for_workers_of_the_one_that_sent(
    house: House, tmp_path: Path
) -> None:
    """Else whoever may send for one could have anybody's data written there, by a guessed id."""
    path = tmp_path / "organizations.yaml"

    refused = apply(house, path, SEVERAL)
    told = apply(house, path, SEVERAL.replace("example/", "example/{organization}/"))

    assert refused.status == 1
    assert "sources[people].enrichment" in refused.err
    assert told.status == 0


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (DECLARED.replace("display_name", "displayname"), "organizations[initech].displayname"),
        (DECLARED.replace('[{ name = "initech-users" }]', "[]"), "connections"),
        (DECLARED.replace('["initech"]', '["nobody"]'), "sources[hr].organizations"),
        (DECLARED.replace("[[sources]]", "[[surces]]"), "surces"),
        (DECLARED + "\n[[", "not TOML"),
        (DECLARED.replace("initech-users", "acme-users"), "organizations[acme].connections"),
        (
            DECLARED.replace("display_name =", 'tenant = "elsewhere"\ndisplay_name ='),
            "organizations[initech].tenant",
        ),
        (
            DECLARED.replace("roles =", 'attributes_from = { emial = "hr" }\nroles ='),
            "attributes_from: emial",
        ),
        (
            DECLARED.replace('"initech-users" }', '"initech-users", strategy = "waad" }'),
            'organizations[initech]: model = "isolated" needs a database connection',
        ),
    ],
)
def test_mistakes_are_named_by_key_and_nothing_is_stored(
    house: House, file: Path, text: str, place: str
) -> None:
    ended = apply(house, file, text)

    assert ended.status == 1
    assert place in ended.err
    assert "Traceback" not in ended.err
    assert house.run("org", "show", "initech").status == 1


EXTENSION = """
[[organizations.scim_schemas]]
id = "urn:initech:scim:1.0:Desk"
name = "Desk"
attributes = [{ name = "size", type = "integer" }]
"""


def test_extension_schemas_are_declared_without_a_look_at_accounts(
    house: House, file: Path
) -> None:
    apply(house, file, DECLARED)
    ended = apply(house, file, DECLARED.replace("[[sources]]", f"{EXTENSION}\n[[sources]]"))

    assert verdicts(ended)["initech"] == "changed"
    assert ended.rows[0]["keys"] == ["scim_schemas"]
    (shown,) = house.run("org", "show", "initech", "--json").rows
    assert shown["scim_schemas"][0]["resourceTypes"] == ["User"]  # as the file has it
    assert house.run("events", "list", "--json").rows == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("integer", "number", "organizations[initech].scim_schemas[Desk].attributes[size].type"),
        ("urn:initech:scim", "urn:ietf:params:scim:api", "choose a URN of your own"),
        ('"integer"', '"string", uniqueness = "server"', "uniqueness must be none"),
    ],
)
def test_mistakes_in_a_schema_are_named_by_attribute(
    house: House, file: Path, right: str, wrong: str, said: str
) -> None:
    text = DECLARED.replace("[[sources]]", f"{EXTENSION.replace(right, wrong)}\n[[sources]]")
    ended = apply(house, file, text)

    assert ended.status == 1
    assert "organizations[initech].scim_schemas[Desk]" in ended.err
    assert said in ended.err


def test_connection_of_an_organization_that_has_ended_is_free(house: House, file: Path) -> None:
    assert house.run("org", "decommission", "acme", "--yes").status == 0

    ended = apply(house, file, DECLARED.replace("initech-users", "acme-users"))

    assert verdicts(ended)["initech"] == "new"


def test_changed_roles_make_the_accounts_due(house: House, file: Path) -> None:
    apply(house, file)
    user = house.create("peter@initech.example", "initech")
    assert user.account_id is not None
    house.refuse(user)

    apply(house, file, DECLARED.replace('Admins = "admin"', 'Admins = "owner"'), "--no-wait")

    account = house.transact(lambda tx: accounts.get(tx, str(user.account_id)))
    assert account is not None
    assert account.due_at is not None
    event = house.events()[-1]
    assert (event.type, event.state) == ("operator.declare", "accepted")


def test_organization_with_accounts_cannot_move(house: House, file: Path) -> None:
    apply(house, file)
    house.create("peter@initech.example", "initech")

    ended = apply(
        house, file, DECLARED.replace("roles =", 'tenant = "main"\nmodel = "shared"\nroles =')
    )

    assert ended.status == 1
    assert "organizations[initech].model" in ended.err


def test_organization_with_users_cannot_join_them_by_another_key(house: House, file: Path) -> None:
    by_user_name = DECLARED.replace("roles =", 'join = "userName"\nroles =')
    apply(house, file)
    assert apply(house, file, by_user_name).status == 0
    house.create("peter@initech.example", "initech")

    assert apply(house, file, by_user_name).status == 0
    ended = apply(house, file, DECLARED)

    assert ended.status == 1
    assert "organizations[initech].join: it has users, who are joined by userName" in ended.err


def is_valid(house: House, token: str, door: TokenDoor, organization: str = "acme") -> bool:
    pepper = (house.data_dir / "pepper").read_bytes()
    known = house.transact(
        lambda tx: credentials.verify(
            tx, token, organization=organization, door=door, pepper=pepper, now=datetime.now(UTC)
        )
    )
    return known is not None


def test_token_opens_its_door_until_it_is_revoked(house: House) -> None:
    made = house.run("org", "token", "create", "acme", "--door", "scim")
    token = made.out.strip()
    assert is_valid(house, token, "scim")
    assert not is_valid(house, token, "events")
    assert not is_valid(house, token, "scim", "globex")
    (row,) = house.run("org", "token", "list", "acme", "--json").rows
    assert token not in str(row)

    ended = house.run("org", "token", "revoke", "acme", row["id"])

    assert ended.status == 0
    assert not is_valid(house, token, "scim")
    assert house.run("org", "token", "revoke", "acme", row["id"]).status == 1


def test_token_expires_when_asked(house: House) -> None:
    made = house.run(
        "org", "token", "create", "acme", "--door", "events", "--expires-in-days", "1", "--json"
    )
    (row,) = made.rows
    assert row["expires_at"] > datetime.now(UTC).isoformat()


def test_token_has_the_scopes_that_were_asked_for(house: House) -> None:
    create = ("org", "token", "create", "acme", "--door", "scim", "--json")
    (both,), (reading,) = house.run(*create).rows, house.run(*create, "--scope", "read").rows

    listed = {row["id"]: row for row in house.run("org", "token", "list", "acme", "--json").rows}

    assert (both["scopes"], reading["scopes"]) == (["read", "write"], ["read"])
    assert listed[both["id"]]["scopes"] == ["read", "write"]
    assert listed[reading["id"]]["scopes"] == ["read"]
    assert house.run(*create[:-1], "--scope", "admin").status == 2
    events = house.run("org", "token", "create", "acme", "--door", "events", "--scope", "read")
    assert (events.status, "scope write" in events.err) == (1, True)


def test_third_live_token_is_refused_and_says_how_to_make_room(house: House) -> None:
    create = ("org", "token", "create", "acme", "--door", "scim", "--json")
    (first,), (second,) = house.run(*create).rows, house.run(*create).rows

    third = house.run(*create)

    assert (third.status, third.out) == (1, "")
    for told in (first["id"], second["id"], "provisioner org token revoke acme"):
        assert told in third.err
    assert first["token"].split("_", 2)[2] not in third.err
    house.run("org", "token", "revoke", "acme", first["id"])
    assert house.run(*create).status == 0


def test_listed_tokens_tell_their_scopes_end_and_last_use(house: House) -> None:
    create = ("org", "token", "create", "acme", "--json", "--door")
    (used,) = house.run(*create, "scim", "--expires-in-days", "9").rows
    house.run(*create, "events")
    at = datetime.now(UTC).replace(microsecond=0)
    house.transact(lambda tx: credentials.record_uses(tx, {used["id"]: at}))

    rows = house.run("org", "token", "list", "acme", "--json").rows
    table = house.run("org", "token", "list", "acme").out

    assert datetime.fromisoformat(rows[0]["last_used_at"]) == at
    assert rows[0]["expires_at"] is not None
    assert (rows[1]["last_used_at"], rows[1]["expires_at"]) == (None, None)
    heading, *lines = [each for each in table.splitlines() if each.strip()]
    assert heading.split() == [
        "id",
        "door",
        "scopes",
        "created",
        "expires",
        "last",
        "used",
        "revoked",
    ]
    (line,) = [each for each in lines if used["id"] in each]
    assert at.strftime("%Y-%m-%d %H:%M:%S") in line
    assert "read write" in line
    (shown,) = house.run("org", "show", "acme", "--json").rows
    assert shown["tokens"] == rows


def test_issuer_of_an_organization_is_declared_and_makes_no_account_due(
    house: House, file: Path
) -> None:
    apply(house, file)
    events = house.events()
    declared = DECLARED.replace(
        "[[sources]]",
        """
[organizations.scim_oauth]
issuer = "https://idp.example/"
audience = "https://scim.example"
clients = ["sync"]
scopes = { "scim.read" = ["read"] }

[[sources]]""",
    )
    assert verdicts(apply(house, file, declared))["initech"] == "changed"
    moved = declared.replace("idp.example", "login.example")
    assert apply(house, file, moved).rows[0]["keys"] == ["scim_oauth.issuer"]
    assert house.events() == events
    shown = house.run("org", "show", "initech", "--json").rows[0]["scim_oauth"]
    assert (shown["issuer"], shown["clients"]) == ("https://login.example/", ["sync"])
    for mistake, place in (
        (declared.replace("https://idp", "http://idp"), "scim_oauth.issuer"),
        (declared.replace("https://idp", "https://a:b@idp"), "scim_oauth.issuer"),
        (declared.replace('["sync"]', "[]"), "scim_oauth.clients"),
        (declared.replace('["read"]', '["admin"]'), "scim_oauth.scopes"),
        (declared.replace("audience =", "audiences ="), "scim_oauth.audience"),
    ):
        refused = apply(house, file, mistake)
        assert (refused.status, f"organizations[initech].{place}" in refused.err) == (1, True)


def test_token_is_in_no_audit_entry(house: House) -> None:
    token = house.run("org", "token", "create", "acme", "--door", "scim").out.strip()
    house.run("org", "token", "revoke", "acme", token, "--actor", "ops@example.com")

    entries = house.run("audit", "--json").rows

    assert [(e["action"], e["organization"]) for e in entries] == [
        ("token.create", "acme"),
        ("token.revoke", "acme"),
    ]
    assert entries[0]["detail"] == {"door": "scim", "scopes": ["read", "write"], "expires": "never"}
    assert entries[1]["actor"] == "ops@example.com"
    assert token.split("_", 2)[2] not in str(entries)


def test_decommissioned_organization_locks_everybody_out(house: House) -> None:
    token = house.run("org", "token", "create", "acme", "--door", "scim").out.strip()
    ada, other = house.create("ada@acme.example"), house.create("x@globex.example", "globex")
    house.refuse(ada)

    ended = house.run("org", "decommission", "acme", "--yes", "--json")

    (row,) = ended.rows
    assert (row["accounts"], row["tokens"]) == (1, 1)
    event = house.event(row["event_id"])
    assert (event.type, event.state) == ("operator.decommission", "accepted")
    assert not is_valid(house, token, "scim")
    shown = house.run("user", "show", "acme", ada.id, "--json").rows[0]
    assert shown["causes"] == ["organization-decommissioned"]
    assert house.user(other.id).state == "pending"
    assert house.run("org", "token", "create", "acme", "--door", "scim").status == 1


def test_decommissioning_twice_is_one_event(house: House) -> None:
    house.run("org", "decommission", "acme", "--yes")
    before = house.events()

    again = house.run("org", "decommission", "acme", "--yes")

    assert (again.status, house.events()) == (0, before)
    assert len(house.transact(lambda tx: audit.listing(tx))) == 1


def test_decommission_asks_where_nobody_can_answer(house: House) -> None:
    ended = house.run("org", "decommission", "acme")

    assert ended.status == 2
    assert "--yes" in ended.err


def test_unknown_organization_fails(house: House) -> None:
    for command in (
        ("show", "nobody"),
        ("decommission", "nobody", "--yes"),
        ("token", "list", "nobody"),
        ("token", "create", "nobody", "--door", "scim"),
    ):
        ended = house.run("org", *command)
        assert (ended.status, "no organization nobody" in ended.err) == (1, True)


def test_data_dir_without_an_installation_is_wrong_usage(tmp_path: Path) -> None:
    ended = run("org", "list", "--data-dir", str(tmp_path / "nothing"))

    assert ended.status == 2
    assert "provisioner dev" in ended.err
    assert not (tmp_path / "nothing").exists()


EVERYTHING = """
[[tenants]]
name = "second"
domain = "second.eu.auth0.com"
client_id = "c"
client_secret_file = "/run/secrets/second"

[[organizations]]
name = "initech"
tenant = "second"
display_name = "Ínitech"
connections = [{ name = "initech-users" }]
roles = { Admins = "admin" }
policies = { deletion = "delete", deletion_hold = "P3D", mass_leavers = { count = 7, within = "PT30M" } }

[[organizations.scim_schemas]]
id = "urn:example:params:scim:schemas:extension:badge:2.0:User"
name = "Badge"
attributes = [{ name = "badgeNumber", type = "string", caseExact = true }]

[[sources]]
name = "hr.events"
topic = "hr.events"
organizations = ["initech"]
zone = "Europe/Amsterdam"

[[sources]]
name = "people"
webhook = true
mapping = "bamboohr"
organizations = ["initech", "acme"]

[sources.enrichment]
url = "https://hr.example/{organization}/{worker_id}"
credential = { file = "/run/secrets/hr" }
"""


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_is_exported_is_what_was_applied(
    house: House, file: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert apply(house, file, EVERYTHING).status == 0
    exported = house.run("org", "export", *options)
    again = tmp_path / "exported.yaml"
    again.write_text(exported.out)
    ended = apply(house, again)
    assert ended.status == 0
    assert set(verdicts(ended)) >= {"second", "initech", "acme", "globex", "hr.events", "people"}
    assert set(verdicts(ended).values()) == {"unchanged"}
    assert "Ínitech" in exported.out


def test_export_of_one_organization_has_its_tenant_and_its_own_sources(
    house: House, file: Path
) -> None:
    apply(house, file, EVERYTHING)
    (told,) = house.run("org", "export", "initech", "--json").rows
    names = {kind: [each["name"] for each in those] for kind, those in told.items()}
    assert names == {"tenants": ["second"], "organizations": ["initech"], "sources": ["hr.events"]}
    assert house.run("org", "export", "nobody").status == 1


def test_export_leaves_out_who_has_ended(house: House, file: Path) -> None:
    apply(house, file)
    house.run("org", "decommission", "acme", "--yes")
    (told,) = house.run("org", "export", "--json").rows
    assert [each["name"] for each in told["organizations"]] == ["globex", "initech"]


def test_two_organizations_do_not_have_one_in_auth0(house: House, file: Path) -> None:
    apply(house, file)
    second = """
[[organizations]]
name = "initrode"
auth0_organization = "initech"
connections = [{ name = "initrode-users" }]
"""
    ended = apply(house, file, second)
    assert ended.status == 1
    assert "the Organization initech of tenant main is that of initech" in ended.err


def test_a_tenant_is_declared_once(house: House, file: Path) -> None:
    declared = """
[[tenants]]
name = "eu"
domain = "acme.eu.auth0.com"

[[tenants]]
name = "again"
base_url = "https://ACME.eu.auth0.com/"
"""
    ended = apply(house, file, declared)
    assert ended.status == 1
    assert "is that of tenant eu" in ended.err


def test_nobody_becomes_a_member_of_a_shared_organization_by_logging_in(
    house: House, file: Path
) -> None:
    declared = """
[[organizations]]
name = "clinic"
model = "shared"
connections = [{ name = "pool", assign_membership_on_login = true }]
"""
    ended = apply(house, file, declared)
    assert ended.status == 1
    assert "whoever has left too" in ended.err


@pytest.mark.parametrize(
    ("model", "policies", "told"),
    [
        ("enterprise", 'invite = "ticket"', "no ticket would ever go out"),
        ("isolated", 'deletion = "delete", deletion_hold = "-P30D"', "PT0S to P36500D"),
        ("isolated", 'deletion = "delete", deletion_hold = "P999999D"', "PT0S to P36500D"),
    ],
)
def test_a_policy_that_could_not_be_followed_is_refused(
    house: House, file: Path, model: str, policies: str, told: str
) -> None:
    strategy = "waad" if model == "enterprise" else "auth0"
    declared = f"""
[[organizations]]
name = "initech"
model = "{model}"
connections = [{{ name = "initech-users", strategy = "{strategy}" }}]
policies = {{ {policies} }}
"""
    ended = apply(house, file, declared)
    assert ended.status == 1
    assert told in ended.err


async def test_of_two_operators_who_give_away_one_connection_one_is_told(
    postgres_migrated: str,
) -> None:
    database = open_database(postgres_migrated)

    def declaring_it(name: str) -> Callable[[Transaction], None]:
        installation = Installation.model_validate(
            {"organizations": [{"name": name, "connections": [{"name": "users"}]}]}
        )

        def work(tx: Transaction) -> None:
            now = datetime.now(UTC)
            declaring.apply(tx, installation, known_tenants=["main"], actor="kim", now=now)
            tx.execute(text("SELECT pg_sleep(0.15)"))

        return work

    try:
        ended = await asyncio.gather(
            *(database.transact(declaring_it(name)) for name in ("initech", "initrode")),
            return_exceptions=True,
        )
    finally:
        await database.close()
    assert sorted(type(each).__name__ for each in ended) == ["ConfigurationError", "NoneType"]
