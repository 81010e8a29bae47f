"""Reads a multipart/form-data body with the standard library's parser of MIME messages."""

from email import message_from_bytes
from email.policy import HTTP


def parts(body: bytes, content_type: str) -> dict[str, bytes] | None:
    """Name to content of each part, or None where the body is not multipart/form-data."""
    if not content_type.lower().startswith("multipart/form-data"):
        return None
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n"
    message = message_from_bytes(head.encode() + body, policy=HTTP)
    if not message.is_multipart():
        return None
    found: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found[name] = content
    return found
