"""The refusals of the domain. Routes turn them into HTTP answers (routes/errors.py)."""

from __future__ import annotations


class Refused(Exception):
    """A request that may not be done, with the contract's error code and words for the caller.

    `field` names the input at fault; `reason` is a machine-readable detail; `retry_after_s` is when to try
    again, in seconds.
    """

    def __init__(
        self,
        code: str,
        description: str,
        *,
        field: str | None = None,
        reason: str | None = None,
        retry_after_s: int | None = None,
    ):
        super().__init__(description)
        self.code = code
        self.description = description
        self.field = field
        self.reason = reason
        self.retry_after_s = retry_after_s


def bad_request(description: str, *, field: str | None = None, reason: str | None = None) -> Refused:
    return Refused("BAD_REQUEST_ERROR", description, field=field, reason=reason)


def conflict(description: str, *, reason: str | None = None) -> Refused:
    return Refused("CONFLICT_ERROR", description, reason=reason)


def not_found(what: str) -> Refused:
    return Refused("NOT_FOUND_ERROR", f"{what} not found.")
