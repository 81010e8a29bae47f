"""What an operator does about a refusal of Auth0, by its code. Data: docs/auth0.md tells the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ADVICE: Final[Mapping[str, str]] = {
    "conflict_without_user": "Look at the connection's custom database or import mode, then replay.",
    "custom_domain_conflict": "Declare custom_domain for the organization or its tenant, then replay.",
    "inexistent_connection": "Make the connection in Auth0 or correct its name, then replay.",
    "insufficient_entitlement": "The plan does not include it: change the plan or the policy, then replay.",
    "insufficient_scope": "Grant our application the scope (provisioner doctor names it), then replay.",
    "invalid_body": "Correct the value at its source, or the connection's rules in Auth0.",
    "mail_refused": "Correct the address at its source, or the mail server's rules, then replay.",
    "organization_full": "Have its limit raised, or take members out: everyone who waits goes on"
    " by themselves.",
    "too_many_entities": "Have the limit raised, or take away what is not needed, then replay.",
    "unknown_connection": "Make the connection in Auth0 or correct its name, then replay.",
    "unknown_organization_or_role": "Declare it again (org apply) or make it in Auth0, then replay.",
    "unknown_role": "Make the role in Auth0, declare set_up.create_roles, or correct roles, then replay.",
}
"""Codes of ours and of Auth0's (``errorCode``). Each begins a sentence."""
