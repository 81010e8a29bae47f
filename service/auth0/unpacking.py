"""The lines of a file that comes in pieces, gzipped or not. Knows no rows and no calls."""

from __future__ import annotations

import zlib
from typing import Final, Protocol

_GZIP: Final = b"\x1f\x8b"
_MARK: Final = b"\xef\xbb\xbf"


class _Inflating(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class NotWhole(Exception):
    """The file ends early, or is damaged."""


class Lines:
    """Takes a file's bytes as they come and gives back its lines, without a byte order mark."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._inflate: _Inflating | None = None
        self._rest = b""
        self._begun = False

    def take(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece. Raises NotWhole."""
        if self._head is not None:
            self._head += piece
            if len(self._head) < len(_GZIP):
                return []
            piece, self._head = self._head, None
            if piece.startswith(_GZIP):
                self._inflate = _member()
        return self._split(self._inflated(piece))

    def end(self) -> list[bytes]:
        """What is left where the last line has no end. Raises NotWhole."""
        if self._inflate is not None and not self._inflate.eof:
            raise NotWhole("the file ends early")
        rest = self._rest + (self._head or b"")
        rest = rest if self._begun else rest.removeprefix(_MARK)
        return [rest] if rest.strip() else []

    def _inflated(self, piece: bytes) -> bytes:
        """A gzip file may have several members, one after the other."""
        if self._inflate is None:
            return piece
        out = b""
        try:
            while piece:
                if self._inflate.eof:
                    self._inflate = _member()
                out += self._inflate.decompress(piece)
                piece = self._inflate.unused_data
        except zlib.error as error:
            raise NotWhole(f"the file is damaged: {error}") from error
        return out

    def _split(self, text: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + text).split(b"\n")
        if whole and not self._begun:
            self._begun = True
            whole[0] = whole[0].removeprefix(_MARK)
        return whole


def _member() -> _Inflating:
    return zlib.decompressobj(wbits=31)  # 31: gzip
