"""What a browser may do with an answer of ours: the security headers, on every one.

A view that knows better sets its own; whatever it leaves open is closed.
"""

from __future__ import annotations

from flask import Flask, Response

from config import Settings, settings

HSTS_MAX_AGE_S = 365 * 24 * 3600  # a browser that was here once asks by TLS alone for so long (RFC 6797)
DEFAULTS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # ids of orders and payments are in addresses
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # opened as a page, it is dead
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# What matters to a document alone.
OF_A_PAGE = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


def register_security_headers(app: Flask) -> None:
    with app.app_context():
        headers = tuple(expected(settings).items())

    def protect(response: Response) -> Response:
        answers = response.headers
        settled = {name for name, _ in answers}  # one pass: each look-up in them would be one
        for name, value in headers:
            if name not in settled:
                answers.add(name, value)
        return response

    app.after_request(protect)


def expected(its_settings: Settings) -> dict[str, str]:
    """What every answer has, unless its view says otherwise."""
    urls = (its_settings.dashboard_url, its_settings.checkout_url)
    by_tls = not its_settings.local and all(url.startswith("https://") for url in urls)
    return DEFAULTS | ({"Strict-Transport-Security": f"max-age={HSTS_MAX_AGE_S}"} if by_tls else {})
