"""The examples of the API's description: one story. Order 1042 is paid by UPI, a quarter of it refunded."""

from __future__ import annotations

from typing import Any

from models.merchants import TEST_EMAIL, TEST_MERCHANT_ID

_SIXTEEN = "[A-Za-z0-9]{16}"
# How ids look, by the names that they go by, and whose they are.
IDS = {
    "order_id": (f"^order_{_SIXTEEN}$", "an order"),
    "payment_id": (f"^pay_{_SIXTEEN}$", "a payment"),
    "refund_id": (f"^rfnd_{_SIXTEEN}$", "a refund"),
    "event_id": (f"^evt_{_SIXTEEN}$", "an event"),
    "endpoint_id": (f"^we_{_SIXTEEN}$", "a webhook endpoint"),
    "delivery_id": (f"^whd_{_SIXTEEN}$", "a webhook delivery"),
    "retry_id": (f"^whr_{_SIXTEEN}$", "a retry of webhooks"),
    "posting_id": (f"^post_{_SIXTEEN}$", "a posting"),
    "entry_id": (f"^led_{_SIXTEEN}$", "an entry of the ledger"),
    "audit_id": (f"^aud_{_SIXTEEN}$", "an entry of the audit log"),
    "session_id": (f"^ses_{_SIXTEEN}$", "a session"),
    "merchant_id": (f"^mer_{_SIXTEEN}$", "a merchant"),
    "key_id": ("^key_[A-Za-z0-9_]{1,64}$", "an API key"),
}
# Which of them a schema's own `id` is.
OWN_ID = {
    **dict.fromkeys(("Order", "Checkout"), "order_id"),
    **dict.fromkeys(("Payment", "PublicPayment"), "payment_id"),
    **dict.fromkeys(("WebhookEndpoint", "WebhookEndpointWithSecret", "ChangedEndpoint"), "endpoint_id"),
    **dict.fromkeys(("WebhookDelivery", "WebhookDeliveryWithAttempts"), "delivery_id"),
    **dict.fromkeys(("ApiKey", "ApiKeyWithSecret"), "key_id"),
    **dict.fromkeys(("Merchant", "TestMerchant"), "merchant_id"),
    "Refund": "refund_id",
    "Event": "event_id",
    "WebhookRetry": "retry_id",
    "LedgerEntry": "entry_id",
    "AuditEntry": "audit_id",
    "Session": "session_id",
}

CREATED_AT, SETTLED_AT = "2026-01-15T16:40:00.123Z", "2026-01-15T16:40:02.456Z"
REQUEST_ID = "req_5f0c1d9a7be34428"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 (nobody's)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="328" height="328"><path d="M4 4h7v7h-7z"/></svg>'
CSV = "id,order_id,receipt\r\npay_2DeEaQf3kZ8bWn0L,order_2DeEa8WnQf3kZb0L,order-1042\r\n"
FILES = {"image/svg+xml": SVG, "text/csv": CSV}

# What a property says, whichever schema it is in.
STORY: dict[str, Any] = {
    "order_id": "order_2DeEa8WnQf3kZb0L",
    "payment_id": "pay_2DeEaQf3kZ8bWn0L",
    "refund_id": "rfnd_2DeEab0Lx2VtdQf3",
    "event_id": "evt_2DeEaVtdQf3kZ8Wn",
    "endpoint_id": "we_2DeEakZ8Wnb0Lx2V",
    "webhook_endpoint_id": "we_2DeEakZ8Wnb0Lx2V",
    "delivery_id": "whd_2DeEaWnb0Lx2VtdQ",
    "retry_id": "whr_2DeEaf3kZ8Wnb0Lx",
    "posting_id": "post_2DeEax2VtdQf3kZ8",
    "entry_id": "led_2DeEa8Wnb0Lx2Vtd",
    "audit_id": "aud_2DeEadQf3kZ8Wnb0",
    "session_id": "ses_2DeEaZ8Wnb0Lx2Vt",
    "key_id": "key_2DeEaLx2VtdQf3kZ",
    "merchant_id": TEST_MERCHANT_ID,
    **{"amount": 10000, "currency": "INR", "receipt": "order-1042", "reason": "one of four was broken"},
    **{"notes": {"cart": "1042"}, "methods": ["upi", "card"], "method": "upi", "flow": "collect"},
    **{"vpa": "success@upi", "amount_captured": 10000, "captured": True, "fee": 0},
    "callback_url": "https://shop.example/orders/1042",
    "checkout_url": "http://localhost:3001/checkout?order_id=order_2DeEa8WnQf3kZb0L",
    "updated_at": SETTLED_AT,
    "seen_at": SETTLED_AT,
    "processed_at": SETTLED_AT,
    "finished_at": SETTLED_AT,
    "last_attempt_at": SETTLED_AT,
    "timestamp": 1768495200,
    **{"url": "https://shop.example/webhook", "events": ["*"], "event": "payment.success", "enabled": True},
    **{"secret": SECRET, "attempts": 1, "number": 1, "response_code": 200, "status_code": 200},
    **{"duration_ms": 48, "response_body": "ok"},
    **{"name": "Test Merchant", "email": TEST_EMAIL, "accent_color": "#1a56c4"},
    "frame_origins": ["https://shop.example"],
    **{"address": "203.0.113.7", "user_agent": "Mozilla/5.0", "csrf_token": "8f4b" * 16, "simulated": True},
    **{"total": 1, "limit": 20, "workers_alive": 3, "tries": 2},
}

_PAYLOAD = (
    f'{{"id":"{STORY["event_id"]}","event":"payment.success","timestamp":{STORY["timestamp"]},"data":{{"payment":'
    f'{{"id":"{STORY["payment_id"]}","status":"success"}}}}}}'
)
_TOTALS = {"transactions": 12, "amount": 110000, "approved": 11, "failed": 1, "successRate": 91.67}
# What it says in this schema.
_IN: dict[str, dict[str, Any]] = {
    "Order": {"status": "paid", "amount_paid": 10000},
    "Payment": {"status": "success"},
    "Refund": {"status": "processed", "amount": 2500},
    "Checkout": {"status": "created", "payment": None},
    "PublicPayment": {"status": "pending"},
    "PublicMerchant": {"logo_url": None},
    "Accent": {"brand": "#1a56c4", "on_brand": "#ffffff", "text_light": "#1a56c4", "text_dark": "#7aa2f0"},
    "TimelineEntry": {
        **{"kind": "action", "name": "refund.requested", "id": STORY["refund_id"], "actor": STORY["key_id"]},
        "details": {"amount": 2500},
    },
    "LedgerEntry": {"kind": "capture", "account": "acquirer", "refund_id": None},
    "Balance": {"captured": 10000, "refunded": 2500, "available": 7500},
    "Event": {
        "data": {"payment": {"id": STORY["payment_id"], "order_id": STORY["order_id"], "status": "success"}}
    },
    "Missed": {"failed": 2, "never_sent": 5},
    "WebhookRetryRequest": {"include_missed": True},
    "WebhookEndpointWithSecret": {"description": "The shop"},
    "WebhookEndpoint": {"description": "The shop"},
    "ChangedEndpoint": {"description": "The shop"},
    "Diagnosis": {
        **{"verified": False, "problem": "wrong_secret"},
        "explanation": "It was signed with another secret than the one that your receiver uses.",
    },
    "WebhookDelivery": {"status": "success"},
    "WebhookDeliveryWithAttempts": {"status": "success", "payload": _PAYLOAD},
    "WebhookRetry": {"status": "done", "until": SETTLED_AT, "success": 1},
    "EndpointCounts": {"success": 12},
    "WebhookStats": {"success": 12},
    "Stats": {
        **{"currencies": ["INR"], "totalTransactions": 12, "totalAmount": 110000, "successRate": 91.67},
        "period": _TOTALS,
    },
    "Figures": _TOTALS,
    "Day": _TOTALS | {"date": "2026-01-15"},
    "Reason": {"reason": "insufficient_funds", "count": 1},
    "ApiKey": {"status": "active", "name": "Shop", "last_used_at": SETTLED_AT},
    "ApiKeyWithSecret": {
        "status": "active",
        "name": "Shop",
        "secret": "secret_Zb0Lx2VtdQf3kZ8WnQf3kZ8bWn0Lx2Vt",
    },
    "AuditEntry": {
        "actor": TEST_EMAIL,
        "action": "api_key.rolled",
        "subject_id": STORY["key_id"],
        "details": {},
    },
    "Session": {"expires_at": "2026-01-16T04:40:00.123Z"},
    "Jobs": {"scope": "merchant"},
    "WorkerProcess": {"hostname": "gateway", "pid": 421, "queues": ["payments", "refunds", "webhooks"]},
    "WorkQueue": {"done": 12},
    "Minute": {"payments": 3, "refunds": 1, "webhooks": 9},
    "UnknownOutcome": {
        **{"kind": "payment", "id": STORY["payment_id"], "operation": "authorize", "next_look_at": SETTLED_AT}
    },
    "Unknown": {"count": 1, "oldest_since": CREATED_AT},
    "Health": {"status": "healthy", "workers": 3, "timestamp": CREATED_AT},
    "TestMerchant": {
        **{"password": "test-merchant-password", "api_key": "key_test_abc123"},
        **{"api_secret": "secret_test_xyz789", "webhook_secret": SECRET, "seeded": True},
    },
    "JobCounts": {"completed": 12},
    "JobsStatus": {"completed": 36, "worker_status": "running"},
    "Inbox": {
        "token": "Lx2VtdQf3kZ8Wnb0Lx2V",
        "page_url": "http://localhost:8000/inbox/Lx2VtdQf3kZ8Wnb0Lx2V",
    },
}

# What an answer says of what has only just begun, by operation.
JUST_NOW: dict[str, dict[str, Any]] = {
    "create_order": {"status": "created", "amount_paid": 0, "updated_at": CREATED_AT},
    "create_payment": {
        "status": "pending",
        "captured": False,
        "amount_captured": 0,
        "updated_at": CREATED_AT,
    },
    "create_refund": {"status": "pending", "processed_at": None},
    "void_payment": {"status": "voided", "captured": False, "amount_captured": 0},
    "test_endpoint": {"event": "webhook.test", "order_id": None},
}

_CARD = {"number": "4242424242424242", "expiry_month": "12", "expiry_year": "2049", "cvv": "123"}
_LAST_DAY = {"since": "2026-01-14T16:40:00Z"}
BODIES: dict[str, dict[str, Any]] = {
    "NewOrder": {
        "least": {"amount": 10000},
        "more": {
            **{"amount": 10000, "currency": "INR", "receipt": "order-1042", "notes": {"cart": "1042"}},
            **{"capture": "manual", "expires_in": 3600, "callback_url": STORY["callback_url"]},
        },
    },
    "NewPayment": {
        "upi": {"order_id": STORY["order_id"], "method": "upi", "vpa": "success@upi"},
        "upi_qr": {"order_id": STORY["order_id"], "method": "upi", "flow": "qr"},
        "card": {
            **{"order_id": STORY["order_id"], "method": "card"},
            "card": _CARD | {"holder_name": "Asha Rao"},
        },
    },
    "Capture": {"all": {}, "part": {"amount": 7500}},
    "NewRefund": {"rest": {}, "part": {"amount": 2500, "reason": STORY["reason"]}},
    "Otp": {"otp": {"otp": "123456"}},
    "NewEndpoint": {
        "everything": {"url": STORY["url"]},
        "some": {"url": STORY["url"], "description": "The shop", "events": ["payment.*", "refund.processed"]},
    },
    "EndpointChanges": {"pause": {"enabled": False}, "move": {"url": "https://shop.example/hooks"}},
    "Rotation": {"usual": {}, "at_once": {"overlap_hours": 0}},
    "Received": {
        "received": {
            "body": _PAYLOAD,
            "headers": {
                "webhook-id": STORY["event_id"],
                "webhook-timestamp": str(STORY["timestamp"]),
                "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
            },
            "secret": SECRET,
        }
    },
    "RetryRequest": {
        "failed": _LAST_DAY,
        "missed": _LAST_DAY | {"endpoint_id": STORY["endpoint_id"], "include_missed": True},
    },
    "MerchantChange": {"look": {"name": "Test Merchant", "accent_color": "#1a56c4"}},
    "Login": {"test_merchant": {"email": TEST_EMAIL, "password": "test-merchant-password"}},
    "NewPassword": {
        "new": {"current_password": "test-merchant-password", "password": "eleven purple elephants"}
    },
    "PasswordByLink": {
        "new": {"token": "Lx2VtdQf3kZ8Wnb0Lx2VtdQf3kZ8Wnb0", "password": "eleven purple elephants"}
    },
    "NewKey": {"named": {"name": "Shop"}},
    "Roll": {"usual": {}, "at_once": {"overlap_hours": 0}},
    "Confirmation": {"password": {"password": "test-merchant-password"}},
    "NewInbox": {"usual": {}, "failing": {"events": ["payment.*"], "answer": 500}},
}


def _error(description: str, **details: str) -> dict[str, str]:
    return {"description": description, **details, "request_id": REQUEST_ID}


ERRORS = {
    "BAD_REQUEST_ERROR": _error("amount: Must be an integer, in minor units.", field="amount"),
    "INVALID_VPA": _error("The VPA must look like name@bank.", field="vpa"),
    "INVALID_CARD": _error("The card number is not valid.", field="card.number"),
    "EXPIRED_CARD": _error("The card has expired.", field="card.expiry_month"),
    "INVALID_CVV": _error("The CVV must have 3 digits.", field="card.cvv"),
    "AUTHENTICATION_ERROR": _error("The API key or secret is missing or wrong."),
    "PERMISSION_ERROR": _error(
        "The X-CSRF-Token is missing, or not this session's.", field="X-CSRF-Token", reason="csrf_token"
    ),
    "NOT_FOUND_ERROR": _error("Order not found."),
    "METHOD_NOT_ALLOWED": _error("This address does not take that method."),
    "NOT_ACCEPTABLE": _error("The API answers in application/json."),
    "REQUEST_TIMEOUT": _error("The body has to arrive within 10 s."),
    "CONFLICT_ERROR": _error("A request with this Idempotency-Key is still running.", reason="key_in_flight"),
    "PAYLOAD_TOO_LARGE": _error("The body is larger than 64 KiB."),
    "UNSUPPORTED_MEDIA_TYPE": _error("Send JSON in UTF-8, with Content-Type: application/json."),
    "IDEMPOTENCY_ERROR": _error("This Idempotency-Key was used for a different request."),
    "RATE_LIMIT_ERROR": _error("Too many requests; try again later."),
    "SERVER_ERROR": _error("Something went wrong on our side."),
    "SERVICE_UNAVAILABLE": _error("The service is not available just now; try again."),
}


def example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """What the story has for a schema of an answer."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        fields = schemas[name]["properties"].items()
        return {field: _of_field(name, field, each, schemas) for field, each in fields}
    if schema.get("type") == "array":
        return [example(schema["items"], schemas)]
    if "enum" in schema and None not in schema["enum"]:
        return schema["enum"][0]
    if schema.get("format") == "date-time" and schema["type"] == "string":
        return CREATED_AT
    return {"boolean": False, "integer": 0}[schema["type"]] if isinstance(schema.get("type"), str) else None


def _of_field(name: str, field: str, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if field in _IN.get(name, {}):
        return _IN[name][field]
    if field == "id":
        return STORY[OWN_ID[name]]
    return STORY[field] if field in STORY else example(schema, schemas)
