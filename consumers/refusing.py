"""How the HTTP doors for events say no: a problem document (RFC 9457), and nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response


class Refusal(Exception):
    """The request is answered with a problem document (RFC 9457); nothing of it is stored."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        index: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status.value} {code}")
        self.status = status
        self.code = code
        self.message = message
        self.index = index
        self.headers = dict(headers or {})

    def as_response(self) -> Response:
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "code": self.code,
            "detail": self.message,
        }
        if self.index is not None:
            document["index"] = self.index
        return Response(
            orjson.dumps(document),
            status_code=self.status.value,
            media_type="application/problem+json",
            headers=self.headers,
        )
