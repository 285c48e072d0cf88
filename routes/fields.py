"""Request fields that refuse what the database could not store, and the blueprint that reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from flask import Response, request
from flask.json import dumps
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema
from werkzeug.routing import BaseConverter

from models.errors import bad_request
from models.money import AMOUNT_MAX_MINOR, CURRENCIES

View = TypeVar("View", bound=Callable[..., Any])
MAX_URL_LENGTH = 2048
SET = {"uniqueItems": True}  # what the description says of a list that each_once checks
OVERLAP_HOURS_DEFAULT = 24  # time to deploy a new key or secret everywhere
OVERLAP_HOURS_MAX = 168  # a week: an old one that lives longer is not replaced
MAX_LABEL_LENGTH = 63  # RFC 1035, 2.3.4
NOT_ALLOWED = re.compile("[\0\ud800-\udfff]")


class Text(fields.String):
    """A string without NUL and without halves of surrogate pairs, which PostgreSQL cannot hold."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        if NOT_ALLOWED.search(text):
            raise ValidationError("Holds a character that is not allowed.")
        return text


class Amount(fields.Integer):
    """Minor units: a JSON integer, not a float, not a string, not a boolean."""

    def __init__(self, *, least: int, **kwargs: Any) -> None:
        within = validate.Range(
            min=least,
            max=AMOUNT_MAX_MINOR,
            error="Must be an integer from {min} to {max}, in minor units.",
        )
        super().__init__(strict=True, validate=within, **kwargs)
        self.error_messages["invalid"] = "Must be an integer, in minor units."


class TrueOrFalse(fields.Boolean):
    """A JSON boolean: not 0, not "off"."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, *args, **kwargs)


class WholeNumber(fields.Integer):
    """A number in a query string: ASCII digits and nothing else."""

    pattern = r"-?[0-9]{1,9}"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        if not re.fullmatch(self.pattern, str(value)):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, *args, **kwargs)


class OverlapHours(fields.Integer):
    """How long what is replaced works beside what replaces it."""

    def __init__(self, **kwargs: Any) -> None:
        within = validate.Range(
            min=0, max=OVERLAP_HOURS_MAX, error=f"Must be an integer from 0 to {OVERLAP_HOURS_MAX}."
        )
        super().__init__(strict=True, load_default=OVERLAP_HOURS_DEFAULT, validate=within, **kwargs)


class MinorUnits(WholeNumber):
    """An amount in a query string."""

    pattern = r"[0-9]{1,12}"

    def __init__(self, *, metadata: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(metadata={"minimum": 0, "maximum": AMOUNT_MAX_MINOR} | metadata, **kwargs)


class Currency(Text):
    def __init__(self, **kwargs: Any) -> None:
        known = validate.OneOf(sorted(CURRENCIES), error="Must be an ISO 4217 code like INR.")
        super().__init__(validate=known, **kwargs)


class Color(Text):
    """A colour as six hexadecimal digits."""

    def __init__(self, *, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(metadata={"pattern": "^#[0-9A-Fa-f]{6}$"} | (metadata or {}), **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        color = super()._deserialize(value, *args, **kwargs).lower()
        if not re.fullmatch(r"#[0-9a-f]{6}", color):
            raise ValidationError("Must be a colour like #1a56c4.")
        return color


class HttpUrl(Text):
    """An absolute http or https address without credentials in it."""

    told = {"pattern": r"^https?://[^\s\\]+$", "maxLength": MAX_URL_LENGTH}

    def __init__(self, *, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(metadata=self.told | (metadata or {}), **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        url = super()._deserialize(value, *args, **kwargs)
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or len(url) > MAX_URL_LENGTH or re.search(r"[\s\x00-\x1f\\]", url):
            raise ValidationError("Must be an http or https URL.")
        if not _is_host(parts.hostname or ""):
            raise ValidationError("Must name a host.")
        if parts.username or parts.password:
            raise ValidationError("Must not hold a user name or password.")
        return url


def each_once(values: list[str]) -> None:
    """A validator of lists that are really sets."""
    if len(set(values)) < len(values):
        raise ValidationError("Must name each one once.")


class Body(Schema):
    """Base of request bodies: unknown fields are ignored, as the contract says."""

    class Meta:
        unknown = EXCLUDE


class AmountOrAll(Body):
    """A body whose `amount` may be left out, for all there is: but not by a slip of the pen.

    Unknown fields are ignored as everywhere, unless `amount` is missing: `amout` would move all the money.
    """

    @validates_schema(pass_original=True)
    def _no_misspelt_amount(self, data: dict[str, Any], original: Any, **_: Any) -> None:
        if "amount" in data or not isinstance(original, dict):
            return
        for name in original:
            if name not in self.fields:
                raise ValidationError("Unknown; and without an amount, all would be taken.", name)


class Blueprint(SmorestBlueprint):
    """flask-smorest's, which documents. What it documents is done here, in fewer steps."""

    def arguments(self, schema: type[Schema], *, location: str = "json") -> Callable[[View], View]:
        """Hand the view what came, as `schema` reads it. Bad input is a 400 that names the field."""
        documented = super().arguments(schema, location=location, error_status_code=400)
        reader = schema(unknown=EXCLUDE)

        def decorator(view: View) -> View:
            @wraps(view)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                try:
                    if location == "query":
                        given = reader.load(request.args)
                    else:
                        given = reader.load(request.get_json() if request.get_data() else {})
                except ValidationError as error:
                    path, text = _first(error.messages)
                    raise bad_request(f"{path}: {text}" if path else text, field=path or None) from None
                return view(*args, given, **kwargs)

            wrapper._apidoc = documented(view)._apidoc  # type: ignore[attr-defined]
            return cast(View, wrapper)

        return decorator

    def response(self, status_code: int, schema: Any = None, **doc: Any) -> Callable[[View], View]:
        """Answer with what the view returns, as `schema` writes it; or (that, another status)."""
        documented = super().response(status_code, schema, **doc)
        writer = schema() if isinstance(schema, type) else schema

        def decorator(view: View) -> View:
            @wraps(view)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                result, status = view(*args, **kwargs), status_code
                if isinstance(result, Response):
                    return result
                if isinstance(result, tuple):
                    result, status = result
                text = dumps(result if writer is None else writer.dump(result))
                return Response(text + "\n", status, content_type="application/json")

            wrapper._apidoc = documented(view)._apidoc  # type: ignore[attr-defined]
            return cast(View, wrapper)

        return decorator


class IdConverter(BaseConverter):
    """`<id:order_id>`: what can't be an id, as the `retry` of `/webhooks/retry`, is no address at all."""

    regex = r"[a-z]{2,8}_[A-Za-z0-9_]{1,72}"


def _is_host(host: str) -> bool:
    """An IPv6 address, or labels of the length that DNS allows."""
    return ":" in host or all(1 <= len(label) <= MAX_LABEL_LENGTH for label in host.rstrip(".").split("."))


def _first(messages: Any, path: str = "") -> tuple[str, str]:
    """The first message of marshmallow's tree, and the dotted path to it."""
    if isinstance(messages, dict):
        name, inner = next(iter(messages.items()))
        if name in ("_schema", "value"):
            return _first(inner, path)
        if name == "key" and path:  # one of a dictionary; and not the field of this name
            return _first(inner, path)
        return _first(inner, f"{path}.{name}" if path else str(name))
    if isinstance(messages, list):
        return _first(messages[0], path) if messages else (path, "Is not valid.")
    return path, str(messages)
