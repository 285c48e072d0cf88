"""The dashboard's pages: one document for all of their addresses, and its files."""

from __future__ import annotations

from flask import Blueprint, Response, send_from_directory

from config import ROOT
from routes.pages import guarded

FILES = ROOT / "static/dashboard"

blp = Blueprint("dashboard", __name__)


@blp.get("/login")  # where people look for it
@blp.get("/dashboard/")
@blp.get("/dashboard/<path:page>")
def get_dashboard(page: str = "") -> Response:  # noqa: ARG001 (the page finds it in its address)
    return guarded(send_from_directory(FILES, "index.html"))


@blp.get("/static/dashboard/<path:name>")
def get_file(name: str) -> Response:
    return send_from_directory(FILES, name)
