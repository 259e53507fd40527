"""What can go wrong between a client and its server.

GanymedeError
├── ConfigurationError                an argument or a variable of the environment is wrong; a ValueError, too
├── TransportError                    no whole answer came
│   ├── ConnectionError               refused, reset or cut off; Python's own ConnectionError, too
│   │   ├── UnknownHostError          the server's name does not resolve
│   │   ├── CertificateError          the server's TLS certificate does not verify
│   │   └── ProxyError                the proxy cannot be reached, or does not let the request through
│   ├── TimeoutError                  none came in time; Python's own TimeoutError, too
│   └── ReplyError                    what came is not what was asked for: damaged, or of no server of ours
└── StatusError                       the server's answer was a problem document (RFC 9457), or bore another status
    ├── RedirectError                 3xx: the server has another address, which is `location`
    ├── BadRequestError               400: no HTTP that the server understands, or a body that ended early
    ├── AuthenticationError           401: no API key, or one that the server does not know
    ├── PermissionDeniedError         403: by something in front of the server
    ├── NotFoundError                 404: no such model or route
    ├── MethodNotAllowedError         405
    ├── NotAcceptableError            406: a format the route does not have
    ├── SlowRequestError              408: the request did not arrive in time
    ├── ProxyAuthenticationError      407: the proxy takes a user and a password
    ├── ConflictError                 409: by something in front of the server
    ├── BodyTooLargeError             413
    ├── UnsupportedMediaTypeError     415
    ├── InvalidRequestError           422: a field is wrong; `errors` says which, and what would be right
    ├── RateLimitedError              429: over this client's quota; `retry_after` says when to come back
    ├── HeadTooLargeError             431
    └── ServerError                   500, and any 5xx without a class of its own: the server's fault
        ├── BadGatewayError           502: something in front of the server cannot reach it
        ├── UnavailableError          503: overloaded or shutting down; `retry_after` says when to come back
        └── DeadlineError             504: not done within its deadline

Each carries `code` for programs, `request_id` as the server's log has it, the `pointers` of wrong fields, and `remedy`,
what to do about it, which a traceback shows as well.
"""

import builtins
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, cast
from urllib.parse import urljoin


class FieldError(NamedTuple):
    pointer: str  # RFC 6901, into the request's body: "/labels/3" is the fourth label, "" the whole
    detail: str  # what is wrong with it, and what would be right


class GanymedeError(Exception):
    """Every error of this package; the message is the server's own where it gave one."""

    code = "unknown"  # for programs: "unknown-model", "invalid-request", "timeout", ...
    remedy = "Ask whoever runs the server; its log has the request id."
    errors: tuple[FieldError, ...] = ()  # of a wrong request

    def __init__(self, detail: str, *, request_id: str | None = None):
        super().__init__(detail)
        self.detail = detail
        self.request_id = request_id
        self.add_note(f"What to do: {self.remedy}")
        if request_id is not None:
            self.add_note(f"Request id: {request_id}")

    @property
    def pointers(self) -> tuple[str, ...]:
        """JSON pointers of the fields that are wrong."""
        return tuple(error.pointer for error in self.errors)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles, and so crosses from one process to another, with all that it carries."""
        return _unpickled, (type(self), self.detail, self.__dict__)


class ConfigurationError(GanymedeError, ValueError):
    """An argument, or a variable of the environment, is wrong; the message names it and its value."""

    code = "configuration"
    remedy = "Correct or remove what the message names."


class TransportError(GanymedeError):
    """No whole answer came."""


class ConnectionError(TransportError, builtins.ConnectionError):
    """Refused, reset or cut off."""

    code = "connection"
    remedy = "See that the server runs and that `base_url` is its address; then try again."


class UnknownHostError(ConnectionError):
    """The server's name does not resolve."""

    code = "unknown-host"
    remedy = "See that `base_url` is spelt right, and that this machine's DNS knows the name."


class CertificateError(ConnectionError):
    """The server's TLS certificate does not verify."""

    code = "certificate"
    remedy = "Use the name that the certificate has, or set SSL_CERT_FILE to the authority that signed it."


class ProxyError(ConnectionError):
    """The proxy cannot be reached, or does not let the request through."""

    code = "proxy"
    remedy = "See that the proxy runs and lets this address through, or add the server's name to NO_PROXY."


class TimeoutError(TransportError, builtins.TimeoutError):
    """No answer came in time."""

    code = "timeout"
    remedy = "Give it a longer `timeout`, or ask for fewer pictures."


class ReplyError(TransportError):
    """What came is not what was asked for."""

    code = "wrong-reply"
    remedy = "See that `base_url` is a Ganymede server of this version, and that nothing in between changes replies."


class StatusError(GanymedeError):
    """An answer other than the one asked for."""

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str,
        errors: tuple[FieldError, ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(detail, request_id=request_id)
        self.status = status
        self.code = code
        self.errors = errors
        self.retry_after = retry_after  # seconds


class RedirectError(StatusError):
    """3xx: the server has another address."""

    remedy = "Use the address that it redirects to as `base_url`."
    location: str | None = None  # as a whole URL


class BadRequestError(StatusError):
    """400: no HTTP that the server understands, or a body that ended early."""

    remedy = "See what stands between this client and the server: what it sends is well-formed."


class AuthenticationError(StatusError):
    """401: no API key, or one that the server does not know."""

    remedy = "Give `api_key`, or set GANYMEDE_API_KEY, to a key of this server."


class PermissionDeniedError(StatusError):
    """403: by something in front of the server."""

    remedy = "Ask whoever runs the proxy in front of the server for access."


class NotFoundError(StatusError):
    """404: no such model or route."""

    remedy = "`client.models()` lists the models; see that `base_url` ends before `/v1`."


class MethodNotAllowedError(StatusError):
    """405: the path does not take the method."""

    remedy = "See that `base_url` ends before `/v1`."


class NotAcceptableError(StatusError):
    """406: a format the route does not have."""

    remedy = "Use the client of the server's version."


class ProxyAuthenticationError(StatusError):
    """407: the proxy takes a user and a password."""

    remedy = "Put them into the proxy's address: http://USER:PASSWORD@HOST:PORT."


class SlowRequestError(StatusError):
    """408: the request did not arrive in time."""

    remedy = "Try again over a better connection."


class ConflictError(StatusError):
    """409: by something in front of the server."""

    remedy = "Try again."


class BodyTooLargeError(StatusError):
    """413: the request's body is too large."""

    remedy = "Ask for less at a time, with fewer labels or keyframes."


class UnsupportedMediaTypeError(StatusError):
    """415: the body is no JSON by the time it arrives."""

    remedy = "See what stands between this client and the server: what it sends is JSON, and says so."


class InvalidRequestError(StatusError):
    """422: a field is wrong."""

    remedy = "Mend the fields that `pointers` names; `errors` says what would be right."


class RateLimitedError(StatusError):
    """429: over this client's quota."""

    remedy = "Wait `retry_after` seconds; ask for fewer pictures a second, or for a larger quota."


class HeadTooLargeError(StatusError):
    """431: the headers are too large."""

    remedy = "Use a shorter API key; see which headers are added on the way."


class ServerError(StatusError):
    """500, and any 5xx without a class of its own: the server's fault."""


class BadGatewayError(ServerError):
    """502: something in front of the server cannot reach it."""

    remedy = "See that the server behind the proxy runs; then try again."


class UnavailableError(ServerError):
    """503: overloaded or shutting down."""

    remedy = "Wait `retry_after` seconds; ask for less at a time, or give the server more processors."


class DeadlineError(ServerError):
    """504: not done within its deadline."""

    remedy = "Ask for fewer pictures, or with a longer `timeout`, or when less is waiting."


BY_STATUS: dict[int, type[StatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    406: NotAcceptableError,
    407: ProxyAuthenticationError,
    408: SlowRequestError,
    409: ConflictError,
    413: BodyTooLargeError,
    415: UnsupportedMediaTypeError,
    422: InvalidRequestError,
    429: RateLimitedError,
    431: HeadTooLargeError,
    502: BadGatewayError,
    503: UnavailableError,
    504: DeadlineError,
}


def status_error(
    status: int, headers: Mapping[str, str], body: bytes, request_id: str, *, source: str = "the server"
) -> StatusError:
    """The error for an answer that is no success, whether our server gave it or something in between.

    `request_id` is the one that was sent; an answer without one of its own has that. `source`: what answered.
    """
    problem = _problem(body)
    kind = BY_STATUS.get(status, ServerError if status >= 500 else StatusError)
    return kind(
        str(problem.get("detail") or f"{source[0].upper()}{source[1:]} answered {status}."),
        status=status,
        code=str(problem.get("code", "unknown")),
        errors=_field_errors(problem.get("errors")),
        request_id=headers.get("x-request-id", request_id),
        retry_after=_retry_after(headers.get("retry-after", "")),
    )


def redirect_error(status: int, base_url: str, route: str, location: str, request_id: str) -> RedirectError:
    """The error for a redirect to `location`, which may be relative."""
    target = urljoin(base_url.rstrip("/") + route, location)
    advice = f"use {target.removesuffix(route)} as `base_url`" if target.endswith(route) else "it answers no request"
    error = RedirectError(
        f"The server redirects to {target}; {advice}.", status=status, code="redirect", request_id=request_id
    )
    error.location = target
    return error


def is_problem_of_ours(body: bytes) -> bool:
    """True where an answer is a problem document of a Ganymede server."""
    return str(_problem(body).get("type", "")).startswith("urn:problem-type:ganymede:")


def _unpickled(kind: type[GanymedeError], detail: str, state: dict[str, Any]) -> GanymedeError:
    error: GanymedeError = cast(Any, kind).__new__(kind, detail)  # past __init__, which would add its notes again
    error.args = (detail,)
    error.__dict__.update(state)
    return error


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return cast(dict[str, Any], problem) if isinstance(problem, dict) else {}


def _field_errors(found: Any) -> tuple[FieldError, ...]:
    """Those that have both parts: a document from outside may hold anything."""
    errors: list[FieldError] = []
    for entry in cast(list[Any], found) if isinstance(found, list) else []:
        try:
            errors.append(FieldError(str(entry["pointer"]), str(entry["detail"])))
        except (KeyError, TypeError, IndexError):
            continue
    return tuple(errors)


def _retry_after(value: str) -> float | None:
    """Seconds from now: the header holds them, or a date (RFC 9110, section 10.2.3)."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
