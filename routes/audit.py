"""Who did what that matters for security or money: writing it down, and reading it."""

from __future__ import annotations

from typing import Any

from flask import g
from sqlalchemy import select

from models.audit import AuditEntry, AuditEntrySchema
from routes.auth import authenticated
from routes.fields import Blueprint, Text
from routes.pagination import PageQuery, filtered, page, page_of

blp = Blueprint("audit", __name__, url_prefix="/api/v1", description="Who did what.")


def note(action: str, subject_id: str, **details: Any) -> None:
    """Write down that whoever is asking did this, in the transaction of what it did."""
    AuditEntry.record(action, g.merchant_id, g.actor, subject_id, **details)


class AuditQuery(PageQuery):
    subject_id = Text(metadata={"description": "Only what was done to this."})


@blp.get("/audit_log")
@authenticated
@blp.arguments(AuditQuery, location="query")
@blp.response(200, page_of(AuditEntrySchema))
def list_audit_log(args):
    """List sensitive actions and who did them, newest first."""
    query = select(AuditEntry).where(AuditEntry.merchant_id == g.merchant_id)
    query = filtered(query, AuditEntry, args, "subject_id")
    return page(query, AuditEntry, args)
