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

`code` is for programs and does not change; `detail` is for people. `errors` is there where the request itself is at
fault, with a JSON pointer (RFC 6901) into the body, or to a query parameter's name.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

MEDIA_TYPE = "application/problem+json"

# The codes of answers that no code of ours has explained: from the router, or a fault.
CODES = {404: "unknown-route", 405: "method-not-allowed", 500: "internal-error"}
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}  # RFC 9110's names; http.HTTPStatus has older ones


class FieldError(NamedTuple):
    pointer: str  # RFC 6901: "" is the whole body, "/labels/3" the fourth label
    detail: str


class Problem(Exception):
    """An answer other than the one asked for. Raise it anywhere below the gate."""

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
        if self.errors:
            members["errors"] = [error._asdict() for error in self.errors]
        return json.dumps(members, ensure_ascii=False).encode()


def invalid(*errors: FieldError) -> Problem:
    """422: fields that are wrong in themselves, or for the model they are asked of."""
    return Problem(422, "invalid-request", " ".join(error.detail for error in errors), errors=errors)


def unknown_model(id: str, known: Sequence[str]) -> Problem:
    return Problem(404, "unknown-model", f"`model` (={quote(id)}) must be one of {listed(known)}.")


def not_acceptable(accept: str, offered: Sequence[str]) -> Problem:
    return Problem(406, "not-acceptable", f"`Accept` (={accept[:200]}) must allow one of {', '.join(offered)}.")


def unsupported_media_type(found: str | None) -> Problem:
    value = "missing" if found is None else f"={found[:200]}"
    detail = f"`Content-Type` ({value}) must be application/json."
    return Problem(415, "unsupported-media-type", detail, headers={"Accept": "application/json"})


def unsupported_coding(found: str) -> Problem:
    detail = f"`Content-Encoding` (={found[:200]}) must be left out: bodies are short, and taken as they are."
    return Problem(415, "unsupported-media-type", detail, headers={"Accept-Encoding": "identity"})


def body_too_large(limit: int) -> Problem:
    return Problem(413, "body-too-large", f"The body must be at most {limit} bytes.")


def slow_request(seconds: float) -> Problem:
    detail = f"The request did not arrive within {seconds:g} s."
    return Problem(408, "slow-request", detail, headers={"Connection": "close"})


def incomplete_body() -> Problem:
    return Problem(400, "incomplete-body", "The connection ended before the body did.")


def gone() -> Problem:
    return Problem(400, "client-gone", "The connection ended before the reply was ready.")


def bad_http(detail: str) -> Problem:
    return Problem(400, "bad-http", detail, headers={"Connection": "close"})


def head_too_large(limit: int) -> Problem:
    detail = f"The request line and the headers must be at most {limit} bytes."
    return Problem(431, "head-too-large", detail, headers={"Connection": "close"})


def unauthorized() -> Problem:
    detail = "`Authorization` must be `Bearer` and an API key that this server knows."
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def method_not_allowed(path: str, method: str, allowed: str) -> Problem:
    return Problem(405, "method-not-allowed", f"{path} does not take {method}.", headers={"Allow": allowed})


def rate_limited(rate: float, retry_after: int) -> Problem:
    detail = f"A client gets {rate:g} images a second here; try again in {retry_after} s."
    return Problem(429, "rate-limited", detail, headers={"Retry-After": str(retry_after)})


def wrong_timeout(found: str) -> Problem:
    detail = f"`X-Request-Timeout` (={found[:60]}) must be a number of seconds above 0, such as 2.5."
    return Problem(422, "invalid-request", detail)


def overloaded(retry_after: int) -> Problem:
    detail = f"More work is waiting than can be done in time; try again in {retry_after} s."
    return Problem(503, "overloaded", detail, headers={"Retry-After": str(retry_after)})


def draining() -> Problem:
    detail = "The server is finishing what it accepted and takes no more; another one, or a new start, will."
    return Problem(503, "draining", detail, headers={"Retry-After": "1", "Connection": "close"})


def not_ready(detail: str) -> Problem:
    return Problem(503, "not-ready", detail, headers={"Retry-After": "1"})


def late(seconds: float) -> Problem:
    detail = f"The pictures were not done within {seconds:g} s; ask for fewer, or when less is waiting."
    return Problem(504, "deadline-exceeded", detail)


def of_status(status: int, path: str, method: str) -> Problem:
    """The problem that stands for an answer which bore a status and no explanation."""
    details = {
        404: f"There is nothing at {path}.",
        405: f"{path} does not take {method}.",
        500: "The server made a mistake; its log has the request id.",
    }
    phrase = HTTPStatus(status).phrase
    return Problem(status, CODES.get(status, phrase.lower().replace(" ", "-")), details.get(status, phrase + "."))


def quote(value: object, limit: int = 60) -> str:
    """A value as JSON, cut short: what a message shows of what was sent."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def listed(names: Sequence[str], conjunction: str = "or") -> str:
    """`a`, `b` or `c`."""
    *others, last = [f"`{name}`" for name in names]
    return f"{', '.join(others)} {conjunction} {last}" if others else last
