"""The documents say all that there is: codes, reasons, events, commands, targets; no link leads nowhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import commands
from config import ROOT
from jobs.acquirers import simulator
from models.webhook_endpoints import EVENT_TYPES
from routes.errors import STATUS_OF_CODE

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), ROOT / "bench/README.md"])
DOCUMENTS = [path for path in DOCUMENTS if path.exists() and "node_modules" not in path.parts]
PROSE = "\n".join(path.read_text() for path in DOCUMENTS)
ERRORS = (ROOT / "docs/errors.md").read_text()


def reasons() -> set[str]:
    """Every `reason` that the code refuses with."""
    calls = (
        node
        for folder in ("models", "routes")
        for path in (ROOT / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    )
    keywords = (keyword for call in calls for keyword in call.keywords if keyword.arg == "reason")
    values = [keyword.value.value for keyword in keywords if isinstance(keyword.value, ast.Constant)]
    return {value for value in values if isinstance(value, str)}


def test_every_error_code_is_documented_with_its_status() -> None:
    for code, status in STATUS_OF_CODE.items():
        assert re.search(rf"^\| {status} \|.*`{code}`", ERRORS, re.MULTILINE), code


def test_every_reason_is_documented() -> None:
    known = reasons()
    assert {"amount_too_large", "key_in_flight", "not_signed_in"} <= known
    of_payments = {*simulator.DECLINES, simulator.TIMED_OUT.reason, simulator.CANCELLED.reason}
    assert not {reason for reason in known | of_payments if f"`{reason}`" not in ERRORS}


def test_every_event_is_documented() -> None:
    webhooks = (ROOT / "docs/webhooks.md").read_text()
    assert not {event for event in EVENT_TYPES if f"`{event}`" not in webhooks}


def test_every_command_is_documented() -> None:
    assert not {name for name in commands.app.cli.commands if not re.search(rf"\bflask {name}\b", PROSE)}


def test_every_target_of_the_makefile_is_documented() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE))
    assert {"run", "test", "check"} <= targets
    assert not {target for target in targets if f"make {target}" not in PROSE}


def anchor(heading: str) -> str:
    """As the usual viewers of Markdown make it of a heading."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_leads_nowhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", text):
        name, _, fragment = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        if fragment and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert fragment in {anchor(heading) for heading in headings}, link


def test_decisions_are_numbered_once_each() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs/decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
