"""An old database becomes what a new one is, with its data, while others use it, whatever comes between."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import psycopg2
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from flask import Flask
from psycopg2.extensions import connection as Line
from sqlalchemy import text

import local
from app import create_app
from config import ROOT, ConfigError
from models import schema
from models.base import Model, db
from models.context import core_app
from models.merchants import TEST_MERCHANT_ID, Merchant
from models.passwords import PasswordLink
from models.verification import Verification
from models.workers import Worker
from tests.conftest import (
    Api,
    Dashboard,
    administration,
    another_database,
    api_of,
    breaks,
    drain_all,
    found,
    made,
    populate,
    settings_of,
    stored,
)
from tests.processes import START_S, Running, gateway, start, wait_until
from tests.receiver import running_receiver

UPGRADE = command.upgrade
FLASK = [sys.executable, "-m", "flask"]
BASELINE = ROOT / "migrations/versions/0001_baseline.sql"
TABLE = re.compile(r"(?<=^CREATE TABLE )(\S+ \(\n)(.*?)(?=^\);)", re.DOTALL | re.MULTILINE)
OTHERS_WAIT_MAX_S = 1.0  # the lock's timeout, and a busy machine


def postgres(program: str, environ: dict[str, str], *options: str, given: str = "") -> str:
    command = [str(local.postgres_program(program)), "--dbname", environ["DATABASE_URL"], *options]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def catalog(environ: dict[str, str]) -> str:
    """All that there is in a database, but for rows. A table's columns by name: added ones come last."""
    dumped = postgres("pg_dump", environ, "--schema-only", "--restrict-key=same")
    return TABLE.sub(
        lambda table: table[1] + "\n".join(sorted(line.rstrip(",") for line in table[2].splitlines())), dumped
    )


def fill(app: Flask, api: Api) -> None:
    """Something in every table, and payments in every state, some of them with work that is due."""
    with running_receiver() as receiver:
        populate(api, receiver)
        voided = api.paid(capture="manual")
        found(api.post(f"/payments/{voided['id']}/void"))
        back = api.paid()
        made(api.post(f"/payments/{back['id']}/refunds", {}))
        api.upi(api.order()["id"], "failure@upi")
        api.card(api.order()["id"], "4000000000003220")
        drain_all()
        api.upi(api.order()["id"])
        made(api.post("/orders", {"amount": 100}, key="once"))
        inbox = made(api.post("/test/inboxes"))
    app.test_client().post(f"/inbox/{inbox['token']}", json={})
    Dashboard(app)
    assert api.post("/session", {"email": "test@example.com", "password": "wrong"}).status_code == 401
    with app.app_context():
        PasswordLink.issue(db.session.get_one(Merchant, TEST_MERCHANT_ID))
        Worker.beat("worker", "host", 1, ["payments"])
        db.session.commit()
        Verification.run()


@pytest.fixture(scope="module")
def template(environ: dict[str, str]) -> Iterator[str]:
    """The name of a database as revision 0001 had it, with rows in every table."""
    with another_database(environ, "filled") as filled, another_database(environ, "baseline") as old:
        app = create_app(settings_of(filled))
        with api_of(app) as api:
            fill(app, api)
        dispose(app)
        with administration(filled["DATABASE_URL"]) as administer:
            administer("ALTER TABLE webhook_endpoints DROP COLUMN quick")
        newer = [f"--exclude-table={table}" for table in ("alembic_version", "rescues")]
        rows = postgres("pg_dump", filled, "--data-only", "--disable-triggers", *newer)
        postgres("psql", old, "--quiet", "--set=ON_ERROR_STOP=1", given=BASELINE.read_text() + rows)
        yield "baseline"


@pytest.fixture
def old(environ: dict[str, str], template: str) -> Iterator[dict[str, str]]:
    with another_database(environ, "old", template) as settings:
        yield settings


@pytest.fixture(scope="module")
def new_catalog(environ: dict[str, str]) -> Iterator[str]:
    with another_database(environ, "new") as settings:
        with database_of(settings):
            schema.prepare_database()
        yield catalog(settings)


@contextmanager
def database_of(environ: dict[str, str]) -> Iterator[Flask]:
    app = core_app(settings_of(environ))
    with app.app_context():
        yield app
    dispose(app)


def dispose(app: Flask) -> None:
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def flask_migrate(environ: dict[str, str], *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*FLASK, "migrate", *options],
        cwd=ROOT,
        env=environ | {"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=START_S)
    return process.returncode, said


@contextmanager
def transaction(environ: dict[str, str], statement: str) -> Iterator[Line]:
    """One that has begun with this, and ends with the context."""
    with closing(psycopg2.connect(environ["DATABASE_URL"])) as line, line.cursor() as cursor:
        cursor.execute(statement)
        yield line


def at_revision(environ: dict[str, str]) -> str:
    with database_of(environ), db.engine.connect() as connection:
        return schema.revision(connection)


# --- what it comes to ----------------------------------------------------------------------------


def test_the_revisions_are_numbered_one_after_the_other() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    walked = [(each.revision, each.down_revision) for each in script.walk_revisions()][::-1]
    numbers = [f"{number:04}" for number in range(1, len(schema.REVISIONS) + 1)]
    assert walked == list(zip(numbers, [None, *numbers], strict=False))
    assert [name[schema.NUMBER] for name in schema.REVISIONS] == numbers


def test_an_old_database_becomes_a_new_one_and_keeps_its_data(old: dict[str, str], new_catalog: str) -> None:
    with database_of(old) as app:
        before = stored(app)
        assert all(before.values()), before
        assert catalog(old) != new_catalog
        assert schema.migrate() == schema.REVISIONS[1:]
        assert catalog(old) == new_catalog
        assert schema.migrate() == []
        after = stored(app)
        assert after.pop("alembic_version") == [f"({schema.HEAD})"]
        assert after.pop("rescues") == []
        before["webhook_endpoints"] = [f"{row[:-1]},f)" for row in before["webhook_endpoints"]]  # quick
        assert after == before
        assert breaks(app) == []


def test_a_gateway_goes_on_with_an_old_database(old: dict[str, str]) -> None:
    app = create_app(settings_of(old))
    with api_of(app) as api:
        pending = found(api.get("/payments", status="pending"))["data"]
        assert pending
        drain_all()
        assert {api.payment(payment["id"])["status"] for payment in pending} == {"success"}
        assert api.paid()["status"] == "success"
    assert breaks(app) == []
    dispose(app)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("number", [name[schema.NUMBER] for name in schema.REVISIONS])
def test_every_version_between_becomes_a_new_one(
    old: dict[str, str], new_catalog: str, monkeypatch: pytest.MonkeyPatch, number: str, versioned: bool
) -> None:
    with database_of(old) as app, monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", lambda config, _head: UPGRADE(config, number))
        schema.migrate()
    assert at_revision(old) == number
    if not versioned:  # as all were, of before there were revisions
        with administration(old["DATABASE_URL"]) as administer:
            administer("DROP TABLE alembic_version")
    with database_of(old) as app:
        lacking = [name for name in schema.REVISIONS[1:] if name[schema.NUMBER] > number or not versioned]
        assert schema.migrate() == lacking
        assert catalog(old) == new_catalog
        assert breaks(app) == []


def test_a_worker_of_before_there_were_quick_endpoints_may_find_one_slow(old: dict[str, str]) -> None:
    """It knows nothing of `quick`, and works beside new ones that do."""
    with database_of(old):
        schema.migrate()
    with (
        transaction(old, "UPDATE webhook_endpoints SET quick = true RETURNING id") as line,
        line.cursor() as cursor,
    ):
        cursor.execute("UPDATE webhook_endpoints SET slow = true RETURNING slow AND quick")
        assert cursor.fetchone() == (True,)


# --- who does it ---------------------------------------------------------------------------------


def test_of_several_that_start_at_once_one_does_it(old: dict[str, str], new_catalog: str) -> None:
    processes = [flask_migrate(old) for _ in range(3)]
    results = [ended(process) for process in processes]
    assert [code for code, _ in results] == [0, 0, 0], results
    said = "".join(words for _, words in results)
    for name in schema.REVISIONS[1:]:
        assert said.count(f"applied  {name}\n") == 1, said
    assert said.count(f"The database is at revision {schema.HEAD}.") == 3
    assert catalog(old) == new_catalog


def test_what_is_missing_is_said_and_not_done(old: dict[str, str]) -> None:
    before = catalog(old)
    code, said = ended(flask_migrate(old, "--check"))
    assert code == 1
    missing = "".join(f"missing  {name}\n" for name in schema.REVISIONS[1:])
    assert said == f"{missing}The database is at revision 0001.\n"
    assert catalog(old) == before
    with database_of(old):
        schema.prepare_database()
    assert ended(flask_migrate(old, "--check")) == (0, f"The database is at revision {schema.HEAD}.\n")


def test_a_worker_waits_for_the_revision_that_it_knows(
    old: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    app = core_app(settings_of(old))
    ready = Event()

    def wait() -> None:
        with app.app_context():
            schema.wait_for_schema(Event())
            ready.set()

    waiting = Thread(target=wait)
    waiting.start()
    wait_until(lambda: f"it is at revision 0001, not yet at {schema.HEAD}" in caplog.text)
    assert not ready.is_set()
    with app.app_context():
        schema.prepare_database()
    assert ready.wait(START_S)
    waiting.join()
    dispose(app)


def test_a_newer_database_is_accepted(
    environ: dict[str, str], old: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with database_of(old):
        schema.prepare_database()
    with administration(old["DATABASE_URL"]) as administer:
        administer("UPDATE alembic_version SET version_num = '9999'")
    app = create_app(settings_of(old))
    said = f"the database is at revision 9999, newer than this code, which knows {schema.HEAD}"
    assert said in caplog.text
    with app.app_context():
        schema.wait_for_schema(Event())  # comes back
        assert schema.migrate() == []
    assert at_revision(old) == "9999"
    dispose(app)


def test_who_may_not_change_the_schema_is_told_so(old: dict[str, str]) -> None:
    with administration(old["DATABASE_URL"]) as administer:
        administer("CREATE ROLE clerk LOGIN")
        try:
            administer("GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk")
            as_clerk = old | {"DATABASE_URL": old["DATABASE_URL"].replace("//postgres", "//clerk")}
            with (
                database_of(as_clerk),
                pytest.raises(ConfigError, match=r"^DATABASE_URL: The schema cannot be changed: "),
            ):
                schema.prepare_database()
        finally:
            administer("DROP OWNED BY clerk")
            administer("DROP ROLE clerk")


def test_a_start_with_nothing_to_do_does_not_load_alembic(environ: dict[str, str], app: Flask) -> None:
    program = "import sys; from app import create_app; create_app(); sys.exit('alembic' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ | {"PATH": os.environ["PATH"]}, check=True
    )


# --- while others work ---------------------------------------------------------------------------


def test_a_long_transaction_makes_it_wait_and_nobody_else(old: dict[str, str], new_catalog: str) -> None:
    with transaction(old, "LOCK TABLE events IN ACCESS SHARE MODE"):  # as who only reads it
        process = flask_migrate(old)
        waits_s = []
        with closing(psycopg2.connect(old["DATABASE_URL"])) as line, line.cursor() as cursor:
            until = None
            while until is None or time.monotonic() < until:
                started = time.monotonic()
                cursor.execute("SELECT id FROM events LIMIT 1 FOR KEY SHARE")
                line.commit()
                waits_s.append(time.monotonic() - started)
                if until is None and "ledger_entries_merchant_id_fkey" not in catalog(old):
                    until = time.monotonic() + 5  # it is at the references, and tries again and again
        assert process.poll() is None
        assert at_revision(old) == "0001"
        assert max(waits_s) < OTHERS_WAIT_MAX_S
        assert max(waits_s) > 0.1  # it did stand in the queue
    code, said = ended(process)
    assert code == 0, said
    assert "waiting for a lock: ALTER TABLE events DROP CONSTRAINT" in said
    assert catalog(old) == new_catalog


def test_killed_between_two_tables_it_goes_on(old: dict[str, str], new_catalog: str) -> None:
    with transaction(old, "LOCK TABLE events IN ACCESS SHARE MODE"):
        process = flask_migrate(old)
        wait_until(lambda: "ledger_entries_merchant_id_fkey" not in catalog(old), START_S)
        process.kill()
        ended(process)
    half = catalog(old)
    assert "events_merchant_id_fkey" in half
    code, said = ended(flask_migrate(old))
    assert code == 0, said
    assert catalog(old) == new_catalog


def test_killed_while_an_index_is_built_it_builds_it_anew(old: dict[str, str], new_catalog: str) -> None:
    # Who writes now may have seen the table of before: the building waits for it.
    with transaction(old, "UPDATE orders SET receipt = receipt"):
        process = flask_migrate(old)
        with database_of(old), db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as line:
            building = (
                "FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%' AND wait_event_type = 'Lock'"
            )
            wait_until(lambda: line.scalar(text(f"SELECT count(*) {building}")) == 1, START_S)
            process.kill()
            ended(process)
            line.execute(text(f"SELECT pg_terminate_backend(pid) {building}"))
            invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
            wait_until(lambda: line.scalar(text(f"SELECT count(*) {building}")) == 0)
            assert line.scalars(text(invalid)).all() == ["orders_to_expire_new"]
    code, said = ended(flask_migrate(old))
    assert code == 0, said
    assert catalog(old) == new_catalog


# What revisions 0002 and 0003 change, but for a column without which this code would not run.
UNDONE = """
    UPDATE alembic_version SET version_num = '0001';
    CREATE INDEX ledger_entries_posting ON ledger_entries (posting_id);
    DROP INDEX orders_to_expire, webhook_deliveries_due_by_endpoint;
    CREATE INDEX orders_to_expire ON orders (expires_at) WHERE status IN ('created', 'attempted');
    CREATE INDEX webhook_deliveries_due_by_endpoint ON webhook_deliveries (endpoint_id, due_at)
        WHERE due_at IS NOT NULL;
    ALTER TABLE payments ADD FOREIGN KEY (merchant_id) REFERENCES merchants;
    ALTER TABLE ledger_entries ADD FOREIGN KEY (merchant_id) REFERENCES merchants;
    ALTER TABLE events ADD FOREIGN KEY (merchant_id) REFERENCES merchants;
    ALTER TABLE webhook_deliveries ADD FOREIGN KEY (merchant_id) REFERENCES merchants;
    ALTER TABLE refunds ADD FOREIGN KEY (merchant_id) REFERENCES merchants;
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_request_fails_while_it_migrates_and_on_what_is_newer(tmp_path: Path, new_catalog: str) -> None:
    with gateway(tmp_path / "data", LOG_LEVEL="WARNING") as running, running_receiver() as receiver:
        url = local.running_database_url(settings_of(running.environ))
        running.post("/webhook_endpoints", {"url": receiver.url})
        with administration(url) as administer:
            administer(UNDONE)
            with load(running) as payments:
                code, said = ended(flask_migrate(running.environ))
                assert code == 0, said
                # As a newer release may expand it: our statements, and those prepared, go on.
                for table in Model.metadata.tables:
                    administer(f"ALTER TABLE {table} ADD COLUMN newer text NOT NULL DEFAULT 'newer'")
                administer("UPDATE alembic_version SET version_num = '9999'")
                more_than = len(payments)
                wait_until(lambda: len(payments) > more_than + 50)
        running.stop()
        again = start(running.environ, running.output)  # as a node that is restarted before it is upgraded
        try:
            with load(again) as later:
                wait_until(lambda: len(later) > 20)
            for payment_id in payments + later:
                assert wait_until(lambda: again.settled(payment_id))["status"] == "success"  # noqa: B023
            assert again.flask("verify").endswith("no breaks\n")
            with administration(url) as administer:
                for table in Model.metadata.tables:
                    administer(f"ALTER TABLE {table} DROP COLUMN newer")
            assert catalog({"DATABASE_URL": url}) == new_catalog
        finally:
            again.stop()


@contextmanager
def load(running: Running) -> Iterator[list[str]]:
    """Three clients that order and pay, as fast as they can. Gives the payments' ids; none may be refused."""
    stop, payments, failures = Event(), list[str](), list[BaseException]()

    def shop() -> None:
        try:
            while not stop.is_set():
                payments.append(running.pay()["id"])
        except BaseException as error:
            failures.append(error)

    clients = [Thread(target=shop) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        yield payments
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert not failures, failures
