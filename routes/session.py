"""Signing in to the dashboard and out of it, and the password."""

from __future__ import annotations

from typing import Any

from flask import Response, after_this_request, g, request
from marshmallow import Schema, fields, validate
from sqlalchemy import select

from config import settings
from jobs.payments import app_acquirer
from models import passwords
from models.audit import AuditEntry
from models.base import db
from models.merchants import TEST_MERCHANT_ID
from models.sessions import LIFETIME, Session, SessionSchema, csrf_token
from routes.auth import cookie_name, in_dashboard, session_cookie
from routes.errors import refuses
from routes.fields import Blueprint, Body, Text
from routes.limits import limited_by_address, remote_address
from routes.merchant import MerchantSchema
from routes.pagination import PageQuery, page, page_of

SIGNED_IN_COOKIE = "gateway_signed_in"

blp = Blueprint("session", __name__, url_prefix="/api/v1", description="Signing in to the dashboard.")


def password_field(**options: Any) -> Text:
    return Text(required=True, validate=validate.Length(min=1, max=1024), **options)


class Login(Body):
    email = Text(
        required=True, validate=validate.Length(min=1, max=320), metadata={"example": "test@example.com"}
    )
    password = password_field()


class NewPassword(Body):
    current_password = password_field()
    password = password_field(metadata={"description": f"At least {passwords.LENGTH_MIN} characters."})


class PasswordByLink(Body):
    token = Text(required=True, validate=validate.Length(min=1, max=128))
    password = password_field(metadata={"description": f"At least {passwords.LENGTH_MIN} characters."})


class SignedInSchema(Schema):
    merchant = fields.Nested(MerchantSchema)
    session = fields.Nested(SessionSchema)
    csrf_token = fields.String(metadata={"description": "Goes into X-CSRF-Token with every change."})
    simulated = fields.Boolean(metadata={"description": "The acquirer is the simulator: no money moves."})
    test_endpoints = fields.Boolean(metadata={"description": "Webhook inboxes, and the like, are there."})
    test_merchant = fields.Boolean(metadata={"description": "Its credentials are published."})


@blp.post("/session")
@refuses("AUTHENTICATION_ERROR", "RATE_LIMIT_ERROR")
@blp.doc(security=[])
@blp.arguments(Login)
@blp.response(201, SignedInSchema)
def log_in(body):
    """Sign in to the dashboard. Sets the session's cookie; a session that there was ends."""
    address = remote_address()
    merchant = passwords.log_in(body["email"], body["password"], address)
    before = session_cookie()
    old = Session.authenticate(before, used=False) if before else None
    if old is not None:
        old.end()
    session, token = Session.begin(merchant, address=address, user_agent=request.user_agent.string)
    AuditEntry.record("session.began", merchant.id, merchant.email, session.id, address=address)
    db.session.commit()
    _leave_cookies(token)
    return signed_in(session, token)


@blp.get("/session")
@in_dashboard
@blp.response(200, SignedInSchema)
def get_session():
    """Get who is signed in, and the CSRF token."""
    return signed_in(g.session, session_cookie() or "")


@blp.delete("/session")
@in_dashboard
@blp.response(204)
def log_out():
    """Sign out: the session is over, whoever may have its cookie."""
    g.session.end()
    AuditEntry.record("session.ended", g.merchant_id, g.actor, g.session.id)
    db.session.commit()
    _leave_cookies(None)


@blp.get("/sessions")
@in_dashboard
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(SessionSchema))
def list_sessions(args):
    """List where the merchant is signed in, newest first."""
    return page(select(Session).where(Session.merchant_id == g.merchant_id, Session.lives()), Session, args)


@blp.delete("/sessions")
@in_dashboard
@blp.response(204)
def log_out_everywhere():
    """Sign out everywhere, here as well."""
    Session.end_all(g.merchant_id)
    AuditEntry.record("session.all_ended", g.merchant_id, g.actor, g.session.id)
    db.session.commit()
    _leave_cookies(None)


# --- the password --------------------------------------------------------------------------------


@blp.post("/password")
@refuses("RATE_LIMIT_ERROR")
@in_dashboard
@blp.arguments(NewPassword)
@blp.response(204)
def change_password(body):
    """Choose another password. All other sessions end."""
    merchant = g.session.merchant
    passwords.confirm(merchant, body["current_password"], remote_address(), field="current_password")
    passwords.choose(merchant, body["password"])
    Session.end_all(merchant.id, but=g.session.id)
    AuditEntry.record("password.changed", merchant.id, g.actor, merchant.id)
    db.session.commit()


@blp.post("/password/link")
@blp.doc(security=[])
@limited_by_address
@blp.arguments(PasswordByLink)
@blp.response(204)
def choose_password(body):
    """Choose a password by a one-time link, as `flask create-merchant` prints it. All sessions end."""
    merchant = passwords.PasswordLink.redeem(body["token"], body["password"])
    AuditEntry.record("password.chosen_by_link", merchant.id, merchant.email, merchant.id)
    db.session.commit()


def signed_in(session: Session, token: str) -> dict[str, Any]:
    return {
        "merchant": session.merchant,
        "session": session,
        "csrf_token": csrf_token(token),
        "simulated": app_acquirer().simulated,
        "test_endpoints": settings.test_endpoints,
        "test_merchant": settings.test_endpoints and session.merchant_id == TEST_MERCHANT_ID,
    }


def _leave_cookies(token: str | None) -> None:
    """The session's cookie: out of reach of scripts, sent by our own pages alone, by TLS in production.

    Beside it one that tells the page whether it is worth asking who is signed in. None takes both away.
    """

    @after_this_request
    def leave(response: Response) -> Response:
        max_age = int(LIFETIME.total_seconds()) if token else 0
        secure = not settings.local
        response.set_cookie(
            cookie_name(), token or "", max_age=max_age, httponly=True, samesite="Strict", secure=secure
        )
        response.set_cookie(SIGNED_IN_COOKIE, "1", max_age=max_age, samesite="Strict", secure=secure)
        return response
