"""Settings: read once from the environment (and `.env`), checked at start-up, never changed afterwards.

A wrong or missing setting raises `ConfigError`, whose text names the setting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import limits
from environs import Env, EnvError, EnvValidationError, validate
from flask import current_app
from werkzeug.local import LocalProxy

ROOT = Path(__file__).parent
VERSION = "0.1.0"  # pyproject.toml has it too

LOCAL_SECRET_KEY = "local-development-only-secret-key"  # noqa: S105 (refused in production)
MIN_SECRET_KEY_LENGTH = 32  # characters; every key of the gateway is derived from it
MIN_VARIETY = 8  # different characters of it: a random hexadecimal key of that length has 10 and more
WEAK_PASSWORDS = ("gateway", "postgres", "password", "payment_gateway", "secret")  # the first is our default
MIN_TOKEN_LENGTH = 16  # characters: beyond guessing, if it is random

# Several rates make the pause of who goes on grow: a minute, then an hour, then a day.
RATE_LIMIT_PER_CARD = "5 per minute; 10 per hour; 15 per day"
LOCAL_RATE_LIMIT_PER_CARD = "120 per minute"  # there the same few test numbers pay for everything

SIMULATOR = "simulator"  # the acquirer that moves nothing
MAX_PROCESSING_DELAY_MS = 3_600_000  # an hour: longer than any patience for a simulated bank

# Seconds before each attempt. Five in all: at once, then after 1 min, 5 min, 30 min and 2 h.
MAX_WEBHOOK_ATTEMPTS = 20
WEBHOOK_RETRY_SCHEDULE_S = (0, 60, 300, 1800, 7200)
WEBHOOK_RETRY_SCHEDULE_TEST_S = (0, 5, 10, 15, 20)


class ConfigError(Exception):
    """A setting is wrong or missing; the text names it in one line."""


@dataclass(frozen=True)
class Settings:
    """All settings of one process. Suffixes give units: `_ms` milliseconds, `_s` seconds."""

    app_env: str
    host: str
    port: int
    dashboard_port: int
    checkout_port: int
    dashboard_url: str
    checkout_url: str
    data_dir: Path
    database_url: str | None
    redis_url: str | None
    service_wait_s: int
    secret_key: str
    secret_key_fallbacks: tuple[str, ...]
    web_workers: int
    web_connections: int
    worker_processes: int
    processing_delay_ms: tuple[int, int]
    acquirer: str
    fee_percent: Decimal
    upi_success_rate: float
    card_success_rate: float
    test_mode: bool
    test_processing_delay_ms: int
    test_payment_success: bool
    webhook_retry_schedule_s: tuple[int, ...]
    webhook_allow_private: bool
    test_endpoints: bool
    inbox_url: str
    trusted_proxies: int
    public_rate_limit_per_address: str
    public_rate_limit_per_order: str
    public_rate_limit_per_card: str
    rate_limit_per_api_key: str
    log_level: str
    log_format: str
    request_log: bool
    metrics_token: str | None

    @property
    def local(self) -> bool:
        return self.app_env == "local"

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """What secrets may have been written under, the present one first."""
        return (self.secret_key, *self.secret_key_fallbacks)

    @property
    def sqlalchemy_url(self) -> str:
        """The database address with its driver named: a bare `postgresql://` would pick psycopg 3."""
        url = self.database_url or ""
        for prefix in ("postgresql://", "postgres://"):
            if url.startswith(prefix):
                return "postgresql+psycopg2://" + url.removeprefix(prefix)
        return url


def load(*, dotenv: bool = True) -> Settings:
    """Read the settings from the process' environment and, with `dotenv`, from `.env` beside this file.

    Raises:
        ConfigError: naming each setting that is wrong.
    """
    env = Env(eager=False)
    if dotenv:
        env.read_env(str(ROOT / ".env"), recurse=False)

    app_env = env.str("APP_ENV", "local", validate=validate.OneOf(["local", "production"]))
    local = app_env != "production"
    port_range = validate.Range(min=1, max=65535, error="Must be a port, 1 to 65535.")
    rate = validate.Range(min=0, max=1, error="Must be 0 to 1, like 0.9.")
    port = env.int("PORT", 8000, validate=port_range)
    dashboard_port = env.int("DASHBOARD_PORT", 3000, validate=port_range)
    checkout_port = env.int("CHECKOUT_PORT", 3001, validate=port_range)
    postgres = validate.Regexp(
        r"(postgresql|postgres|postgresql\+psycopg2)://", error="Must start with postgresql://."
    )
    redis = validate.Regexp(r"(redis|rediss|unix)://", error="Must start with redis://.")
    token = validate.Regexp(
        rf"[A-Za-z0-9._~+/-]{{{MIN_TOKEN_LENGTH},}}=*\Z",  # RFC 6750, 2.1: what a header can carry
        error=f"Must be at least {MIN_TOKEN_LENGTH} characters of A-Z a-z 0-9 . _ ~ + / -.",
    )

    settings = Settings(
        app_env=app_env,
        host=env.str("HOST", "127.0.0.1"),
        port=port,
        dashboard_port=dashboard_port,
        checkout_port=checkout_port,
        dashboard_url=_address(env, "DASHBOARD_URL", f"http://localhost:{dashboard_port}"),
        checkout_url=_address(env, "CHECKOUT_URL", f"http://localhost:{checkout_port}"),
        data_dir=env.path("DATA_DIR", ROOT / ".data"),
        database_url=_optional(env, "DATABASE_URL", postgres),
        redis_url=_optional(env, "REDIS_URL", redis),
        service_wait_s=env.int("SERVICE_WAIT_S", 30, validate=validate.Range(min=0, max=3600)),
        secret_key=env.str("SECRET_KEY", LOCAL_SECRET_KEY if local else ""),
        secret_key_fallbacks=tuple(filter(None, env.list("SECRET_KEY_FALLBACKS", []))),
        web_workers=env.int("WEB_WORKERS", 2, validate=validate.Range(min=1, max=64)),
        web_connections=env.int("WEB_CONNECTIONS", 8, validate=validate.Range(min=1, max=256)),
        worker_processes=env.int("WORKER_PROCESSES", 2, validate=validate.Range(min=1, max=64)),
        processing_delay_ms=_delay_range(env),
        acquirer=env.str(
            "ACQUIRER",
            SIMULATOR,
            validate=validate.Regexp(
                rf"{SIMULATOR}\Z|[\w.]+:\w+\Z", error="Must be simulator, or a class as module:Class."
            ),
        ),
        fee_percent=env.decimal(
            "FEE_PERCENT",
            Decimal(0),
            validate=validate.Range(min=0, max=100, error="Must be 0 to 100, like 2.5."),
        ),
        upi_success_rate=env.float("UPI_SUCCESS_RATE", 0.90, validate=rate),
        card_success_rate=env.float("CARD_SUCCESS_RATE", 0.95, validate=rate),
        test_mode=env.bool("TEST_MODE", False),
        test_processing_delay_ms=env.int(
            "TEST_PROCESSING_DELAY", 1000, validate=validate.Range(min=0, max=MAX_PROCESSING_DELAY_MS)
        ),
        test_payment_success=env.bool("TEST_PAYMENT_SUCCESS", True),
        webhook_retry_schedule_s=_retry_schedule(env),
        webhook_allow_private=env.bool("WEBHOOK_ALLOW_PRIVATE", local),
        test_endpoints=env.bool("TEST_ENDPOINTS", local),
        inbox_url=_address(env, "INBOX_URL", f"http://localhost:{port}"),
        trusted_proxies=env.int("TRUSTED_PROXIES", 0, validate=validate.Range(min=0, max=10)),
        public_rate_limit_per_address=env.str(
            "PUBLIC_RATE_LIMIT_PER_ADDRESS",
            "120 per minute; 1200 per hour; 6000 per day",
            validate=_is_rate_limit,
        ),
        public_rate_limit_per_order=env.str(
            "PUBLIC_RATE_LIMIT_PER_ORDER", "20 per minute; 60 per hour", validate=_is_rate_limit
        ),
        public_rate_limit_per_card=env.str(
            "PUBLIC_RATE_LIMIT_PER_CARD",
            LOCAL_RATE_LIMIT_PER_CARD if local else RATE_LIMIT_PER_CARD,
            validate=_is_rate_limit,
        ),
        rate_limit_per_api_key=env.str("RATE_LIMIT_PER_API_KEY", "30000 per minute", validate=_is_rate_limit),
        log_level=env.str(
            "LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"])
        ),
        log_format=env.str(
            "LOG_FORMAT", "text" if local else "json", validate=validate.OneOf(["text", "json"])
        ),
        request_log=env.bool("REQUEST_LOG", not local),
        metrics_token=_optional(env, "METRICS_TOKEN", token),
    )
    try:
        env.seal()
    except EnvValidationError as error:
        wrong = cast(Mapping[str, list[str]], error.error_messages)
        lines = [f"{name}: {' '.join(texts)}".rstrip(".") for name, texts in wrong.items()]
        raise ConfigError("; ".join(lines) + ".") from None
    except EnvError as error:
        raise ConfigError(str(error)) from None
    _check_together(settings)
    return settings


def cautions(settings: Settings) -> list[str]:
    """What production allows, and whoever runs it may not have meant: one line each, naming the setting."""
    if settings.local:
        return []
    doubts = {
        "ACQUIRER: Is the simulator: no money moves.": settings.acquirer == SIMULATOR,
        "TRUSTED_PROXIES: Is 0: behind a proxy, all callers share its address, and its rate limit.": (
            settings.trusted_proxies == 0
        ),
        "WEBHOOK_ALLOW_PRIVATE: Is on: merchants' webhooks may reach your own network.": (
            settings.webhook_allow_private
        ),
        "METRICS_TOKEN: Is not set: there are no metrics.": not settings.metrics_token,
        "SECRET_KEY_FALLBACKS: Is set: take it away a day after `flask rotate-secrets`.": bool(
            settings.secret_key_fallbacks
        ),
    }
    return [words for words, doubtful in doubts.items() if doubtful]


# The settings of the app that is running: `from config import settings`.
settings = cast(Settings, LocalProxy(lambda: current_app.config["GATEWAY"]))
if TYPE_CHECKING:
    settings = cast(Settings, None)


def _optional(env: Env, name: str, check: validate.Regexp) -> str | None:
    """A text that may be absent or empty (`DATABASE_URL=` in a compose file means: not set)."""
    return env.str(name, None) and env.str(name, validate=check)


def _address(env: Env, name: str, default: str) -> str:
    """Where something of ours is reached, without a slash at the end."""
    http = validate.Regexp(r"https?://", error="Must be an http or https URL.")
    return (env.str(name, default, validate=http) or "").rstrip("/")


def _delay_range(env: Env) -> tuple[int, int]:
    """`PROCESSING_DELAY_MS=1000-3000`: the least and the most that the simulated acquirer waits."""
    text = env.str("PROCESSING_DELAY_MS", "1000-3000", validate=_is_delay_range)
    low, _, high = (text or "0-0").partition("-")
    return (int(low), int(high)) if low.isdecimal() and high.isdecimal() else (0, 0)  # seal() will complain


def _is_delay_range(text: str) -> None:
    low, _, high = text.partition("-")
    if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high) <= MAX_PROCESSING_DELAY_MS):
        raise validate.ValidationError("Must be milliseconds as min-max, like 1000-3000.")


def _is_rate_limit(text: str) -> None:
    try:
        limits.parse_many(text)
    except ValueError:
        raise validate.ValidationError(
            "Must be a rate, like 120 per minute, or several: 5 per minute; 10 per hour."
        ) from None


def _retry_schedule(env: Env) -> tuple[int, ...]:
    """`WEBHOOK_RETRY_SCHEDULE=0,60,...`, or the quick one for tests."""
    quick = env.bool("WEBHOOK_RETRY_INTERVALS_TEST", False)
    default = WEBHOOK_RETRY_SCHEDULE_TEST_S if quick else WEBHOOK_RETRY_SCHEDULE_S
    schedule = env.list("WEBHOOK_RETRY_SCHEDULE", None, validate=_is_schedule)
    return tuple(map(int, schedule)) if schedule else default


def _is_schedule(delays: list[str]) -> None:
    if not 1 <= len(delays) <= MAX_WEBHOOK_ATTEMPTS or not all(delay.strip().isdecimal() for delay in delays):
        raise validate.ValidationError("Must be seconds before each attempt, like 0,60,300.")


def _check_together(settings: Settings) -> None:
    """The rules that concern more than one setting."""
    ports = {
        "PORT": settings.port,
        "DASHBOARD_PORT": settings.dashboard_port,
        "CHECKOUT_PORT": settings.checkout_port,
    }
    if len(set(ports.values())) < len(ports):
        raise ConfigError("PORT, DASHBOARD_PORT and CHECKOUT_PORT: Must be three different ports.")
    if settings.local:
        return
    names = ("SECRET_KEY", *["SECRET_KEY_FALLBACKS"] * len(settings.secret_key_fallbacks))
    for name, key in zip(names, settings.secret_keys, strict=True):
        if key == LOCAL_SECRET_KEY or len(key) < MIN_SECRET_KEY_LENGTH or len(set(key)) < MIN_VARIETY:
            text = f"Must be a random secret of at least {MIN_SECRET_KEY_LENGTH} characters in production."
            raise ConfigError(f"{name}: {text}")
    for name, value in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url)):
        if not value:
            raise ConfigError(f"{name}: Must be set in production.")
    for name, url in (("DASHBOARD_URL", settings.dashboard_url), ("CHECKOUT_URL", settings.checkout_url)):
        if not url.startswith("https://"):
            raise ConfigError(f"{name}: Must be an https:// address in production.")
    password = urlsplit(settings.database_url or "").password or os.environ.get("PGPASSWORD")
    if password in WEAK_PASSWORDS:
        text = "Has a well-known password; set another in production (POSTGRES_PASSWORD for the containers)."
        raise ConfigError(f"DATABASE_URL: {text}")
    if settings.test_endpoints:
        raise ConfigError("TEST_ENDPOINTS: Must be false in production.")
    if settings.test_mode:
        raise ConfigError("TEST_MODE: Must be false in production.")
