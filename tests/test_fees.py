"""The fee: what the gateway keeps of each capture, in the payment, in the ledger and in the balance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
from flask import Flask

from models.money import fee_of
from tests.conftest import Api, drain_all, found, made

pytestmark = pytest.mark.usefixtures("proven")


@pytest.fixture
def fee(app: Flask) -> Iterator[None]:
    """A gateway that keeps 2.5 % of each capture."""
    before = app.config["GATEWAY"]
    app.config["GATEWAY"] = replace(before, fee_percent=Decimal("2.5"))
    yield
    app.config["GATEWAY"] = before


@pytest.mark.parametrize(
    ("amount", "percent", "fee"),
    [
        (10000, "2.5", 250),
        (10000, "0", 0),
        (101, "2", 2),  # 2.02
        (125, "2", 3),  # 2.50
        (100, "0.4", 0),  # 0.40
        (999_999_999_999, "100", 999_999_999_999),
        (999_999_999_999, "33.333333", 333_333_330_000),  # 333333329999.67: exact beyond what a float holds
    ],
)
def test_half_a_minor_unit_is_rounded_up(amount: int, percent: str, fee: int) -> None:
    assert fee_of(amount, Decimal(percent)) == fee


def test_without_the_setting_there_is_none(api: Api) -> None:
    assert api.paid()["fee"] == 0
    assert {row["account"] for row in found(api.get("/ledger"))["data"]} == {"acquirer", "merchant"}


def test_it_is_posted_with_the_capture(api: Api, fee: None) -> None:
    payment = api.paid()
    assert (payment["amount_captured"], payment["fee"]) == (10000, 250)
    rows = found(api.get("/ledger"))["data"]
    assert len({row["posting_id"] for row in rows}) == 1
    assert sorted((row["account"], row["amount"]) for row in rows) == [
        ("acquirer", 10000),
        ("fees", -250),
        ("merchant", -10000),
        ("merchant", 250),
    ]
    (balance,) = found(api.get("/balance"))["data"]
    assert (balance["captured"], balance["fees"], balance["available"]) == (10000, 250, 9750)


def test_it_is_of_what_was_captured_not_of_what_was_approved(api: Api, fee: None) -> None:
    payment = api.paid(capture="manual")
    assert payment["fee"] == 0
    assert found(api.post(f"/payments/{payment['id']}/capture", {"amount": 4000}))["fee"] == 100


def test_a_refund_does_not_give_it_back(api: Api, fee: None) -> None:
    payment = api.paid()
    refund = made(api.post(f"/payments/{payment['id']}/refunds"))
    assert refund["amount"] == 10000
    drain_all()
    assert api.payment(payment["id"])["fee"] == 250
    (balance,) = found(api.get("/balance"))["data"]
    assert (balance["refunded"], balance["fees"], balance["available"]) == (10000, 250, -250)


def test_a_fee_that_changes_later_leaves_old_captures_as_they_were(app: Flask, api: Api, fee: None) -> None:
    before = api.paid()
    app.config["GATEWAY"] = replace(app.config["GATEWAY"], fee_percent=Decimal(1))
    assert (api.payment(before["id"])["fee"], api.paid()["fee"]) == (250, 100)
