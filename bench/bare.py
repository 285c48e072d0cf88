"""The leanest Flask app there is, for the same gunicorn: what any route at all costs."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.post("/bare")
def bare():
    return {"id": "order_0000000000000000"}, 201
