"""rq-dashboard under `/rq`: RQ's queues, jobs and workers, for operators.

Its views, templates and files are the package's own. What it leaves to whoever mounts it is here: by itself
it knows no sign-in, changes things on GET, unpickles what it finds in Redis (which runs code) and puts it
into its pages as markup. So its views are listed one by one, with what their addresses may hold; a request
needs an operator's session, a change also a page of ours; Redis is read as the gateway writes it, in JSON;
and text stays text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import logging
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify, make_response, redirect, request
from redis import Redis, RedisError
from rq import Queue, Worker
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq_dashboard import web
from werkzeug.wrappers import Response as AnyResponse

from jobs.wake import QUEUES, GatewayJob, fast_redis
from models.base import db
from models.errors import Refused
from routes.audit import note
from routes.auth import SAFE_METHODS, signed_in_operator
from routes.errors import RETRY_AFTER_S, error_response
from routes.headers import OF_A_PAGE

log = logging.getLogger(__name__)

# By this name the package's templates and views find each other.
blp = Blueprint(
    "rq_dashboard", web.__name__, url_prefix="/rq", template_folder="templates", static_folder="static"
)


# --- what it reads -------------------------------------------------------------------------------


class _Job(GatewayJob):
    """A job in one of our queues. What RQ would not have written there is no job."""

    dependency_ids = []  # ours depend on none, and what RQ 3 gives the package takes for bytes

    def __init__(self, *args: Any, **kwargs: Any):
        try:
            super().__init__(*args, **kwargs | {"serializer": JSONSerializer})
        except ValueError:  # no id
            raise NoSuchJobError from None

    def restore(self, raw_data: Any) -> None:
        try:
            super().restore(raw_data)
        except Exception:  # no date, state, number or UTF-8: it reads what it was given, and nothing more
            raise NoSuchJobError from None
        if self.origin not in QUEUES:
            raise NoSuchJobError


class _Queue(Queue):
    job_class = _Job

    @classmethod
    def all(cls, connection: Redis, *_args: Any, **_kwargs: Any) -> list[Queue]:
        """Ours, used or not. RQ would list whatever names stand in Redis, and none once it was emptied."""
        return [cls(name, connection=connection) for name in QUEUES]

    @property
    def failed_job_registry(self) -> Any:
        """Without what has expired: on the first such job, requeueing all would end."""
        registry = super().failed_job_registry
        registry.cleanup()
        return registry

    def fetch_job(self, job_id: str) -> Job | None:
        """As RQ's, which would remove what is gone from the queue: but this is done for a GET."""
        try:
            job = self.job_class.fetch(job_id, connection=self.connection)
        except NoSuchJobError:
            return None
        return job if job.origin == self.name else None

    def compact(self) -> None:
        if self.count:  # RQ renames the list, of which there is none while it is empty
            super().compact()


class _Worker(Worker):
    job_class = _Job

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs | {"serializer": JSONSerializer})

    def _set_connection(self, connection: Redis) -> Redis:
        """As it is. RQ would raise the timeout of all its connections, which are the app's, to minutes."""
        return connection

    def get_current_job(self) -> Job | None:
        try:
            return super().get_current_job()
        except NoSuchJobError:  # it has ended meanwhile
            return None


def _requeue_job(job_id: str, connection: Redis) -> Job:
    return _Job.fetch(job_id, connection=connection).requeue()


web.Job, web.Queue, web.Worker, web.requeue_job = _Job, _Queue, _Worker, _requeue_job
web.config.serializer = JSONSerializer


# --- what it serves ------------------------------------------------------------------------------


def _escaped(view: Callable[..., Any]) -> Callable[..., Response]:
    """A view whose page inserts the JSON into its markup as it comes."""

    @wraps(view)
    def wrapper(**address: Any) -> Response:
        return jsonify(_escape(make_response(view(**address)).get_json()))

    return wrapper


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, list):
        return [_escape(each) for each in value]
    if isinstance(value, dict):
        return {html.escape(name): _escape(each) for name, each in value.items()}
    return value


# In an address: of a queue's name, for one, the pages make JavaScript without a thought of what is in it.
# (The number is text: else it would equal the default of `/`, and werkzeug redirect there, before any guard.)
_INSTANCE = "/<any('0'):instance_number>"
_QUEUE = f"<any({','.join(QUEUES)}):queue_name>"
_REGISTRY = "<any(queued,failed,deferred,started,finished,canceled,scheduled):registry_name>"
_WINDOW = "<int(min=1,max=200):per_page>/<any(asc,dsc):order>/<int(min=1,max=99999):page>"

_PAGES = {
    f"{_INSTANCE}/view/queues": web.queues_overview,
    f"{_INSTANCE}/view/workers": web.workers_overview,
    f"{_INSTANCE}/view/jobs/{_QUEUE}/{_REGISTRY}/{_WINDOW}": web.jobs_overview,
    f"{_INSTANCE}/view/job/<job_id>": web.job_view,
}
_DATA = {
    f"{_INSTANCE}/data/queues.json": _escaped(web.list_queues),
    f"{_INSTANCE}/data/workers.json": _escaped(web.list_workers),
    f"{_INSTANCE}/data/jobs/{_QUEUE}/{_REGISTRY}/{_WINDOW}.json": web.list_jobs,  # its page escapes it
    f"{_INSTANCE}/data/job/<job_id>.json": _escaped(web.job_info),
}
_CHANGES = {
    "/job/<job_id>/delete": web.delete_job_view,
    "/job/<job_id>/requeue": web.requeue_job_view,
    f"/requeue/{_QUEUE}": web.requeue_all,  # the package would do it on GET, too
    f"/queue/{_QUEUE}/{_REGISTRY}/empty": web.empty_queue,
    f"/queue/{_QUEUE}/compact": web.compact_queue,
}
_FIRST_JOBS = {
    "queue_name": QUEUES[0],  # the package would show "default", where nobody puts anything
    **{"registry_name": "queued", "per_page": "8", "order": "asc", "page": "1"},
}

blp.add_url_rule("/", view_func=web.queues_overview, defaults={"instance_number": 0})
blp.add_url_rule(f"{_INSTANCE}/view/jobs", view_func=web.jobs_overview, defaults=_FIRST_JOBS)
for _rule, _view in (_PAGES | _DATA).items():
    blp.add_url_rule(_rule, view_func=_view)
for _rule, _view in _CHANGES.items():
    blp.add_url_rule(_rule, view_func=_view, methods=["POST"])
blp.context_processor(web.inject_interval)


def register(app: Flask) -> None:
    app.config["RQ_DASHBOARD_REDIS_URL"] = ["Redis"]  # only shown
    app.register_blueprint(blp)
    # Its pages take their icon from the app's static files, which ours has not.
    app.add_url_rule("/rq/static/<path:filename>", endpoint="static", build_only=True)


# --- to whom -------------------------------------------------------------------------------------


@blp.before_request
def _guard() -> AnyResponse | None:
    if _is_one_of(_DATA):
        request.environ["HTTP_X_BACKGROUND"] = (
            "true"  # the pages ask every few seconds: see sign_in_by_session
        )
    try:
        signed_in_operator()
    except Refused as refusal:
        if refusal.code == "AUTHENTICATION_ERROR" and _is_one_of(_PAGES):
            return redirect("/dashboard/")
        raise
    if request.method not in SAFE_METHODS and not _is_same_origin():
        raise Refused(
            "PERMISSION_ERROR", "Only a page of this gateway may ask for this.", reason="cross_site"
        )
    if request.method not in SAFE_METHODS:
        note("queue.changed", request.path)
        db.session.commit()
    if request.endpoint != "rq_dashboard.static":
        current_app.redis_conn = fast_redis()  # type: ignore[attr-defined]  # where the package looks for it
        fast_redis().ping()
    return None


def _is_one_of(views: dict[str, Callable[..., Any]]) -> bool:
    return request.endpoint in {f"rq_dashboard.{view.__name__}" for view in views.values()}


def _is_same_origin() -> bool:
    """Whether a page of ours asks. Browsers send the first header over TLS and to localhost alone."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        return request.headers.get("Origin", "").partition("://")[2] == request.host
    return site == "same-origin"


@blp.errorhandler(RedisError)
def _redis_is_away(error: RedisError) -> Response:
    log.warning("rq-dashboard cannot be shown, Redis does not answer: %s", error)
    response = error_response("SERVICE_UNAVAILABLE", "Redis does not answer; payments go on without it.")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


@blp.errorhandler(NoSuchJobError)
def _no_such_job(_error: NoSuchJobError) -> Response:
    return error_response("NOT_FOUND_ERROR", "Job not found.")


@blp.errorhandler(InvalidJobOperation)
@blp.errorhandler(NotImplementedError)  # RQ's word for a started job that is gone: workers clear those away
def _wrong_state(_error: Exception) -> Response:
    return error_response("CONFLICT_ERROR", "The job is not in a state in which this can be done.")


# --- what its pages may do -----------------------------------------------------------------------


@blp.after_request
def _confine(response: Response) -> Response:
    """Only the package's files and the page's one script run. It compiles its templates: hence the eval."""
    page = response.get_data(as_text=True) if response.mimetype == "text/html" else ""
    scripts = _hashes(r'<script type="text/javascript">(.*?)</script>', page)
    styles = _hashes(r'\sstyle="(.*?)"', page)
    response.headers["Content-Security-Policy"] = "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'unsafe-eval'{scripts}",
            "style-src 'self'",
            f"style-src-attr 'unsafe-hashes'{styles}",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    response.headers.update(OF_A_PAGE)
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    return response


def _hashes(pattern: str, page: str) -> str:
    """What a policy says to allow exactly these texts."""
    texts = sorted(set(re.findall(pattern, page, re.DOTALL)))
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return "".join(f" 'sha256-{digest}'" for digest in digests)
