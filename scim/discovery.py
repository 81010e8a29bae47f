"""What this server says of itself (RFC 7644 section 4): every member present, and nothing promised
that is not there.
"""

from __future__ import annotations

from typing import Any, Final

from scim.bulk_request import LARGEST_BULK, MOST_OPERATIONS
from scim.cursors import TIMEOUT_SECONDS
from scim.errors import ScimError
from scim.listing import DEFAULT_COUNT, LARGEST_COUNT, list_response
from scim.schema import Catalogue, ResourceType, Schema
from service.directory.responses import EVENT_URI
from service.organizations import Organization, ScimOauth

_CONFIGURATION_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
_TYPE_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
_SCHEMA_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:Schema"


def service_provider_config(
    base_url: str, organization: Organization, *, attributes: str = ""
) -> dict[str, Any]:
    """What is offered. ``attributes`` of the request: ``securityEvents`` (RFC 9967 section 4) is
    shown to those who name it, since clients older than it refuse a document that has it. Its
    ``eventUris`` are those of the organization's stream, where it has one.
    """
    document = _configuration(base_url, organization)
    if "securityevents" in (name.strip().casefold() for name in attributes.split(",")):
        stream = organization.security_events
        uris = stream.uris if stream is not None else [EVENT_URI]
        document["securityEvents"] = {"asyncRequest": "request", "eventUris": uris}
    return document


def _configuration(base_url: str, organization: Organization) -> dict[str, Any]:
    return {
        "schemas": [_CONFIGURATION_SCHEMA],
        "patch": {"supported": True},
        "bulk": {
            "supported": True,
            "maxOperations": MOST_OPERATIONS,
            "maxPayloadSize": LARGEST_BULK,
        },
        "filter": {"supported": True, "maxResults": LARGEST_COUNT},
        "changePassword": {"supported": False},
        "sort": {"supported": True},
        "etag": {"supported": True},
        "pagination": {
            "cursor": True,
            "index": True,
            "defaultPaginationMethod": "index",
            "defaultPageSize": DEFAULT_COUNT,
            "maxPageSize": LARGEST_COUNT,
            "cursorTimeout": TIMEOUT_SECONDS,
        },
        "authenticationSchemes": _authentication_schemes(organization.scim_oauth),
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": f"{base_url}/ServiceProviderConfig",
        },
    }


def _authentication_schemes(oauth: ScimOauth | None) -> list[dict[str, Any]]:
    """What the organization takes (RFC 7643 section 5), its own issuer's tokens first."""
    ours: dict[str, Any] = {
        "type": "oauthbearertoken",
        "name": "Bearer token",
        "description": "A token of this organization in the Authorization header.",
        "specUri": "https://www.rfc-editor.org/info/rfc6750",
        "primary": oauth is None,
    }
    if oauth is None:
        return [ours]
    theirs = {
        "type": "oauth2",
        "name": "OAuth 2.0 client credentials",
        "description": (
            f"A JWT access token of {oauth.issuer} for the audience {oauth.audience},"
            " in the Authorization header."
        ),
        "specUri": "https://www.rfc-editor.org/info/rfc9068",
        "primary": True,
    }
    return [theirs, ours]


def resource_types(catalogue: Catalogue, base_url: str) -> dict[str, Any]:
    found = [_type_document(resource_type, base_url) for resource_type in catalogue.types]
    return list_response(found, total=len(found))


def resource_type(catalogue: Catalogue, name: str, base_url: str) -> dict[str, Any]:
    for known in catalogue.types:
        if known.name == name:
            return _type_document(known, base_url)
    raise ScimError(404, f"There is no resource type {name[:100]}.")


def schemas(catalogue: Catalogue, base_url: str) -> dict[str, Any]:
    found = [_schema_document(schema, base_url) for schema in catalogue.schemas()]
    return list_response(found, total=len(found))


def schema(catalogue: Catalogue, urn: str, base_url: str) -> dict[str, Any]:
    for known in catalogue.schemas():
        if known.id.casefold() == urn.casefold():
            return _schema_document(known, base_url)
    raise ScimError(404, f"There is no schema {urn[:200]}.")


def _type_document(resource_type: ResourceType, base_url: str) -> dict[str, Any]:
    return {
        "schemas": [_TYPE_SCHEMA],
        "id": resource_type.name,
        "name": resource_type.name,
        "endpoint": resource_type.endpoint,
        "description": resource_type.description,
        "schema": resource_type.core.id,
        "schemaExtensions": [
            {"schema": extension.id, "required": False} for extension in resource_type.extensions
        ],
        "meta": {
            "resourceType": "ResourceType",
            "location": f"{base_url}/ResourceTypes/{resource_type.name}",
        },
    }


def _schema_document(schema: Schema, base_url: str) -> dict[str, Any]:
    return {
        "schemas": [_SCHEMA_SCHEMA],
        **schema.document,
        "meta": {"resourceType": "Schema", "location": f"{base_url}/Schemas/{schema.id}"},
    }
