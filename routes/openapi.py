"""The published contract: OpenAPI 3.1, generated from the routes and from the schemas that validate.

What may go wrong with an operation follows from what guards its view: who may ask, whether it takes a body or
an Idempotency-Key, whether it is limited. What is particular to one stands at its view, as `@refuses(...)`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask
from flask_smorest import Api

from models.webhook_endpoints import EVENT_TYPES
from routes import BLUEPRINTS, simulate
from routes.errors import STATUS_OF_CODE, ErrorSchema
from routes.examples import BODIES, ERRORS, FILES, IDS, JUST_NOW, OWN_ID, REQUEST_ID, STORY, example
from routes.fields import IdConverter
from routes.requests import API_PREFIX
from routes.requests import FILES as FILE_ADDRESSES
from routes.writes import MAX_KEY_LENGTH

VERSION = "1.0.0"
PRODUCTION_COOKIE = "__Host-gateway_session"
METHODS = ("get", "post", "patch", "delete")
BY_KEY: list[dict[str, list[str]]] = [{"ApiKey": [], "ApiSecret": []}, {"Basic": []}]

OPENAPI_CONFIG: dict[str, Any] = {
    "API_TITLE": "Payment Gateway",
    "API_VERSION": VERSION,
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": API_PREFIX,
    "OPENAPI_JSON_PATH": "openapi.json",
    "API_SPEC_OPTIONS": {
        "info": {
            "description": "Amounts are integers in minor units, times ISO 8601 in UTC. Unknown fields of a "
            "body are ignored. Every POST that changes something takes an Idempotency-Key, but for those "
            "about passwords. Every error has one shape; a method that an address does not take is a 405 "
            "METHOD_NOT_ALLOWED, with those that it takes in `Allow`.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The gateway that this was read from."}],
        "security": [*BY_KEY, {"Session": [], "CsrfToken": []}],
    },
}

IDEMPOTENCY_KEY = {
    "description": "Repeat a request with its key, and it takes effect once. Kept for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[ -~]+$"},
    "example": "order-1042-first-try",
}
SIMULATE = {
    "description": f"Have the answer late, wrong or lost, to test your client. {simulate.ALLOWED} "
    "Like `status=503, times=2`. Only a gateway made for testing takes notice.",
    "schema": {"type": "string"},
    "example": "latency=0",
}
HEADERS = {
    "X-Request-Id": {
        "description": "Names the request in our log: quote it when you ask. Yours, if you sent one.",
        "required": True,
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9_.\-]{1,64}$"},
        "example": REQUEST_ID,
    },
    "Idempotent-Replayed": {
        "description": "The answer is the first one's, to the request with the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Retry-After": {
        "description": "Seconds until it is worth asking again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
}
MEANINGS = {
    400: "The request is wrong; `field` names the input at fault.",
    401: "The API key or secret is missing or wrong, or nobody is signed in.",
    403: "Whoever asks is known, and may not; or a change from the dashboard lacks its CSRF token.",
    404: "There is no such thing, or it is somebody else's.",
    406: "The answer would be JSON, which `Accept` leaves out.",
    408: "The body did not arrive in time.",
    409: "What is there now stands in the way; `reason` says what.",
    413: "The body is larger than 64 KiB.",
    415: "The body is not JSON in UTF-8.",
    422: "The Idempotency-Key was used for another request.",
    429: "Too many requests; `Retry-After` says when to ask again.",
    500: "Something went wrong on our side; the log knows the `request_id`.",
    503: "Not available just now; `Retry-After` says when to ask again.",
}
# What an answer has only sometimes; all else is always there, if only as null.
SOMETIMES = {
    *("ErrorBody.field", "ErrorBody.reason"),
    *("Stats.days", "Stats.period", "Stats.failureReasons"),
    *("Jobs.workers", "Jobs.verification"),
}
SIGNED = {"LedgerEntry.amount", "Balance.available"}  # all other integers of answers are 0 or more


class GatewayApi(Api):
    """flask-smorest's API, without its own account of errors: `describe` knows better."""

    ERROR_SCHEMA = ErrorSchema
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_pagination_header(self) -> None:
        """Ours is another: see routes/pagination.py."""


def document() -> dict[str, Any]:
    """The description of any gateway, in production or made for testing: docs/openapi.json."""
    app = Flask("gateway", static_folder=None)
    app.config.update(OPENAPI_CONFIG)
    app.url_map.converters["id"] = IdConverter
    api = GatewayApi(app)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    describe(api, app, cookie=PRODUCTION_COOKIE, testing=True)
    return api.spec.to_dict()


def describe(api: Api, app: Flask, *, cookie: str, testing: bool) -> None:
    """Add what the routes do not say of themselves: how to sign in, headers, errors, examples, webhooks.

    `cookie` is the session's name; `testing` says whether this gateway takes notice of X-Simulate.
    """
    spec = api.spec
    _describe_security(spec.components, cookie)
    spec.components.parameter("Idempotency-Key", "header", IDEMPOTENCY_KEY)
    spec.components.responses.pop("BAD_REQUEST", None)  # flask-smorest's: see _Operation.describe
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    if testing:
        spec.components.parameter(simulate.HEADER, "header", SIMULATE)
    views = dict(_views(app))
    for path, method, operation in _operations(spec._paths):
        endpoint, view = views[path, method]
        operation["operationId"] = endpoint.rpartition(".")[2]
        said = _Operation(path, method, operation, _guards(view), testing)
        said.describe(spec.components, getattr(view, "refuses", ()))
    for item in spec._paths.values():
        _describe_path(item.get("parameters", []))
    spec.options["webhooks"] = {event: _webhook(event, spec.components.schemas) for event in EVENT_TYPES}
    _tighten(spec.components.schemas, _asked(spec._paths, spec.components.schemas))
    _exemplify(spec._paths, spec.components.schemas)


# --- routes --------------------------------------------------------------------------------------


def _views(app: Flask) -> Iterator[tuple[tuple[str, str], tuple[str, Callable[..., Any]]]]:
    """By path and method as OpenAPI writes them: the endpoint's name and its view."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in () if rule.build_only else rule.methods or ():
            yield (path, method.lower()), (rule.endpoint, app.view_functions[rule.endpoint])


def _guards(view: Any) -> set[str]:
    """The decorators of a view: what a request has to pass on its way."""
    names = set()
    while view is not None:
        names.add(view.__code__.co_qualname.partition(".")[0])
        view = getattr(view, "__wrapped__", None)
    return names


def _operations(paths: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in paths.items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def _describe_path(parameters: list[dict[str, Any]]) -> None:
    for each in parameters:
        pattern, what = IDS[each["name"]]
        each["description"] = f"The id of {what}."
        each["schema"] = {"type": "string", "pattern": pattern}
        each["example"] = STORY[each["name"]]


# --- one operation -------------------------------------------------------------------------------


class _Operation:
    """What is said of one operation, and what that follows from."""

    def __init__(self, path: str, method: str, said: dict[str, Any], guards: set[str], testing: bool):
        self.path, self.method, self.said, self.guards = path, method, said, guards
        self.is_api = path.startswith(API_PREFIX)
        self.changes = method != "get"
        self.takes_key = method == "post" and "writes" in guards
        self.is_simulated = testing and self.is_api

    def describe(self, components: Any, refuses: tuple[str, ...]) -> None:
        self.said.setdefault("parameters", []).extend(self._headers_taken())
        if self.guards & {"authenticated", "in_dashboard"}:
            self.said["security"] = self._ways_to_sign_in()
        responses = self.said["responses"]
        responses.pop("400", None)  # flask-smorest's, without our codes
        for status, response in responses.items():
            retried = ["Retry-After"] if status == "503" else []
            replayed = ["Idempotent-Replayed"] if self.takes_key else []
            response.setdefault("headers", {}).update(_headers("X-Request-Id", *replayed, *retried))
        codes = {*refuses, *self._usual_refusals()}
        for status in {STATUS_OF_CODE[code] for code in codes}:
            of_status = [code for code in STATUS_OF_CODE if code in codes and STATUS_OF_CODE[code] == status]
            responses.setdefault(str(status), {"$ref": _error(components, status, of_status)})
        self.said["responses"] = dict(sorted(responses.items()))

    def _headers_taken(self) -> Iterator[dict[str, str]]:
        if self.takes_key:
            yield {"$ref": "#/components/parameters/Idempotency-Key"}
        if self.is_simulated:
            yield {"$ref": f"#/components/parameters/{simulate.HEADER}"}

    def _ways_to_sign_in(self) -> list[dict[str, list[str]]]:
        session: dict[str, list[str]] = {"Session": [], "CsrfToken": []} if self.changes else {"Session": []}
        return [session] if "in_dashboard" in self.guards else [*BY_KEY, session]

    def _usual_refusals(self) -> Iterator[str]:
        if self.method in ("post", "patch"):
            yield from ("BAD_REQUEST_ERROR", "REQUEST_TIMEOUT")
            yield from ("PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
        if self.said["parameters"]:
            yield "BAD_REQUEST_ERROR"
        if self.guards & {"authenticated", "in_dashboard"}:
            yield "AUTHENTICATION_ERROR"
            if self.changes:
                yield "PERMISSION_ERROR"
        if "{" in self.path or self.path.startswith(f"{API_PREFIX}/test/"):
            yield "NOT_FOUND_ERROR"
        if self.takes_key:
            yield from ("CONFLICT_ERROR", "IDEMPOTENCY_ERROR")
        if "authenticated" in self.guards or any(guard.startswith("limited") for guard in self.guards):
            yield "RATE_LIMIT_ERROR"
        if self.is_api and not self.path.endswith(FILE_ADDRESSES):
            yield "NOT_ACCEPTABLE"
        yield from ("SERVER_ERROR", "SERVICE_UNAVAILABLE")


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _error(components: Any, status: int, codes: list[str]) -> str:
    """Where the answer with this status and one of these codes is described."""
    name = "-".join(codes)
    if name not in components.responses:
        code = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
        content = {
            "schema": {"allOf": [{"$ref": "#/components/schemas/Error"}, code]},
            "examples": {code: {"value": {"error": {"code": code, **ERRORS[code]}}} for code in codes},
        }
        response = {
            "description": MEANINGS[status],
            "headers": _headers("X-Request-Id", *(["Retry-After"] if status in (429, 503) else [])),
            "content": {"application/json": content},
        }
        components.response(name, response)
    return f"#/components/responses/{name}"


def _describe_security(components: Any, cookie: str) -> None:
    for name, scheme in {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The key's id."},
        "ApiSecret": {"type": "apiKey", "in": "header", "name": "X-Api-Secret", "description": "Its secret."},
        "Basic": {
            "type": "http",
            "scheme": "basic",
            "description": "The same two: the id as the user's name.",
        },
        "Session": {"type": "apiKey", "in": "cookie", "name": cookie, "description": "The dashboard's."},
        "CsrfToken": {
            **{"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            "description": "With what changes something.",
        },
    }.items():
        components.security_scheme(name, scheme)


# --- webhooks ------------------------------------------------------------------------------------

# What an event of each family tells of.
TOLD = {
    "order": {"order": "Order"},
    "payment": {"payment": "Payment"},
    "refund": {"refund": "Refund", "payment": "Payment"},
    "webhook": {"webhook_endpoint": "WebhookEndpoint"},
    "webhook_endpoint": {"webhook_endpoint": "WebhookEndpoint"},
}
WEBHOOK_HEADERS = {
    "webhook-id": "The event's id, the same on every try: whatever was taken once need not be taken again.",
    "webhook-timestamp": "Seconds of the epoch, of this try.",
    "webhook-signature": "By Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over "
    "`id.timestamp.body`. Several, separated by spaces, while an old secret signs too.",
    "X-Webhook-Signature": "The hexadecimal HMAC-SHA256 of the raw body, keyed with the whole secret.",
}


def _webhook(event: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """What is POSTed to an endpoint of the merchant's."""
    told = TOLD[event.partition(".")[0]]
    of = {name: {"$ref": f"#/components/schemas/{schema}"} for name, schema in told.items()}
    body = {
        "type": "object",
        "required": ["id", "event", "timestamp", "data"],
        "properties": {
            "id": {"type": "string", "pattern": IDS["event_id"][0]},
            "event": {"type": "string", "const": event},
            "timestamp": {"type": "integer", "format": "int64", "description": "Seconds of the epoch."},
            "data": {"type": "object", "required": list(told), "properties": of},
        },
    }
    data = {name: example(schema, schemas) for name, schema in of.items()}
    value = {"id": STORY["event_id"], "event": event, "timestamp": STORY["timestamp"], "data": data}
    return {
        "post": {
            "operationId": event.replace(".", "_"),
            "summary": f"`{event}`.",
            "tags": ["webhook_endpoints"],
            "security": [],
            "parameters": [
                {
                    "name": name,
                    "in": "header",
                    "required": True,
                    "description": text,
                    "schema": {"type": "string"},
                }
                for name, text in WEBHOOK_HEADERS.items()
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body, "example": value}},
            },
            "responses": {
                "2XX": {"description": "Taken. Anything else is tried again later."},
                "410": {"description": "Never again: the endpoint is disabled."},
            },
        }
    }


# --- schemas -------------------------------------------------------------------------------------


def _tighten(schemas: dict[str, Any], asked: set[str]) -> None:
    """What holds for all that is answered: every property is there, ids have their form."""
    for name, schema in schemas.items():
        for field, each in schema["properties"].items():
            if "integer" in each.get("type", ()):
                each.setdefault("format", "int64")
                if name not in asked and f"{name}.{field}" not in SIGNED:
                    each.setdefault("minimum", 0)
            of = OWN_ID.get(name) if field == "id" else field
            if name not in asked and of in IDS and "string" in each.get("type", ()):
                each["pattern"] = IDS[of][0]
        if name not in asked:
            schema["required"] = [each for each in schema["properties"] if f"{name}.{each}" not in SOMETIMES]


def _asked(paths: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """The schemas of bodies, and what is in those."""
    bodies = {
        _name(content["schema"])
        for _path, _method, operation in _operations(paths)
        for content in operation.get("requestBody", {}).get("content", {}).values()
    }
    within = re.findall(r"#/components/schemas/(\w+)", json.dumps([schemas[name] for name in bodies]))
    return bodies.union(within)


def _name(schema: dict[str, str]) -> str:
    return schema["$ref"].rpartition("/")[2]


def _exemplify(paths: dict[str, Any], schemas: dict[str, Any]) -> None:
    """An example of every body and of every answer."""
    for _path, _method, operation in _operations(paths):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            bodies = BODIES[_name(content["schema"])]
            content["examples"] = {name: {"value": value} for name, value in bodies.items()}
            operation["requestBody"]["required"] = bool(schemas[_name(content["schema"])].get("required"))
        for response in operation["responses"].values():
            for media_type, content in response.get("content", {}).items():
                content["example"] = FILES.get(media_type) or example(content["schema"], schemas)
                if operation["operationId"] in JUST_NOW:
                    content["example"] |= JUST_NOW[operation["operationId"]]
