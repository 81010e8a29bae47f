"""What the Management API says when it refuses: the recorded shape of its error bodies.

Sources: recordings in the public test fixtures of terraform-provider-auth0 and go-auth0.
"""

from http import HTTPStatus
from typing import Any


class Refusal(Exception):
    """An answer other than 2xx. `error_code` is left out of the body where Auth0 leaves it out."""

    def __init__(self, *, status: int, message: str, error_code: str | None = None) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.error_code = error_code

    def body(self) -> dict[str, Any]:
        """`{"statusCode", "error", "message"}` and, where known, `errorCode`."""
        body: dict[str, Any] = {
            "statusCode": self.status,
            "error": reason_phrase(self.status),
            "message": self.message,
        }
        if self.error_code is not None:
            body["errorCode"] = self.error_code
        return body


def reason_phrase(status: int) -> str:
    """The words that belong to a status code; unknown codes get `Unknown`."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "Payload Too Large"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def bad_body(problem: str) -> Refusal:
    """400 for a body that breaks the operation's schema."""
    return Refusal(
        status=400, message=f"Payload validation error: '{problem}'.", error_code="invalid_body"
    )


def bad_query(problem: str) -> Refusal:
    """400 for a query parameter that breaks the operation's schema."""
    return Refusal(
        status=400,
        message=f"Query validation error: '{problem}'.",
        error_code="invalid_query_string",
    )


def bad_paging(problem: str) -> Refusal:
    """400 for a page that may not be asked for."""
    return Refusal(status=400, message=problem, error_code="invalid_paging")


def unknown_user() -> Refusal:
    """404, recorded with its code."""
    return Refusal(status=404, message="The user does not exist.", error_code="inexistent_user")


def unknown_organization() -> Refusal:
    """404, recorded without a code."""
    return Refusal(status=404, message="No organization found by that id or name")


def unknown_role() -> Refusal:
    """404, recorded without a code."""
    return Refusal(status=404, message="The role does not exist.")


def unknown_connection(status: int = 404) -> Refusal:
    """404 by id, 400 where a body names the connection."""
    return Refusal(
        status=status,
        message="The connection does not exist.",
        error_code="inexistent_connection",
    )
