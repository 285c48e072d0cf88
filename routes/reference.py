"""The API reference: a page that shows the live OpenAPI document with Swagger UI.

Swagger UI's files are those that the package flask-swagger-ui ships. Its code is not imported: it would serve
all of them, and a page whose policy ours forbids.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

from flask import Blueprint, Response, request, send_from_directory

from config import ROOT
from models.errors import not_found
from routes.pages import guarded

FILES = ROOT / "static/reference"
PACKAGE = distribution("flask-swagger-ui")
VERSION = PACKAGE.version  # the same as Swagger UI's own
VIEWER = Path(str(PACKAGE.locate_file("flask_swagger_ui/dist")))
VIEWER_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "LICENSE": "text/plain",  # Apache 2.0: whoever is given the files is given it too
}
YEAR_S = 365 * 24 * 3600

blp = Blueprint("reference", __name__)


@blp.get("/dashboard/reference")
def get_reference():
    """For whoever comes: the document that it shows is public, and nothing but that is asked of us."""
    page = (FILES / "index.html").read_text().replace("{version}", VERSION)
    response = guarded(Response(page, mimetype="text/html"))
    # As it is loaded, Swagger UI has DOMPurify make a policy of this name; refused, it would complain.
    # Nothing is done with it: reference.js replaces the two components that make HTML of text.
    policy = response.headers["Content-Security-Policy"]
    response.headers["Content-Security-Policy"] = policy.replace(
        "trusted-types 'none'", "trusted-types dompurify"
    )
    return response


@blp.get("/static/reference/<name>")
def get_file(name):
    if name in VIEWER_FILES:
        return _viewer_file(name)
    if name == "index.html":
        raise not_found("File")
    return send_from_directory(FILES, name)


def _viewer_file(name: str) -> Response:
    """A file of the package, compressed (it is large); for ever, if it was asked for by its version."""
    zipped = request.accept_encodings.quality("gzip") > 0
    response = Response(
        _gzipped(name) if zipped else (VIEWER / name).read_bytes(), mimetype=VIEWER_FILES[name]
    )
    response.set_etag(f"{VERSION}-gzip" if zipped else VERSION)
    response.vary.add("Accept-Encoding")
    if zipped:
        response.content_encoding = "gzip"
    if request.args.get("v") == VERSION:
        response.cache_control.public = True
        response.cache_control.max_age = YEAR_S
        response.cache_control.immutable = True
    else:
        response.cache_control.no_cache = True
    response.make_conditional(request)
    return response


@lru_cache(maxsize=len(VIEWER_FILES))
def _gzipped(name: str) -> bytes:
    return gzip.compress((VIEWER / name).read_bytes(), mtime=0)
