"""One shape for every error: `{"error": {code, description, field?, reason?, request_id}}`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, Response, g, jsonify, request
from marshmallow import Schema, fields
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from models.base import db
from models.errors import Refused, conflict

log = logging.getLogger(__name__)

STATUS_OF_CODE = {
    "BAD_REQUEST_ERROR": 400,
    "INVALID_VPA": 400,
    "INVALID_CARD": 400,
    "EXPIRED_CARD": 400,
    "INVALID_CVV": 400,
    "AUTHENTICATION_ERROR": 401,
    "PERMISSION_ERROR": 403,
    "NOT_FOUND_ERROR": 404,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_ACCEPTABLE": 406,
    "REQUEST_TIMEOUT": 408,
    "CONFLICT_ERROR": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "IDEMPOTENCY_ERROR": 422,
    "RATE_LIMIT_ERROR": 429,
    "SERVER_ERROR": 500,
    "SERVICE_UNAVAILABLE": 503,
}
CODE_OF_STATUS = {
    400: "BAD_REQUEST_ERROR",
    401: "AUTHENTICATION_ERROR",
    403: "PERMISSION_ERROR",
    404: "NOT_FOUND_ERROR",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "RATE_LIMIT_ERROR",
    503: "SERVICE_UNAVAILABLE",
}
DESCRIPTION_OF_STATUS = {
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
    408: "The body did not arrive in time.",
    413: "The body is larger than 64 KiB.",
}
View = TypeVar("View", bound=Callable[..., Any])
RETRY_AFTER_S = 1  # a database that restarts is back in about that time


class ErrorBodySchema(Schema):
    code = fields.String(required=True, metadata={"enum": list(STATUS_OF_CODE)})
    description = fields.String(required=True)
    field = fields.String(metadata={"description": "The input at fault, as `card.number`."})
    reason = fields.String(metadata={"description": "A machine-readable detail."})
    request_id = fields.String(required=True)


class ErrorSchema(Schema):
    error = fields.Nested(ErrorBodySchema, required=True)


def register_error_handlers(app: Flask) -> None:
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(IntegrityError, _integrity)
    for unreachable in (OperationalError, InterfaceError, PoolTimeout):
        app.register_error_handler(unreachable, _unavailable)
    app.register_error_handler(Exception, _unexpected)


def refuses(*codes: str) -> Callable[[View], View]:
    """Declare, for the API's description, what this view may refuse with beside what all like it may."""

    def decorator(view: View) -> View:
        view.refuses = codes  # type: ignore[attr-defined]
        return view

    return decorator


def error_response(code: str, description: str, **details: str | None) -> Response:
    body: dict[str, Any] = {"code": code, "description": description}
    body |= {name: value for name, value in details.items() if value is not None}
    body["request_id"] = g.get("request_id")
    response = jsonify(error=body)
    response.status_code = STATUS_OF_CODE[code]
    return response


def _refused(error: Refused) -> Response:
    db.session.rollback()
    response = error_response(error.code, error.description, field=error.field, reason=error.reason)
    if error.code == "AUTHENTICATION_ERROR" and request.authorization:
        response.headers["WWW-Authenticate"] = 'Basic realm="payment gateway", charset="UTF-8"'
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _http(error: HTTPException) -> Response:
    db.session.rollback()
    status = error.code or 500
    if status in (301, 302, 303, 307, 308):
        return error.get_response()  # type: ignore[return-value]
    code = CODE_OF_STATUS.get(status, "SERVER_ERROR" if status >= 500 else "BAD_REQUEST_ERROR")
    description = DESCRIPTION_OF_STATUS.get(status) or error.description or error.name
    response = error_response(code, description)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _integrity(error: IntegrityError) -> Response:
    """The database's own guard, for the race that the model's check can't see."""
    if "payments_one_live_per_order" in str(error.orig):
        text = "Another payment of this order is in progress."
        return _refused(conflict(text, reason="payment_in_progress"))
    return _unexpected(error)


def _unavailable(error: Exception) -> Response:
    db.session.rollback()
    # Not the error's text: it would carry the statement's parameters into the log.
    log.warning("database unavailable: %s", type(getattr(error, "orig", error)).__name__)
    response = error_response("SERVICE_UNAVAILABLE", "The service is not available just now; try again.")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _unexpected(error: Exception) -> Response:
    db.session.rollback()
    log.error("%s %s broke", request.method, request.url_rule, exc_info=error)
    return error_response("SERVER_ERROR", "Something went wrong on our side.")
