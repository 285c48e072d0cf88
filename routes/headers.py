"""What a browser may do with an answer of ours: the security headers, on every one.

A view that knows better sets its own; whatever it leaves open is closed.
"""

from __future__ import annotations

from flask import Flask, Response

HSTS_MAX_AGE_S = 365 * 24 * 3600  # a browser that was here once asks by TLS alone for so long (RFC 6797)
DEFAULTS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # ids of orders and payments are in addresses
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # opened as a page, it is dead
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OVER_TLS = {"Strict-Transport-Security": f"max-age={HSTS_MAX_AGE_S}"}  # production has no other addresses
# What matters to a document alone.
OF_A_PAGE = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


def register_security_headers(app: Flask) -> None:
    local = app.config["GATEWAY"].local
    headers = tuple((DEFAULTS if local else DEFAULTS | OVER_TLS).items())

    def protect(response: Response) -> Response:
        answers = response.headers
        settled = {name for name, _ in answers}  # one pass: each look-up in them would be one
        for name, value in headers:
            if name not in settled:
                answers.add(name, value)
        return response

    app.after_request(protect)
