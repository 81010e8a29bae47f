"""The users of the benchmarks: the same for every server, by number."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Final

ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
CORE: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
_GIVEN: Final = (
    *("Ada", "Bram", "Chiara", "Dilan", "Emre", "Femke", "Grace", "Hanna", "Ilse", "Joris"),
    *("Kofi", "Lotte", "Marek", "Noor", "Olga", "Pieter", "Quirine", "Rosa", "Sven", "Tess"),
    *("Umar", "Vera", "Wout", "Xenia", "Yara", "Zoltan"),
)
_FAMILY: Final = (
    *("Adriaanse", "Bakker", "Cohen", "Dekker", "Evers", "Fischer", "Garcia", "Hoekstra"),
    *("Iyer", "Jansen", "Kowalski", "Lindqvist", "Mulder", "Novak", "Okafor", "Peeters"),
    *("Quist", "Rossi", "Schouten", "Timmer", "Usta", "Visser", "Wagner", "Yilmaz", "Zijlstra"),
)
_TITLES: Final = ("Accountant", "Analyst", "Clerk", "Controller", "Engineer", "Manager", "Planner")
_DEPARTMENTS: Final = ("Audit", "Finance", "Legal", "Logistics", "People", "Research", "Sales")


def user_name(number: int) -> str:
    """The address by which the n-th user logs in, different for each."""
    given = _GIVEN[number % len(_GIVEN)]
    family = _FAMILY[number // len(_GIVEN) % len(_FAMILY)]
    return f"{given}.{family}.{number}@hoekstra.example".lower()


def resource(number: int) -> dict[str, Any]:
    """The n-th user as an identity provider sends them, about 0.9 kB, without ``schemas``."""
    given = _GIVEN[number % len(_GIVEN)]
    family = _FAMILY[number // len(_GIVEN) % len(_FAMILY)]
    address = user_name(number)
    return {
        "active": True,
        "userName": address,
        "externalId": f"emp-{number:08}",
        "name": {"givenName": given, "familyName": family, "formatted": f"{given} {family}"},
        "displayName": f"{given} {family}",
        "title": _TITLES[number % len(_TITLES)],
        "preferredLanguage": "nl-NL",
        "emails": [{"value": address, "type": "work", "primary": True}],
        "phoneNumbers": [{"value": f"+31 20 {number % 10_000_000:07}", "type": "work"}],
        "addresses": [
            {
                "type": "work",
                "streetAddress": f"Herengracht {number % 600 + 1}",
                "locality": "Amsterdam",
                "postalCode": f"{1000 + number % 100} AB",
                "country": "NL",
            }
        ],
        ENTERPRISE: {
            "employeeNumber": f"{number:08}",
            "department": _DEPARTMENTS[number % len(_DEPARTMENTS)],
            "costCenter": f"CC{number % 90 + 10}",
        },
    }


def request_body(number: int) -> dict[str, Any]:
    """What creates the n-th user."""
    return {"schemas": [CORE, ENTERPRISE], **resource(number)}


def user_id(number: int) -> str:
    """The id that a seeded user has: as a version 7 UUID is, later numbers sort later."""
    random = int.from_bytes(hashlib.blake2b(b"%d" % number, digest_size=10).digest(), "big")
    value = (_FIRST_MILLISECOND + number) << 80 | 0x7 << 76 | (random >> 68) << 64
    return str(uuid.UUID(int=value | 0b10 << 62 | random & (2**62 - 1)))


_FIRST_MILLISECOND: Final = 1_767_225_600_000  # 2026-01-01
