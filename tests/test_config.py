"""Settings: defaults that run, and errors that name the setting."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from config import ConfigError, Settings, cautions
from tests import conftest
from tests.conftest import settings_of

PRODUCTION = conftest.PRODUCTION | {
    "DATABASE_URL": "postgresql://gateway@db/payment_gateway",
    "REDIS_URL": "redis://redis:6379/0",
}


def test_the_defaults_are_a_local_gateway() -> None:
    settings = settings_of({})
    assert (settings.port, settings.dashboard_port, settings.checkout_port) == (8000, 3000, 3001)
    assert settings.local
    assert settings.test_endpoints
    assert settings.webhook_retry_schedule_s == (0, 60, 300, 1800, 7200)
    assert settings.processing_delay_ms == (1000, 3000)


def test_production_has_no_test_endpoints_and_posts_to_public_addresses_only() -> None:
    settings = settings_of(PRODUCTION)
    assert not settings.test_endpoints
    assert not settings.webhook_allow_private


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"PORT": "abc"}, "PORT"),
        ({"PORT": "0"}, "PORT"),
        ({"PORT": "3000"}, "PORT"),
        ({"DASHBOARD_PORT": "65536"}, "DASHBOARD_PORT"),
        ({"UPI_SUCCESS_RATE": "1.1"}, "UPI_SUCCESS_RATE"),
        ({"CARD_SUCCESS_RATE": "many"}, "CARD_SUCCESS_RATE"),
        ({"PROCESSING_DELAY_MS": "3000-1000"}, "PROCESSING_DELAY_MS"),
        ({"PROCESSING_DELAY_MS": "5"}, "PROCESSING_DELAY_MS"),
        ({"PROCESSING_DELAY_MS": "-1-5"}, "PROCESSING_DELAY_MS"),
        ({"WEBHOOK_RETRY_SCHEDULE": "0,x"}, "WEBHOOK_RETRY_SCHEDULE"),
        ({"WEBHOOK_RETRY_SCHEDULE": "0,-5"}, "WEBHOOK_RETRY_SCHEDULE"),
        ({"WORKER_PROCESSES": "0"}, "WORKER_PROCESSES"),
        ({"FEE_PERCENT": "-1"}, "FEE_PERCENT"),
        ({"FEE_PERCENT": "101"}, "FEE_PERCENT"),
        ({"FEE_PERCENT": "NaN"}, "FEE_PERCENT"),
        ({"ACQUIRER": "bank"}, "ACQUIRER"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
        ({"REDIS_URL": "http://x"}, "REDIS_URL"),
        ({"APP_ENV": "staging"}, "APP_ENV"),
        ({"TEST_MODE": "perhaps"}, "TEST_MODE"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        ({"CHECKOUT_URL": "shop.example"}, "CHECKOUT_URL"),
        ({"DASHBOARD_URL": "dashboard.example"}, "DASHBOARD_URL"),
        ({"INBOX_URL": "gateway_api:8000"}, "INBOX_URL"),
        ({"PUBLIC_RATE_LIMIT_PER_ADDRESS": "lots"}, "PUBLIC_RATE_LIMIT_PER_ADDRESS"),
        ({"PUBLIC_RATE_LIMIT_PER_ORDER": ""}, "PUBLIC_RATE_LIMIT_PER_ORDER"),
        ({"TRUSTED_PROXIES": "-1"}, "TRUSTED_PROXIES"),
        ({"METRICS_TOKEN": "short"}, "METRICS_TOKEN"),
        ({"METRICS_TOKEN": "of a good length, with spaces"}, "METRICS_TOKEN"),
        ({"METRICS_TOKEN": "0123456789abcdef\n"}, "METRICS_TOKEN"),
        (PRODUCTION | {"SECRET_KEY": ""}, "SECRET_KEY"),
        (PRODUCTION | {"SECRET_KEY": "short"}, "SECRET_KEY"),
        (PRODUCTION | {"SECRET_KEY": "local-development-only-secret-key"}, "SECRET_KEY"),
        (PRODUCTION | {"SECRET_KEY": "ab" * 16}, "SECRET_KEY"),
        (PRODUCTION | {"SECRET_KEY_FALLBACKS": "short"}, "SECRET_KEY_FALLBACKS"),
        (PRODUCTION | {"DASHBOARD_URL": "http://dashboard.example"}, "DASHBOARD_URL"),
        (PRODUCTION | {"CHECKOUT_URL": ""}, "CHECKOUT_URL"),
        (PRODUCTION | {"DATABASE_URL": "postgresql://gateway:gateway@db/payment_gateway"}, "DATABASE_URL"),
        (PRODUCTION | {"PGPASSWORD": "gateway"}, "DATABASE_URL"),
        ({"PUBLIC_RATE_LIMIT_PER_CARD": "5 per minute; often"}, "PUBLIC_RATE_LIMIT_PER_CARD"),
        ({"RATE_LIMIT_PER_API_KEY": "0"}, "RATE_LIMIT_PER_API_KEY"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT"),
        (PRODUCTION | {"DATABASE_URL": ""}, "DATABASE_URL"),
        (PRODUCTION | {"REDIS_URL": ""}, "REDIS_URL"),
        (PRODUCTION | {"TEST_ENDPOINTS": "true"}, "TEST_ENDPOINTS"),
        (PRODUCTION | {"TEST_MODE": "true"}, "TEST_MODE"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings_of(environ)
    assert str(error.value).startswith(name)
    assert "\n" not in str(error.value)


def test_several_wrong_settings_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"PORT: .*; UPI_SUCCESS_RATE: "):
        settings_of({"PORT": "abc", "UPI_SUCCESS_RATE": "2"})


def test_the_inbox_is_reached_at_our_own_port_or_where_it_is_said_to_be() -> None:
    assert settings_of({"PORT": "5555"}).inbox_url == "http://localhost:5555"
    assert settings_of({"INBOX_URL": "http://gateway_api:8000/"}).inbox_url == "http://gateway_api:8000"


def test_the_pages_are_reached_at_their_own_ports_or_where_they_are_said_to_be() -> None:
    ours = settings_of({"DASHBOARD_PORT": "5555", "CHECKOUT_PORT": "5556"})
    assert (ours.dashboard_url, ours.checkout_url) == ("http://localhost:5555", "http://localhost:5556")
    theirs = settings_of({"DASHBOARD_URL": "https://dash.example/", "CHECKOUT_URL": "https://pay.example/"})
    assert (theirs.dashboard_url, theirs.checkout_url) == ("https://dash.example", "https://pay.example")


def test_production_warns_of_what_may_not_be_meant() -> None:
    assert not cautions(settings_of({"WEBHOOK_ALLOW_PRIVATE": "true"}))
    names = [words.partition(":")[0] for words in cautions(settings_of(PRODUCTION))]
    assert names == ["ACQUIRER", "TRUSTED_PROXIES", "METRICS_TOKEN"]
    meant = {"ACQUIRER": "bank:Bank", "TRUSTED_PROXIES": "1", "METRICS_TOKEN": "0123456789abcdef"}
    assert not cautions(settings_of(PRODUCTION | meant))
    odd = {
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "SECRET_KEY_FALLBACKS": "b-secret-of-sufficient-length-0123456789",
    }
    names = [words.partition(":")[0] for words in cautions(settings_of(PRODUCTION | meant | odd))]
    assert names == ["WEBHOOK_ALLOW_PRIVATE", "SECRET_KEY_FALLBACKS"]


def test_the_quick_retry_schedule_for_tests() -> None:
    settings = settings_of({"WEBHOOK_RETRY_INTERVALS_TEST": "true"})
    assert settings.webhook_retry_schedule_s == (0, 5, 10, 15, 20)


def test_the_metrics_need_no_token_unless_there_is_one() -> None:
    assert not settings_of({}).metrics_token
    assert not settings_of({"METRICS_TOKEN": ""}).metrics_token
    token = "0123456789abcdef.-_~+/=="
    assert settings_of({"METRICS_TOKEN": token}).metrics_token == token


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_the_driver_is_psycopg2_whatever_the_scheme(scheme: str) -> None:
    settings = settings_of({"DATABASE_URL": f"{scheme}://u:p@h:5/d"})
    assert settings.sqlalchemy_url == "postgresql+psycopg2://u:p@h:5/d"


@pytest.mark.parametrize("document", ["README.md", ".env.example"])
def test_every_setting_is_documented(root: Path, document: str) -> None:
    read = set(
        re.findall(
            r'(?:env\.\w+|_optional|_address)\(\s*(?:env, )?"([A-Z_]+)"', (root / "config.py").read_text()
        )
    )
    assert len(read) >= len(fields(Settings)) - 1
    missing = {name for name in read if not re.search(rf"\b{name}\b", (root / document).read_text())}
    assert not missing
