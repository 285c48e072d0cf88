"""A webhook receiver with Flask and standardwebhooks: verifies each signature, handles each event once.

    pip install flask standardwebhooks
    python3 docs/examples/receiver_flask.py whsec_... [port]

It listens on http://localhost:4000/webhook.
"""

import os
import sys

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

ARGUMENTS = dict(enumerate(sys.argv))
SECRET = ARGUMENTS.get(1) or os.environ.get("WEBHOOK_SECRET")
PORT = int(ARGUMENTS.get(2, 4000))
if not SECRET:
    sys.exit(__doc__)

app = Flask(__name__)
ours = Webhook(SECRET)
seen = set()  # a real receiver has a unique column in its database, filled in the work's own transaction


@app.post("/webhook")
def webhook():
    message_id = request.headers.get("webhook-id", "-")
    try:
        ours.verify(request.get_data(), request.headers, json_parse=False)  # the raw bytes
    except (WebhookVerificationError, ValueError):  # ValueError: one is malformed
        print(f"{'-':<20} {message_id}  signature WRONG", flush=True)
        return "", 400
    event = request.get_json(force=True)  # answers 400 if it is not JSON
    if message_id not in seen:  # else it was sent again: our answer got lost
        seen.add(message_id)
        print(f"{event['event']:<20} {message_id}  signature verified", flush=True)
    return "", 204


if __name__ == "__main__":
    app.run(port=PORT)
