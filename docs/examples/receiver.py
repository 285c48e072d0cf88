"""A webhook receiver in plain Python: verifies each signature, prints each event.

    python3 docs/examples/receiver.py whsec_... [port]

It listens on http://localhost:4000/webhook, where the test merchant's endpoint points.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

ARGUMENTS = dict(enumerate(sys.argv))
SECRET = ARGUMENTS.get(1) or os.environ.get("WEBHOOK_SECRET", "")
PORT = int(ARGUMENTS.get(2, 4000))
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
TOLERANCE_S = 300  # an older message may be somebody's recording of it


def verified(headers, body: bytes) -> bool:
    """The Standard Webhooks scheme: HMAC-SHA256 of "id.timestamp.body", base64."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    message_id, timestamp, signatures = (headers[name] or "" for name in names)
    if not timestamp.isdecimal() or abs(time.time() - float(timestamp)) > TOLERANCE_S:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256))
    return any(hmac.compare_digest(expected, given.encode()) for given in signatures.split())


def name_of(body: bytes) -> str | None:
    try:
        return json.loads(body)["event"]
    except (ValueError, LookupError, TypeError):
        return None


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        good = verified(self.headers, body)
        event = name_of(body) if good else None  # what is not signed is not read
        self.send_response(204 if event else 400)
        self.end_headers()
        message_id = self.headers["webhook-id"] or "-"
        print(f"{event or '-':<20} {message_id}  signature {'verified' if good else 'WRONG'}", flush=True)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if not KEY:
        sys.exit(__doc__)
    try:
        server = HTTPServer(("127.0.0.1", PORT), Receiver)
    except OSError as error:
        sys.exit(f"error: port {PORT} cannot be used ({error.strerror}); is another receiver running?")
    server.serve_forever()
