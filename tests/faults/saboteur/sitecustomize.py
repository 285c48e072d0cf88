"""Loaded into each process of a gateway under test (it is on its PYTHONPATH): kills the web process that it
serves a request in, between the commit and the answer, when the request's header asks for it.
"""

import os
import signal

from flask import has_request_context, request
from sqlalchemy import event
from sqlalchemy.orm import Session


@event.listens_for(Session, "after_commit")
def _die(_session: Session) -> None:
    if has_request_context() and request.headers.get("X-Sabotage") == "kill-after-commit":
        os.kill(os.getpid(), signal.SIGKILL)
