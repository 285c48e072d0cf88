"""The pages: one app answers on three ports; `/` is the dashboard on one, the checkout on another."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from flask import Blueprint, Response, redirect, request, send_from_directory
from sqlalchemy.exc import DBAPIError

from config import ROOT, settings
from models.base import db
from models.errors import Refused, not_found
from models.merchants import Merchant
from models.orders import Order
from routes.headers import OF_A_PAGE

STATIC, SDK = ROOT / "static", ROOT / "sdk"
SDK_MAX_AGE_S = 300  # how long a shop's visitors may go without a mend of it
# The example is one file to copy, with its script and style in it.
EXAMPLE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'"
)

blp = Blueprint("pages", __name__)


def guarded(response: Response, *, images: str = "", frame_ancestors: str | None = "'none'") -> Response:
    """The headers of a page on which something is paid: nothing but our own files runs, loads, or is told.

    `images`: where else one may come from. `frame_ancestors`: who may show it in a frame; None: anybody.
    """
    policy = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        f"img-src 'self' data: {images}".rstrip(),
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    if frame_ancestors is not None:
        policy.append(f"frame-ancestors {frame_ancestors}")
    response.headers.update(OF_A_PAGE)
    response.headers["Content-Security-Policy"] = "; ".join(policy)
    response.headers["Cache-Control"] = "no-store"
    return response


# --- pages ---------------------------------------------------------------------------------------


@blp.get("/")
def get_root():
    """The dashboard on its port, the checkout on its port, the API's description on the main one."""
    port = int(request.environ.get("SERVER_PORT", 0))
    if port == settings.dashboard_port:
        return guarded(send_from_directory(STATIC / "dashboard", "index.html"))
    if port == settings.checkout_port:
        return get_checkout()
    return redirect("/api/v1/openapi.json")


@blp.get("/checkout/")
@blp.get("/checkout")
def get_checkout():
    """The same page for every order; its headers know the merchant."""
    merchant = _seller(request.args.get("order_id", ""))
    page = send_from_directory(STATIC / "checkout", "index.html")
    origins = " ".join(merchant.frame_origins) if merchant else ""
    guarded(
        page,
        images=_source(merchant.logo_url) if merchant and merchant.logo_url else "",
        frame_ancestors=None if settings.local else origins or "'none'",
    )
    page.headers["Cross-Origin-Opener-Policy"] = (
        "unsafe-none"  # a shop's pop-up: it may see that it was closed
    )
    return page


def _seller(order_id: str) -> Merchant | None:
    """Whose order it is. Without an answer there is a page all the same: it says what is wrong, in words."""
    try:
        return Order.public(order_id).merchant
    except (Refused, DBAPIError, ValueError):  # ValueError: no text that could be an id
        db.session.rollback()
        return None


def _source(url: str) -> str:
    """An address as a Content-Security-Policy may hold it: no query, nothing that ends a directive."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{quote(parts.path, safe='/%')}"


# --- files ---------------------------------------------------------------------------------------


@blp.get("/static/checkout/<name>")
def get_checkout_file(name):
    return send_from_directory(STATIC / "checkout", name)


@blp.get("/static/sim/<name>")
def get_simulator_file(name):
    return send_from_directory(STATIC / "sim", name)


@blp.get("/checkout.js", endpoint="get_short_sdk")
@blp.get("/sdk/<name>")
def get_sdk(name="checkout.js"):
    """The SDK, for any site. The shop of `example.html` signs in as the test merchant: it needs one."""
    if name.startswith("example") and not settings.test_endpoints:
        raise not_found("Example")
    response = send_from_directory(SDK, name, max_age=SDK_MAX_AGE_S)
    response.headers["Access-Control-Allow-Origin"] = "*"  # so that `integrity` can be checked
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if response.mimetype == "text/html":
        response.headers["Content-Security-Policy"] = EXAMPLE_POLICY
    return response
