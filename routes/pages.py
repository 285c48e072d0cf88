"""The pages: one app answers on three ports; `/` is the dashboard on one, the checkout on another."""

from __future__ import annotations

from flask import Blueprint, redirect, request, send_from_directory

from config import ROOT, settings

blp = Blueprint("pages", __name__)


@blp.get("/")
def get_root():
    """The dashboard on its port, the checkout on its port, the API's description on the main one."""
    port = int(request.environ.get("SERVER_PORT", 0))
    if port == settings.dashboard_port:
        return send_from_directory(ROOT / "static/dashboard", "index.html")
    if port == settings.checkout_port:
        return send_from_directory(ROOT / "static/checkout", "index.html")
    return redirect("/api/v1/openapi.json")


@blp.get("/static/placeholder.css")
def get_stylesheet():
    return send_from_directory(ROOT / "static", "placeholder.css")


@blp.get("/dashboard/")
def get_dashboard():
    return send_from_directory(ROOT / "static/dashboard", "index.html")


@blp.get("/checkout/")
@blp.get("/checkout")
def get_checkout():
    return send_from_directory(ROOT / "static/checkout", "index.html")
