"""What may be asked how often: counted in Redis for all processes, and by each for itself without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextvars import Context

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from jobs.wake import fast_redis
from models.base import db
from tests.conftest import Api, drain_all, found, made, refused, settings_of
from tests.processes import wait_until
from tests.test_public import pay, upi

CARDS = ["4242424242424242", "4111111111111111", "5555555555554444", "4000000000000002"]

Make = Callable[..., Flask]


@pytest.fixture
def process(app: Flask, environ: dict[str, str]) -> Iterator[Make]:
    """Makes one more web process of this gateway, with these limits."""
    made_apps: list[Flask] = []

    def make(**limits: str) -> Flask:
        made_apps.append(create_app(settings_of(environ | limits)))
        return made_apps[-1]

    yield make
    for each in made_apps:
        with each.app_context():
            db.engine.dispose()


def card(order_id: str, number: str) -> dict:
    details = {"number": number, "expiry_month": 12, "expiry_year": 2049, "cvv": "123"}
    return {"order_id": order_id, "method": "card", "card": details}


def too_many(answer: TestResponse) -> int:
    """How long to wait, in seconds."""
    refused(answer, 429, "RATE_LIMIT_ERROR")
    return int(answer.headers["Retry-After"])


# --- cards ---------------------------------------------------------------------------------------


def test_one_card_may_only_be_tried_so_often_wherever_it_comes_from(process: Make, api: Api) -> None:
    shop = process(PUBLIC_RATE_LIMIT_PER_CARD="2 per hour")
    orders = [api.order()["id"] for _ in range(4)]
    number = CARDS[0]
    made(pay(shop, card(orders[0], number), "192.0.2.1"))
    spaced = " ".join(number[n : n + 4] for n in range(0, 16, 4))
    made(pay(shop, card(orders[1], spaced), "192.0.2.2"))
    assert too_many(pay(shop, card(orders[2], number), "192.0.2.3")) > 60
    assert too_many(pay(shop, card(orders[2], spaced.replace(" ", "-")), "192.0.2.4")) > 60
    made(pay(shop, card(orders[2], CARDS[1]), "192.0.2.3"))
    made(pay(shop, upi(orders[3]), "192.0.2.3"))


def test_guesses_at_its_code_count_too(process: Make, api: Api) -> None:
    shop = process(PUBLIC_RATE_LIMIT_PER_CARD="2 per hour")
    order_id = api.order()["id"]
    body = card(order_id, CARDS[0])
    for cvv in ("1", "22"):
        body["card"]["cvv"] = cvv
        refused(pay(shop, body), 400, "INVALID_CVV", "card.cvv")
    too_many(pay(shop, card(order_id, CARDS[0])))


def test_redis_holds_no_card_number(process: Make, api: Api, app: Flask) -> None:
    shop = process()
    made(pay(shop, card(api.order()["id"], CARDS[0])))
    with app.app_context():
        kept = str(fast_redis().keys("LIMITS*"))
    assert "/card/" in kept
    assert CARDS[0] not in kept


def test_the_pause_of_who_goes_on_grows(process: Make, api: Api) -> None:
    """A minute, then an hour, then a day: whoever goes on in each window comes to the next limit."""
    shop = process(PUBLIC_RATE_LIMIT_PER_CARD="2 per minute; 3 per hour; 4 per day")
    order_id = api.order()["id"]

    def attempt() -> TestResponse:
        body = card(order_id, CARDS[0])
        body["card"]["cvv"] = "1"  # is not begun: there may be many of one order
        return pay(shop, body)

    statuses = [attempt().status_code for _ in range(2)]
    waits = [too_many(attempt()) for _ in range(3)]
    assert statuses == [400, 400]
    assert waits[0] <= 61 < waits[1] <= 3601 < waits[2] <= 86401


def test_who_is_refused_uses_up_nobody_elses_limit_and_leaves_no_counts(
    process: Make, api: Api, app: Flask
) -> None:
    shop = process(PUBLIC_RATE_LIMIT_PER_ADDRESS="2 per hour", PUBLIC_RATE_LIMIT_PER_ORDER="3 per hour")
    order_id = api.order()["id"]
    assert [pay(shop, upi(order_id, "bad"), "192.0.2.1").status_code for _ in range(2)] == [400, 400]
    with app.app_context():
        before = fast_redis().dbsize()
        for number in range(4):
            too_many(pay(shop, upi(order_id), "192.0.2.1"))
            too_many(pay(shop, card(f"made_up_{number}", f"424242424242424{number}"), "192.0.2.1"))
        assert fast_redis().dbsize() == before
    made(pay(shop, upi(order_id), "192.0.2.2"))


def test_a_customer_of_an_ipv6_provider_is_one_caller(process: Make, api: Api) -> None:
    shop = process(PUBLIC_RATE_LIMIT_PER_ADDRESS="1 per hour")
    made(pay(shop, upi(api.order()["id"]), "2001:db8:1:2::1"))
    too_many(pay(shop, upi(api.order()["id"]), "2001:db8:1:2:ffff::9"))
    made(pay(shop, upi(api.order()["id"]), "2001:db8:1:3::1"))


# --- Redis, and without it -----------------------------------------------------------------------


def test_all_processes_count_together(process: Make, api: Api) -> None:
    one, two = (process(PUBLIC_RATE_LIMIT_PER_ORDER="2 per hour") for _ in range(2))
    order_id = api.order()["id"]
    for shop in (one, two):
        made(pay(shop, upi(order_id, "failure@upi")))
        drain_all()
    too_many(pay(one, upi(order_id)))
    too_many(pay(two, upi(order_id)))


def test_without_redis_each_counts_for_itself_and_comes_back_to_it(process: Make, api: Api) -> None:
    limits = {"PUBLIC_RATE_LIMIT_PER_ADDRESS": "2 per hour"}
    alone = process(REDIS_URL="redis://127.0.0.1:1/0", **limits)
    bad = {"order_id": "x", "method": "upi", "vpa": "a@b"}
    assert [pay(alone, bad).status_code for _ in range(3)] == [400, 400, 429]
    other = process(**limits)
    assert pay(other, bad).status_code == 400
    with alone.app_context():
        counter = alone.extensions["rate_limits"]
        assert counter._rest_until > time.monotonic()


# --- API keys ------------------------------------------------------------------------------------


def ask(app: Flask, api: Api) -> TestResponse:
    return Context().run(app.test_client().get, "/api/v1/balance", headers=api.headers)


def test_an_api_key_has_a_limit_in_all_processes(process: Make, api: Api, other: Api) -> None:
    one, two = (process(RATE_LIMIT_PER_API_KEY="4 per hour") for _ in range(2))
    for gateway in (one, two, one, two):
        found(ask(gateway, api))
    for gateway in (one, two, one):
        assert 60 < too_many(ask(gateway, api)) <= 3601
    found(ask(one, other))


def test_a_key_that_rests_works_again_afterwards(process: Make, api: Api) -> None:
    gateway = process(RATE_LIMIT_PER_API_KEY="1 per 2 second")
    found(ask(gateway, api))
    assert too_many(ask(gateway, api)) <= 3
    wait_until(lambda: ask(gateway, api).status_code == 200)


def test_a_large_limit_is_told_to_redis_in_parts(process: Make, api: Api, app: Flask) -> None:
    gateway = process(RATE_LIMIT_PER_API_KEY="1000 per hour")
    for _ in range(25):
        found(ask(gateway, api))
    with app.app_context():
        redis = fast_redis()
        [key] = [key for key in redis.keys("LIMITS*") if "/key/" in str(key)]
        assert int(redis.get(key) or 0) == 20
    assert gateway.extensions["key_uses"][api.headers["X-Api-Key"]].untold == 5


def test_a_wrong_secret_uses_up_nobodys_limit(process: Make, api: Api) -> None:
    gateway = process(RATE_LIMIT_PER_API_KEY="2 per hour")
    for _ in range(3):
        wrong = {"X-Api-Key": api.headers["X-Api-Key"], "X-Api-Secret": "wrong"}
        answer = Context().run(gateway.test_client().get, "/api/v1/balance", headers=wrong)
        refused(answer, 401, "AUTHENTICATION_ERROR")
    found(ask(gateway, api))
