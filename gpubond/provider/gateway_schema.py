# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI description of the gateway, made from its table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gpubond import __version__

if TYPE_CHECKING:
    from gpubond.provider.gateway_routes import Operation

_HEX = {"job": "^0x[0-9a-f]{64}$", "sha256": "^[0-9a-f]{64}$"}
_LARGEST = {"offset": 10**15 - 1, "wait": 25}
_TEXT: dict[str, Any] = {"type": "string"}
_OPTIONAL_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_WHOLE: dict[str, Any] = {"type": "integer"}

_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "field", "value", "remedy"],
                "properties": {
                    "code": _TEXT,
                    "message": _TEXT,
                    "field": _OPTIONAL_TEXT,
                    "value": {},
                    "remedy": _OPTIONAL_TEXT,
                },
            }
        },
    },
    "Health": {
        "type": "object",
        "required": ["ok", "version", "time", "chain_id", "escrow", "worker", "takes_uploads", "part_bytes"],
        "properties": {
            "ok": {"type": "boolean"},
            "version": _TEXT,
            "time": {"type": "integer", "description": "Unix seconds by the gateway's clock"},
            "chain_id": _WHOLE,
            "escrow": _TEXT,
            "worker": {"enum": ["working", "stalled"]},
            "takes_uploads": {"type": "boolean", "description": "false while the disk is nearly full"},
            "max_blob_bytes": _WHOLE,
            "part_bytes": _WHOLE,
            "note_key": {"type": ["string", "null"], "description": "age key for notes in a buyer's own store"},
            "power_by_class": {
                "type": "array",
                "description": "what this provider's GPUs drew by its own measurement (NVML) of jobs that it finished; "
                "absent where nothing was measured",
                "items": {
                    "type": "object",
                    "required": ["class", "average_watts", "jobs"],
                    "properties": {"class": _TEXT, "average_watts": _WHOLE, "jobs": _WHOLE},
                },
            },
        },
    },
    "Software": {
        "type": "object",
        "required": ["python", "packages"],
        "properties": {
            "python": _TEXT,
            "packages": {"type": "object", "description": "version by name", "additionalProperties": _TEXT},
        },
    },
    "Uploaded": {
        "type": "object",
        "required": ["sha256", "complete"],
        "properties": {"sha256": _TEXT, "complete": {"type": "boolean"}},
    },
    "Parts": {
        "type": "object",
        "required": ["sha256", "size", "part_bytes", "complete", "have"],
        "properties": {
            "sha256": _TEXT,
            "size": {"type": ["integer", "null"], "description": "null for a specification that is not here"},
            "part_bytes": _WHOLE,
            "complete": {"type": "boolean"},
            "have": {
                "type": "array",
                "description": "first and last byte of each range that is here",
                "items": {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2},
            },
        },
    },
    "Status": {
        "type": "object",
        "required": ["job", "state", "chain_status", "waits_for", "until", "missing", "result", "history"],
    },
    "Cancelled": {
        "type": "object",
        "required": ["job", "acknowledged", "state", "effect", "until"],
        "properties": {
            "job": _TEXT,
            "acknowledged": {"type": "boolean", "description": "whether the wish is noted; false: it is too late"},
            "state": _OPTIONAL_TEXT,
            "effect": _TEXT,
            "until": {"type": ["integer", "null"], "description": "Unix seconds by which it has its effect"},
        },
    },
    "Api": {"type": "object", "required": ["openapi", "paths"]},
}

_JSON = {
    "health": "Health",
    "software": "Software",
    "schema": "Api",
    "status": "Status",
    "upload": "Uploaded",
    "parts": "Parts",
    "cancel": "Cancelled",
}
_BYTES = {"type": "string", "contentMediaType": "application/octet-stream"}
# What a signed operation may answer besides its own statuses.
_SIGNED = (400, 401, 404, 429)


def describe_api(routes: Sequence[Operation]) -> dict[str, Any]:
    """The description, OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for operation in routes:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GpuBond gateway",
            "version": __version__,
            "description": "Every operation on a job is signed by its buyer; see docs/gateway.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`GpuBond ` and base64url JSON with job, nonce, expires, signature (EIP-712)",
                }
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
            for name, pattern in _HEX.items()
            if f"{{{name}}}" in operation.path
        ]
        + [
            {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": _LARGEST[name]}}
            for name in operation.query
        ]
        + _headers(operation),
        "responses": {str(status): _response(operation, status) for status in _statuses(operation)},
    }
    if operation.body:
        shown["requestBody"] = {"content": {"application/octet-stream": {"schema": _BYTES}}}
    if operation.signed:
        shown["security"] = [{"signature": []}]
    return shown


def _headers(operation: Operation) -> list[dict[str, Any]]:
    names = ("Content-Range", "Content-Digest") if operation.body else ("Range", "If-Range")
    if not operation.body and 206 not in operation.statuses:
        return []
    return [{"name": name, "in": "header", "schema": {"type": "string"}} for name in names]


def _statuses(operation: Operation) -> list[int]:
    extra = (*_SIGNED, 408) if operation.body else _SIGNED if operation.signed else ()
    return sorted({*operation.statuses, *extra})


def _response(operation: Operation, status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if status >= HTTPStatus.BAD_REQUEST and operation.name != "health":
        response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    elif operation.name in _JSON:
        schema = {"$ref": f"#/components/schemas/{_JSON[operation.name]}"}
        response["content"] = {"application/json": {"schema": schema}}
    else:
        kind = "application/json" if operation.name == "manifest" else "application/octet-stream"
        response["content"] = {kind: {"schema": {} if operation.name == "manifest" else _BYTES}}
    return response
