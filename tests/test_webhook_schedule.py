"""The real gateway and a receiver that is down: five attempts at their times, and all of it brought back."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from models.webhooks import RETRY_JITTER
from tests.processes import Running, gateway, wait_until
from tests.receiver import Receiver

pytestmark = pytest.mark.slow

SCHEDULE_S = (0, 1, 2, 3, 4)
LATE_S = 1.0  # from due to posted on a busy machine; the clock looks ten times a second


def test_five_attempts_at_their_times_then_failed_then_brought_back(
    tmp_path: Path, receiver: Receiver
) -> None:
    schedule = ",".join(map(str, SCHEDULE_S))
    with gateway(tmp_path / "data", WEBHOOK_RETRY_SCHEDULE=schedule) as running:
        endpoint = running.post(
            "/webhook_endpoints", {"url": receiver.url, "events": ["payment.created", "payment.success"]}
        )
        receiver.answers = [500] * 10
        running.pay()
        failed = wait_until(lambda: failed_deliveries(running, 2), sum(SCHEDULE_S) + 20)

        for row in failed:
            delivery = running.get(f"/webhooks/{row['id']}")
            log = delivery["attempt_log"]
            assert [attempt["error"] for attempt in log] == ["answered 500"] * 5
            times = [datetime.fromisoformat(attempt["attempted_at"]) for attempt in log]
            for (before, after), planned_s in zip(pairwise(times), SCHEDULE_S[1:], strict=True):
                waited_s = (after - before).total_seconds()
                assert planned_s <= waited_s <= planned_s * (1 + RETRY_JITTER) + LATE_S

        by_hand = failed[0]["id"]
        running.post(f"/webhooks/{by_hand}/retry")
        wait_until(lambda: running.get(f"/webhooks/{by_hand}")["status"] == "success")

        status, retry = running.call("POST", "/api/v1/webhooks/retry", {"since": endpoint["created_at"]})
        assert (status, retry.get("total")) == (202, 1), retry
        wait_until(lambda: running.get(f"/webhooks/retries/{retry['id']}")["status"] == "done")
        assert running.get(f"/webhooks/retries/{retry['id']}")["success"] == 1
        assert len(receiver.received) == 12
        for received in receiver.received:
            Webhook(endpoint["secret"]).verify(received.body, received.headers)


def failed_deliveries(running: Running, count: int) -> list[dict] | None:
    rows = running.get("/webhooks?status=failed")["data"]
    return rows if len(rows) == count else None
