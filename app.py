"""The web app. `python app.py` runs the whole gateway on this machine (see local.py)."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # it only starts, watches and stops: it need not load all that it starts
    from local import main

    sys.exit(main())

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from config import ConfigError, Settings, load
from jobs.payments import app_acquirer
from models.base import db
from models.context import core_app
from models.schema import prepare_database
from models.sealed import check_readable
from models.seed import seed_test_merchant
from routes import BLUEPRINTS, dashboard, health, inbox, metrics, pages, reference, rq, simulate, simulator
from routes.auth import cookie_name
from routes.errors import register_error_handlers
from routes.fields import IdConverter
from routes.headers import register_security_headers
from routes.measure import measure_requests
from routes.openapi import OPENAPI_CONFIG, GatewayApi, describe
from routes.requests import register_request_hooks

MAX_BODY_BYTES = 64 * 1024


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI app: all resources, on a database that is reachable and has its schema.

    Raises:
        ConfigError: a setting is wrong, the database can't be reached, or the acquirer can't be loaded.
    """
    settings = settings or load()
    app = core_app(settings)
    app.config.update(OPENAPI_CONFIG, MAX_CONTENT_LENGTH=MAX_BODY_BYTES)
    with app.app_context():
        prepare_database()
        check_readable()
        if settings.test_endpoints:
            seed_test_merchant()
        app_acquirer()
    if settings.trusted_proxies:
        # The caller's address is what the outermost of our own proxies saw; nothing else is believed.
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    app.url_map.converters.update(id=IdConverter, token=inbox.TokenConverter)
    register_request_hooks(app)
    register_security_headers(app)
    if simulate.is_honoured(settings):
        simulate.register(app)
    api = GatewayApi(app)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    app.register_blueprint(pages.blp)
    app.register_blueprint(dashboard.blp)
    app.register_blueprint(reference.blp)
    app.register_blueprint(simulator.blp)
    app.register_blueprint(metrics.blp)
    app.register_blueprint(health.probes)
    rq.register(app)
    if settings.test_endpoints:
        app.register_blueprint(inbox.blp)
    register_error_handlers(app)
    measure_requests(app)
    with app.app_context():
        describe(api, app, cookie=cookie_name(), testing=simulate.is_honoured(settings))
    return app


def web_app() -> Flask:
    """For gunicorn, which makes the app once and then forks: what is wrong ends it with one line."""
    try:
        app = create_app()
    except ConfigError as error:
        raise SystemExit(f"error: {error}") from None
    with app.app_context():
        db.engine.dispose()  # every process opens its own connections
    return app
