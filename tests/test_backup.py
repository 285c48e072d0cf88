"""A backup is all that there was at one moment, and what is restored from it goes on from there."""

from __future__ import annotations

import shutil
import signal
import stat
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask

import local
from app import create_app
from commands import backup, restore, verify
from config import ROOT
from models import schema
from models.base import db
from models.context import core_app
from tests.conftest import (
    Api,
    another_database,
    api_of,
    breaks,
    drain_all,
    in_sql,
    populate,
    settings_of,
    stored,
)
from tests.faults.bank import running_bank
from tests.processes import gateway, start, wait_until
from tests.receiver import Receiver, running_receiver
from tests.test_migrations import catalog, load, old, template  # noqa: F401 (fixtures)


@pytest.fixture
def empty(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    with another_database(environ, "restored") as settings:
        yield settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.dump"


def run(command: Any, environ: dict[str, str], *arguments: Path) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], env=environ)


def done(command: Any, environ: dict[str, str], *arguments: Path) -> str:
    result = run(command, environ, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def rows(environ: dict[str, str]) -> dict[str, list[str]]:
    """But for the proofs of it."""
    app = core_app(settings_of(environ))
    try:
        return {table: each for table, each in stored(app).items() if table != "verifications"}
    finally:
        with app.app_context():
            db.engine.dispose()


def test_what_is_restored_is_what_was_backed_up_and_goes_on(
    app: Flask, api: Api, environ: dict[str, str], empty: dict[str, str], file: Path
) -> None:
    with running_receiver() as receiver:
        populate(api, receiver)
    pending = api.upi(api.order()["id"])
    in_sql(app, "UPDATE payments SET due_at = due_at - interval '1 day'")  # the backup is an old one
    assert "keep that too, in another place" in done(backup, environ, file)
    said = done(restore, empty, file)
    assert "no breaks" in said
    assert "applied" not in said
    assert catalog(empty) == catalog(environ)
    assert rows(empty) == rows(environ)
    restored = create_app(settings_of(empty))
    with api_of(restored) as its_api:
        assert breaks(restored) != []
        drain_all()
        assert its_api.payment(pending["id"])["status"] == "success"
        assert breaks(restored) == []
    with restored.app_context():
        db.engine.dispose()


def test_an_older_backup_is_brought_up_to_date(
    old: dict[str, str],  # noqa: F811
    empty: dict[str, str],
    file: Path,
) -> None:
    done(backup, old, file)
    said = done(restore, empty, file)
    for name in schema.REVISIONS[1:]:
        assert f"applied  {name}\n" in said
    assert done(verify, empty).endswith("no breaks\n")


def test_a_backup_is_its_owners_alone_and_complete_or_not_there(
    app: Flask, environ: dict[str, str], file: Path
) -> None:
    done(backup, environ, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    result = run(backup, environ | {"DATABASE_URL": environ["DATABASE_URL"].replace("/payment", "/no")}, file)
    assert result.exit_code == 1
    assert "Error: pg_dump: error: connection to server" in result.output
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_only_an_empty_database_is_filled(app: Flask, environ: dict[str, str], file: Path) -> None:
    done(backup, environ, file)
    before = rows(environ)
    result = run(restore, environ, file)
    assert result.exit_code == 1
    assert "Error: The database is not empty" in result.output
    assert rows(environ) == before


def test_a_damaged_file_leaves_the_database_empty(
    api: Api, environ: dict[str, str], receiver: Receiver, empty: dict[str, str], file: Path
) -> None:
    populate(api, receiver)
    done(backup, environ, file)
    file.write_bytes(file.read_bytes()[:-2000])
    result = run(restore, empty, file)
    assert result.exit_code == 1
    assert "Error: pg_restore: error: " in result.output
    assert rows(empty) == {}


def test_another_secret_key_is_named(
    app: Flask, environ: dict[str, str], empty: dict[str, str], file: Path
) -> None:
    done(backup, environ, file)
    another = {"SECRET_KEY": "another-secret-key-of-good-length-000"}
    result = run(restore, empty | another, file)
    assert result.exit_code == 1
    assert "Error: SECRET_KEY: Is not the one that this database was written with" in result.output
    assert run(verify, empty | another).exit_code == 1
    assert done(verify, empty).endswith("no breaks\n")  # all that was missing is the key
    assert done(verify, empty | another | {"SECRET_KEY_FALLBACKS": environ["SECRET_KEY"]})


# --- the drill -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gateway_is_backed_up_under_load_destroyed_restored_and_goes_on(tmp_path: Path, file: Path) -> None:
    with running_bank() as bank, running_receiver() as receiver:
        bank.latency_s = lambda _ask: 0.5  # so that there is always something under way
        settings = {"ACQUIRER": "tests.faults.bank:HttpBank", "BANK_URL": bank.url, "PYTHONPATH": str(ROOT)}
        with gateway(tmp_path / "data", **settings) as lost:
            lost.post("/webhook_endpoints", {"url": receiver.url})
            with load(lost) as asked:
                wait_until(lambda: len(asked) > 60)
                before = len(asked)
                lost.flask("backup", str(file))
                wait_until(lambda: len(asked) > before + 60)
            lost.process.send_signal(signal.SIGKILL)
            lost.process.wait()
            local.end_leftovers(local.Gateway(settings_of(lost.environ)))
            shutil.rmtree(lost.data_dir)

            started = time.monotonic()
            assert "\nno breaks\n" in lost.flask("restore", str(file))
            print(f"restored and verified in {time.monotonic() - started:.1f} s")
            running = start(lost.environ, lost.output)
            print(f"at work again after {time.monotonic() - started:.1f} s")
            try:
                wait_until(running.at_rest, 60)
                ((carried_on,),) = running.query(CARRIED_ON)
                with load(running) as later:
                    wait_until(lambda: len(later) > 20)
                wait_until(running.at_rest, 60)
                assert running.flask("verify").endswith("no breaks\n")
                ours = dict(running.query("SELECT id, status FROM payments"))
                events = running.query("SELECT id, payload FROM events WHERE order_id IS NOT NULL")
            finally:
                running.stop()
    print(f"{len(asked)} payments, {before} before the backup; {carried_on} went on; {len(later)} later")

    # Nothing of before the backup is lost, what was due went on, and the bank was asked under one name each.
    assert {*asked[:before], *later} <= set(ours)
    assert carried_on > 0
    assert set(ours.values()) == {"success"}
    asks = [ask for ask, _ in bank.bank.book.values()]
    assert set(Counter(ask.payment_id for ask in asks).values()) == {1}
    # What the bank did since then, its statement has and we have not: see docs/operations.md.
    unknown = {ask.payment_id for ask in asks} - set(ours)
    assert unknown
    assert unknown <= {*asked[before:]}
    # Each event arrived, some twice: under one id, with the same bytes.
    bodies: dict[str, set[bytes]] = {}
    for message in receiver.received:
        bodies.setdefault(message.headers["webhook-id"], set()).add(message.body)
    assert all(bodies[event_id] == {payload.encode()} for event_id, payload in events)


# Payments that were begun before the backup, and settled by the workers of the restored gateway.
CARRIED_ON = """
    SELECT count(*) FROM events JOIN payments p ON p.id = payment_id
    WHERE type = 'payment.success' AND events.created_at > p.created_at + interval '5 seconds'
"""
