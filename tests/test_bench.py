"""The benchmark: its arithmetic, its page, the rows it writes, and what it says where something is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import psycopg2
import pytest
from flask import Flask

from bench import figures, growth, pgbench, receiver, report, rows, settle, wrk
from bench.__main__ import Plan, measure
from bench.figures import FIGURES, TARGETS, Book, Summary, Target
from bench.growth import Growth
from bench.memory import Held
from bench.report import Found
from config import ROOT
from models.base import db
from models.payments import Payment
from models.verification import Verification
from tests.conftest import Api, drain_all, found
from tests.receiver import answer, running_receiver


@pytest.fixture
def book() -> Book:
    """Three rounds in which everything took what its limit took."""
    made = Book()
    keys = {figure.key for figure in FIGURES} | {figure.limit for figure in FIGURES if figure.limit}
    for key in sorted(keys):
        for value in (100.0, 300.0, 200.0):
            made.note(key, value)
    return made


# --- arithmetic ----------------------------------------------------------------------------------


def test_a_summary_is_the_median_and_the_spread() -> None:
    assert figures.summarize([3.0, 1.0, 8.0]) == Summary(3.0, 1.0, 8.0)
    assert figures.summarize([1.0, 2.0]) == Summary(1.5, 1.0, 2.0)


def test_a_share_is_taken_within_each_round() -> None:
    made = Book()
    for ours, limit in ((10, 100), (1, 2), (30, 100)):  # the machine was slow in the second
        made.note("ours", ours)
        made.note("limit", limit)
    assert made.share("ours", "limit") == Summary(0.3, 0.1, 0.5)


def test_rounds_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        figures.shares([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (1, 100), (0, 1)], ids=["p50", "p99", "most", "least"]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert figures.percentile([float(n) for n in range(100, 0, -1)], share) == expected
    assert figures.percentile([7.0], share) == 7


def test_a_target_is_met_at_its_bound() -> None:
    least = Target("rate", "rate", "/s", least=2500)
    assert (least.is_met(2500), least.is_met(2499)) == (True, False)
    assert least.score(5000) == 2
    assert least.bound == "at least 2,500/s"
    most = Target("wait", "wait", "ms", most=150)
    assert (most.is_met(150), most.is_met(151)) == (True, False)
    assert most.score(75) == 2
    assert most.bound == "under 150 ms"
    assert Target("share", "a", "", of="b", least=0.2).bound == "at least 0.20"


def test_numbers_keep_the_digits_that_mean_something() -> None:
    assert [figures.number(value) for value in (12345.6, 123.4, 12.34, 1.234, 0.1234)] == [
        *("12,346", "123", "12.3", "1.23", "0.123")
    ]


def test_every_target_and_limit_names_what_is_measured(book: Book) -> None:
    for target in TARGETS:
        assert target.key in book.values
        assert target.of is None or target.of in book.values
        assert (target.least is None) != (target.most is None)


# --- the page ------------------------------------------------------------------------------------


@pytest.fixture
def whole(book: Book) -> Found:
    cost = {operation: {10: [2.0, 1.0, 4.0], 1000: [2.2, 1.5, 4.0]} for operation in growth.OPERATIONS}
    held = [Held("web process", 20.0, 12.0), Held("web process", 20.0, 11.5), Held("valkey", 5.0, 4.0)]
    return Found(book, held, held[:1], Growth(cost))


def test_what_is_written_by_hand_stays(tmp_path: Path, whole: Found) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "chart.svg"
    page.write_text(f"# Ours\n\nbefore\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    report.write(whole, page, picture)
    text = page.read_text()
    assert text.startswith(f"# Ours\n\nbefore\n\n{report.BEGIN}\nMeasured on ")
    assert text.endswith(f"{report.END}\n\nafter\n")
    assert "old" not in text
    assert "](chart.svg)" in text
    report.write(whole, page, picture)
    assert page.read_text() == text


def test_the_page_of_the_docs_has_both_marks_once() -> None:
    text = report.PAGE.read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    assert text.index(report.BEGIN) < text.index(report.END)


def test_tables_tell_what_is_missed(whole: Found) -> None:
    text = report.tables(whole)
    assert "| create order, of pgbench | at least 0.20 | 1.00 | 1.00 to 1.00 | met |" in text
    assert "| settle, no webhooks | at least 2,500/s | 200/s | 100 to 300 | **missed** |" in text
    assert "| create order | 200/s | 100 to 300 | a bare Flask route | 200/s | 1.00 |" in text
    assert "| get payment | 2.00 | 2.20 | 1.10 times (1.00 to 1.50) | 1.3 | met |" in text
    assert "| web process | 2 | 40.0 | 23.5 | 1 | 12.0 |" in text
    assert "| **all** | 3 |  | **27.5** | 1 | **12.0** |" in text
    assert not whole.is_met


def test_growth_alone_can_miss(whole: Found) -> None:
    for target in TARGETS:
        fine = target.least if target.least is not None else target.most
        assert fine is not None
        if target.of is None:
            whole.book.values[target.key] = [fine] * 3
    assert whole.is_met
    halves = Growth({"settle": {10: [2.0] * 3, 100: [1.4, 1.2, 1.0], 1000: [1.0] * 3}})
    assert halves.worst("settle") == Summary(0.6, 0.5, 0.7)
    worse = Growth({"settle": {10: [1.0] * 3, 1000: [1.31] * 3}})
    assert not worse.is_within_limit
    assert not replace(whole, grown=worse).is_met


def test_the_chart_is_an_svg_with_a_bar_for_each_target(book: Book) -> None:
    drawn = ElementTree.fromstring(report.chart(book))  # noqa: S314 (our own)
    name = "{http://www.w3.org/2000/svg}"
    bars = [each.get("class") for each in drawn.iter(f"{name}rect")]
    assert bars.count("met") + bars.count("missed") == len(TARGETS)
    width = float(drawn.get("width") or 0)
    for bar in drawn.iter(f"{name}rect"):
        assert float(bar.get("x") or 0) + float(bar.get("width") or 0) <= width
    words = [each.text for each in drawn.iter(f"{name}text")]
    assert {target.title for target in TARGETS} <= set(words)


# --- rows ----------------------------------------------------------------------------------------


def test_what_is_seeded_is_what_the_gateway_would_have_written(app: Flask, api: Api) -> None:
    url = settle.url_of(app)
    endpoint = api.endpoint("http://127.0.0.1:9/hook", events=["payment.success"])
    rows.past(url, 30, "past", endpoint_id=endpoint["id"])
    rows.past(url, 3, "untold")
    rows.orders(url, 3, "orders")
    rows.undelivered(url, 3, "undelivered", endpoint_id=endpoint["id"])
    rows.pending(url, 5, "pending")
    paid = found(api.get(f"/payments/{rows.made_id('pay', 'past', 30)}"))
    assert (paid["status"], paid["captured"], paid["vpa"]) == ("success", True, rows.VPA)
    assert [each["event"] for each in found(api.get("/events", payment_id=paid["id"]))["data"]] == [
        *("payment.captured", "payment.success", "payment.created")
    ]
    assert_verified(app)
    drain_all()
    waited = found(api.get(f"/payments/{rows.made_id('pay', 'pending', 5)}"))
    assert waited["status"] == "success"
    assert_verified(app)


def test_every_check_of_the_schema_holds(app: Flask) -> None:
    """The rows are written without triggers and foreign keys; their CHECKs and unique indexes hold anyway."""
    rows.past(settle.url_of(app), 3, "past")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        rows.past(settle.url_of(app), 3, "past")


def test_pgbench_settles_what_it_began(app: Flask) -> None:
    url, count = settle.url_of(app), 4 * pgbench.CLIENTS
    rows.orders(url, count, "orders")
    assert pgbench.create_payments(url, "orders", count) > 0
    settle.wait_until_done(app)  # nothing of it is the gateway's to do
    assert pgbench.settle(url, count) > 0
    with app.app_context():
        assert {payment.status for payment in db.session.scalars(db.select(Payment))} == {"success"}
    assert_verified(app)


def test_pgbench_times_each_lifetime(app: Flask, tmp_path: Path) -> None:
    rows.orders(settle.url_of(app), 5, "life")
    took_ms = pgbench.lifetimes_ms(settle.url_of(app), "life", 5, tmp_path)
    assert len(took_ms) == 5
    assert all(0 < each < 60_000 for each in took_ms)
    assert not list(tmp_path.iterdir())
    assert_verified(app)


def test_pgbench_that_fails_is_an_error(app: Flask) -> None:
    with pytest.raises(RuntimeError, match="pgbench create_payment: "):
        pgbench.create_payments(settle.url_of(app), "no such orders", pgbench.CLIENTS)


def assert_verified(app: Flask) -> None:
    with app.app_context():
        findings = Verification.run()
    assert findings
    assert [each for finding in findings for each in finding.breaks] == []


# --- the receiver --------------------------------------------------------------------------------


def test_the_receiver_writes_down_when_each_payment_came() -> None:
    with receiver.running() as running:
        for number in (1, 2, 1):
            payment_id = rows.made_id("pay", "it", number)
            body = b'{"id":"evt_1","data":{"payment":{"id":"%s"}}}' % payment_id.encode()
            post = urllib.request.Request(running.url, data=body, method="POST")
            with urllib.request.urlopen(post, timeout=5) as answer:
                assert (answer.status, answer.read()) == (200, b"ok")
        arrivals = running.arrivals()
        assert list(arrivals) == [rows.made_id("pay", "it", number) for number in (1, 2)]
        assert arrivals[rows.made_id("pay", "it", 1)] <= arrivals[rows.made_id("pay", "it", 2)]
        assert running.arrivals() == {}


# --- the load generator --------------------------------------------------------------------------

NEEDS_WRK = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@NEEDS_WRK
def test_wrk_uses_each_id_once(tmp_path: Path) -> None:
    ids = rows.write_ids(tmp_path / "ids", "order", "wrk", 20_000)
    with running_receiver() as shop:
        load = wrk.run(shop.url, "create_payment", 1, connections=4, ids=ids)
        paid = [received.event["order_id"] for received in shop.received]
    assert load.rate > 0
    assert 0 < load.p50_ms <= load.p99_ms
    assert len(paid) == len(set(paid))
    assert set(paid) <= set(ids.read_text().split())


@NEEDS_WRK
def test_wrk_that_has_too_few_ids_is_an_error(tmp_path: Path) -> None:
    ids = rows.write_ids(tmp_path / "ids", "order", "wrk", 3)
    with running_receiver() as shop, pytest.raises(RuntimeError, match="fewer ids than requests"):
        wrk.run(shop.url, "create_payment", 1, ids=ids)


@NEEDS_WRK
def test_a_refusal_is_an_error_that_quotes_it() -> None:
    with running_receiver() as shop:
        shop.answers = [answer(422, b"not like that")] * 100_000
        with pytest.raises(RuntimeError, match="refused were such: 422 not like that"):
            wrk.run(shop.url, "create_order", 1)


@pytest.mark.parametrize("module", ["bench", "bench.growth"])
def test_without_wrk_one_line_says_how_to_get_it(module: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PATH"} | {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: wrk, the load generator, is missing; on Debian: apt-get install wrk\n"
    assert done.stdout == ""


# --- all of it -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)  # on a machine that is busy with other tests
@NEEDS_WRK
def test_a_round_measures_every_figure_and_breaks_nothing() -> None:
    plan = Plan(rounds=1, past=200, load_s=1, settled=50, delivered=20, pgbench_payments=160, sampled=5)
    whole = measure(plan)
    assert {figure.key for figure in FIGURES} <= whole.book.values.keys()
    for values in whole.book.values.values():
        assert len(values) == 1
        assert values[0] > 0
    names = {each.name for each in whole.idle}
    assert {"web process", "worker or clock", "valkey", "postgres: the server"} <= names
    assert report.tables(whole)
