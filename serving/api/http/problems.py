"""Every error the service answers with, as a problem document (RFC 9457).

    {
        "type": "urn:problem-type:ganymede:invalid-request",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "`n` (=1000) must be between 1 and 256.",
        "instance": "/v1/sample",
        "code": "invalid-request",
        "request_id": "5f0c...",
        "errors": [{"pointer": "/n", "detail": "`n` (=1000) must be between 1 and 256."}]
    }

`code` is for programs and does not change; `detail` is for people. `errors` is present where the request is at fault,
with a JSON pointer (RFC 6901) into the body, or to a query parameter's name. Under `/v2` there is also `error`, the
same text as `detail`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

MEDIA_TYPE = "application/problem+json"

# The codes of errors that the router or a fault causes.
CODES = {404: "unknown-route", 405: "method-not-allowed", 500: "internal-error"}
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}  # RFC 9110's names; http.HTTPStatus has older ones


class FieldError(NamedTuple):
    pointer: str  # RFC 6901: "" is the whole body, "/labels/3" the fourth label
    detail: str


class Problem(Exception):
    """An error reply. Raise it anywhere inside of `middleware.ProblemMiddleware`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def document(self, *, instance: str, request_id: str) -> bytes:
        members = {
            "type": f"urn:problem-type:ganymede:{self.code}",
            "title": TITLES.get(self.status) or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "request_id": request_id,
        }
        if instance.startswith("/v2"):
            members["error"] = self.detail  # where clients of the Open Inference Protocol look for it
        if self.errors:
            members["errors"] = [error._asdict() for error in self.errors]
        return json.dumps(members, ensure_ascii=False).encode()


def invalid(*errors: FieldError) -> Problem:
    """Return a 422 for fields that are wrong in themselves, or for the requested model."""
    return Problem(422, "invalid-request", " ".join(error.detail for error in errors), errors=errors)


def unknown_model(id: str, known: Sequence[str]) -> Problem:
    return Problem(404, "unknown-model", f"`model` (={quote(id)}) must be one of {listed(known)}.")


def not_acceptable(accept: str, offered: Sequence[str]) -> Problem:
    return Problem(406, "not-acceptable", f"`Accept` (={accept[:200]}) must allow one of {', '.join(offered)}.")


def unsupported_media_type(found: str | None, allowed: Sequence[str] = ("application/json",)) -> Problem:
    value = "missing" if found is None else f"={found[:200]}"
    utf_8 = ", in UTF-8" * ("application/json" in allowed)
    detail = f"`Content-Type` ({value}) must be {' or '.join(allowed)}{utf_8}."
    return Problem(415, "unsupported-media-type", detail, headers={"Accept": ", ".join(allowed)})


def unsupported_coding(found: str) -> Problem:
    detail = f"`Content-Encoding` (={found[:200]}) must be left out: compressed bodies are not supported."
    return Problem(415, "unsupported-media-type", detail, headers={"Accept-Encoding": "identity"})


def body_too_large(limit: int) -> Problem:
    return Problem(413, "body-too-large", f"The body must be at most {limit} bytes.")


def slow_request(seconds: float) -> Problem:
    detail = f"The request did not arrive within {seconds:g} s."
    return Problem(408, "slow-request", detail, headers={"Connection": "close"})


def incomplete_body() -> Problem:
    return Problem(400, "incomplete-body", "The connection ended before the body did.")


def client_closed() -> Problem:
    return Problem(400, "client-gone", "The client closed the connection before the reply was ready.")


def unauthorized() -> Problem:
    detail = "`Authorization` must be `Bearer` and an API key that this server knows."
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def rate_limited(rate: float, retry_after: int) -> Problem:
    detail = f"The limit is {rate:g} images per second; retry in {retry_after} s."
    return Problem(429, "rate-limited", detail, headers={"Retry-After": str(retry_after)})


def wrong_timeout(found: str) -> Problem:
    detail = f"`X-Request-Timeout` (={found[:60]}) must be a number of seconds above 0, such as 2.5."
    return Problem(422, "invalid-request", detail)


def overloaded(retry_after: int) -> Problem:
    detail = f"More images are waiting than can be made in time; retry in {retry_after} s."
    return Problem(503, "overloaded", detail, headers={"Retry-After": str(retry_after)})


def draining() -> Problem:
    detail = "The server is stopping: it finishes the requests it accepted and takes no new ones."
    return Problem(503, "draining", detail, headers={"Retry-After": "1", "Connection": "close"})


def not_ready(detail: str) -> Problem:
    return Problem(503, "not-ready", detail, headers={"Retry-After": "1"})


def deadline_exceeded(seconds: float) -> Problem:
    detail = f"The images were not ready within {seconds:g} s; request fewer, or retry when the server is less busy."
    return Problem(504, "deadline-exceeded", detail)


def of_status(status: int, path: str, method: str, headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem for an error that has only a status: from the router, the static files or a fault."""
    details = {
        404: f"There is nothing at {path}.",
        405: f"{path} does not take {method}.",
        500: "The server failed; its log has the request id.",
    }
    phrase = HTTPStatus(status).phrase
    code = CODES.get(status, phrase.lower().replace(" ", "-"))
    return Problem(status, code, details.get(status, f"{phrase}."), headers=headers)


def retry_after(seconds: float) -> int:
    """Return the `Retry-After` for a wait of `seconds`: whole seconds, at least 1."""
    return max(1, math.ceil(seconds))


def quote(value: object, limit: int = 60) -> str:
    """Return a value as JSON, shortened, for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def listed(names: Sequence[str], conjunction: str = "or") -> str:
    """Return "`a`, `b` or `c`"."""
    *others, last = [f"`{name}`" for name in names]
    return f"{', '.join(others)} {conjunction} {last}" if others else last
