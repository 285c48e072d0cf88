"""What a local gateway starts with: a merchant whose credentials are published."""

from __future__ import annotations

from sqlalchemy import func, select

from models import passwords, vault
from models.api_keys import ApiKey
from models.base import db
from models.merchants import (
    TEST_API_KEY,
    TEST_API_SECRET,
    TEST_EMAIL,
    TEST_MERCHANT_ID,
    TEST_PASSWORD,
    TEST_WEBHOOK_URL,
    Merchant,
)
from models.webhook_endpoints import WebhookEndpoint

SEED_LOCK = 7_264_003  # advisory; any number that nobody else uses


def seed_test_merchant() -> None:
    """Make the test merchant, its key and its (still disabled) webhook endpoint, unless they exist."""
    db.session.execute(select(func.pg_advisory_xact_lock(SEED_LOCK)))  # every web process comes here at once
    if db.session.get(Merchant, TEST_MERCHANT_ID):
        db.session.rollback()
        return
    merchant = Merchant(id=TEST_MERCHANT_ID, name="Test Merchant", email=TEST_EMAIL, role="operator")
    passwords.choose(merchant, TEST_PASSWORD)
    db.session.add(merchant)
    db.session.flush()
    sealed = vault.seal(TEST_API_SECRET)
    db.session.add(ApiKey(id=TEST_API_KEY, merchant_id=merchant.id, name="Test key", secret_encrypted=sealed))
    endpoint = WebhookEndpoint.create(TEST_MERCHANT_ID, url=TEST_WEBHOOK_URL, events=["*"], enabled=False)
    endpoint.disabled_reason = "not switched on yet"
    db.session.commit()
