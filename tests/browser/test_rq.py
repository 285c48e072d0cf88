"""rq-dashboard's pages, as an operator sees them: they work under their policy, and text stays text."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Dialog, Page, expect
from rq import Queue
from rq.job import JobStatus

from jobs.wake import GatewayJob, fast_redis, rq_queue, wake
from routes import rq
from tests.browser.conftest import Watch
from tests.conftest import Dashboard

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("context")]

MARKUP = "<img src=data:, onerror=alert(1)><script>alert(2)</script>\"'&"


@pytest.fixture(autouse=True)
def _operator(app: Flask, page: Page, live: str) -> None:
    page.context.add_cookies([{"name": "gateway_session", "value": Dashboard(app).token, "url": live}])


@pytest.fixture
def queue(context: None) -> Queue:
    return rq_queue("payments", fast_redis())


def failed(queue: Queue, description: str = "work off what is due in payments", **facts: Any) -> str:
    """A job that failed as one does in a worker; gives its id."""
    job = queue.enqueue_call("jobs.payments.run", description=description, failure_ttl=60, **facts)
    queue.remove(job)
    job.set_status(JobStatus.FAILED)
    with fast_redis().pipeline() as pipeline:
        job._handle_failure(f"Traceback ...\nRuntimeError: {description}", pipeline)
        pipeline.execute()
    return job.id


def at_work(job_id: str, name: str, **facts: str) -> None:
    """A worker that does this job."""
    redis = fast_redis()
    worker: dict[Any, Any] = {"state": "busy", "queues": "payments,refunds", **facts}
    execution: dict[Any, Any] = {"job_id": job_id, "created_at": "1", "last_heartbeat": "1"}
    redis.sadd("rq:workers", f"rq:worker:{name}")
    redis.hset(f"rq:worker:{name}", mapping=worker)
    redis.sadd(f"rq:worker:{name}:executions", f"{job_id}:1")
    redis.hset(f"rq:execution:{job_id}:1", mapping=execution)


def test_queues_jobs_and_workers_are_found_from_page_to_page(queue: Queue, page: Page) -> None:
    job_id = failed(queue)
    at_work(job_id, "w1")
    assert wake("payments")
    page.goto("/rq/")
    row = page.locator("#queues tbody tr").filter(has_text="payments")
    expect(page.locator("#queues tbody tr")).to_have_count(3)
    expect(row.locator("td")).to_have_text(["payments", "1", "0", "0", "0", "0", "1", "0"])

    row.locator("td.failed a").first.click()
    job = page.locator("#jobs tbody tr")
    expect(job.locator(".description")).to_have_text("work off what is due in payments")
    expect(job.locator(".exc_info")).to_contain_text("RuntimeError")
    expect(page.locator(".pagination .active")).to_have_text("1")

    page.get_by_role("link", name=job_id).click()
    expect(page.locator("#job-data")).to_contain_text("work off what is due in payments")
    expect(page.locator("#job-data .exc_info")).to_contain_text("Traceback ...\nRuntimeError")
    expect(page.get_by_role("button", name="Requeue")).to_be_visible()

    page.get_by_role("link", name="Workers").click()
    worker = page.locator("#workers tbody tr td")
    expect(worker).to_have_text(["w1", "jobs.payments.run()", "payments, refunds"])

    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.locator("#select-queue")).to_have_value("payments")
    expect(page.locator("#jobs .description")).to_have_text("work off what is due in payments")
    expect(page.get_by_role("link", name="Empty queue")).to_have_css("float", "right")
    page.get_by_role("link", name="Queues", exact=True).click()
    expect(page.locator("#queues tbody tr")).to_have_count(3)


def test_without_jobs_the_pages_say_so(page: Page) -> None:
    page.goto("/rq/")
    row = page.locator("#queues tbody tr").filter(has_text="refunds")
    expect(row.locator("td")).to_have_text(["refunds", *"0000000"])
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.locator("#jobs tbody")).to_contain_text("No jobs.")
    page.locator("#select-registry").select_option("failed")
    expect(page).to_have_url("/rq/0/view/jobs/payments/failed/8/asc/1")
    expect(page.locator("#jobs tbody")).to_contain_text("No jobs.")
    page.get_by_role("link", name="Workers").click()
    expect(page.locator("#workers tbody")).to_contain_text("No workers.")


def test_jobs_are_requeued_deleted_and_emptied(queue: Queue, page: Page) -> None:
    first, second, third = (failed(queue) for _ in range(3))
    jobs = page.locator("#jobs tbody tr[data-role=job]")
    page.goto("/rq/0/view/jobs/payments/failed/8/asc/1")
    page.locator(f"[data-job-id='{first}']").get_by_role("link", name="Requeue").click()
    expect(jobs).to_have_count(2)
    assert queue.job_ids == [first]

    page.locator(f"[data-job-id='{second}']").get_by_role("link", name="Delete").click()
    expect(page.get_by_role("heading", name="Do you really want to delete job?")).to_be_visible()
    page.get_by_role("button", name="Yes").click()
    expect(jobs).to_have_count(1)

    page.goto(f"/rq/0/view/job/{third}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Yes").click()
    expect(page).to_have_url("/rq/0/view/queues")

    page.goto("/rq/0/view/jobs")
    expect(jobs).to_have_count(1)
    for name in ("Compact", "Empty queue"):
        page.get_by_role("link", name=name).click()
        page.get_by_role("button", name="Yes").click()
        expect(page.locator("#confirmation-modal")).to_be_hidden()
    expect(page.locator("#jobs tbody")).to_contain_text("No jobs.")
    assert not list(fast_redis().scan_iter("rq:job:*"))


def hostile(queue: Queue) -> str:
    job_id = failed(queue, MARKUP, meta={MARKUP: MARKUP})
    job = GatewayJob.fetch(job_id, connection=fast_redis(), serializer=queue.serializer)
    job.func_name = MARKUP
    job.save()
    at_work(job_id, MARKUP, version=MARKUP, python_version=MARKUP, queues=MARKUP)
    fast_redis().sadd("rq:queues", f"rq:queue:{MARKUP}")
    return job_id


def test_markup_in_redis_stays_text(queue: Queue, page: Page) -> None:
    job_id = hostile(queue)
    page.goto("/rq/")
    expect(page.locator("#queues tbody tr")).to_have_count(3)
    page.goto("/rq/0/view/jobs/payments/failed/8/asc/1")
    expect(page.locator("#jobs .description")).to_have_text(MARKUP)
    expect(page.locator("#jobs .exc_info")).to_contain_text(MARKUP)
    page.goto(f"/rq/0/view/job/{job_id}")
    expect(page.locator("#job-data .description-scroll")).to_have_text(MARKUP)
    expect(page.locator("#job-data .exc_info")).to_contain_text(MARKUP)
    assert page.locator("img, #job-data script").count() == 0
    page.goto("/rq/0/view/workers")
    expect(page.locator("#workers tbody tr td").first).to_have_text(MARKUP)
    expect(page.locator("#workers tbody tr td").last).to_have_text(MARKUP)
    expect(page.locator("#workers tbody a")).to_contain_text(MARKUP[:20])
    assert page.locator("img, tbody script").count() == 0


def test_even_as_markup_it_would_not_run(
    queue: Queue, page: Page, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rq, "_escape", lambda value: value)
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    job_id = hostile(queue)
    for path in (f"/rq/0/view/job/{job_id}", "/rq/0/view/workers"):
        with page.expect_console_message(lambda message: "inline event handler" in message.text):
            page.goto(path)
        expect(page.locator("img").first).to_be_attached()
    page.close()
    assert dialogs == []
    watch.allow("Content Security Policy")
