"""The published contract says what the code does: every route, every error, every secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from routes.errors import STATUS_OF_CODE
from routes.openapi import WITHOUT_IDEMPOTENCY_KEY
from tests.conftest import found, refused

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
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def spec(shared_app: Flask) -> dict[str, Any]:
    return found(shared_app.test_client().get("/api/v1/openapi.json"))


@pytest.fixture
def operations(spec: dict[str, Any]) -> list[Operation]:
    return [
        (method.upper(), path, operation)
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


def test_every_post_takes_an_idempotency_key_unless_it_gives_a_secret_for_a_password(
    operations: list[Operation],
) -> None:
    assert {path for method, path, _ in operations if method == "POST"} >= WITHOUT_IDEMPOTENCY_KEY
    for method, path, operation in operations:
        headers = [each for each in operation.get("parameters", []) if each["in"] == "header"]
        keys = [each for each in headers if each["name"] == "Idempotency-Key"]
        taken = method == "POST" and path not in WITHOUT_IDEMPOTENCY_KEY
        assert len(keys) == (1 if taken else 0), f"{method} {path}"
        assert all(key["schema"]["maxLength"] == 255 and not key["required"] for key in keys)


def test_every_error_is_the_one_error(spec: dict[str, Any], operations: list[Operation]) -> None:
    for method, path, operation in operations:
        responses = operation["responses"]
        assert not [status for status in responses if status[0] in "45"], f"{method} {path}"
        default = responses["default"]
        default = resolve(spec, default["$ref"]) if "$ref" in default else default
        schema = default["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Error"}, f"{method} {path}"
    body = resolve(spec, spec["components"]["schemas"]["Error"]["properties"]["error"]["$ref"])
    assert set(body["properties"]) == {"code", "description", "field", "reason", "request_id"}
    assert set(body["required"]) == {"code", "description", "request_id"}
    assert set(body["properties"]["code"]["enum"]) == set(STATUS_OF_CODE)


def test_every_operation_says_how_it_succeeds(operations: list[Operation]) -> None:
    for method, path, operation in operations:
        assert [status for status in operation["responses"] if status[0] == "2"], f"{method} {path}"


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
    public = {(method, path) for method, path, operation in operations if operation.get("security") == []}
    assert public == PUBLIC
    assert not [path for _, path, operation in operations if operation.get("security")]


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
