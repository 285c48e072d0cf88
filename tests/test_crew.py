"""A crew does quick acts with few threads, and slow ones each with its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from threading import Barrier, Event

import pytest

from jobs.crew import FEW, Crew, _Shift
from tests.processes import wait_until

SIZE = 40
PATIENCE_S = 20.0


@pytest.fixture
def crew() -> Iterator[Crew[int, str]]:
    crew: Crew[int, str] = Crew(SIZE, "crew")
    yield crew
    crew.close()


def never_late(task: int, _outcome: str) -> None:
    raise AssertionError(f"{task} was late")


def test_quick_acts_take_few_threads(crew: Crew[int, str]) -> None:
    threads = set()

    def act(task: int) -> str:
        threads.add(threading.current_thread().name)
        return f"{task} done"

    done = crew.act(act, range(1000), patience_s=PATIENCE_S, late=never_late)
    assert sorted(done) == [(task, f"{task} done") for task in range(1000)]
    assert len(threads) <= FEW


def test_acts_that_wait_have_a_thread_each(crew: Crew[int, str]) -> None:
    all_at_once = Barrier(SIZE)

    def act(task: int) -> str:
        all_at_once.wait(PATIENCE_S)
        return f"{task} done"

    done = crew.act(act, range(SIZE), patience_s=PATIENCE_S, late=never_late)
    assert sorted(done) == [(task, f"{task} done") for task in range(SIZE)]


def test_whoever_takes_too_long_holds_up_nobody_and_is_heard_later(crew: Crew[int, str]) -> None:
    go_on, late = Event(), []

    def act(task: int) -> str:
        if task < 10:  # more than begin
            assert go_on.wait(PATIENCE_S)
        return f"{task} done"

    done = crew.act(act, range(SIZE), patience_s=0.2, late=lambda task, outcome: late.append((task, outcome)))
    assert sorted(done) == [(task, f"{task} done") for task in range(10, SIZE)]
    assert late == []
    go_on.set()
    wait_until(lambda: len(late) == 10)
    assert sorted(late) == [(task, f"{task} done") for task in range(10)]
    assert len(done) == SIZE - 10  # what is late changes nothing that was returned


def test_what_a_crew_that_is_interrupted_has_begun_is_late(
    crew: Crew[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, late = Event(), []

    def act(task: int) -> str:
        assert go_on.wait(PATIENCE_S)
        return f"{task} done"

    def interrupted(_shift: _Shift[int, str]) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(_Shift, "is_stuck", interrupted)
    with pytest.raises(KeyboardInterrupt):
        crew.act(act, range(3), patience_s=PATIENCE_S, late=lambda *each: late.append(each))
    go_on.set()
    wait_until(lambda: sorted(late) == [(task, f"{task} done") for task in range(3)])
