"""What can go wrong between a client and its server.

GanymedeError
├── TransportError              no whole answer came: refused, reset, or no such host
│   └── TimeoutError            none came in time
└── StatusError                 the server's answer was a problem document (RFC 9457)
    ├── NotFoundError           404: no such model or route
    ├── NotAcceptableError      406: a format the route does not have
    ├── BodyTooLargeError       413
    ├── InvalidRequestError     422: a field is wrong; `errors` says which, and what would be right
    ├── RateLimitedError        429: over this client's quota
    ├── ServerError             500: the server's fault
    ├── UnavailableError        503: overloaded or shutting down; `retry_after` says when to come back
    └── DeadlineError           504: not done within its deadline
"""

import json
from collections.abc import Mapping
from typing import Any


class GanymedeError(Exception):
    """Every error of this package."""


class TransportError(GanymedeError):
    """No whole answer came."""


class TimeoutError(TransportError):
    """No answer came in time."""


class StatusError(GanymedeError):
    """An answer other than the one asked for; the message is the server's own."""

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str,
        errors: tuple[Mapping[str, str], ...],
        request_id: str | None,
        retry_after: int | None,
    ):
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code  # for programs: "unknown-model", "invalid-request", ...
        self.errors = errors  # of a wrong request: {"pointer": "/n", "detail": ...}
        self.request_id = request_id  # in the server's log, too
        self.retry_after = retry_after  # seconds


class NotFoundError(StatusError):
    """404: no such model or route."""


class NotAcceptableError(StatusError):
    """406: a format the route does not have."""


class BodyTooLargeError(StatusError):
    """413: the request's body is too large."""


class InvalidRequestError(StatusError):
    """422: a field is wrong; `errors` says which, and what would be right."""


class RateLimitedError(StatusError):
    """429: over this client's quota."""


class ServerError(StatusError):
    """500: the server's fault."""


class UnavailableError(StatusError):
    """503: overloaded or shutting down."""


class DeadlineError(StatusError):
    """504: not done within its deadline."""


BY_STATUS: dict[int, type[StatusError]] = {
    404: NotFoundError,
    406: NotAcceptableError,
    413: BodyTooLargeError,
    422: InvalidRequestError,
    429: RateLimitedError,
    500: ServerError,
    503: UnavailableError,
    504: DeadlineError,
}


def status_error(status: int, headers: Mapping[str, str], body: bytes) -> StatusError:
    """The error for an answer of `status` 400 or more, whether our server gave it or something in between."""
    problem = _problem(body)
    retry_after = headers.get("retry-after", "")
    return BY_STATUS.get(status, StatusError)(
        str(problem.get("detail") or f"The server answered {status}."),
        status=status,
        code=str(problem.get("code", "unknown")),
        errors=tuple(problem.get("errors", ())),
        request_id=headers.get("x-request-id"),
        retry_after=int(retry_after) if retry_after.isdecimal() else None,
    )


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
