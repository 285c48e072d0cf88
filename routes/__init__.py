"""The HTTP interface: one blueprint per resource; auth, errors, pagination and writes beside them."""

from routes import (
    checkout,
    events,
    health,
    ledger,
    merchant,
    orders,
    payments,
    refunds,
    test,
    webhook_endpoints,
    webhooks,
)

BLUEPRINTS = (
    health.blp,
    orders.blp,
    payments.blp,
    checkout.blp,
    refunds.blp,
    ledger.blp,
    events.blp,
    webhook_endpoints.blp,
    webhooks.blp,
    merchant.blp,
    test.blp,
)
