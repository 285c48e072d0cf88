"""`flask create-merchant`, `flask password-link`: how somebody comes to sign in; there is no sign-up page."""

from __future__ import annotations

import click
from marshmallow import ValidationError, fields

from commands.gateway import gateway
from config import Settings
from models.audit import GATEWAY, AuditEntry
from models.base import db
from models.merchants import ROLES, Merchant
from models.passwords import LINK_LIFETIME, PasswordLink

NAME_MAX_LENGTH = 100
EMAIL_MAX_LENGTH = 254  # RFC 5321, 4.5.3.1.3


def an_email(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        email = str(fields.Email().deserialize(value.strip())).lower()
        email.encode()  # bytes that are no text come here as halves of surrogate pairs
    except (ValidationError, UnicodeEncodeError):
        raise click.BadParameter("Must be an email address.") from None
    if len(email) > EMAIL_MAX_LENGTH:
        raise click.BadParameter(f"Must be at most {EMAIL_MAX_LENGTH} characters.")
    return email


def a_name(_context: click.Context, _option: click.Parameter, value: str) -> str:
    name = value.strip()
    if not 1 <= len(name) <= NAME_MAX_LENGTH or not name.isprintable():
        raise click.BadParameter(f"Must be 1 to {NAME_MAX_LENGTH} characters.")
    return name


@click.command("create-merchant")
@click.option("--name", required=True, prompt=True, callback=a_name, help="As shoppers see it.")
@click.option("--email", required=True, prompt=True, callback=an_email, help="What it signs in with.")
@click.option(
    "--role", type=click.Choice(ROLES), default="merchant", help="An operator sees everybody's queues."
)
def create_merchant(name: str, email: str, role: str) -> None:
    """Create a merchant, and print a link by which it chooses its password. API keys it makes by itself."""
    with gateway() as settings:
        merchant = Merchant.create(name=name, email=email, role=role)
        AuditEntry.record("merchant.created", merchant.id, GATEWAY, merchant.id, role=role)
        token = PasswordLink.issue(merchant)
        db.session.commit()
        click.echo(f"Created {merchant.name} ({merchant.id}), {merchant.role}.")
        tell_link(settings, token)


@click.command("password-link")
@click.argument("email", callback=an_email)
def password_link(email: str) -> None:
    """Print a link by which a merchant chooses a new password. The old one works until then."""
    with gateway() as settings:
        merchant = Merchant.by_email(email)
        if merchant is None:
            raise click.BadParameter("There is no merchant with this address.", param_hint="EMAIL")
        token = PasswordLink.issue(merchant)
        AuditEntry.record("password.link_made", merchant.id, GATEWAY, merchant.id)
        db.session.commit()
        tell_link(settings, token)


def tell_link(settings: Settings, token: str) -> None:
    hours = int(LINK_LIFETIME.total_seconds() // 3600)
    click.echo(f"To choose a password, once and within {hours} hours:")
    # Behind the #, which browsers send nowhere: it is in no log.
    click.echo(f"{settings.dashboard_url}/dashboard/password#{token}")
