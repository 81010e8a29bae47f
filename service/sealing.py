"""Secrets that must wait in the database: sealed with AES-GCM under a key that the pepper gives.

Each is bound to what it belongs to, so that a row which is moved to another opens nothing.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.errors import ProvisionerError

_NONCE_BYTES: Final = 12


class SealBroken(ProvisionerError):
    """What is to be opened was sealed for something else, or under another pepper."""


class Sealer:
    """Seals and opens for one ``purpose``; what another purpose sealed does not open."""

    def __init__(self, pepper: bytes, *, purpose: str) -> None:
        info = purpose.encode()
        self._cipher = AESGCM(HKDF(SHA256(), length=32, salt=None, info=info).derive(pepper))

    def seal(self, content: bytes, *, owner: str) -> bytes:
        """``owner``: the id of what it belongs to."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, owner.encode())

    def open(self, sealed: bytes, *, owner: str) -> bytes:
        """Raises SealBroken."""
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, rest, owner.encode())
        except (ValueError, InvalidTag):
            raise SealBroken("It was sealed under another pepper, or for something else.") from None


def sealer_of_hashes(pepper: bytes) -> Sealer:
    """For password hashes that wait for their import, each bound to its account's id."""
    return Sealer(pepper, purpose="password hashes that wait for an import")
