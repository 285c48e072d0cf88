"""Schemathesis asks a real server whatever the API's description allows, and much that it forbids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from config import ROOT
from models.merchants import TEST_EMAIL, TEST_PASSWORD
from tests.conftest import temporary_folder
from tests.processes import Running, gateway, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = ROOT / "tests/schemathesis.toml"
EXAMPLES = 5  # of each operation in a phase, beside those that it derives from the schemas
AT_MOST_S = 500  # usually about a minute, on two idle cores
OPEN_ORDERS = 30  # of which payments can be begun
SPARE = 6  # endpoints and keys: some are deleted on the way
OFTEN = "1000000 per minute"
METHODS = ("get", "post", "patch", "delete")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with (
        temporary_folder() as folder,
        gateway(
            folder / "gateway",
            PUBLIC_RATE_LIMIT_PER_ADDRESS=OFTEN,
            PUBLIC_RATE_LIMIT_PER_ORDER=OFTEN,
            PUBLIC_RATE_LIMIT_PER_CARD=OFTEN,
            RATE_LIMIT_PER_API_KEY=OFTEN,
            LOG_LEVEL="INFO",
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def ids(running: Running) -> dict[str, list[str]]:
    """Something of every kind, by what the routes call it."""
    endpoints = [running.post("/test/inboxes")["endpoint"] for _ in range(SPARE)]
    held = running.post("/orders", {"amount": 10000, "capture": "manual"})
    card = {"number": "4242424242424242", "expiry_month": 12, "expiry_year": 2049, "cvv": "123"}
    held = running.post("/payments", {"order_id": held["id"], "method": "card", "card": card})
    paid = running.pay()
    wait_until(lambda: running.settled(held["id"]) and running.settled(paid["id"]))
    refund = running.post(f"/payments/{paid['id']}/refunds", {"amount": 1})
    waiting = running.post("/payments", {"order_id": order(running), "method": "upi", "flow": "qr"})
    keys = [running.post("/api_keys", {"name": "Shop"}) for _ in range(SPARE)]
    retry = running.call("POST", "/api/v1/webhooks/retry", {"since": "2020-01-01T00:00:00Z"})[1]
    return {
        "order_id": [order(running) for _ in range(OPEN_ORDERS)],
        "payment_id": [paid["id"], held["id"], waiting["id"]],
        "refund_id": [refund["id"]],
        "endpoint_id": [each["id"] for each in endpoints],
        "event_id": [running.get("/events")["data"][0]["id"]],
        "delivery_id": [running.get("/webhooks")["data"][0]["id"]],
        "retry_id": [retry["id"]],
        "key_id": [each["id"] for each in keys],
    }


def order(running: Running) -> str:
    return running.post("/orders", {"amount": 10000})["id"]


@pytest.fixture(scope="module")
def document(running: Running, ids: dict[str, list[str]], session: dict[str, str]) -> dict[str, Any]:
    """What the server says of itself, with ids that there are.

    Without X-Simulate, of which any answer comes, and without the example that changes the password.
    """
    document = running.get("/openapi.json")
    del document["paths"]["/api/v1/password"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    for path, item in document["paths"].items():
        for each in item.get("parameters", []):
            each["schema"] = {"type": "string", "enum": ids[each["name"]]}
            each["example"] = ids[each["name"]][0]
        for method in METHODS:
            if method in item:
                parameters = item[method]["parameters"]
                parameters[:] = [each for each in parameters if "X-Simulate" not in each.get("$ref", "")]
                for each in parameters:
                    if each.get("name") == "starting_after":
                        each["schema"] = {"type": "string", "enum": first_of(running, path, session)}
    for schema in document["components"]["schemas"].values():
        for name, each in schema["properties"].items():
            if name in ids and "required" in schema and "pattern" not in each:
                each["enum"] = ids[name]
    return document


def first_of(running: Running, path: str, session: dict[str, str]) -> list[str]:
    """Where a list can be gone on with."""
    if path == "/api/v1/sessions":
        return [session["id"]]
    path = path.removeprefix("/api/v1")
    if path.endswith("}/payments") or path.endswith("}/refunds"):
        path = "/" + path.rpartition("/")[2]
    return [each["id"] for each in running.get(f"{path}?limit=3")["data"]]


@pytest.fixture(scope="module")
def session(running: Running) -> dict[str, str]:
    """The operator's, in the dashboard."""
    body = {"email": TEST_EMAIL, "password": TEST_PASSWORD}
    answer = requests.post(f"http://127.0.0.1:{running.port}/api/v1/session", json=body, timeout=10)
    cookie = answer.cookies["gateway_session"]
    return {"id": answer.json()["session"]["id"], "cookie": cookie, "csrf": answer.json()["csrf_token"]}


def test_every_answer_is_as_described_and_the_money_is_right_afterwards(
    running: Running, document: dict[str, Any], session: dict[str, str], tmp_path: Path
) -> None:
    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(document))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", str(described)),
        *("--url", f"http://127.0.0.1:{running.port}", f"--max-examples={EXAMPLES}", "--no-color"),
    ]
    environ = os.environ | {"SESSION": session["cookie"], "CSRF_TOKEN": session["csrf"]}
    asked = ran(command, cwd=tmp_path, env=environ)
    assert asked.returncode == 0, asked.stdout[-20_000:] + asked.stderr
    assert " broke" not in running.log
    assert "Traceback" not in running.log
    verified = ran([str(Path(sys.executable).parent / "flask"), "verify"], cwd=ROOT, env=running.environ)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def ran(command: list[str], **where: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=AT_MOST_S, check=False, **where)
