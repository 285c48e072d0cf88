"""The built-in webhook inbox: it takes what is POSTed to `/inbox/<token>`, and a page shows it live.

Registered only where TEST_ENDPOINTS is on. Nobody signs in: whoever knows a token may read its inbox.
`POST /api/v1/test/inboxes` (routes/test.py) makes one.
"""

from __future__ import annotations

from flask import Response, jsonify, request, send_from_directory
from marshmallow import validate
from werkzeug.routing import BaseConverter

from config import ROOT
from models.base import db
from models.inbox import TOKEN_PATTERN, Inbox, InboxEndpointSchema, can_answer
from routes.fields import Blueprint, Body, WholeNumber
from routes.headers import OF_A_PAGE
from routes.requests import read_body

FILES = ROOT / "static/inbox"
# What arrived is shown beside the page's own text: nothing of it may ever run, load or be sent anywhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

blp = Blueprint("inbox", __name__)


class TokenConverter(BaseConverter):
    """`<token:token>`: what can't be a token is no address at all."""

    regex = TOKEN_PATTERN


class MessageQuery(Body):
    after = WholeNumber(load_default=0, validate=validate.Range(min=0))


@blp.after_request
def _guard(response: Response) -> Response:
    response.headers.update(OF_A_PAGE)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@blp.post("/inbox/<token:token>")
def receive_webhook(token):
    """Keep what arrives, and answer 200 or as the URL's `answer` says."""
    Inbox.of(token).receive(request.headers.items(), read_body())
    db.session.commit()
    answer = request.args.get("answer", 200, type=int)
    return jsonify(received=True), answer if can_answer(answer) else 200


@blp.get("/inbox/<token:token>")
def get_page(token):
    Inbox.of(token)
    return send_from_directory(FILES, "index.html")


@blp.get("/inbox/<token:token>/messages")
@blp.arguments(MessageQuery, location="query")
def list_messages(args, token):
    """What arrived after a message, newest first, and the endpoint that it is for."""
    inbox = Inbox.of(token)
    return {
        "data": [message.as_json() for message in inbox.messages(after=args["after"])],
        "endpoint": InboxEndpointSchema().dump(inbox.endpoint),
    }


@blp.delete("/inbox/<token:token>/messages")
def empty_inbox(token):
    Inbox.of(token).empty()
    db.session.commit()
    return "", 204


@blp.get("/static/inbox/<name>")
def get_file(name):
    return send_from_directory(FILES, name)
