"""Fixtures: one real Chromium for the whole run, and for every test pages of its own that are watched."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from config import ROOT
from tests.conftest import Api, drain_all
from tests.processes import wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",  # which root, as in most CI containers, cannot have
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 10_000  # for anything to appear; the pages ask once a second
AXE = ROOT / "tests/browser/node_modules/axe-core/axe.min.js"

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail("no Chromium: install one (apt-get install chromium), or set CHROMIUM", pytrace=False)
    with sync_playwright() as playwright:
        playwright.selectors.set_test_id_attribute("data-test-id")
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@dataclass
class Watch:
    """What the pages did beside what they show: whom they spoke to, and what they complained of.

    The browser may be late with a complaint: a test says which ones it allows, or waits for one.
    """

    origins: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()

    def page(self, page: Page) -> None:
        page.on("request", self.request)
        page.on("console", self.console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data":
            self.origins.add(f"{parts.scheme}://{parts.netloc}")
            self.requests.append(request)

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def allow(self, *parts: str) -> None:
        """Whatever complaint has one of these in it, before this or after, is of what the test is about."""
        self.allowed += parts

    def wait_for(self, page: Page, part: str) -> None:
        """Until there is such a complaint, which is allowed then."""
        self.allow(part)

        def came() -> bool:
            page.evaluate("0")  # any call: only in one does Playwright hand out what has come
            return any(part in complaint for complaint in self.complaints)

        wait_until(came)

    def not_allowed(self) -> list[str]:
        return [c for c in self.complaints if not any(part in c for part in self.allowed)]


@pytest.fixture
def watch() -> Watch:
    return Watch()


NewContext = Callable[..., BrowserContext]


@pytest.fixture
def new_context(browser: Browser, live: str, watch: Watch) -> Iterator[NewContext]:
    """Makes contexts on the running app: browsers of their own, whose pages are watched."""
    with ExitStack() as contexts:

        def make(**options: Any) -> BrowserContext:
            still = {"reduced_motion": "reduce"}  # a spinner, drawn without a GPU, takes a processor
            context = browser.new_context(base_url=live, **{"locale": "en-IN"} | still | options)
            contexts.callback(context.close)  # before the server, which waits for its last request
            context.set_default_timeout(PATIENCE_MS)
            context.on("page", watch.page)
            return context

        yield make
    assert watch.not_allowed() == []


@pytest.fixture
def page(new_context: NewContext, live: str, watch: Watch) -> Iterator[Page]:
    """A page on the running app. Whatever the test looks for: no complaint, no word to another origin."""
    yield new_context().new_page()
    assert watch.origins <= {live}


@pytest.fixture
def workers(api: Api) -> Iterator[None]:
    """Work is done as it becomes due."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            drain_all()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def axe(page: Page) -> list[str]:
    """What axe-core finds wrong on the page and in its frames as they now are, by WCAG 2.2 A and AA and its
    best practices.

    In worlds of its own: the page's policy lets no script of others run.
    """
    session = page.context.new_cdp_session(page)
    top = session.send("Page.getFrameTree")["frameTree"]
    frames = [top, *top.get("childFrames", [])]
    assert len(frames) == len(page.frames), "a frame is out of sight"
    return [found for frame in frames for found in _axe_in(session, frame["frame"]["id"])]


def _axe_in(session: CDPSession, frame_id: str) -> list[str]:
    world = session.send("Page.createIsolatedWorld", {"frameId": frame_id, "worldName": "axe"})
    evaluate = {"contextId": world["executionContextId"], "awaitPromise": True, "returnByValue": True}
    session.send("Runtime.evaluate", {"expression": AXE.read_text(), **evaluate})
    found = session.send(
        "Runtime.evaluate",
        {
            "expression": "axe.run(document, {iframes: false}).then(({violations, passes}) => "
            "[passes.length, violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html)}`)])",
            **evaluate,
        },
    )
    assert "exceptionDetails" not in found, found
    passes, violations = found["result"]["value"]
    assert passes > 5, "axe-core did not look at the page"
    return violations
