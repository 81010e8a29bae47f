"""A refusal in SCIM's own form (RFC 7644 section 3.12). Knows no HTTP server."""

from __future__ import annotations

from typing import Any, Final, Literal

ERROR_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
ScimType = Literal[
    "invalidFilter",
    "tooMany",
    "uniqueness",
    "mutability",
    "invalidSyntax",
    "invalidPath",
    "noTarget",
    "invalidValue",
    "invalidVers",
    "sensitive",
    "invalidCursor",
    "expiredCursor",
    "invalidCount",
]


class ScimError(Exception):
    """A request that cannot be served; ``detail`` says what the client must do."""

    def __init__(
        self,
        status: int,
        detail: str,
        scim_type: ScimType | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.scim_type: ScimType | None = scim_type
        self.headers = headers

    def as_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"schemas": [ERROR_SCHEMA], "status": str(self.status)}
        if self.scim_type is not None:
            document["scimType"] = self.scim_type
        return document | {"detail": self.detail}


def invalid_value(detail: str) -> ScimError:
    return ScimError(400, detail, "invalidValue")


def invalid_filter(detail: str) -> ScimError:
    return ScimError(400, detail, "invalidFilter")


def invalid_path(detail: str) -> ScimError:
    return ScimError(400, detail, "invalidPath")
