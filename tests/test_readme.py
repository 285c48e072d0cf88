"""Every command of the README and of the checkout's guide, run as it is written (but for the port)."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from config import ROOT
from tests.processes import gateway

README = (ROOT / "README.md").read_text()
CHECKOUT = (ROOT / "docs/checkout.md").read_text()
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_five_steps_work_as_written(tmp_path: Path) -> None:
    blocks = SHELL_BLOCK.findall(README)
    assert len(blocks) == 7
    blocks += SHELL_BLOCK.findall(CHECKOUT)
    assert len(blocks) == 10
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 4000)) != 0, (
            "the README's receiver needs port 4000, which is taken"
        )
    with gateway(tmp_path / "data", PROCESSING_DELAY_MS="1000-3000") as running:
        script = "set -e\n" + "\n".join(blocks)
        script = script.replace("localhost:8000", f"localhost:{running.port}")
        output = tmp_path / "output"
        with output.open("w") as file:
            shell = subprocess.Popen(
                ["bash", "-c", script], cwd=ROOT, stdout=file, stderr=file, start_new_session=True
            )
            try:
                assert shell.wait(60) == 0, output.read_text()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)  # the receiver runs in its background
        said = output.read_text()
        for event in ("payment.created", "payment.success", "payment.captured", "order.paid"):
            assert re.search(rf"^{event} +evt_\w+  signature verified$", said, re.MULTILINE), said
        assert "WRONG" not in said
        assert '"status":"success"' in said
        assert '"available":10000' in said
        assert said.count('"id":"rfnd_') == 2
        assert "The payment is already refunded in full." in said
        assert '"amount_captured":2500' in said
        assert re.search(r'"checkout_url":"http://localhost:\d+/checkout\?order_id=order_\w+"', said)
        assert '"name":"Chai & Co."' in said
        assert '"frame_origins":["https://shop.example"]' in said


def test_every_file_and_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    tree = re.search(r"^```\napp\.py.*?^```", README, re.DOTALL | re.MULTILINE)
    assert tree
    for line in tree[0].splitlines()[1:-1]:
        for name in line[:20].split():
            assert (ROOT / name).exists(), name


def test_every_route_is_in_the_readme(shared_app) -> None:
    table = README.split("## The API")[1].split("## Settings")[0]
    pages = ("pages.", "dashboard.", "reference.", "api-docs.")
    for rule in shared_app.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "{id}", rule.rule).removeprefix("/api/v1")
        if path.startswith(("/static/", "/rq")):
            continue
        if not rule.endpoint.startswith(pages) and path != "/payments/list":
            assert f"{path}`" in table, path
