"""The merchant itself: who it is, what its checkout looks like, and which sites may frame it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from flask import g
from marshmallow import Schema, ValidationError, fields, validate

from models.audit import AuditEntry
from models.base import db
from models.merchants import Merchant
from routes.auth import authenticated
from routes.fields import SET, Blueprint, Body, Color, HttpUrl, Text, each_once
from routes.writes import writes

MAX_ORIGINS = 32  # they all go into one header
NAME_MAX_LENGTH = 100

blp = Blueprint("merchant", __name__, url_prefix="/api/v1", description="The merchant and its checkout.")


class Origin(HttpUrl):
    """A site as browsers name it: scheme, host, and the port where it is not the usual one."""

    told = HttpUrl.told | {"pattern": r"^https?://[A-Za-z0-9.:\[\]\-]+$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        origin = super()._deserialize(value, *args, **kwargs)
        parts = urlsplit(origin)
        if not re.fullmatch(r"(?i:https?)://[A-Za-z0-9.:\[\]-]+", origin):
            raise ValidationError("Must be an origin like https://shop.example, without a path.")
        usual = {"http": 80, "https": 443}[parts.scheme]
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + ("" if parts.port in (None, usual) else f":{parts.port}")


class LogoUrl(HttpUrl):
    """An image's address whose host can stand in a header: the page's policy names it."""

    told = HttpUrl.told | {"pattern": r"^https?://[A-Za-z0-9.:\[\]\-]+([/?#][^\s\\]*)?$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        url = super()._deserialize(value, *args, **kwargs)
        if not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", urlsplit(url).netloc):
            raise ValidationError("Must name its host in ASCII letters, digits, dots and hyphens.")
        return url


class MerchantChange(Body):
    name = Text(validate=validate.Length(min=1, max=NAME_MAX_LENGTH))
    logo_url = LogoUrl(allow_none=True)
    accent_color = Color(allow_none=True)
    frame_origins = fields.List(
        Origin(),
        validate=[validate.Length(max=MAX_ORIGINS, error="Must be at most {max}."), each_once],
        metadata=SET,
    )


class MerchantSchema(Schema):
    id = fields.String()
    name = fields.String()
    email = fields.String()
    role = fields.String(metadata={"enum": ["merchant", "operator"]})
    logo_url = fields.String(
        allow_none=True, metadata={"description": "Shown on the checkout; without one, its initials."}
    )
    accent_color = fields.String(allow_none=True, metadata={"example": "#1a56c4"})
    frame_origins = fields.List(
        fields.String(metadata={"example": "https://shop.example"}),
        metadata={
            "description": "The sites that may show the checkout in a frame. A local gateway allows any."
        },
    )


@blp.get("/merchant")
@authenticated
@blp.response(200, MerchantSchema)
def get_merchant():
    """Get the merchant that the key belongs to."""
    return db.session.get_one(Merchant, g.merchant_id)


@blp.patch("/merchant")
@authenticated
@writes
@blp.arguments(MerchantChange)
@blp.response(200, MerchantSchema)
def change_merchant(body):
    """Change the name, the look of the checkout, or the sites that may frame it."""
    merchant = Merchant.lock(g.merchant_id)
    for name, value in body.items():
        setattr(merchant, name, value)
    AuditEntry.record("merchant.changed", merchant.id, g.actor, merchant.id, **body)
    return merchant
