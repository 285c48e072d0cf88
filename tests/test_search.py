"""`q` of payments, orders and refunds: found by what people have at hand, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from models import search
from tests.conftest import Api, Dashboard, drain_all, found, in_sql, made, refused

VISA, RUPAY = "4242424242424242", "6527658900001005"
LISTS = ("/payments", "/payments/list", "/orders", "/refunds")


def ids(api: Api, path: str, q: str | None = None, **query: Any) -> list[str]:
    query |= {} if q is None else {"q": q}
    return [row["id"] for row in found(api.get(path, **query))["data"]]


def refund(api: Api, payment: dict[str, Any], amount: int = 100) -> dict[str, Any]:
    return made(api.post(f"/payments/{payment['id']}/refunds", {"amount": amount}))


@pytest.fixture
def upi(api: Api) -> Callable[..., dict[str, Any]]:
    """Makes a payment by UPI."""

    def upi(vpa: str = "success@upi", **order: Any) -> dict[str, Any]:
        return api.upi(api.order(**order)["id"], vpa)

    return upi


# --- payments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/payments", "/payments/list"])
def test_a_payment_is_found_by_its_id_order_and_refund(api: Api, path: str) -> None:
    payment, another = api.paid(), api.paid()
    refunds = [refund(api, payment), refund(api, payment)]
    refund(api, another)
    for words in (payment["id"], payment["order_id"], refunds[0]["id"], refunds[1]["id"]):
        assert ids(api, path, words) == [payment["id"]]
        assert ids(api, path, f"  {words} ") == [payment["id"]]
        for no_longer_it in (words[:-1], words + "x", words.swapcase(), words[5:]):
            assert ids(api, path, no_longer_it) == []


def test_all_attempts_of_an_order_are_found_by_it_and_each_by_itself(api: Api) -> None:
    order = api.order(receipt="inv-77")
    failed = api.upi(order["id"], "failure@upi")
    drain_all()
    paid = api.upi(order["id"])
    drain_all()
    for words in (order["id"], "inv-77", "inv"):
        assert ids(api, "/payments", words) == [paid["id"], failed["id"]]
    assert ids(api, "/payments", failed["id"]) == [failed["id"]]
    assert ids(api, "/payments", paid["id"]) == [paid["id"]]


def test_a_payment_is_found_by_the_last_four_digits_of_its_card(api: Api) -> None:
    visa, rupay = api.paid(number=VISA), api.paid(number=RUPAY)
    assert ids(api, "/payments", "4242") == [visa["id"]]
    assert ids(api, "/payments", "1005") == [rupay["id"]]
    for words in ("424", "42424", "4242424242424242", "0000", "४२४२", "4242x"):
        assert ids(api, "/payments", words) == []


def test_four_digits_may_be_a_receipt_as_well(api: Api, upi: Any) -> None:
    visa = api.paid(number=VISA)
    by_receipt = upi(receipt="4242-A")
    assert ids(api, "/payments", "4242") == [by_receipt["id"], visa["id"]]


@pytest.mark.parametrize("words", ["asha.rao@okbank", "ASHA.Rao@OkBank", "asha.rao@", "asha", "ash", "ASH"])
def test_a_payment_is_found_by_its_upi_id_or_the_beginning_of_it(api: Api, upi: Any, words: str) -> None:
    payment = upi("Asha.Rao@okbank")
    upi("masha.rao@okbank")
    assert ids(api, "/payments", words) == [payment["id"]]


def test_the_end_of_a_upi_id_or_less_than_three_characters_find_nothing(api: Api, upi: Any) -> None:
    upi("asha@okbank")
    for words in ("okbank", "@okbank", "as", "a", "sha@okbank"):
        assert ids(api, "/payments", words) == []


@pytest.mark.parametrize("words", ["Order 2026/117", "Order 2026", "Ord", "Order 2026/"])
def test_a_payment_is_found_by_its_receipt_or_the_beginning_of_it(api: Api, upi: Any, words: str) -> None:
    payment = upi(receipt="Order 2026/117")
    upi(receipt="order 2026/117")
    upi(receipt="an Order 2026/117")
    assert ids(api, "/payments", words) == [payment["id"]]


def test_a_receipt_of_one_or_two_characters_is_found_whole(api: Api, upi: Any) -> None:
    seven = upi(receipt="7")
    upi(receipt="77")
    upi(receipt="777")
    assert ids(api, "/payments", "7") == [seven["id"]]


# --- orders --------------------------------------------------------------------------------------


def test_an_order_is_found_by_its_id_payment_and_receipt(api: Api) -> None:
    order = api.order(receipt="inv-1001")
    another = api.order(receipt="INV-1001")
    failed = api.upi(order["id"], "failure@upi")
    drain_all()
    paid = api.upi(order["id"])
    for words in (order["id"], failed["id"], paid["id"], "inv-1001", "inv", " inv-1 "):
        assert ids(api, "/orders", words) == [order["id"]]
    for words in (order["id"][:-1], "in", "nv-1001", "inv-1001x", paid["id"].lower(), "success@upi"):
        assert ids(api, "/orders", words) == []
    assert ids(api, "/orders", "INV") == [another["id"]]


# --- refunds -------------------------------------------------------------------------------------


def test_a_refund_is_found_by_its_id_payment_and_order(api: Api) -> None:
    payment, another = api.paid(receipt="inv-1"), api.paid()
    first, second = refund(api, payment), refund(api, payment)
    refund(api, another)
    assert ids(api, "/refunds", first["id"]) == [first["id"]]
    for words in (payment["id"], payment["order_id"]):
        assert ids(api, "/refunds", words) == [second["id"], first["id"]]
    for words in (first["id"][:-1], "inv-1", payment["id"].swapcase()):
        assert ids(api, "/refunds", words) == []


# --- what is typed is not a pattern --------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["%%%", "___", "100%", "in%", "%nv", "i_v-1", "\\%\\", "///", "inv\\", "inv/"]
)
def test_no_character_stands_for_another(api: Api, upi: Any, words: str) -> None:
    upi(receipt="inv-1")
    upi(receipt="100 per cent")
    assert ids(api, "/payments", words) == ids(api, "/orders", words) == ids(api, "/refunds", words) == []
    literal = upi(receipt=words + "-77")
    assert ids(api, "/payments", words) == [literal["id"]]
    assert ids(api, "/orders", words) == [literal["order_id"]]


def test_an_underscore_in_a_upi_id_is_one(api: Api, upi: Any) -> None:
    payment = upi("a_b@okbank")
    upi("acb@okbank")
    assert ids(api, "/payments", "a_b") == [payment["id"]]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "words",
    [
        *(
            "' OR 1=1 --",
            "'); DROP TABLE payments; --",
            "é",
            "\U0001f600",
            "ﬀﬀﬀ",
            "İİİ",
            "x" * 256,
            " ",
            "\t\n",
        ),
        *("null", "{}", "$1", ":id", "%(id)s", "%s", "\x01\x02\x03"),
    ],
)
def test_whatever_is_typed_is_looked_for(api: Api, upi: Any, path: str, words: str) -> None:
    upi(receipt="inv-1")
    assert ids(api, path, words) == []


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("words", ["", "x" * 257, "a\0b"])
def test_it_refuses_nothing_too_much_and_nul(api: Api, path: str, words: str) -> None:
    refused(api.get(path, q=words), 400, "BAD_REQUEST_ERROR", "q")


# --- among other filters, and page by page -------------------------------------------------------


def test_it_goes_together_with_the_other_filters(app: Flask, api: Api, upi: Any) -> None:
    order = api.order(5000, receipt="inv-1")
    failed = api.upi(order["id"], "failure@upi")
    drain_all()
    pending = api.card(order["id"], VISA)
    assert ids(api, "/payments", "inv", status="failed") == [failed["id"]]
    assert ids(api, "/payments", "inv", method="card") == [pending["id"]]
    assert ids(api, "/payments", "inv", status="failed", method="card") == []
    assert ids(api, "/payments", "inv", order_id=order["id"]) == [pending["id"], failed["id"]]
    assert ids(api, "/payments", "inv", currency="USD") == []
    assert ids(api, "/payments", "inv", **{"to": "2020-01-01T00:00:00Z"}) == []
    in_sql(app, "UPDATE payments SET created_at = '2020-01-01' WHERE id = :id", id=failed["id"])
    assert ids(api, "/payments", "inv", **{"to": "2020-01-02T00:00:00Z"}) == [failed["id"]]
    assert ids(api, "/orders", "inv", status="attempted") == [order["id"]]
    assert ids(api, "/orders", "inv", status="paid") == []
    assert ids(api, "/orders", "inv", receipt="inv-1") == [order["id"]]
    assert ids(api, "/orders", "inv", receipt="inv") == []


def test_payments_are_filtered_by_amount_and_currency(api: Api) -> None:
    small, large = api.paid(100), api.paid(10_000_000)
    dollars = api.paid(5000, number=VISA, currency="USD")
    assert ids(api, "/payments", amount_min=5000) == [dollars["id"], large["id"]]
    assert ids(api, "/payments", amount_max=5000) == [dollars["id"], small["id"]]
    assert ids(api, "/payments", amount_min=100, amount_max=100) == [small["id"]]
    assert ids(api, "/payments", amount_min=101, amount_max=100) == []
    assert ids(api, "/payments", amount_max=0) == []
    assert ids(api, "/payments", amount_min=999_999_999_999) == []
    assert ids(api, "/payments", currency="USD") == [dollars["id"]]
    assert ids(api, "/payments", "pay_x", currency="USD") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({name: value}, name)
        for name in ("amount_min", "amount_max")
        for value in ("-1", "1.5", "", "x", "1000000000000", "१२", "1e3", " 1", "+1", "1\n")
    ]
    + [({"currency": value}, "currency") for value in ("XXX", "inr", "", "INR ", "a\0b")],
)
def test_it_refuses_what_is_no_amount_or_currency(api: Api, query: dict, field: str) -> None:
    refused(api.get("/payments", **query), 400, "BAD_REQUEST_ERROR", field)


@pytest.mark.parametrize("path", LISTS)
def test_what_is_found_is_listed_page_by_page(api: Api, path: str) -> None:
    payments = [api.paid(receipt=f"inv-{number}") for number in range(5)]
    api.paid(receipt="another")
    words = "inv"
    if path == "/refunds":
        words = payments[0]["id"]
        for _ in range(5):
            refund(api, payments[0])
    every = ids(api, path, words)
    assert len(every) == len(set(every)) == 5
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    for more in (True, True, False):
        page = found(api.get(path, q=words, limit=2, **cursor))
        seen += [row["id"] for row in page["data"]]
        assert page["has_more"] is more
        cursor = {"starting_after": page["next_cursor"]}
    assert seen == every
    assert cursor == {"starting_after": None}


def test_it_makes_no_difference_how_many_have_such_a_receipt(
    app: Flask, api: Api, other: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    payments = [api.paid(receipt=f"inv-{number}") for number in range(4)]
    by_vpa = api.upi(api.order(receipt="x")["id"], "inv.oice@okbank")
    api.paid(receipt="another"), other.paid(receipt="inv-1")
    ordered = [payment["order_id"] for payment in payments]
    for few in (1000, 4, 3, 1, 0):
        monkeypatch.setattr(search, "FEW", few)
        expected = [by_vpa["id"], *(payment["id"] for payment in reversed(payments))]
        assert ids(api, "/payments", "inv") == expected, few
        assert ids(api, "/payments", "inv", limit=2, starting_after=expected[1]) == expected[2:4], few
        assert ids(api, "/orders", "inv") == ordered[::-1], few
        assert ids(api, "/orders", "inv", limit=2, starting_after=ordered[3]) == ordered[1:3][::-1], few
        for payment in payments:
            assert ids(api, "/payments", payment["id"]) == [payment["id"]], few
            assert ids(api, "/orders", payment["id"]) == [payment["order_id"]], few


# --- other merchants' ----------------------------------------------------------------------------


def test_nothing_of_another_merchant_is_found(
    api: Api, other: Api, other_dashboard: Dashboard, dashboard: Dashboard
) -> None:
    theirs = other.paid(number=VISA, receipt="inv-1")
    by_upi = other.upi(other.order()["id"], "asha@okbank")
    refunded = refund(other, theirs)
    typed = (
        *(theirs["id"], theirs["order_id"], refunded["id"], by_upi["id"]),
        *("4242", "inv-1", "inv", "asha@okbank", "asha"),
    )
    for client in (api, dashboard):
        for words in typed:
            for path in LISTS:
                assert ids(client, path, words) == [], (path, words)
    ours = api.paid(number=VISA, receipt="inv-1")
    for words in ("4242", "inv"):
        assert ids(api, "/payments", words) == [ours["id"]]
        assert ids(other_dashboard, "/payments", words) == [theirs["id"]]
