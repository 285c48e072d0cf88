"""Processes that are killed, or frozen, at one point of what they do.

The points of an act lie before and after each statement, before and after each commit, and at its end, when
all is done and nobody was told yet. They are found by letting it come by all of them once.

What is to be killed runs in a process that has the app loaded and connections of its own: a fork of the
nursery, which is a process beside the tests that has no threads and no connections when it forks. That costs
some milliseconds, and the signal is a real one.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import re
import signal
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg2.extensions
from flask import Flask
from sqlalchemy import event

import config
from app import create_app
from jobs import work
from jobs.acquirers import Ask, Result
from jobs.acquirers.simulator import Simulator
from jobs.clock import WORKS, expire_orders, release_holds
from models.base import db
from models.merchants import TEST_API_KEY, TEST_API_SECRET

APPLICATION = "killable"  # what the processes call themselves to PostgreSQL
PATIENCE_S = 30.0  # acts settle with their batch, on a slow machine too: the points are the same each time
ANSWER_S = 60  # until an act has come to its point
END_S = 5  # for the nursery to end by itself


# --- acts ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What a worker does when it is woken. Gives the number of rows."""

    queue: str

    def __call__(self, app: Flask) -> int:
        (its_work,) = (each for each in WORKS if each.queue == self.queue)
        with app.app_context():
            return its_work.run()


@dataclass(frozen=True)
class Sweep:
    """What the clock does every few seconds with orders and holds."""

    def __call__(self, app: Flask) -> None:
        with app.app_context():
            expire_orders()
            release_holds()


@dataclass(frozen=True)
class Post:
    """A merchant's request under an Idempotency-Key. Gives the status and the body of its answer."""

    path: str
    body: dict[str, Any]
    key: str

    def __call__(self, app: Flask) -> tuple[int, str]:
        app.extensions.pop("signed_in", None)  # it is looked up in each run
        headers = {"X-Api-Key": TEST_API_KEY, "X-Api-Secret": TEST_API_SECRET, "Idempotency-Key": self.key}
        answer = app.test_client().post(f"/api/v1{self.path}", json=self.body, headers=headers)
        return answer.status_code, answer.text


Act = Job | Sweep | Post
THAW = "thaw"


# --- the bank ------------------------------------------------------------------------------------


class BookedBank(Simulator):
    """The simulator, with a book of all that it was asked to do: a file, which outlives whoever asked.

    `verdict` is its answer to everything, if there is one.
    """

    def __init__(self, settings: config.Settings, book: Path):
        super().__init__(settings)
        self._book = book
        self.verdict: Result | None = None

    def authorize(self, ask: Ask) -> Result:
        return self._write(ask) or super().authorize(ask)

    def capture(self, ask: Ask) -> Result:
        return self._write(ask) or super().capture(ask)

    def void(self, ask: Ask) -> Result:
        return self._write(ask) or super().void(ask)

    def refund(self, ask: Ask) -> Result:
        return self._write(ask) or super().refund(ask)

    def _write(self, ask: Ask) -> Result | None:
        with self._book.open("a") as book:
            book.write(ask.idempotency_key + "\n")
        return self.verdict


def read_book(book: Path) -> set[tuple[str, str, str]]:
    """What it was asked for, however often: id, operation and amount, which are the idempotency key."""
    keys = (line.split(":") for line in book.read_text().split())
    return {(asked_id, operation, amount) for asked_id, operation, amount in keys}


# --- the nursery, as a test sees it ----------------------------------------------------------------


@dataclass
class Told:
    """What a process told last. `signal` is what ended or stopped it there; None: it came to its end."""

    points: list[str] = field(default_factory=list)
    answer: Any = None
    log: list[str] = field(default_factory=list)  # warnings and worse
    error: str | None = None
    signal: int | None = None


class Nursery:
    """Runs acts, one after the other, in processes of their own."""

    def __init__(self, environ: dict[str, str], book: Path):
        context = multiprocessing.get_context("spawn")  # not a fork of us, who have threads
        self._line, its_end = context.Pipe()
        self._process = context.Process(target=_nurse, args=(its_end, environ, book), daemon=True)
        self._process.start()
        its_end.close()

    def run(self, act: Act) -> Told:
        """Let it come to its end: in the nursery itself, whose forks then know its statements already.

        But not what posts webhooks: that leaves threads and connections behind, which no fork may share.
        """
        return self._ended(self._ask((act, 0, 0) if act == Job("webhooks") else act))

    def kill_at(self, act: Act, number: int) -> Told:
        """Kill it at the `number`-th point of its way, counted from 1."""
        told = self._ask((act, number, signal.SIGKILL))
        assert told.signal == signal.SIGKILL, f"it was not killed at point {number}: {told}"
        return told

    def freeze_at(self, act: Act, number: int) -> Told:
        """Stop it there, until `thaw`."""
        told = self._ask((act, number, signal.SIGSTOP))
        assert told.signal == signal.SIGSTOP, f"it was not stopped at point {number}: {told}"
        return told

    def thaw(self) -> Told:
        """Let the stopped one go on to its end."""
        return self._ended(self._ask(THAW))

    def close(self) -> None:
        self._line.close()
        self._process.join(END_S)
        self._process.kill()  # should it hang
        self._process.join()
        self._process.close()

    def _ask(self, request: object) -> Told:
        self._line.send(request)
        assert self._line.poll(ANSWER_S), f"no answer to {request}"
        return self._line.recv()

    @staticmethod
    def _ended(told: Told) -> Told:
        assert (told.signal, told.error) == (None, None), told
        return told


# --- the nursery and its children, in their own processes ------------------------------------------


class _Way:
    """The way of one act: the points that it comes by, and what is done to its process at one of them."""

    def __init__(self) -> None:
        self._prepared: dict[int, dict[str, str]] = {}  # of each connection, by name (models/direct.py)
        self.begin()

    def begin(self, number: int = 0, signum: int = 0, line: Connection | None = None) -> None:
        """A new way; at point `number`, if there is one, it tells so and is sent the signal."""
        self.told = Told()
        self._number, self._signum, self._line = number, signum, line

    def go(self, act: Act, app: Flask) -> Told:
        try:
            self.told.answer = act(app)
            self._pass("at the end")
        except BaseException:
            self.told.error = traceback.format_exc()
        return self.told

    def watch(self, app: Flask) -> None:
        """Come by at each statement and commit, and keep what is logged."""

        def come_by(connection: Any, *_: Any) -> None:
            connection.cursor_factory = cursor_class

        cursor_class = self._cursor_class()
        with app.app_context():
            event.listen(db.engine, "checkout", come_by)
            event.listen(db.engine, "commit", lambda _connection: self._pass("before a commit"))
            event.listen(db.session, "after_commit", lambda _session: self._pass("after a commit"))
        logging.getLogger().addHandler(_Log(self))

    def _cursor_class(self) -> type[psycopg2.extensions.cursor]:
        """A cursor that comes by: whoever uses it, SQLAlchemy or models/direct.py."""
        way = self

        class Cursor(psycopg2.extensions.cursor):
            def execute(self, query: Any, values: Any = None) -> None:
                words = query.decode() if isinstance(query, bytes) else query
                names = way._prepared.setdefault(id(self.connection), {})
                if words.startswith("PREPARE "):  # once a connection: no point of the way
                    name, _, statement = words.removeprefix("PREPARE ").partition(" AS ")
                    names[name] = statement
                    super().execute(query, values)
                    return
                short = _short(names[words.split()[1]] if words.startswith("EXECUTE ") else words)
                way._pass(f"before {short}")
                super().execute(query, values)
                way._pass(f"after {short}")

        return Cursor

    def _pass(self, point: str) -> None:
        self.told.points.append(point)
        if len(self.told.points) == self._number and self._line is not None:
            self._line.send(self.told)
            os.kill(os.getpid(), self._signum)


class _Log(logging.Handler):
    def __init__(self, way: _Way):
        super().__init__(logging.WARNING)
        self._way = way

    def emit(self, record: logging.LogRecord) -> None:
        self._way.told.log.append(record.getMessage())


class _Child:
    """A fork of the nursery, as the nursery sees it."""

    def __init__(self, way: _Way, app: Flask, act: Act, number: int, signum: int):
        self._line, its_end = multiprocessing.Pipe(duplex=False)
        self._is_stopped = False
        self._pid = os.fork()
        if self._pid == 0:
            way.begin(number, signum, its_end)
            its_end.send(way.go(act, app))
            os._exit(0)
        its_end.close()

    def last_words(self) -> Told:
        """What it told when it was killed or stopped, or had come to its end."""
        try:
            told = self._line.recv()
        except EOFError:
            told = Told(error="it died without a word")
        _, status = os.waitpid(self._pid, os.WUNTRACED)
        self._is_stopped = os.WIFSTOPPED(status)
        told.signal = os.WSTOPSIG(status) if self._is_stopped else os.WTERMSIG(status) or None
        return told

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def end(self) -> None:
        """Leave none behind that is stopped for ever."""
        if self._is_stopped:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._line.close()


def _nurse(line: Connection, environ: dict[str, str], book: Path) -> None:
    """The nursery: does as it is told until nobody is there to tell."""
    os.environ.clear()
    os.environ.update(environ | {"PGAPPNAME": APPLICATION})
    settings = config.load(dotenv=False)
    app = create_app(settings)
    app.extensions["acquirer"] = BookedBank(settings, book)
    work.PATIENCE_S = PATIENCE_S
    way = _Way()
    way.watch(app)
    child: _Child | None = None
    while True:
        try:
            request = line.recv()
        except EOFError:
            request = None
        if request == THAW and child is not None:
            child.thaw()
            line.send(child.last_words())
            continue
        if child is not None:
            child.end()
            child = None
        if request is None:
            return
        if isinstance(request, Act):
            way.begin()
            line.send(way.go(request, app))
        else:
            _be_alone(app)
            child = _Child(way, app, *request)
            line.send(child.last_words())


def _be_alone(app: Flask) -> None:
    """Let go of what a fork must not share: threads and connections."""
    for each in WORKS:
        if each._crew is not None:
            each._crew.close()
            each._crew = None
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    app.extensions.pop("fast_redis", None)
    gc.freeze()  # what is shared is not looked through again, and so not copied


def _short(statement: str) -> str:
    """What a statement does, in a few words."""
    words = " ".join(statement.split())
    if words.startswith(("WITH inserted_0", "WITH updated_0")):  # models/batch.py
        return " and ".join(re.findall(r"INSERT INTO \w+|UPDATE \w+ SET", words))
    if words.startswith("WITH due"):
        words = words[words.index(") UPDATE ") + 2 :]
    elif words.startswith("SELECT") and " FROM " in words:
        words = "SELECT" + words[words.rindex(" FROM ") :]
    return words[:60]
