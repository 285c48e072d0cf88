"""`flask check-pages`: are the pages on which shoppers pay what was approved, as a browser receives them?

What was approved is in static/inventory.json: every page, script and style sheet, its purpose and SHA-256,
the headers of each, and the headers that a proxy may add. See docs/checkout-page-security.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import click
import requests

from config import ROOT, ConfigError, load

INVENTORY = ROOT / "static/inventory.json"
TIMEOUT_S = 15
HSTS_MIN_AGE_S = 180 * 24 * 3600  # a proxy may choose; most scanners call less than half a year too short
QUOTED_MAX_LENGTH = 160  # characters: an alert is read on a phone
POLICY = "Content-Security-Policy"
HSTS = "Strict-Transport-Security"
TYPES = {
    "page": re.compile(r"text/html; ?charset=utf-8", re.IGNORECASE),
    "script": re.compile(
        r"(text|application)/javascript; ?charset=utf-8", re.IGNORECASE
    ),  # by Python's version
    "stylesheet": re.compile(r"text/css; ?charset=utf-8", re.IGNORECASE),
}
# As a browser asks: who tampers with a page spares what looks like a check.
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Accept-Language": "en",
    "Accept-Encoding": "gzip",
    "Cache-Control": "no-cache",
}


# --- what was approved ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One thing that a shopper's browser is given, and why."""

    kind: str
    path: str
    file: str  # in this repository
    purpose: str
    needed: str
    approved_by: str
    approved_on: str
    sha256: str
    headers: dict[str, str] = field(default_factory=dict)  # where they differ from the common ones
    simulator: bool = False  # there with the simulated bank alone

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


@dataclass(frozen=True)
class Inventory:
    headers: dict[str, str]
    may_be_added: list[str]
    parts: list[Part]

    @classmethod
    def read(cls) -> Inventory:
        facts = json.loads(INVENTORY.read_text())
        return cls(facts["headers"], facts["may_be_added"], [Part(**part) for part in facts["parts"]])

    def headers_of(self, part: Part) -> dict[str, str]:
        return self.headers | part.headers


# --- what is received ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    subject: str
    differences: list[str]
    remark: str = ""


@dataclass
class Check:
    """One look at a gateway.

    `order_id`: whose page is looked at as well. `local`: a gateway on a developer's machine.
    """

    url: str
    order_id: str | None = None
    local: bool = False
    approved: Inventory = field(default_factory=Inventory.read)
    session: requests.Session = field(default_factory=requests.Session)

    def run(self) -> Iterator[Finding]:
        self.session.headers.update(BROWSER)
        yield Finding(f"address {self.url}", self._address())
        for part in self.approved.parts:
            yield self._look_at(part)
            if part.path == "/checkout" and self.order_id:
                yield self._look_at(part, f"?order_id={self.order_id}")

    def _address(self) -> list[str]:
        parts = urlsplit(self.url)
        if parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1"):
            return []
        return ["is not https: whoever is on the way can read card numbers, and change the page"]

    def _look_at(self, part: Part, query: str = "") -> Finding:
        subject = f"{part}{query}"
        try:
            answer = self.session.get(self.url + part.path + query, timeout=TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as error:
            return Finding(subject, [f"cannot be fetched: {type(error).__name__}"])
        if answer.status_code == 404 and part.simulator:
            return Finding(subject, [], "not there: no simulated bank")
        if answer.status_code != 200:
            where = (
                f" and leads to {_quote(answer.headers['Location'])}" if "Location" in answer.headers else ""
            )
            return Finding(subject, [f"answers {answer.status_code}{where}"])
        differences = [*self._content(part, answer), *self._headers(part, answer, of_an_order=bool(query))]
        return Finding(subject, differences, _allowed(answer) if query else "")

    def _content(self, part: Part, answer: requests.Response) -> Iterator[str]:
        digest = _digest(answer.content)
        if digest == part.sha256:
            return
        approved = f"{part.approved_by} approved on {part.approved_on}"
        yield f"is not what {approved}: SHA-256 {digest}, not {part.sha256}"
        if part.kind == "page":
            known = {each.path for each in self.approved.parts}
            yield from Reader(answer.content.decode(errors="replace"), known).differences

    def _headers(self, part: Part, answer: requests.Response, *, of_an_order: bool) -> Iterator[str]:
        received, expected = answer.headers, self.approved.headers_of(part)
        for name, value in expected.items():
            got = received.get(name)
            if got is None:
                yield f"header {name} is missing"
            elif name == POLICY:
                yield from _policy_differences(got, value, of_an_order=of_an_order, local=self.local)
            elif got != value:
                yield f"header {name} is {_quote(got)}, not {_quote(value)}"
        may_be_there = {name.lower() for name in [*expected, *self.approved.may_be_added]}
        for name in received:
            if name.lower() not in may_be_there:
                yield f"header {name} was added: {_quote(received[name])}"
        if not TYPES[part.kind].fullmatch(received.get("Content-Type", "")):
            yield f"header Content-Type is {_quote(received.get('Content-Type', ''))}"
        if self.url.startswith("https://"):
            age = re.search(r"max-age=\"?(\d+)", received.get(HSTS, ""), re.IGNORECASE)
            if age is None or int(age[1]) < HSTS_MIN_AGE_S:
                yield f"header {HSTS} is missing, or for less than {HSTS_MIN_AGE_S} s"


def _directives(policy: str) -> list[tuple[str, list[str]]]:
    words = (directive.split() for directive in policy.split(";"))
    return [(name, sources) for name, *sources in filter(None, words)]


def _policy_differences(got: str, approved: str, *, of_an_order: bool, local: bool) -> Iterator[str]:
    if "," in got:
        yield f"header {POLICY} was sent more than once"
    received, expected = dict(_directives(got)), dict(_directives(approved))
    if len(received) < len(_directives(got)):
        yield f"header {POLICY} says something twice"
    for name in expected | received:
        says, should = received.get(name), expected.get(name)
        if says == should or (of_an_order and says and _is_the_merchants_to_say(name, says, should)):
            continue
        if says is None and not (local and name == "frame-ancestors"):
            yield f"header {POLICY} has no {name}"
        elif says is not None:
            yield f"header {POLICY} has {_quote(' '.join([name, *says]))}, which nobody approved"


def _is_the_merchants_to_say(name: str, says: list[str], should: list[str] | None) -> bool:
    """On the page of its order: who may frame it, and where its logo is."""
    if name == "img-src":
        return says[:-1] == should and says[-1].startswith("https://")
    return name == "frame-ancestors" and all(source.startswith("https://") for source in says)


def _allowed(answer: requests.Response) -> str:
    """What the merchant chose, for whoever knows it to read."""
    policy = dict(_directives(answer.headers.get(POLICY, "")))
    logo = [source for source in policy.get("img-src", []) if source.startswith("https://")]
    framed = " ".join(policy.get("frame-ancestors", ["any site"]))
    return f"framed by {framed}" + (f", logo {logo[0]}" if logo else "")


def _quote(text: str) -> str:
    short = text if len(text) <= QUOTED_MAX_LENGTH else text[:QUOTED_MAX_LENGTH] + "..."
    return repr(short)  # what somebody else sent: no control character of it reaches a terminal or a log


class Reader(HTMLParser):
    """Says of a page that was changed what in it loads or runs, and was not approved."""

    RUNS_OR_LOADS = ("src", "href", "srcset", "data", "action", "formaction", "poster", "srcdoc", "style")

    def __init__(self, page: str, known: set[str]):
        super().__init__()
        self.differences: list[str] = []
        self._known = known
        self._inline = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        self._inline = tag if tag in ("script", "style") and "src" not in facts else ""
        for name, value in facts.items():
            if name.startswith("on"):
                self.differences.append(f"has an inline script: {name} of <{tag}>, {_quote(value)}")
            elif name in self.RUNS_OR_LOADS and value not in self._known and value != "data:,":
                self.differences.append(f"has <{tag} {name}={_quote(value)}>, which nobody approved")
        if tag in ("base", "iframe", "object", "embed") or (tag == "meta" and "http-equiv" in facts):
            self.differences.append(f"has a <{tag}>, which nobody approved")

    def handle_data(self, data: str) -> None:
        if self._inline and data.strip():
            self.differences.append(f"has an inline {self._inline}: {_quote(data.strip())}")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._inline = ""


# --- commands ------------------------------------------------------------------------------------


@click.command("check-pages")
@click.option("--url", help="Where shoppers reach the checkout; else CHECKOUT_URL.")
@click.option("--order", "order_id", help="The id of an order, to look at its page as well.")
def check_pages(url: str | None, order_id: str | None) -> None:
    """Compare the checkout, as a browser receives it, with what was approved. Exits with 1 if it differs.

    It needs nothing of the gateway but its public address: run it on another machine, at least once a week.
    """
    check = Check(url.rstrip("/"), order_id) if url else _configured(order_id)
    count = 0
    for finding in check.run():
        remark = f" ({finding.remark})" if finding.remark else ""
        if not finding.differences:
            click.echo(f"{click.style('approved', fg='green')}  {finding.subject}{remark}")
        for difference in finding.differences:
            click.echo(f"{click.style('changed ', fg='red')}  {finding.subject} {difference}")
        count += len(finding.differences)
    click.echo(f"{count or 'nothing'} changed")
    sys.exit(1 if count else 0)


def _configured(order_id: str | None) -> Check:
    try:
        settings = load()
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    return Check(settings.checkout_url, order_id, settings.local)


@click.command("approve-pages")
@click.option("--by", required=True, help="Who read what changed, and approves it.")
def approve_pages(by: str) -> None:
    """Write into static/inventory.json what changed in this copy: its SHA-256, who approves it, and when."""
    facts: dict[str, Any] = json.loads(INVENTORY.read_text())
    for part in facts["parts"]:
        digest = _digest((ROOT / part["file"]).read_bytes())
        if digest != part["sha256"]:
            part |= {"sha256": digest, "approved_by": by, "approved_on": date.today().isoformat()}
            click.echo(f"approved  {part['kind']} {part['path']}")
    INVENTORY.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
