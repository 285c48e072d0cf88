"""The published contract says what the code does: every route, every error, every secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import openapi_spec_validator
import pytest
from flask import Flask
from openapi_schema_validator import OAS31Validator, oas31_format_checker

from commands.openapi import FILE, published
from models.webhook_endpoints import EVENT_TYPES
from routes.errors import STATUS_OF_CODE
from routes.openapi import HEADERS, PRODUCTION_COOKIE, document
from tests.conftest import Api, Dashboard, breaks, drain_all, found, refused
from tests.receiver import Receiver

METHODS = {"GET", "POST", "PATCH", "DELETE", "PUT"}
PUBLIC = {
    ("GET", "/health"),
    ("GET", "/api/v1/orders/{order_id}/public"),
    ("POST", "/api/v1/payments/public"),
    ("GET", "/api/v1/payments/{payment_id}/public"),
    ("GET", "/api/v1/payments/{payment_id}/public/qr.svg"),
    ("POST", "/api/v1/payments/{payment_id}/public/otp"),
    ("POST", "/api/v1/payments/{payment_id}/public/cancel"),
    ("POST", "/api/v1/session"),
    ("POST", "/api/v1/password/link"),
    ("GET", "/api/v1/test/merchant"),
    ("GET", "/api/v1/test/jobs/status"),
}
# What hands out a secret is not kept to be handed out again; and the last one changes nothing.
WITHOUT_IDEMPOTENCY_KEY = {
    "/api/v1/session",
    "/api/v1/password",
    "/api/v1/password/link",
    "/api/v1/api_keys/{key_id}/reveal",
    "/api/v1/webhook_endpoints/{endpoint_id}/verify",
}
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def spec(shared_app: Flask) -> dict[str, Any]:
    return found(shared_app.test_client().get("/api/v1/openapi.json"))


@pytest.fixture(scope="module")
def operations(spec: dict[str, Any]) -> list[Operation]:
    """With what they refer to in its place, but for schemas."""
    return [
        (method.upper(), path, whole(spec, operation))
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if method.upper() in METHODS
    ]


def routes_of(app: Flask) -> Iterator[tuple[str, str]]:
    """What the app answers at, as the specification writes it."""
    for rule in app.url_map.iter_rules():
        if rule.rule == "/health" or rule.rule.startswith("/api/v1/"):
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            for method in (rule.methods or set()) & METHODS:
                yield method, path


def refs(node: Any) -> Iterator[str]:
    """Every $ref below a node."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from refs(each)
    elif isinstance(node, list):
        for each in node:
            yield from refs(each)


def resolve(spec: dict[str, Any], ref: str) -> Any:
    found = spec
    for name in ref.removeprefix("#/").split("/"):
        found = found[name]
    return found


def whole(spec: dict[str, Any], node: Any) -> Any:
    """With what it refers to in its place, but for schemas."""
    if isinstance(node, list):
        return [whole(spec, each) for each in node]
    if not isinstance(node, dict):
        return node
    ref = node.get("$ref", "")
    if ref and not ref.startswith("#/components/schemas/"):
        named = {"name": ref.rpartition("/")[2]} if "/parameters/" in ref else {}
        return named | whole(spec, resolve(spec, ref))
    return {key: whole(spec, value) for key, value in node.items()}


def wrong(spec: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """What a schema has against a value."""
    checker = OAS31Validator(schema | {"components": spec["components"]}, format_checker=oas31_format_checker)
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(value)]


def test_the_published_file_is_what_the_code_says() -> None:
    assert FILE.read_text() == published(), "make openapi"


def test_what_a_gateway_serves_is_the_published_file_but_for_the_cookie_of_a_local_one(
    spec: dict[str, Any],
) -> None:
    assert json.loads(json.dumps(spec).replace("gateway_session", PRODUCTION_COOKIE)) == document()


def test_it_is_valid(spec: dict[str, Any]) -> None:
    openapi_spec_validator.validate(spec)


def test_it_is_openapi_3_1(spec: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", spec["openapi"])
    assert spec["info"]["title"]
    assert spec["info"]["version"]


def test_it_holds_every_route_and_no_other(app: Flask, operations: list[Operation]) -> None:
    documented = {(method, path) for method, path, _ in operations}
    assert documented == set(routes_of(app)) - {("GET", "/api/v1/openapi.json")}


def test_every_operation_has_a_summary_of_its_own(operations: list[Operation]) -> None:
    summaries = {}
    for method, path, operation in operations:
        assert re.fullmatch(r"[A-Z].+\.", operation.get("summary", "")), f"{method} {path}"
        summaries[method, path] = operation["summary"]
    one_thing_at_two_addresses = {"/api/v1/payments/list"}
    names = [text for (_, path), text in summaries.items() if path not in one_thing_at_two_addresses]
    assert len(set(names)) == len(names)


def test_every_path_parameter_is_documented(spec: dict[str, Any], operations: list[Operation]) -> None:
    for method, path, operation in operations:
        parameters = spec["paths"][path].get("parameters", []) + operation.get("parameters", [])
        named = {each["name"] for each in parameters if each["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path)), f"{method} {path}"


def test_every_post_that_changes_something_takes_an_idempotency_key_unless_it_is_about_a_password(
    operations: list[Operation],
) -> None:
    assert {path for method, path, _ in operations if method == "POST"} >= WITHOUT_IDEMPOTENCY_KEY
    for method, path, operation in operations:
        headers = [each for each in operation.get("parameters", []) if each["in"] == "header"]
        keys = [each for each in headers if each["name"] == "Idempotency-Key"]
        taken = method == "POST" and path not in WITHOUT_IDEMPOTENCY_KEY
        assert len(keys) == (1 if taken else 0), f"{method} {path}"
        assert all(key["schema"]["maxLength"] == 255 and not key.get("required") for key in keys)


def test_every_error_is_the_one_error_with_the_codes_of_its_status(operations: list[Operation]) -> None:
    for method, path, operation in operations:
        for status, response in operation["responses"].items():
            if status[0] in "45" and (path, status) != ("/health", "503"):
                content = response["content"]["application/json"]
                one, particular = content["schema"]["allOf"]
                codes = particular["properties"]["error"]["properties"]["code"]["enum"]
                assert one == {"$ref": "#/components/schemas/Error"}, f"{method} {path}"
                assert codes == list(content["examples"])
                assert {STATUS_OF_CODE[code] for code in codes} == {int(status)}


def test_an_error_has_a_code_a_description_and_the_requests_id(spec: dict[str, Any]) -> None:
    body = resolve(spec, spec["components"]["schemas"]["Error"]["properties"]["error"]["$ref"])
    assert set(body["properties"]) == {"code", "description", "field", "reason", "request_id"}
    assert set(body["required"]) == {"code", "description", "request_id"}
    assert set(body["properties"]["code"]["enum"]) == set(STATUS_OF_CODE)


@pytest.mark.parametrize(
    ("operation_id", "statuses"),
    [
        ("get_health", "500 503"),
        ("get_order", "400 401 404 406 429 500 503"),
        ("create_order", "400 401 403 406 408 409 413 415 422 429 500 503"),
        ("create_payment", "400 401 403 404 406 408 409 413 415 422 429 500 503"),
        ("create_public_payment", "400 404 406 408 409 413 415 422 429 500 503"),
        ("change_merchant", "400 401 403 406 408 413 415 429 500 503"),
        ("log_in", "400 401 406 408 413 415 429 500 503"),
        ("reveal_key", "400 401 403 404 406 408 413 415 429 500 503"),
        ("export_payments", "400 401 429 500 503"),
        ("delete_endpoint", "400 401 403 404 406 429 500 503"),
    ],
)
def test_the_errors_follow_from_what_guards_the_view(
    operations: list[Operation], operation_id: str, statuses: str
) -> None:
    (responses,) = (each["responses"] for _, _, each in operations if each["operationId"] == operation_id)
    assert [status for status in responses if status[0] in "45"] == statuses.split()


def test_bad_cards_and_upi_ids_have_codes_of_their_own(operations: list[Operation]) -> None:
    (bad,) = (
        each["responses"]["400"] for _, _, each in operations if each["operationId"] == "create_payment"
    )
    assert set(bad["content"]["application/json"]["examples"]) == {
        code for code, status in STATUS_OF_CODE.items() if status == 400
    }


def test_every_answer_has_its_headers(operations: list[Operation]) -> None:
    for method, path, operation in operations:
        keyed = method == "POST" and path not in WITHOUT_IDEMPOTENCY_KEY
        for status, response in operation["responses"].items():
            expected = {"X-Request-Id"}
            expected |= {"Retry-After"} if status in ("429", "503") else set()
            expected |= {"Idempotent-Replayed"} if keyed and status[0] == "2" else set()
            assert set(response["headers"]) & set(HEADERS) == expected, f"{method} {path} {status}"


def test_every_operation_says_how_it_succeeds(operations: list[Operation]) -> None:
    for method, path, operation in operations:
        assert [status for status in operation["responses"] if status[0] == "2"], f"{method} {path}"


def test_every_operation_has_a_name_of_its_own_that_stays(operations: list[Operation]) -> None:
    """Clients are generated with these: whoever renames one breaks somebody's build."""
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name)] == []


def test_every_operation_has_a_tag_that_is_described(
    spec: dict[str, Any], operations: list[Operation]
) -> None:
    described = {tag["name"] for tag in spec["tags"] if tag["description"]}
    for method, path, operation in operations:
        assert len(described.intersection(operation["tags"])) == 1, f"{method} {path}"


def test_every_parameter_is_described(spec: dict[str, Any], operations: list[Operation]) -> None:
    for method, path, operation in operations:
        for each in spec["paths"][path].get("parameters", []) + operation["parameters"]:
            assert re.fullmatch(r"[A-Z].+\.", each.get("description", "")), f"{method} {path} {each['name']}"


def test_every_body_and_every_answer_has_an_example_that_fits(
    spec: dict[str, Any], operations: list[Operation]
) -> None:
    checked = 0
    for method, path, operation in operations:
        bodies = operation.get("requestBody", {}).get("content", {})
        answers = [each.get("content", {}) for each in operation["responses"].values()]
        for content in (content for each in (bodies, *answers) for content in each.values()):
            examples = [each["value"] for each in content.get("examples", {}).values()]
            examples += [content["example"]] if "example" in content else []
            assert examples, f"{method} {path}"
            for each in examples:
                assert wrong(spec, content["schema"], each) == [], f"{method} {path}: {each}"
                checked += 1
    assert checked > 500


def test_every_parameter_and_header_that_has_an_example_has_one_that_fits(spec: dict[str, Any]) -> None:
    headers = list(spec["components"]["headers"].values())
    paths = [each for item in spec["paths"].values() for each in item.get("parameters", [])]
    for each in (*headers, *spec["components"]["parameters"].values(), *paths):
        if "example" in each:
            assert wrong(spec, each["schema"], each["example"]) == [], each


def test_every_event_is_described_as_a_webhook_whose_example_fits(spec: dict[str, Any]) -> None:
    assert list(spec["webhooks"]) == list(EVENT_TYPES)
    for event, item in spec["webhooks"].items():
        content = item["post"]["requestBody"]["content"]["application/json"]
        assert content["example"]["event"] == event
        assert wrong(spec, content["schema"], content["example"]) == []


def test_what_is_really_sent_is_what_its_webhook_says(
    spec: dict[str, Any], api: Api, receiver: Receiver
) -> None:
    endpoint = api.endpoint(receiver.url)
    paid = api.paid()
    api.post(f"/payments/{paid['id']}/refunds", {"amount": 1})
    held = api.paid(number="4242424242424242", capture="manual")
    api.post(f"/payments/{held['id']}/void")
    api.paid(number="4000000000000002")
    api.paid(number="4000000000003220")
    api.post(f"/webhook_endpoints/{endpoint['id']}/test")
    drain_all()
    told = [each.event for each in receiver.received]
    assert {each["event"] for each in told} >= {
        *("order.paid", "payment.created", "payment.requires_action", "payment.success", "payment.failed"),
        *("payment.captured", "payment.voided", "refund.created", "refund.processed", "webhook.test"),
    }
    for each in told:
        schema = spec["webhooks"][each["event"]]["post"]["requestBody"]["content"]["application/json"][
            "schema"
        ]
        assert wrong(spec, schema, each) == []


def test_what_an_operator_sees_of_the_queues_is_as_described(
    spec: dict[str, Any], app: Flask, dashboard: Dashboard
) -> None:
    assert breaks(app) == []
    jobs = found(dashboard.get("/jobs"))
    assert set(jobs) >= {"workers", "verification"}
    assert wrong(spec, {"$ref": "#/components/schemas/Jobs"}, jobs) == []


def test_every_reference_leads_somewhere(spec: dict[str, Any]) -> None:
    every = set(refs(spec))
    assert "#/components/schemas/Order" in every
    for ref in every:
        assert resolve(spec, ref)


def test_public_operations_and_no_others_need_no_security(
    spec: dict[str, Any], operations: list[Operation]
) -> None:
    assert spec["security"] == [
        {"ApiKey": [], "ApiSecret": []},
        {"Basic": []},
        {"Session": [], "CsrfToken": []},
    ]
    schemes = spec["components"]["securitySchemes"]
    assert set(schemes) == {name for each in spec["security"] for name in each}
    assert (schemes["Session"]["in"], schemes["Session"]["name"]) == ("cookie", "gateway_session")
    assert (schemes["CsrfToken"]["in"], schemes["CsrfToken"]["name"]) == ("header", "X-CSRF-Token")
    public = {(method, path) for method, path, operation in operations if operation["security"] == []}
    assert public == PUBLIC


def test_a_change_from_the_dashboard_needs_the_csrf_token_and_some_operations_take_no_key(
    operations: list[Operation],
) -> None:
    for method, path, operation in operations:
        if (method, path) not in PUBLIC:
            *keys, session = operation["security"]
            assert set(session) == {"Session"} | (set() if method == "GET" else {"CsrfToken"})
            dashboard = path.startswith(("/api/v1/session", "/api/v1/password"))
            assert keys == ([] if dashboard else [{"ApiKey": [], "ApiSecret": []}, {"Basic": []}]), path


def test_whatever_is_not_public_refuses_a_caller_without_a_secret(
    app: Flask, operations: list[Operation]
) -> None:
    for method, path, _ in operations:
        if (method, path) not in PUBLIC:
            address = re.sub(r"{\w+}", "pay_doesNotExist00000", path)
            answer = app.test_client().open(address, method=method)
            refused(answer, 401, "AUTHENTICATION_ERROR")


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        (
            "Order",
            "id merchant_id amount amount_paid currency receipt notes capture status expires_at checkout_url "
            "created_at updated_at",
        ),
        (
            "Payment",
            "id order_id merchant_id amount currency method status captured amount_captured amount_refunded "
            "refund_status vpa card_network card_last4 error_code error_reason error_description created_at "
            "updated_at",
        ),
        (
            "Refund",
            "id payment_id order_id merchant_id amount currency reason status error_reason created_at "
            "processed_at",
        ),
    ],
)
def test_a_resource_has_every_property_of_the_contract(
    spec: dict[str, Any], name: str, properties: str
) -> None:
    assert set(properties.split()) <= set(spec["components"]["schemas"][name]["properties"])
