"""What an operator watches: alerts, dashboard and the chapters about them name what there is."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Api, in_sql
from tests.receiver import Receiver

METRIC = re.compile(r"\bgateway_\w+")
QUERY = re.compile(r'psql [^"]*-c "(SELECT .*?)"', re.DOTALL)


@pytest.fixture
def rules(root: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((root / "deploy/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture
def dashboard(root: Path) -> dict[str, Any]:
    return json.loads((root / "deploy/grafana.json").read_text())


@pytest.fixture
def runbook(root: Path) -> str:
    return (root / "docs/operations.md").read_text().split("## What to do when it rings")[1].split("\n## ")[0]


@pytest.fixture
def told(app: Flask, api: Api, receiver: Receiver) -> set[str]:
    """The names of all that a gateway tells on which everything has happened."""
    receiver.answers = [500]
    api.endpoint(receiver.url)
    api.paid()
    in_sql(app, "INSERT INTO verifications (started_at, finished_at, breaks) VALUES (now(), now(), 0)")
    families = text_string_to_metric_families(app.test_client().get("/metrics").text)
    return {sample.name for family in families for sample in family.samples}


def test_every_metric_of_an_alert_exists(rules: list[dict[str, Any]], told: set[str]) -> None:
    for rule in rules:
        named = set(METRIC.findall(rule["expr"]))
        assert named <= told
        assert named or rule["expr"].startswith("up{")


def test_every_alert_says_what_it_is_how_grave_and_what_to_do(
    rules: list[dict[str, Any]], runbook: str
) -> None:
    headings = re.findall(r"^### (\w+)$", runbook, re.MULTILINE)
    assert [rule["alert"] for rule in rules] == headings
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_metric_of_the_dashboard_exists(dashboard: dict[str, Any], told: set[str]) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["targets"]
        for target in panel["targets"]:
            named = set(METRIC.findall(target["expr"]))
            assert named <= told
            assert named or "up{" in target["expr"]
            assert (
                target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            )


def test_its_panels_lie_side_by_side(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
        assert one["x"] + one["w"] <= 24


def test_the_queries_of_the_runbook_are_right(app: Flask, runbook: str) -> None:
    queries = QUERY.findall(runbook)
    assert len(queries) == runbook.count('-c "') - 1  # the other one is Python
    for query in queries:
        in_sql(app, query.replace(":", "\\:"))


def test_the_links_of_the_runbook_lead_somewhere(runbook: str) -> None:
    headings = {name.lower() for name in re.findall(r"^### (\w+)$", runbook, re.MULTILINE)}
    links = re.findall(r"\]\(#(\w+)\)", runbook)
    assert links
    assert set(links) <= headings
