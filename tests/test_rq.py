"""rq-dashboard under `/rq`: who gets it, what it shows and changes, and what in Redis could harm it."""

from __future__ import annotations

import base64
import hashlib
import html
import pickle
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import Context
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from redis import Redis
from rq import SimpleWorker
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer
from werkzeug.test import TestResponse

from jobs import payments, refunds, webhooks
from jobs.wake import QUEUES, REDIS_TIMEOUT_S, GatewayJob, fast_redis, rq_queue, wake
from models.merchants import TEST_EMAIL
from tests.conftest import Dashboard, found, in_sql, refused
from tests.processes import free_ports

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
PAGES = [
    "/rq/",
    "/rq/0/view/queues",
    "/rq/0/view/workers",
    "/rq/0/view/jobs",
    "/rq/0/view/jobs/payments/failed/8/dsc/1",
]


# --- who asks ------------------------------------------------------------------------------------


class Browser:
    """As much of a browser as the server knows of it."""

    def __init__(self, app: Flask, who: Dashboard | None = None):
        self._client = app.test_client() if who is None else who._client

    def get(self, path: str) -> TestResponse:
        return self.ask("GET", path)

    def post(self, path: str) -> TestResponse:
        return self.ask("POST", path, SAME_ORIGIN)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> TestResponse:
        """In an empty context, as the client of conftest.py."""
        return Context().run(self._client.open, path, method=method, headers=headers, buffered=True)


@pytest.fixture
def operator(app: Flask, dashboard: Dashboard) -> Browser:
    return Browser(app, dashboard)


def addresses(app: Flask, endpoints: str = r"\w+") -> list[tuple[str, str, str]]:
    """(method, path, endpoint) of all that the blueprint answers to, by the app's own map."""
    examples: dict[str, Any] = {
        "instance_number": "0",
        "queue_name": "payments",
        "registry_name": "failed",
        "per_page": 8,
        "order": "dsc",
        "page": 1,
        "job_id": "no-such-job",
        "filename": "css/main.css",
    }
    every = []
    for rule in app.url_map.iter_rules():
        if re.fullmatch(rf"rq_dashboard\.{endpoints}", rule.endpoint):
            built = rule.build({name: examples[name] for name in rule.arguments} | dict(rule.defaults or {}))
            assert built
            every += [(method, built[1], rule.endpoint) for method in sorted(rule.methods or ())]
    return every


def test_a_stranger_is_refused_everywhere_and_led_to_the_sign_in_from_a_page(app: Flask) -> None:
    stranger = Browser(app)
    asked = addresses(app)
    assert len(asked) > 40
    for method, path, endpoint in asked:
        answer = stranger.ask(method, path, SAME_ORIGIN)
        if re.search(r"_overview|\.job_view", endpoint):
            assert (answer.status_code, answer.location) == (302, "/dashboard/"), (method, path)
        else:
            assert answer.status_code == 401, (method, path)
            assert method == "HEAD" or refused(answer, 401, "AUTHENTICATION_ERROR")


def test_a_merchant_is_refused_everywhere(app: Flask, other_dashboard: Dashboard) -> None:
    merchant = Browser(app, other_dashboard)
    for method, path, _endpoint in addresses(app):
        answer = merchant.ask(method, path, SAME_ORIGIN)
        assert answer.status_code == 403, (method, path)
        assert method == "HEAD" or refused(answer, 403, "PERMISSION_ERROR")


def test_what_its_pages_ask_by_themselves_keeps_no_session_awake(app: Flask, operator: Browser) -> None:
    def is_kept_awake_by(path: str) -> bool:
        in_sql(app, "UPDATE sessions SET seen_at = now() - interval '5 minutes'")
        operator.get(path)
        return in_sql(app, "SELECT seen_at > now() - interval '1 minute' FROM sessions") == [True]

    assert all(is_kept_awake_by(path) for path in PAGES)
    asked = [path for _method, path, _endpoint in addresses(app, r"(list_\w+|job_info)")]
    assert asked
    assert not any(is_kept_awake_by(path) for path in asked)


def test_what_is_changed_is_written_down(
    app: Flask, dashboard: Dashboard, operator: Browser, failed: Callable[[str], str]
) -> None:
    job_id = failed("payments")
    found(operator.post(f"/rq/job/{job_id}/requeue"))
    [entry] = found(dashboard.get("/audit_log", subject_id=f"/rq/job/{job_id}/requeue"))["data"]
    assert (entry["action"], entry["actor"]) == ("queue.changed", TEST_EMAIL)


# --- what it shows -------------------------------------------------------------------------------


def work_off(environ: dict[str, str], *queues: str) -> None:
    """Let a worker do what is queued. With a client of its own, whose timeouts it changes."""
    SimpleWorker(
        list(queues or QUEUES),
        connection=Redis.from_url(environ["REDIS_URL"]),
        serializer=JSONSerializer,
        job_class=GatewayJob,
    ).work(burst=True, logging_level="CRITICAL")


def enqueued(queue: str) -> list[str]:
    """What waits in the queue after one more wake."""
    fast_redis().delete(f"wake:{queue}")
    assert wake(queue)
    return rq_queue(queue, fast_redis()).job_ids


@pytest.fixture
def failed(context: None, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a job of a queue that failed in a worker; gives its id."""

    def make(queue: str) -> str:
        def broken() -> None:
            raise RuntimeError("the bank is <closed>")

        monkeypatch.setattr(
            {"payments": payments, "refunds": refunds, "webhooks": webhooks}[queue], "run", broken
        )
        (job_id,) = enqueued(queue)
        work_off(environ, queue)
        return job_id

    return make


def queues(operator: Browser) -> dict[str, dict[str, Any]]:
    return {queue["name"]: queue for queue in found(operator.get("/rq/0/data/queues.json"))["queues"]}


def listed(operator: Browser, queue: str, registry: str) -> list[dict[str, Any]]:
    return found(operator.get(f"/rq/0/data/jobs/{queue}/{registry}/8/asc/1.json"))["jobs"]


@pytest.mark.parametrize("path", PAGES)
def test_the_pages_are_shown_while_there_is_nothing_in_redis(operator: Browser, path: str) -> None:
    page = operator.get(path)
    assert page.status_code == 200, page.text
    assert "<title>RQ dashboard</title>" in page.text


def test_without_jobs_and_after_a_flushall_everything_is_empty_and_works(
    operator: Browser, context: None
) -> None:
    for _ in range(2):
        assert set(queues(operator)) == set(QUEUES)
        for queue in QUEUES:
            assert [queues(operator)[queue][key] for key in ("count", "failed_job_registry_count")] == [0, 0]
            for registry in ("queued", "scheduled", "deferred", "started", "finished", "failed", "canceled"):
                assert listed(operator, queue, registry) == []
                answer = operator.post(f"/rq/queue/{queue}/{registry}/empty")
                assert found(answer) == {"status": "OK"}
            assert found(operator.post(f"/rq/queue/{queue}/compact")) == {"status": "OK"}
            assert found(operator.post(f"/rq/requeue/{queue}")) == {"status": "OK", "count": 0}
        assert found(operator.get("/rq/0/data/workers.json")) == {"workers": []}
        enqueued("payments")
        fast_redis().flushall()


def test_queues_and_jobs_are_shown(operator: Browser, failed: Callable[[str], str]) -> None:
    failed_id = failed("refunds")
    assert wake("payments")
    shown = queues(operator)
    assert (shown["payments"]["count"], shown["refunds"]["count"]) == (1, 0)
    assert shown["refunds"]["failed_job_registry_count"] == 1
    for url in (shown["payments"]["queued_url"], shown["refunds"]["failed_url"]):
        assert operator.get(url).status_code == 200, url

    (queued_job,) = listed(operator, "payments", "queued")
    assert queued_job["description"] == "work off what is due in payments"
    (failed_job,) = listed(operator, "refunds", "failed")
    assert failed_job["id"] == failed_id
    assert failed_job["exc_info"].endswith("RuntimeError: the bank is <closed>\n")

    page = operator.get(f"/rq/0/view/job/{failed_id}")
    assert page.status_code == 200
    assert failed_id in page.text
    job = found(operator.get(f"/rq/0/data/job/{failed_id}.json"))
    assert (job["id"], job["status"], job["origin"]) == (failed_id, "failed", "refunds")
    assert job["description"] == "work off what is due in refunds"
    assert job["exc_info"].endswith("RuntimeError: the bank is &lt;closed&gt;\n")


def test_a_worker_is_shown_with_what_it_does(
    operator: Browser, context: None, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look() -> None:
        seen.append(found(operator.get("/rq/0/data/workers.json"))["workers"])
        (job,) = listed(operator, "payments", "started")
        seen.append([found(operator.get(f"/rq/0/data/job/{job['id']}.json"))])

    monkeypatch.setattr(payments, "run", look)
    assert wake("payments")
    work_off(environ)
    (worker,), (job,) = seen
    assert (worker["state"], worker["queues"]) == ("busy", list(QUEUES))
    assert worker["current_job"]["job_id"] == job["id"]
    assert worker["current_job"]["call_string"] == "jobs.payments.run()"
    assert job["status"] == "started"
    assert found(operator.get("/rq/0/data/workers.json")) == {"workers": []}


def execute(job_id: str, worker: str) -> None:
    """What RQ writes when a worker begins a job."""
    fast_redis().sadd(f"rq:worker:{worker}:executions", f"{job_id}:1")
    facts: dict[Any, Any] = {"job_id": job_id, "created_at": "1", "last_heartbeat": "1"}
    fast_redis().hset(f"rq:execution:{job_id}:1", mapping=facts)


def test_a_worker_whose_job_has_just_ended_is_idle(operator: Browser, context: None) -> None:
    redis = fast_redis()
    redis.sadd("rq:workers", "rq:worker:w1")
    redis.hset("rq:worker:w1", mapping={"state": "busy", "queues": "payments", "pid": "7"})
    execute("gone", "w1")
    (worker,) = found(operator.get("/rq/0/data/workers.json"))["workers"]
    assert worker["current_job"] == "idle"


def test_looking_at_the_workers_leaves_the_apps_client_as_impatient_as_it_was(
    app: Flask, operator: Browser, context: None
) -> None:
    app.extensions.pop("fast_redis")  # other tests' workers have used it
    fast_redis().sadd("rq:workers", "rq:worker:w1")
    fast_redis().hset("rq:worker:w1", mapping={"state": "idle", "queues": "payments"})
    assert len(found(operator.get("/rq/0/data/workers.json"))["workers"]) == 1
    assert operator.get("/rq/0/view/workers").status_code == 200
    assert fast_redis().connection_pool.connection_kwargs["socket_timeout"] == REDIS_TIMEOUT_S


def test_a_get_changes_nothing_for_the_queues(
    app: Flask, operator: Browser, failed: Callable[[str], str]
) -> None:
    failed("payments")
    enqueued("payments")
    fast_redis().rpush("rq:queue:payments", "a-job-that-is-gone")
    fast_redis().zadd("rq:failed:payments", {"another": time.time() + 60})
    before = everything_in(fast_redis())
    for method, path, _endpoint in addresses(app):
        if method != "POST":
            operator.ask(method, path)
            operator.ask(method, path.replace("failed", "queued"))
    assert everything_in(fast_redis()) == before


def everything_in(redis: Redis) -> dict[bytes, bytes | None]:
    return {key: redis.dump(key) for key in redis.scan_iter()}


# --- what it changes -----------------------------------------------------------------------------


def test_nothing_is_changed_by_a_get(app: Flask, operator: Browser, failed: Callable[[str], str]) -> None:
    job_id = failed("payments")
    for method, path, _endpoint in addresses(app):
        if method == "POST":
            answer = operator.ask("GET", path.replace("no-such-job", job_id), SAME_ORIGIN)
            refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert [job["id"] for job in listed(operator, "payments", "failed")] == [job_id]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Referer": "http://localhost/rq/"},
    ],
    ids=str,
)
def test_another_site_changes_nothing(
    app: Flask, operator: Browser, failed: Callable[[str], str], headers: dict[str, str]
) -> None:
    job_id = failed("payments")
    for method, path, _endpoint in addresses(app):
        if method == "POST":
            answer = operator.ask("POST", path.replace("no-such-job", job_id), headers)
            assert refused(answer, 403, "PERMISSION_ERROR")["reason"] == "cross_site"
    assert [job["id"] for job in listed(operator, "payments", "failed")] == [job_id]


@pytest.mark.parametrize("headers", [SAME_ORIGIN, {"Origin": "http://localhost"}], ids=str)
def test_a_page_of_ours_deletes_a_job(
    operator: Browser, failed: Callable[[str], str], headers: dict[str, str]
) -> None:
    job_id = failed("payments")
    assert found(operator.ask("POST", f"/rq/job/{job_id}/delete", headers)) == {"status": "OK"}
    assert listed(operator, "payments", "failed") == []
    assert not fast_redis().exists(f"rq:job:{job_id}")
    assert found(operator.post(f"/rq/job/{job_id}/delete")) == {
        "status": "ERROR"
    }  # the package's word for 404


def test_a_failed_job_is_requeued_and_done(
    operator: Browser, failed: Callable[[str], str], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = failed("payments")
    assert found(operator.post(f"/rq/job/{job_id}/requeue")) == {"status": "OK"}
    assert [job["id"] for job in listed(operator, "payments", "queued")] == [job_id]
    refused(operator.post(f"/rq/job/{job_id}/requeue"), 409, "CONFLICT_ERROR")
    ran = []
    monkeypatch.setattr(payments, "run", lambda: ran.append(1))
    work_off(environ)
    assert ran == [1]
    refused(operator.post(f"/rq/job/{job_id}/requeue"), 404, "NOT_FOUND_ERROR")


def test_all_failed_jobs_of_a_queue_are_requeued_whatever_has_expired(
    operator: Browser, failed: Callable[[str], str]
) -> None:
    jobs = {failed("payments"), failed("payments")}
    other = failed("refunds")
    fast_redis().zadd("rq:failed:payments", {"an-expired-one": time.time() - 1})
    assert found(operator.post("/rq/requeue/payments")) == {"status": "OK", "count": 2}
    assert {job["id"] for job in listed(operator, "payments", "queued")} == jobs
    assert [job["id"] for job in listed(operator, "refunds", "failed")] == [other]


def test_a_queue_and_a_registry_are_emptied(operator: Browser, failed: Callable[[str], str]) -> None:
    failed("payments")
    fast_redis().zadd("rq:failed:payments", {"gone": time.time() + 60, MARKUP: time.time() + 60})
    enqueued("payments")
    assert found(operator.post("/rq/queue/payments/failed/empty")) == {"status": "OK"}
    assert not fast_redis().exists("rq:failed:payments")
    assert queues(operator)["payments"]["count"] == 1
    assert found(operator.post("/rq/queue/payments/queued/empty")) == {"status": "OK"}
    assert queues(operator)["payments"]["count"] == 0
    assert list(fast_redis().scan_iter("rq:job:*")) == []


def test_a_started_job_that_is_gone_is_left_to_the_workers(operator: Browser, context: None) -> None:
    fast_redis().zadd("rq:wip:payments", {"gone:1": time.time() + 60})
    refused(operator.post("/rq/queue/payments/started/empty"), 409, "CONFLICT_ERROR")


def test_a_queue_is_compacted(operator: Browser, context: None) -> None:
    assert wake("payments")
    fast_redis().lpush("rq:queue:payments", "gone")
    assert found(operator.post("/rq/queue/payments/compact")) == {"status": "OK"}
    assert queues(operator)["payments"]["count"] == 1


# --- what stands in an address -------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/rq/0/view/jobs/');alert(1);('/queued/8/asc/1",  # the package's page would run it
        "/rq/0/view/jobs/default/queued/8/asc/1",
        "/rq/0/view/jobs/payments/'/8/asc/1",
        "/rq/0/view/jobs/payments/queued/0/asc/1",
        "/rq/0/view/jobs/payments/queued/201/asc/1",
        "/rq/0/view/jobs/payments/queued/8/'/1",
        "/rq/0/view/jobs/payments/queued/8/asc/0",
        "/rq/0/data/jobs/payments/queued/x/asc/1.json",
        "/rq/0/data/jobs/payments/queued/8/asc/-1.json",
        "/rq/0/data/jobs/payments/queued/8/asc/100000000000000000000.json",
        "/rq/1/view/queues",
        "/rq/0/data/rq-instances.json",
        "/rq/favicon.ico",
        "/rq/static/..%2fweb.py",
        "/rq/static/none.css",
        "/rq/0/view/job/'-alert(1)-'",
        "/rq/0/data/job/%3Cscript%3E.json",
        "/rq/0/data/job/%00.json",
    ],
)
def test_other_addresses_are_none(operator: Browser, path: str) -> None:
    refused(operator.get(path), 404, "NOT_FOUND_ERROR")


@pytest.mark.parametrize("path", ["requeue/default", "queue/default/failed/empty", "queue/payments/x/empty"])
def test_other_queues_and_registries_cannot_be_changed(operator: Browser, path: str) -> None:
    refused(operator.post(f"/rq/{path}"), 404, "NOT_FOUND_ERROR")


# --- what stands in Redis ------------------------------------------------------------------------


@pytest.fixture
def hostile(context: None, environ: dict[str, str]) -> str:
    """A failed job with markup wherever there can be some, on a worker with such a name; gives its id."""
    redis = fast_redis()
    job = rq_queue("payments", redis).enqueue_call(
        MARKUP, args=[MARKUP], description=MARKUP, meta={MARKUP: MARKUP}
    )
    redis.sadd(f"rq:job::{job.id}:dependencies", MARKUP)
    work_off(environ)
    assert job.get_status() == "failed"
    for key, name in (("rq:workers", "rq:worker"), ("rq:queues", "rq:queue")):
        redis.sadd(key, f"{name}:{MARKUP}")
    facts: dict[Any, Any] = {"state": MARKUP, "queues": MARKUP, "version": MARKUP, "python_version": MARKUP}
    redis.hset(f"rq:worker:{MARKUP}", mapping=facts)
    execute(job.id, MARKUP)
    return job.id


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts(list(value) + list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def test_markup_reaches_the_pages_as_text(app: Flask, operator: Browser, hostile: str) -> None:
    job = Job.fetch(hostile, connection=fast_redis(), serializer=JSONSerializer)
    Result.create(job, Result.Type.SUCCESSFUL, ttl=60, return_value={MARKUP: [MARKUP]})
    shown = found(operator.get(f"/rq/0/data/job/{hostile}.json"))
    assert html.unescape(shown["description"]) == MARKUP
    assert list(shown["result"].values()) == [[html.escape(MARKUP)]]
    workers = found(operator.get("/rq/0/data/workers.json"))
    assert html.unescape(workers["workers"][0]["name"]) == MARKUP
    assert html.unescape(workers["workers"][0]["current_job"]["call_string"]).startswith(MARKUP[:20])
    assert set(queues(operator)) == set(QUEUES)
    for answer in (shown, workers, queues(operator)):
        for text in texts(answer):
            assert not set(text) & set("<>\"'"), text
    for path in [*PAGES, f"/rq/0/view/job/{hostile}"]:
        page = operator.get(path).text
        assert "<img" not in page
        assert "alert" not in page


def test_a_list_of_jobs_escapes_by_itself_what_is_not_checked(operator: Browser, hostile: str) -> None:
    """Its template does; here is that the package's has not changed."""
    (shown,) = listed(operator, "payments", "failed")
    unsafe = {name for name, value in shown.items() if isinstance(value, str) and "<" in value}
    assert unsafe == {"description", "exc_info"}
    page = operator.get("/rq/0/view/jobs/payments/failed/8/asc/1").text
    for name in unsafe:
        uses = re.findall(rf"<%=(?:(?!%>).)*d\.{name}.*?%>", page)
        assert uses == [f"<%= $('<div/>').text(d.{name}).html() %>"]


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def test_a_pickle_is_never_loaded(
    app: Flask, operator: Browser, failed: Callable[[str], str], tmp_path: Path
) -> None:
    path = tmp_path / "it-ran"
    bomb = pickle.dumps(Bomb(path))
    pickle.loads(bomb)  # noqa: S301
    path.unlink()  # it works

    job_id, redis = failed("payments"), fast_redis()
    job: dict[Any, Any] = redis.hgetall(f"rq:job:{job_id}")
    job |= {b"data": bomb, b"meta": bomb, b"result": bomb}
    redis.sadd("rq:workers", "rq:worker:w1")
    redis.hset("rq:worker:w1", mapping={"state": "busy", "queues": "payments"})
    execute(job_id, "w1")
    for method, address, _endpoint in addresses(app):
        redis.hset(f"rq:job:{job_id}", mapping=job)
        redis.xadd(f"rq:results:{job_id}", {"type": "1", "return_value": base64.b64encode(bomb)})
        redis.zadd("rq:failed:payments", {job_id: time.time() + 60})
        operator.ask(method, address.replace("no-such-job", job_id), SAME_ORIGIN)
    assert not path.exists()


@pytest.mark.parametrize(
    "facts",
    [
        {"origin": "default"},
        {"origin": ""},
        {"created_at": MARKUP},
        {"status": MARKUP},
        {"timeout": MARKUP},
        {"description": b"\xff"},
    ],
    ids=str,
)
def test_a_job_that_rq_would_not_have_written_is_none(
    operator: Browser, failed: Callable[[str], str], facts: dict[Any, Any]
) -> None:
    job_id = failed("payments")
    fast_redis().hset(f"rq:job:{job_id}", mapping=facts)
    assert listed(operator, "payments", "failed") == []
    for path in (f"view/job/{job_id}", f"data/job/{job_id}.json"):
        refused(operator.get(f"/rq/0/{path}"), 404, "NOT_FOUND_ERROR")
    refused(operator.post(f"/rq/job/{job_id}/requeue"), 404, "NOT_FOUND_ERROR")


# --- what a page may do --------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a page would load, and what it holds that a policy has to allow."""

    LOADS = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("form", "action")}

    def __init__(self, page: str):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.styles: set[str] = set()
        self.handlers: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        assert tag not in ("style", "base", "object", "embed", "frame")
        self.loads += [value or "" for name, value in attrs if (tag, name) in self.LOADS]
        self.links += [value or "" for name, value in attrs if (tag, name) == ("a", "href")]
        self.handlers += [name for name in facts if name.startswith("on")]
        if "style" in facts:
            self.styles.add(facts["style"] or "")
        runs = facts.get("type") in (None, "text/javascript", "module")
        self._in_script = tag == "script" and "src" not in facts and runs

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)

    def handle_endtag(self, _tag: str) -> None:
        self._in_script = False


def policy(page: TestResponse) -> dict[str, list[str]]:
    directives = page.headers["Content-Security-Policy"].split("; ")
    return {name: sources.split() for name, _, sources in (each.partition(" ") for each in directives)}


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_a_page_loads_only_what_we_serve_and_runs_only_that_and_its_one_script(
    operator: Browser, failed: Callable[[str], str]
) -> None:
    for path in [*PAGES, f"/rq/0/view/job/{failed('payments')}"]:
        answer = operator.get(path)
        page, allowed = Reader(answer.text), policy(answer)
        for url in page.loads:
            assert url.startswith("/rq/static/"), url
            assert operator.get(url).status_code == 200, url
        (script,) = page.scripts
        assert page.handlers == []
        assert allowed["script-src"] == ["'self'", "'unsafe-eval'", digest(script)]
        assert set(allowed["style-src-attr"]) == {"'unsafe-hashes'", *map(digest, page.styles)}


def test_its_stylesheets_load_nothing(operator: Browser) -> None:
    for name in ("bootstrap.min", "main"):
        sheet = operator.get(f"/rq/static/css/{name}.css").text
        assert "@import" not in sheet
        assert set(re.findall(r"url\(\s*['\"]?(\w+:|.{9})", sheet)) <= {"data:"}


def test_every_answer_is_confined_and_kept_by_nobody(app: Flask, operator: Browser) -> None:
    asked = [(method, path) for method, path, _endpoint in addresses(app)]
    for method, path in [*asked, ("GET", "/rq/static/none.css")]:
        answer = operator.ask(method, path, SAME_ORIGIN)
        said = policy(answer)
        for directive in ("default-src", "base-uri", "form-action", "frame-ancestors"):
            assert said[directive] == ["'none'"], path
        assert said["style-src"] == said["connect-src"] == ["'self'"]
        assert said["img-src"] == ["'self'", "data:"]
        assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
        assert "http" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_where_redis_is_is_not_told(operator: Browser, environ: dict[str, str]) -> None:
    redis = urlsplit(environ["REDIS_URL"])
    for path in PAGES:
        page = operator.get(path).text
        assert not [part for part in (redis.password, redis.netloc, "redis://") if part and part in page]


# --- Redis is away -------------------------------------------------------------------------------


@pytest.fixture(params=["closed", "silent"])
def away(app: Flask, request: pytest.FixtureRequest) -> Iterator[None]:
    """Redis is where nobody listens, or somebody who never answers."""
    before, client = app.config["GATEWAY"], app.extensions.pop("fast_redis", None)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1] if request.param == "silent" else free_ports(1)[0]
        app.config["GATEWAY"] = replace(before, redis_url=f"redis://127.0.0.1:{port}/0")
        yield
        app.config["GATEWAY"] = before
        app.extensions["fast_redis"] = client


def test_while_redis_is_away_all_but_the_files_is_unavailable_at_once(
    app: Flask, operator: Browser, away: None
) -> None:
    for method, path, endpoint in addresses(app):
        if method in ("GET", "POST"):
            began = time.monotonic()
            answer = operator.ask(method, path, SAME_ORIGIN)
            assert time.monotonic() - began < 2
            if endpoint == "rq_dashboard.static":
                assert answer.status_code == 200
            else:
                assert "Redis" in refused(answer, 503, "SERVICE_UNAVAILABLE")["description"]
                assert answer.headers["Retry-After"] == "1"
