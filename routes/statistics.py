"""Figures: payments in all and day by day, why they failed, and how webhooks fare."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import g
from marshmallow import Schema, fields, validate

from models import statistics
from routes.auth import authenticated
from routes.fields import Blueprint, Body, Currency, WholeNumber

DAYS_MAX = 366

blp = Blueprint("statistics", __name__, url_prefix="/api/v1", description="What happened, in figures.")


class DaysQuery(Body):
    days = WholeNumber(
        load_default=7,
        validate=validate.Range(min=1, max=DAYS_MAX, error=f"Must be 1 to {DAYS_MAX}."),
        metadata={"description": "Of how many days, today included."},
    )


class StatsQuery(Body):
    currency = Currency(
        load_default="INR", metadata={"description": "Of payments in it alone."}
    )  # amounts of two currencies have no sum
    days = WholeNumber(
        validate=validate.Range(min=1, max=DAYS_MAX, error=f"Must be 1 to {DAYS_MAX}."),
        metadata={"description": "Adds a series, one entry a UTC day, and why payments of that time failed."},
    )


class FiguresSchema(Schema):
    transactions = fields.Integer(metadata={"description": "All payments."})
    amount = fields.Integer(metadata={"description": "Sum of those captured, in minor units."})
    approved = fields.Integer()
    failed = fields.Integer()
    successRate = fields.Float(
        attribute="success_rate", metadata={"description": "Per cent of the settled ones that were approved."}
    )


class DaySchema(FiguresSchema):
    date = fields.Date()


class ReasonSchema(Schema):
    reason = fields.String(metadata={"example": "insufficient_funds"})
    count = fields.Integer()


class StatsSchema(Schema):
    currency = fields.String()
    currencies = fields.List(fields.String(), metadata={"description": "All that there are payments in."})
    totalTransactions = fields.Integer(metadata={"description": "All payments in this currency."})
    totalAmount = fields.Integer(metadata={"description": "Sum of those captured, in minor units."})
    successRate = fields.Float(metadata={"description": "Per cent of the settled ones that were approved."})
    days = fields.List(fields.Nested(DaySchema))
    period = fields.Nested(FiguresSchema, metadata={"description": "All of those days together."})
    failureReasons = fields.List(
        fields.Nested(ReasonSchema), metadata={"description": "Of those days, the most frequent first."}
    )


class DeliveryCountsSchema(Schema):
    pending = fields.Integer()
    success = fields.Integer()
    failed = fields.Integer()


class EndpointCountsSchema(DeliveryCountsSchema):
    endpoint_id = fields.String()


class WebhookStatsSchema(DeliveryCountsSchema):
    endpoints = fields.List(fields.Nested(EndpointCountsSchema))


@blp.get("/payments/stats")
@authenticated
@blp.arguments(StatsQuery, location="query")
@blp.response(200, StatsSchema)
def get_stats(args):
    """Get totals in one currency, and with `days` a series a day."""
    totals = statistics.totals(g.merchant_id)
    mine = totals.get(args["currency"], statistics.Figures())
    stats: dict[str, Any] = {
        "currency": args["currency"],
        "currencies": sorted(totals),
        "totalTransactions": mine.transactions,
        "totalAmount": mine.amount,
        "successRate": mine.success_rate,
    }
    if "days" in args:
        period = statistics.last_days(g.merchant_id, args["currency"], args["days"])
        stats["days"] = [_figures(each) | {"date": day} for day, each in sorted(period.days.items())]
        stats["period"] = _figures(period.total)
        stats["failureReasons"] = [
            {"reason": reason, "count": count} for reason, count in period.failure_reasons.most_common()
        ]
    return stats


@blp.get("/webhooks/stats")
@authenticated
@blp.arguments(DaysQuery, location="query")
@blp.response(200, WebhookStatsSchema)
def get_webhook_stats(args):
    """Get how the webhooks of the last days fare, in all and by endpoint."""
    return statistics.webhook_health(g.merchant_id, args["days"])


def _figures(figures: statistics.Figures) -> dict[str, Any]:
    return asdict(figures) | {"success_rate": figures.success_rate}
