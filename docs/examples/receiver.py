"""A webhook receiver in plain Python: verifies each signature, prints each event.

    python3 docs/examples/receiver.py whsec_...

It listens on http://localhost:4000/webhook, where the test merchant's endpoint points.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

PORT = 4000
TOLERANCE_S = 300  # an older message may be somebody's recording of it


def verified(secret: str, headers, body: bytes) -> bool:
    """The Standard Webhooks scheme: HMAC-SHA256 of "id.timestamp.body", base64."""
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if not timestamp or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return any(hmac.compare_digest(expected, given) for given in headers["webhook-signature"].split())


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        good = verified(sys.argv[1], self.headers, body)
        self.send_response(204 if good else 400)
        self.end_headers()
        event = json.loads(body)
        print(f"{event['event']:<20} {event['id']}  signature {'verified' if good else 'WRONG'}", flush=True)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        server = HTTPServer(("127.0.0.1", PORT), Receiver)
    except OSError as error:
        sys.exit(f"error: port {PORT} cannot be used ({error.strerror}); is another receiver running?")
    server.serve_forever()
