"""Loaded into each process of a gateway under test, for it is on their PYTHONPATH.

It kills a web process between the commit and the answer of a request, when the request's header asks for it;
and it sets a process' clock wrong, by CLOCK_OFF_S seconds.
"""

import os
import signal
import time

import time_machine
from flask import has_request_context, request
from sqlalchemy import event
from sqlalchemy.orm import Session

if os.environ.get("CLOCK_OFF_S"):
    time_machine.travel(time.time() + float(os.environ["CLOCK_OFF_S"]), tick=True).start()


@event.listens_for(Session, "after_commit")
def _die(_session: Session) -> None:
    if has_request_context() and request.headers.get("X-Sabotage") == "kill-after-commit":
        os.kill(os.getpid(), signal.SIGKILL)
