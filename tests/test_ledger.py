"""The ledger: what each change posts, what /balance sums up, and what the database refuses."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError

from jobs import work
from models.base import db
from models.ledger import LedgerEntry
from models.merchants import TEST_MERCHANT_ID
from models.payments import Payment
from models.refunds import Refund
from tests.conftest import OTHER_MERCHANT_ID, Api, drain_all, found, made, refused

COMES_BACK = "4000000000005126"  # its refund is processed, then fails

AUTHORIZE = ("authorize", {"acquirer_hold": 10000, "merchant_hold": -10000})
CAPTURE = ("capture", {"acquirer": 10000, "merchant": -10000})


def postings(api: Api, **query: Any) -> list[tuple[str, dict[str, int]]]:
    """Each posting's kind and the sum on each account, oldest first."""
    rows = found(api.get("/ledger", limit=100, **query))["data"][::-1]
    kinds: dict[str, str] = {}
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        kinds[row["posting_id"]] = row["kind"]
        sums[row["posting_id"]][row["account"]] += row["amount"]
    return [(kind, dict(sums[posting_id])) for posting_id, kind in kinds.items()]


def balances(api: Api) -> list[dict[str, Any]]:
    return found(api.get("/balance"))["data"]


def balance(api: Api) -> dict[str, Any]:
    [only] = balances(api)
    return only


def refund(api: Api, payment: dict[str, Any], amount: int) -> dict[str, Any]:
    return made(api.post(f"/payments/{payment['id']}/refunds", {"amount": amount}))


def add_entries(payment: dict[str, Any], *entries: dict[str, Any]) -> None:
    """Rows by hand, past the model that keeps postings balanced: all of them in one statement."""
    count = db.session.scalar(text("SELECT count(*) FROM ledger_entries")) or 0
    values = {
        "posting_id": "post_0000000000000001",
        "merchant_id": TEST_MERCHANT_ID,
        "kind": "capture",
        "account": "acquirer",
        "currency": "INR",
        "payment_id": payment["id"],
    }
    rows = [{"id": f"led_{number:016}", **values, **entry} for number, entry in enumerate(entries, count)]
    db.session.execute(insert(LedgerEntry).values(rows))


# --- what is posted ------------------------------------------------------------------------------


def test_nothing_is_posted_before_the_acquirer_approves(api: Api) -> None:
    api.upi(api.order()["id"])
    api.upi(api.order()["id"], "failure@upi")
    assert postings(api) == []
    drain_all()
    assert postings(api) == [CAPTURE]


def test_an_automatic_capture_is_one_posting(api: Api) -> None:
    payment = api.paid()
    assert postings(api) == [CAPTURE]
    rows = found(api.get("/ledger"))["data"]
    assert set(rows[0]) == {
        *("id", "posting_id", "kind", "account", "amount", "currency"),
        *("payment_id", "refund_id", "created_at"),
    }
    assert {(row["payment_id"], row["refund_id"], row["currency"]) for row in rows} == {
        (payment["id"], None, "INR")
    }


def test_a_partial_capture_releases_the_whole_hold(api: Api) -> None:
    payment = api.paid(capture="manual")
    assert postings(api) == [AUTHORIZE]
    found(api.post(f"/payments/{payment['id']}/capture", {"amount": 6000}))
    taken = {"merchant_hold": 10000, "acquirer_hold": -10000, "acquirer": 6000, "merchant": -6000}
    assert postings(api) == [AUTHORIZE, ("capture", taken)]


def test_a_void_takes_the_hold_back(api: Api) -> None:
    payment = api.paid(capture="manual")
    found(api.post(f"/payments/{payment['id']}/void"))
    assert postings(api) == [AUTHORIZE, ("void", {"merchant_hold": 10000, "acquirer_hold": -10000})]


def test_a_refund_is_reserved_then_sent_then_perhaps_taken_back(api: Api, make_due) -> None:
    payment = api.paid(number=COMES_BACK)
    refund_id = refund(api, payment, 4000)["id"]
    requested = ("refund_requested", {"merchant": 4000, "refunds_in_flight": -4000})
    assert postings(api, refund_id=refund_id) == [requested]
    drain_all()
    processed = ("refund_processed", {"refunds_in_flight": 4000, "acquirer": -4000})
    assert postings(api, refund_id=refund_id) == [requested, processed]
    make_due("refunds")
    drain_all()
    failed = ("refund_failed", {"acquirer": 4000, "merchant": -4000})
    assert postings(api, refund_id=refund_id) == [requested, processed, failed]


def test_a_refund_that_fails_at_once_frees_what_was_reserved(api: Api, context: None) -> None:
    payment = api.paid()
    refund_id = refund(api, payment, 4000)["id"]
    locked = Payment.lock(TEST_MERCHANT_ID, payment["id"])
    Refund.of_merchant(TEST_MERCHANT_ID, refund_id).fail(locked, "account_closed")
    work.commit()
    assert postings(api, refund_id=refund_id) == [
        ("refund_requested", {"merchant": 4000, "refunds_in_flight": -4000}),
        ("refund_failed", {"refunds_in_flight": 4000, "merchant": -4000}),
    ]
    assert (balance(api)["refunds_pending"], balance(api)["available"]) == (0, 10000)


def test_every_posting_sums_to_zero(api: Api, make_due) -> None:
    captured, voided = api.paid(capture="manual"), api.paid(capture="manual")
    found(api.post(f"/payments/{captured['id']}/capture", {"amount": 6000}))
    found(api.post(f"/payments/{voided['id']}/void"))
    refund(api, captured, 1)
    refund(api, api.paid(currency="EUR", number=COMES_BACK), 2)
    drain_all()
    make_due("refunds")
    drain_all()
    posted = postings(api)
    assert {kind for kind, _ in posted} == {
        *("authorize", "capture", "void"),
        *("refund_requested", "refund_processed", "refund_failed"),
    }
    assert [sum(accounts.values()) for _, accounts in posted] == [0] * len(posted)


# --- the balance ---------------------------------------------------------------------------------


def test_a_merchant_without_payments_has_no_balance(api: Api) -> None:
    assert balances(api) == []


def test_the_balance_follows_the_money(api: Api) -> None:
    figures = {
        "currency": "INR",
        "captured": 0,
        "fees": 0,
        "refunded": 0,
        "refunds_pending": 0,
        "held": 0,
        "available": 0,
    }
    payment = api.paid(capture="manual")
    assert balance(api) == figures | {"held": 10000}
    found(api.post(f"/payments/{payment['id']}/capture", {"amount": 6000}))
    assert balance(api) == figures | {"captured": 6000, "available": 6000}
    refund(api, payment, 2500)
    assert balance(api) == figures | {"captured": 6000, "refunds_pending": 2500, "available": 3500}
    drain_all()
    assert balance(api) == figures | {"captured": 6000, "refunded": 2500, "available": 3500}
    refund(api, payment, 500)
    assert balance(api) == {
        "currency": "INR",
        "captured": 6000,
        "fees": 0,
        "refunded": 2500,
        "refunds_pending": 500,
        "held": 0,
        "available": 3000,
    }


def test_each_currency_has_its_balance(api: Api) -> None:
    api.paid(7000)
    refund(api, api.paid(3000, "4242424242424242", currency="EUR"), 1000)
    euros, rupees = balances(api)
    assert (euros["currency"], euros["captured"], euros["available"]) == ("EUR", 3000, 2000)
    assert (rupees["currency"], rupees["captured"], rupees["available"]) == ("INR", 7000, 7000)


def test_sums_beyond_one_amount_stay_exact(api: Api) -> None:
    for _ in range(3):
        api.paid(999_999_999_999)
    assert balance(api)["captured"] == 2_999_999_999_997


# --- listing -------------------------------------------------------------------------------------


def test_the_list_is_filtered_and_cut_into_pages(api: Api) -> None:
    first, second = api.paid(), api.paid(currency="EUR", number="4242424242424242")
    refund_id = refund(api, first, 1)["id"]

    def listed(**query: Any) -> set[tuple[str, str]]:
        rows = found(api.get("/ledger", **query))["data"]
        return {(row["payment_id"], row["account"]) for row in rows}

    assert listed(payment_id=second["id"]) == {(second["id"], "acquirer"), (second["id"], "merchant")}
    assert listed(currency="EUR") == listed(payment_id=second["id"])
    assert listed(account="refunds_in_flight") == {(first["id"], "refunds_in_flight")}
    assert listed(refund_id=refund_id) == {(first["id"], "merchant"), (first["id"], "refunds_in_flight")}

    every = [row["id"] for row in found(api.get("/ledger"))["data"]]
    page = found(api.get("/ledger", limit=4))
    rest = found(api.get("/ledger", limit=4, starting_after=page["next_cursor"]))
    assert [row["id"] for row in page["data"] + rest["data"]] == every
    assert len(every) == 6


def test_a_merchant_sees_only_its_own_money(api: Api, other: Api) -> None:
    payment = api.paid()
    other.paid(300, "4242424242424242")
    assert (balance(api)["captured"], balance(other)["captured"]) == (10000, 300)
    assert postings(other) == [("capture", {"acquirer": 300, "merchant": -300})]
    assert postings(other, payment_id=payment["id"]) == []
    cursor = found(api.get("/ledger"))["data"][0]["id"]
    refused(other.get("/ledger", starting_after=cursor), 400, "BAD_REQUEST_ERROR", "starting_after")


# --- what the database refuses -------------------------------------------------------------------


def test_the_database_takes_a_balanced_posting(api: Api, context: None) -> None:
    add_entries(api.paid(), {"amount": 500}, {"amount": -500, "account": "merchant"})
    db.session.commit()
    assert balance(api)["captured"] == 10500


@pytest.mark.parametrize(
    "second",
    [
        None,
        {"amount": -499},
        {"amount": 500},
        {"amount": -500, "posting_id": "post_0000000000000002"},
    ],
)
def test_the_database_refuses_an_unbalanced_posting(
    api: Api, context: None, second: dict[str, Any] | None
) -> None:
    entries = [{"amount": 500}, *([{"account": "merchant", **second}] if second else [])]
    with pytest.raises(IntegrityError, match="does not sum to zero"):
        add_entries(api.paid(), *entries)
    db.session.rollback()
    assert postings(api) == [CAPTURE]


@pytest.mark.parametrize("wrong", [{"amount": 0}, {"currency": "EUR"}, {"merchant_id": OTHER_MERCHANT_ID}])
def test_the_database_refuses_an_entry_of_nothing_or_of_another_payment(
    api: Api, other: Api, context: None, wrong: dict[str, Any]
) -> None:
    right = {"amount": 500} | wrong
    with pytest.raises(IntegrityError):
        add_entries(api.paid(), right, right | {"amount": -right["amount"], "account": "merchant"})
    db.session.rollback()


@pytest.mark.parametrize("table", ["ledger_entries", "events", "acquirer_answers", "audit_log"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET id = DEFAULT", "DELETE FROM {} WHERE id IS NOT NULL", "TRUNCATE {} CASCADE"]
)
def test_the_database_refuses_to_change_history(api: Api, context: None, table: str, statement: str) -> None:
    found(api.post(f"/payments/{api.paid(capture='manual')['id']}/capture"))  # which is in the audit log
    count = text(f"SELECT count(*) FROM {table}")
    before = db.session.scalar(count)
    with pytest.raises(IntegrityError, match="never changed or deleted"):
        db.session.execute(text(statement.format(table)))
    db.session.rollback()
    assert db.session.scalar(count) == before
