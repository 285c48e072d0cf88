"""The proof that all is right: money, history and work, as they stand in the database at one moment.

Each check is one query for what breaks it. It trusts no verb of ours: what a payment says of itself is held
against the ledger, the events, the acquirer's answers and the deliveries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Identity, func, select, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Minor, Model, db, now

SHOWN_MAX = 1000  # breaks of one check that are told one by one: more are one cause
STUCK_S = 300  # due for so long: ten leases, so workers and clock have all failed it
LATE_SWEEP_S = 3600  # a hold or an order that is over and still stands: hundreds of sweeps have passed it by
# An event has the time of its transaction's beginning. Far longer than any transaction of ours lasts (see
# the timeouts in models/base.py).
TRANSACTION_S = 60
NIGHTLY_AT_HOUR = 3  # UTC: when most shops are quiet
LIMITS = {
    "shown_max": SHOWN_MAX,
    "stuck_s": STUCK_S,
    "late_sweep_s": LATE_SWEEP_S,
    "transaction_s": TRANSACTION_S,
}
ONE_AT_A_TIME_LOCK = 7_264_005  # advisory: a second verification would only prove the same again


@dataclass(frozen=True)
class Check:
    """Something that always holds. `sql` finds what breaks it: an id, and what is wrong with it."""

    name: str
    says: str
    sql: str


@dataclass(frozen=True)
class Break:
    """Something that must never be."""

    check: str
    subject: str
    words: str

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: {self.words}"


POSTINGS = Check(
    "postings",
    "every posting sums to zero",
    """
    SELECT posting_id, format('sums to %s %s', sum(amount), currency)
    FROM ledger_entries GROUP BY posting_id, currency HAVING sum(amount) <> 0
    """,
)

LEDGER = Check(
    "ledger",
    "what a payment and its refunds say is what the ledger says",
    """
    WITH booked AS (
        SELECT payment_id,
            sum(amount) FILTER (WHERE account = 'acquirer' AND kind = 'capture') AS captured,
            -sum(amount) FILTER (WHERE account = 'acquirer' AND kind <> 'capture') AS refunded,
            -sum(amount) FILTER (WHERE account = 'refunds_in_flight') AS in_flight,
            -sum(amount) FILTER (WHERE account = 'fees') AS fee,
            sum(amount) FILTER (WHERE account = 'acquirer_hold') AS held,
            -sum(amount) FILTER (WHERE account = 'merchant') AS owed
        FROM ledger_entries GROUP BY payment_id
    ), returned AS (
        SELECT payment_id,
            sum(amount) FILTER (WHERE status = 'processed') AS refunded,
            sum(amount) FILTER (WHERE status = 'pending') AS in_flight
        FROM refunds GROUP BY payment_id
    )
    SELECT p.id, format('%s is %s, should be %s', fact, found, expected)
    FROM payments p LEFT JOIN booked b ON b.payment_id = p.id LEFT JOIN returned r ON r.payment_id = p.id
    CROSS JOIN LATERAL (VALUES
        ('captured in the ledger', coalesce(b.captured, 0), p.amount_captured),
        ('refunded in the ledger', coalesce(b.refunded, 0), p.amount_refunded),
        ('the sum of its processed refunds', coalesce(r.refunded, 0), p.amount_refunded),
        ('refunds in flight in the ledger', coalesce(b.in_flight, 0), coalesce(r.in_flight, 0)),
        ('the fee in the ledger', coalesce(b.fee, 0), p.fee),
        ('held in the ledger', coalesce(b.held, 0),
            CASE WHEN p.status = 'success' AND NOT p.captured THEN p.amount ELSE 0 END),
        ('owed to the merchant', coalesce(b.owed, 0),
            p.amount_captured - p.fee - p.amount_refunded - coalesce(r.in_flight, 0))
    ) AS facts (fact, found, expected)
    WHERE found <> expected
    """,
)

BALANCES = Check(
    "balances",
    "a merchant's balance is what was captured, less fees and refunds",
    """
    WITH booked AS (
        SELECT merchant_id, currency, -sum(amount) AS available
        FROM ledger_entries WHERE account = 'merchant' GROUP BY merchant_id, currency
    ), paid AS (
        SELECT merchant_id, currency, sum(amount_captured - fee) AS captured
        FROM payments WHERE captured GROUP BY merchant_id, currency
    ), returned AS (
        SELECT merchant_id, currency, sum(amount) AS refunded
        FROM refunds WHERE status <> 'failed' GROUP BY merchant_id, currency
    )
    SELECT merchant_id, format('%s %s are available, should be %s',
        coalesce(available, 0), currency, coalesce(captured, 0) - coalesce(refunded, 0))
    FROM booked FULL JOIN paid USING (merchant_id, currency) FULL JOIN returned USING (merchant_id, currency)
    WHERE coalesce(available, 0) <> coalesce(captured, 0) - coalesce(refunded, 0)
    """,
)

REFUNDS = Check(
    "refunds",
    "the refunds of a payment are never more than was captured",
    """
    SELECT p.id, format('%s is refunded or about to be, of %s captured', sum(r.amount), p.amount_captured)
    FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE r.status <> 'failed'
    GROUP BY p.id HAVING sum(r.amount) > p.amount_captured
    """,
)

ORDERS = Check(
    "orders",
    "an order has at most one live payment, and is paid exactly when that is captured",
    """
    WITH paying AS (
        SELECT order_id, count(*) FILTER (WHERE status IN ('pending', 'requires_action', 'success')) AS live,
            sum(amount_captured) AS captured
        FROM payments GROUP BY order_id
    )
    SELECT o.id, format('%s is %s, should be %s', fact, found, expected)
    FROM orders o LEFT JOIN paying p ON p.order_id = o.id
    CROSS JOIN LATERAL (VALUES
        ('the number of its live payments', p.live, least(p.live, 1)),
        ('the number of its live payments, though it is expired',
            CASE WHEN o.status = 'expired' THEN p.live END, 0),
        ('its amount paid', o.amount_paid, coalesce(p.captured, 0))
    ) AS facts (fact, found, expected)
    WHERE found <> expected
    UNION ALL
    SELECT o.id, format('is %s, and has %s', o.status,
        CASE WHEN p.order_id IS NULL THEN 'no payment' ELSE 'a payment' END)
    FROM orders o LEFT JOIN paying p ON p.order_id = o.id
    WHERE o.status <> 'expired' AND (o.status = 'created') <> (p.order_id IS NULL)
    """,
)

HISTORY = Check(
    "history",
    "every change of state has its event, once",
    """
    WITH told AS (
        SELECT coalesce(refund_id, payment_id, order_id) AS id, type, count(*) AS times
        FROM events WHERE order_id IS NOT NULL GROUP BY 1, 2
    ), expected AS (
        SELECT id, type, times::int FROM payments CROSS JOIN LATERAL (VALUES
            ('payment.created', true),
            ('payment.success', status IN ('success', 'voided')),
            ('payment.failed', status = 'failed'),
            ('payment.captured', captured),
            ('payment.voided', status = 'voided')
        ) AS facts (type, times)
        UNION ALL
        SELECT id, type, times::int FROM refunds CROSS JOIN LATERAL (VALUES
            ('refund.created', true),
            ('refund.processed', processed_at IS NOT NULL),
            ('refund.failed', status = 'failed')
        ) AS facts (type, times)
        UNION ALL
        SELECT id, type, times::int FROM orders CROSS JOIN LATERAL (VALUES
            ('order.paid', status = 'paid'),
            ('order.expired', status = 'expired')
        ) AS facts (type, times)
    )
    SELECT e.id, format('%s was told %s times, should be %s', e.type, coalesce(t.times, 0), e.times)
    FROM expected e LEFT JOIN told t ON t.id = e.id AND t.type = e.type WHERE coalesce(t.times, 0) <> e.times
    UNION ALL
    -- It was pending again as often as it had required action; but for the last time, which may have
    -- ended otherwise, or not yet.
    SELECT p.id, format('required action %s times and was resumed %s times, and is %s',
        coalesce(a.times, 0), coalesce(r.times, 0), p.status)
    FROM payments p LEFT JOIN told a ON a.id = p.id AND a.type = 'payment.requires_action'
    LEFT JOIN told r ON r.id = p.id AND r.type = 'payment.pending'
    WHERE coalesce(a.times, 0) - coalesce(r.times, 0)
        NOT BETWEEN (p.status = 'requires_action')::int AND (p.status <> 'pending')::int
    """,
)

EVIDENCE = Check(
    "evidence",
    "of whatever the acquirer decided, its answer is kept",
    """
    WITH answers AS (
        SELECT DISTINCT coalesce(refund_id, payment_id) AS id, operation || ' ' || answer AS answer
        FROM acquirer_answers
    ), needed AS (
        SELECT id, answer FROM payments CROSS JOIN LATERAL (VALUES
            ('authorize approved', status IN ('success', 'voided')),
            ('authorize declined', status = 'failed'),
            ('capture approved', captured AND capture = 'manual'),
            ('void approved', status = 'voided')
        ) AS facts (answer, is_needed) WHERE is_needed
        UNION ALL
        SELECT id, answer FROM refunds CROSS JOIN LATERAL (VALUES
            ('refund approved', processed_at IS NOT NULL),
            ('refund declined', status = 'failed')
        ) AS facts (answer, is_needed) WHERE is_needed
    )
    SELECT id, format('no answer says: %s', answer)
    FROM needed n WHERE NOT EXISTS (SELECT 1 FROM answers a WHERE a.id = n.id AND a.answer = n.answer)
    """,
)

DELIVERIES = Check(
    "deliveries",
    "every event has its deliveries, and every delivery its attempts",
    """
    SELECT e.id, format('has %s deliveries, %s were planned with it', count(d.id), e.deliveries)
    FROM events e LEFT JOIN webhook_deliveries d ON d.event_id = e.id
    GROUP BY e.id HAVING count(d.id) < e.deliveries
    UNION ALL
    -- An endpoint that has not been changed since before the event listened then as it does now.
    SELECT e.id, format('%s was not told of it', w.id)
    FROM webhook_endpoints w JOIN events e ON e.merchant_id = w.merchant_id
        AND e.created_at > w.updated_at + make_interval(secs => :transaction_s)
    WHERE w.enabled AND e.type <> 'webhook.test'
      AND w.events && ARRAY['*', e.type, split_part(e.type, '.', 1) || '.*']
      AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.event_id = e.id AND d.endpoint_id = w.id)
    UNION ALL
    SELECT d.id, format('counts %s attempts, %s are written down', d.attempts, count(a.number))
    FROM webhook_deliveries d LEFT JOIN webhook_attempts a ON a.delivery_id = d.id
    GROUP BY d.id HAVING count(a.number) <> d.attempts
    UNION ALL
    SELECT d.id, 'is successful without an accepted attempt'
    FROM webhook_deliveries d WHERE d.status = 'success' AND NOT EXISTS (
        SELECT 1 FROM webhook_attempts a WHERE a.delivery_id = d.id AND a.error IS NULL)
    """,
)

OWNERS = Check(
    "owners",
    "what happened is told to the merchant whose it is",
    """
    SELECT e.id, format('is an event of %s, and tells of %s of %s', e.merchant_id, o.id, o.merchant_id)
    FROM events e JOIN orders o ON o.id = e.order_id WHERE o.merchant_id <> e.merchant_id
    UNION ALL
    SELECT d.id, format('is a delivery of %s, to an endpoint of %s, of an event of %s',
        d.merchant_id, w.merchant_id, e.merchant_id)
    FROM webhook_deliveries d
    JOIN webhook_endpoints w ON w.id = d.endpoint_id JOIN events e ON e.id = d.event_id
    WHERE d.merchant_id <> w.merchant_id OR d.merchant_id <> e.merchant_id
    """,
)

STUCK = Check(
    "stuck",
    "what is due is done",
    """
    SELECT id, format('has been due since %s', due_at) FROM (
        SELECT id, due_at FROM payments UNION ALL SELECT id, due_at FROM refunds
        UNION ALL SELECT id, due_at FROM webhook_deliveries
    ) AS work WHERE due_at < now() - make_interval(secs => :stuck_s)
    UNION ALL
    SELECT id, format('is held, though its hold ended at %s', hold_expires_at) FROM payments
    WHERE hold_expires_at < now() - make_interval(secs => :late_sweep_s) AND operation IS NULL
    UNION ALL
    SELECT id, format('is not expired, though its time ended at %s', expires_at) FROM orders o
    WHERE status IN ('created', 'attempted') AND expires_at < now() - make_interval(secs => :late_sweep_s)
      AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id
                      AND (p.status IN ('pending', 'requires_action', 'success')
                           -- One that ended just now has held it up.
                           OR p.updated_at > now() - make_interval(secs => :late_sweep_s)))
    """,
)

CHECKS = (POSTINGS, LEDGER, BALANCES, REFUNDS, ORDERS, HISTORY, EVIDENCE, DELIVERIES, OWNERS, STUCK)


@dataclass(frozen=True)
class Finding:
    """What one check came to. `breaks` are at most SHOWN_MAX, `count` is all of them."""

    check: Check
    breaks: tuple[Break, ...]
    count: int


class Verification(Model):
    """One proof, and how many breaks it found."""

    __tablename__ = "verifications"

    id: Mapped[int] = mapped_column(Minor, Identity(always=True), primary_key=True)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    breaks: Mapped[int]

    @classmethod
    def run(cls, checks: Sequence[Check] = CHECKS) -> list[Finding] | None:
        """Go through the checks, on one snapshot, and write down what came of it. None: another one runs.

        It reads every row once, holds nobody up, and takes as long as it takes.
        """
        with db.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            if not _begin(connection):
                return None
            started_at = connection.scalar(select(func.now()))
            findings = [_finding(connection, check) for check in checks]
            connection.rollback()
        count = sum(finding.count for finding in findings)
        db.session.add(cls(started_at=started_at, finished_at=now(), breaks=count))
        db.session.commit()
        return findings

    @classmethod
    def latest(cls) -> Verification | None:
        return db.session.scalar(select(cls).order_by(cls.id.desc()).limit(1))

    @classmethod
    def is_due(cls) -> bool:
        """Whether there was none since the last night's hour for it."""
        latest = cls.latest()
        last = now().replace(hour=NIGHTLY_AT_HOUR, minute=0, second=0, microsecond=0)
        if last > now():
            last -= timedelta(days=1)
        return latest is None or latest.started_at < last


def _begin(connection: Connection) -> bool:
    """Begin the snapshot, read-only and with no limit of time. False: another verification runs."""
    connection.execute(text("SET TRANSACTION READ ONLY"))
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    return bool(
        connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": ONE_AT_A_TIME_LOCK})
    )


def _finding(connection: Connection, check: Check) -> Finding:
    query = text(f"SELECT *, count(*) OVER () FROM ({check.sql}) AS broken LIMIT :shown_max")  # noqa: S608
    rows = connection.execute(query, LIMITS).all()
    breaks = tuple(Break(check.name, subject, wrong) for subject, wrong, _ in rows)
    return Finding(check, breaks, rows[0][2] if rows else 0)
