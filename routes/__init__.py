"""The HTTP interface: one blueprint per resource; auth, errors, pagination and writes beside them."""

from routes import events, health, ledger, orders, payments, refunds, test, webhook_endpoints, webhooks

BLUEPRINTS = (
    health.blp,
    orders.blp,
    payments.blp,
    refunds.blp,
    ledger.blp,
    events.blp,
    webhook_endpoints.blp,
    webhooks.blp,
    test.blp,
)
