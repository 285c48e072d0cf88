"""API keys: create, roll with an overlap, reveal after the password, revoke."""

from __future__ import annotations

from flask import g
from marshmallow import validate
from sqlalchemy import select

from models import passwords
from models.api_keys import ApiKey, ApiKeySchema, ApiKeyWithSecretSchema
from models.base import db
from models.merchants import Merchant
from routes.audit import note
from routes.auth import authenticated
from routes.errors import refuses
from routes.fields import Blueprint, Body, OverlapHours, Text
from routes.limits import remote_address
from routes.pagination import PageQuery, page, page_of
from routes.session import password_field
from routes.writes import writes

blp = Blueprint(
    "api_keys", __name__, url_prefix="/api/v1", description="What a merchant's servers sign in with."
)


class NewKey(Body):
    name = Text(allow_none=True, load_default=None, validate=validate.Length(min=1, max=100))


class Roll(Body):
    overlap_hours = OverlapHours(
        metadata={"description": "How long the old key works too; 0 ends it at once."}
    )


class Confirmation(Body):
    password = password_field(metadata={"description": "The merchant's, of the dashboard."})


@blp.get("/api_keys")
@authenticated
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(ApiKeySchema))
def list_keys(args):
    """List API keys, newest first, those that work no more too."""
    return page(select(ApiKey).where(ApiKey.merchant_id == g.merchant_id), ApiKey, args)


@blp.post("/api_keys")
@authenticated
@writes
@blp.arguments(NewKey)
@blp.response(201, ApiKeyWithSecretSchema)
def create_key(body):
    """Create an API key. The answer holds its secret."""
    key = ApiKey.create(g.merchant_id, name=body["name"])
    note("api_key.created", key.id)
    return key


@blp.post("/api_keys/<id:key_id>/roll")
@authenticated
@writes
@blp.arguments(Roll)
@blp.response(201, ApiKeyWithSecretSchema)
def roll_key(body, key_id):
    """Replace an API key. The answer is the new one; the old one works for `overlap_hours` more."""
    key = ApiKey.of_merchant(g.merchant_id, key_id, lock=True)
    new = key.roll(body["overlap_hours"])
    note("api_key.rolled", key.id, into=new.id, overlap_hours=body["overlap_hours"])
    return new


@blp.post("/api_keys/<id:key_id>/reveal")
@refuses("RATE_LIMIT_ERROR")
@authenticated
@blp.arguments(Confirmation)
@blp.response(200, ApiKeyWithSecretSchema)
def reveal_key(body, key_id):
    """Reveal the secret of an API key, after the password."""
    key = ApiKey.of_merchant(g.merchant_id, key_id)
    merchant = db.session.get_one(Merchant, g.merchant_id)
    passwords.confirm(merchant, body["password"], remote_address())
    note("api_key.revealed", key.id)
    db.session.commit()
    return key


@blp.delete("/api_keys/<id:key_id>")
@authenticated
@writes
@blp.response(204)
def revoke_key(key_id):
    """Revoke an API key: it signs nobody in any more, at once."""
    key = ApiKey.of_merchant(g.merchant_id, key_id, lock=True)
    key.revoke()
    note("api_key.revoked", key.id)
