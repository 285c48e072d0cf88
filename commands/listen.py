"""`flask listen`: forwards a merchant's new events to a receiver on the developer's machine, while it runs.

It reads the events themselves, and neither needs an endpoint nor leaves a trace in the delivery log.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import click
from marshmallow import ValidationError
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from commands.gateway import gateway, in_a_line
from config import Settings
from jobs.posting import Post, post
from models import vault
from models.base import db
from models.events import Event
from models.merchants import TEST_MERCHANT_ID, Merchant
from models.signatures import SECRET_PREFIX
from models.webhook_endpoints import EVENT_PATTERNS, EVENT_TYPES, is_wanted
from models.webhooks import AttemptResult
from routes.fields import HttpUrl

POLL_S = 0.5
# An event has the time of its transaction's beginning, and is seen only at its end. Far longer than any
# transaction of ours lasts (see the timeouts in models/base.py).
WINDOW = timedelta(seconds=60)


def a_url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        return str(HttpUrl().deserialize(value))
    except ValidationError as error:
        raise click.BadParameter(error.messages[0]) from None


def patterns(_context: click.Context, _option: click.Parameter, value: str) -> list[str]:
    known = [*EVENT_PATTERNS, *EVENT_TYPES]
    wanted = [name.strip() for name in value.split(",")]
    for name in wanted:
        if name not in known:
            raise click.BadParameter(f"{name or 'nothing'} is none of: {', '.join(known)}")
    return wanted


def a_secret(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            good = value.startswith(SECRET_PREFIX) and base64.b64decode(
                value.removeprefix(SECRET_PREFIX), validate=True
            )
        except binascii.Error:
            good = False
        if not good:
            raise click.BadParameter(f"Must be {SECRET_PREFIX} and base64.")
    return value


@click.command()
@click.option("--forward-to", "url", required=True, callback=a_url, help="Where your receiver listens.")
@click.option("--merchant", "merchant_id", help="Whose events; default: the test merchant's.")
@click.option(
    "--events",
    "wanted",
    default="*",
    callback=patterns,
    help="Which events, as payment.*,order.paid; default: all.",
)
@click.option(
    "--secret", callback=a_secret, help="What signs them; default: a secret that is always the same."
)
def listen(url: str, merchant_id: str | None, wanted: list[str], secret: str | None) -> None:
    """Forward new events to a receiver on this machine, until Ctrl-C.

    Each is posted once, exactly as a webhook would be, and printed with the receiver's answer. What fails is
    not tried again.
    """
    with gateway() as settings:
        try:
            merchant = the_merchant(settings, merchant_id)
        except DBAPIError as error:
            raise click.ClickException(f"DATABASE_URL: {in_a_line(error)}") from None
        secret = secret or secret_of(merchant)
        events = new_events(merchant.id)  # from now on
        click.echo(f"Forwarding events of {merchant.name} ({merchant.id}) to {url}")
        click.echo(f"Signed with {secret}")
        click.echo("Ctrl-C ends it.\n")
        counts = {True: 0, False: 0}
        try:
            for event in events:
                if is_wanted(event.type, wanted):
                    result = post(Post(url, event.id, event.payload.encode(), (secret,), allow_private=True))
                    counts[result.error is None] += 1
                    click.echo(line_of(event, result))
        except KeyboardInterrupt:
            click.echo(f"\nforwarded {sum(counts.values())}, of which {counts[False]} failed")


def the_merchant(settings: Settings, merchant_id: str | None) -> Merchant:
    if merchant_id is None and not settings.test_endpoints:
        raise click.UsageError("--merchant is needed: there is no test merchant here.")
    merchant = db.session.get(Merchant, merchant_id or TEST_MERCHANT_ID)
    db.session.remove()
    if merchant is None:
        raise click.BadParameter("There is no such merchant.", param_hint="--merchant")
    return merchant


def secret_of(merchant: Merchant) -> str:
    """The same on every run, so that a receiver needs to be told it once."""
    key = vault.keyed_hash("listen secret", merchant.id.encode())
    return SECRET_PREFIX + base64.b64encode(key).decode()


def new_events(merchant_id: str) -> Iterator[Event]:
    """The merchant's events from this call on, each once, for ever; in order, as far as they are seen so."""
    looked_at, seen = look(merchant_id, None)
    known = {event.id: event.created_at for event in seen}

    def follow(looked_at: datetime) -> Iterator[Event]:
        is_lost = False
        while True:
            try:
                now, events = look(merchant_id, looked_at)
                if is_lost:
                    click.echo("the database is back", err=True)
                is_lost = False
            except DBAPIError as error:
                if not is_lost:
                    click.echo(f"the database does not answer, trying again: {in_a_line(error)}", err=True)
                is_lost = True
            else:
                for event in events:
                    if event.id not in known:
                        known[event.id] = event.created_at
                        yield event
                for event_id in [id_ for id_, at in known.items() if at < looked_at - WINDOW]:
                    del known[event_id]
                looked_at = now
            time.sleep(POLL_S)

    return follow(looked_at)


def look(merchant_id: str, since: datetime | None) -> tuple[datetime, list[Event]]:
    """The database's time, and all events from WINDOW before `since` (now). Leaves no transaction open."""
    try:
        now = db.session.scalars(select(func.now())).one()
        query = select(Event).where(
            Event.merchant_id == merchant_id, Event.created_at >= (since or now) - WINDOW
        )
        return now, list(db.session.scalars(query.order_by(Event.created_at, Event.seq)))
    finally:
        db.session.remove()


def line_of(event: Event, result: AttemptResult) -> str:
    answer = result.error or f"answered {result.status_code}"
    colour = "green" if result.error is None else "red"
    return (
        f"{datetime.now():%H:%M:%S}  {event.type:<24} {event.id}  "
        f"{click.style(answer, fg=colour)}, {result.duration_ms} ms"
    )
