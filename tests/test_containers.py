"""The image and the compose files: what they let in, check, wait for and pass on is what the code needs.

No Docker is needed: what would run in a container is run here, from a folder that holds what the image would.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask

from app import MAX_BODY_BYTES
from config import ROOT
from jobs.worker import STOP_TIMEOUT_S
from models.base import db
from models.context import BUSY_CONNECTIONS
from models.workers import Worker
from tests.conftest import settings_of
from tests.processes import free_ports

COMPOSE_FILES = ("docker-compose.yml", "deploy/compose.server.yml", "deploy/compose.node.yml")
CADDYFILE = (ROOT / "deploy/Caddyfile").read_text()
GUNICORN = (ROOT / "gunicorn.conf.py").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
OF_COMPOSE, OF_CADDY = re.compile(r"\$\{([A-Z_]+)"), re.compile(r"\{\$([A-Z_]+)\}")


class Loader(yaml.SafeLoader):
    """Compose's YAML: `!reset` takes away what the files before had."""


Loader.add_constructor("!reset", lambda _loader, _node: None)


def services_of(name: str) -> dict[str, Any]:
    return yaml.load((ROOT / name).read_text(), Loader)["services"]  # noqa: S506 (a SafeLoader)


PAIR = services_of("docker-compose.yml")


def seconds(pattern: str, text: str) -> float:
    """The one number of seconds (or bytes) that stands there."""
    (found,) = re.findall(pattern, text, re.MULTILINE)
    return float(found)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what .dockerignore lets into the image, and nothing else."""
    folder = tmp_path_factory.mktemp("image")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        source = ROOT / line[1:]
        if not line.startswith("!") or not source.exists():
            continue
        if source.is_dir():
            shutil.copytree(source, folder / line[1:], ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    return folder


def run_in(folder: Path, environ: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", *command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_image_has_all_that_the_web_server_loads(
    image: Path, app: Flask, environ: dict[str, str]
) -> None:
    run = run_in(image, environ, "-m", "gunicorn", "--config", "gunicorn.conf.py", "--check-config")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("module", ["jobs.worker", "commands"])
def test_the_image_has_all_that_is_loaded_beside_it(image: Path, module: str) -> None:
    run = run_in(image, {}, "-c", f"import {module}; print({module}.__file__)")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(image))


def test_the_image_has_nothing_of_development(image: Path) -> None:
    assert not {path.name for path in image.iterdir()} & {
        "tests",
        "bench",
        "docs",
        "deploy",
        "local.py",
        ".env",
    }


def test_the_web_servers_check_asks_for_its_health(live: str) -> None:
    check = json.loads(
        re.findall(r"HEALTHCHECK.*?CMD (\[.*?\])\n", (ROOT / "Dockerfile").read_text(), re.DOTALL)[0]
    )
    assert check[0] == "python"
    port = live.rpartition(":")[2]
    assert run_in(ROOT, {"PORT": port}, *check[1:]).returncode == 0
    assert run_in(ROOT, {"PORT": str(free_ports(1)[0])}, *check[1:]).returncode != 0


def test_the_workers_check_counts_those_of_its_container(app: Flask, environ: dict[str, str]) -> None:
    check = PAIR["gateway_worker"]["healthcheck"]["test"]
    assert check[:2] == ["CMD", "python"]
    environ = {"DATABASE_URL": environ["DATABASE_URL"], "WORKER_PROCESSES": "2"}
    with app.app_context():
        Worker.beat("elsewhere", "another-container", 1, [])
        Worker.beat("first", socket.gethostname(), 1, [])
        db.session.commit()
        assert run_in(ROOT, environ, *check[2:]).returncode != 0
        Worker.beat("second", socket.gethostname(), 2, [])
        db.session.commit()
        assert run_in(ROOT, environ, *check[2:]).returncode == 0


@pytest.mark.parametrize("name", [*COMPOSE_FILES, "deploy/Caddyfile"])
def test_every_variable_is_explained(name: str) -> None:
    text = (ROOT / name).read_text()
    names = set(OF_COMPOSE.findall(text) + OF_CADDY.findall(text))
    assert names
    assert not {name for name in names if not re.search(rf"^#{name}=", EXAMPLE, re.MULTILINE)}


def test_caddy_is_given_what_its_file_asks_for() -> None:
    asked = set(OF_CADDY.findall(CADDYFILE))
    assert asked == set(services_of("deploy/compose.server.yml")["caddy"]["environment"])


def test_nobody_is_killed_before_they_may_take_their_time() -> None:
    def grace_s(service: dict[str, Any]) -> float:
        return float(service["stop_grace_period"].removesuffix("s"))

    assert grace_s(PAIR["gateway_api"]) > seconds(r"^graceful_timeout = (\d+)", GUNICORN)
    assert grace_s(PAIR["gateway_worker"]) > STOP_TIMEOUT_S
    caddy = services_of("deploy/compose.server.yml")["caddy"]
    assert grace_s(caddy) > seconds(r"grace_period (\d+)s", CADDYFILE)


def test_proxies_wait_longer_and_keep_lines_shorter_than_the_web_server() -> None:
    nginx = (ROOT / "deploy/nginx.conf").read_text()
    keepalive_s = seconds(r"^keepalive = (\d+)", GUNICORN)
    assert seconds(r"^\s*keepalive (\d+)s", CADDYFILE) < keepalive_s
    assert seconds(r"^    keepalive_timeout (\d+)s; # gunicorn", nginx) < keepalive_s
    timeout_s = seconds(r"^timeout = (\d+)", GUNICORN)
    assert seconds(r"response_header_timeout (\d+)s", CADDYFILE) > timeout_s
    assert seconds(r"proxy_read_timeout (\d+)s", nginx) > timeout_s
    assert seconds(r"max_size (\d+)KB", CADDYFILE) * 1000 > MAX_BODY_BYTES  # it is told by us, in our words
    assert seconds(r"client_max_body_size (\d+)k", nginx) * 1024 > MAX_BODY_BYTES


def test_the_connections_are_as_the_guide_adds_them_up() -> None:
    settings = settings_of({})
    of_a_process = settings.web_connections + BUSY_CONNECTIONS
    web = settings.web_workers * of_a_process
    worker = (settings.worker_processes + 1) * of_a_process + 1
    guide = (ROOT / "docs/operations.md").read_text()
    for row in (
        rf"`gateway_api` .*\| {web} \|",
        rf"`gateway_worker` .*\| {worker} \|",
        rf"\| {web + worker} \|",
    ):
        assert re.search(row, guide), row
    (allowed,) = re.findall(r"max_connections=(\d+)", str(PAIR["postgres_gateway"]["command"]))
    assert int(allowed) >= 3 * web + 3 * worker  # --scale gateway_api=3 --scale gateway_worker=3


@pytest.mark.parametrize("name", ["gateway_api", "gateway_worker"])
def test_the_pair_is_confined(name: str) -> None:
    service = PAIR[name]
    assert service["image"] == "payment-gateway"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_a_server_is_a_production_that_is_reached_through_its_proxy_alone() -> None:
    server = services_of("deploy/compose.server.yml")
    assert "ports: !reset []" in (ROOT / "deploy/compose.server.yml").read_text()
    assert [name for name, service in server.items() if service.get("ports")] == ["caddy"]
    for name in ("gateway_api", "gateway_worker"):
        assert server[name]["environment"] == {"APP_ENV": "production", "TRUSTED_PROXIES": "1"}
