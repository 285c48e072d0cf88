"""The published contract: OpenAPI generated from the schemas that validate, at /api/v1/openapi.json."""

from __future__ import annotations

from typing import Any

from flask_smorest import Api

from config import settings
from routes import simulate
from routes.errors import ErrorSchema
from routes.requests import API_PREFIX

VERSION = "1.0.0"

OPENAPI_CONFIG: dict[str, Any] = {
    "API_TITLE": "Payment Gateway",
    "API_VERSION": VERSION,
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/api/v1",
    "OPENAPI_JSON_PATH": "openapi.json",
    "API_SPEC_OPTIONS": {
        "info": {
            "description": "Amounts are integers in minor units, times ISO 8601 in UTC. "
            "Every POST takes an Idempotency-Key, but for those about passwords. Every error has one shape."
        },
        "security": [{"ApiKey": [], "ApiSecret": []}, {"Basic": []}, {"Session": [], "CsrfToken": []}],
    },
}

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeat a request with its key, and it takes effect once. Kept for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
SIMULATE = {
    "name": simulate.HEADER,
    "in": "header",
    "required": False,
    "description": f"Have the answer late, wrong or lost, to test your client. {simulate.ALLOWED} "
    "Like `status=503, times=2`. Only a gateway made for testing takes notice.",
    "schema": {"type": "string"},
}


# What hands out a secret is not kept to be handed out again.
WITHOUT_IDEMPOTENCY_KEY = {
    "/api/v1/session",
    "/api/v1/password",
    "/api/v1/password/link",
    "/api/v1/api_keys/{key_id}/reveal",
}


class GatewayApi(Api):
    """flask-smorest's API, with our one error shape as every operation's default answer."""

    ERROR_SCHEMA = ErrorSchema


def describe(api: Api, cookie: str) -> None:
    """Add what holds for every operation: how to sign in, a POST's Idempotency-Key, and X-Simulate."""
    components = api.spec.components
    components.security_scheme("ApiKey", {"type": "apiKey", "in": "header", "name": "X-Api-Key"})
    components.security_scheme("ApiSecret", {"type": "apiKey", "in": "header", "name": "X-Api-Secret"})
    components.security_scheme("Basic", {"type": "http", "scheme": "basic"})
    components.security_scheme("Session", {"type": "apiKey", "in": "cookie", "name": cookie})
    csrf = {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"}
    components.security_scheme("CsrfToken", csrf | {"description": "With what changes something."})
    for path, operations in api.spec._paths.items():
        for method, operation in operations.items():
            if method not in ("get", "post", "patch", "delete"):
                continue
            operation["responses"].pop("400", None)  # the default answer tells it better
            if method == "post" and path not in WITHOUT_IDEMPOTENCY_KEY:
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
            if path.startswith(API_PREFIX) and simulate.is_honoured(settings):
                operation.setdefault("parameters", []).append(SIMULATE)
