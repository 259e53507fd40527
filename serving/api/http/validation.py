"""Bodies and query strings become the models of `schemas`, or a problem that says what was wrong and what is right."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.types import Receive

from serving.api.http.problems import (
    FieldError,
    Problem,
    body_too_large,
    incomplete_body,
    invalid,
    listed,
    quote,
    unsupported_coding,
    unsupported_media_type,
)
from serving.api.schemas import AddressBody, EditBody

MAX_BODY_BYTES = 64 * 1024
MAX_ERRORS = 20  # of one reply: a list of 256 wrong labels is understood from the first few
EXPECTED = {  # pydantic's error types, in the words of our messages
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "string_pattern_mismatch": "made of the digits 0 to 9",
    "bool_type": "true or false",
    "list_type": "a list",
    "model_type": "an object",
}

Parsed = TypeVar("Parsed", bound=BaseModel)


async def read_json_body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """Return the body of a JSON request. Raises Problem 413, 415, or 400 where the client closed the connection."""
    content_type = headers.get("content-type")
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise unsupported_media_type(content_type)
    return await read_body(headers, receive, MAX_BODY_BYTES)


async def read_body(headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
    """Return a body of at most `limit` bytes. Raises Problem 413, 415, or 400 where the connection ended."""
    coding = headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise unsupported_coding(coding)
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > 9 or int(announced) > limit:
        raise body_too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise incomplete_body()
        body += message.get("body", b"")
        if len(body) > limit:
            raise body_too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def parse_json(model: type[Parsed], body: bytes) -> Parsed:
    """A request body -> `model`. Raises Problem 422 with an error for every field that is wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _problem(model, error) from None


def parse_query(model: type[Parsed], values: Iterable[tuple[str, str]]) -> Parsed:
    """The parts of a URL -> `model`, held to the rules of a body: what reads as a JSON number is one, the rest is text.

    Raises Problem 422 with an error for every value that is wrong.
    """
    fields: dict[str, int | float | str | list[str]] = {}
    for name, text in values:
        if name == "edit":  # the one that may be repeated
            fields[name] = [*fields.get(name, []), text]  # pyright: ignore[reportGeneralTypeIssues]
            continue
        if name in fields:
            raise invalid(FieldError(_pointer([name]), f"`{name[:60]}` is given twice."))
        fields[name] = json.loads(text) if re.fullmatch(r"-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,39})?", text) else text
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _problem(model, error) from None


def _problem(model: type[BaseModel], error: ValidationError) -> Problem:
    return invalid(*[_field_error(model, details) for details in error.errors(include_url=False)[:MAX_ERRORS]])


def _field_error(model: type[BaseModel], error: ErrorDetails) -> FieldError:
    path = _path(error)
    return FieldError(_pointer(path), _message(model, path, error))


def _pointer(path: Iterable[int | str]) -> str:
    """RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _path(error: ErrorDetails) -> list[int | str]:
    """Where it is wrong, without the tags of `schemas.told_apart`, which the sender never wrote."""
    *parents, last = error["loc"] or (None,)
    sent = [part for part in parents if not _is_tag(part)]
    if last is not None and (error["type"] == "extra_forbidden" or not _is_tag(last)):
        sent.append(last)
    return sent


def _is_tag(part: int | str) -> bool:
    return isinstance(part, str) and part.startswith("(")


def _message(model: type[BaseModel], path: list[int | str], error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "json_invalid":
        return f"The body must be JSON: {context['error']}."
    if not path:
        return "The body must be a JSON object."
    name = str(path[0]) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path[1:])
    if kind == "missing":
        return f"`{name}` is missing."
    if kind == "extra_forbidden":
        inner = EditBody if path[0] == "edits" else AddressBody
        known = (model if len(path) == 1 else inner).model_fields
        return f"`{name[:60]}` is not a field here; the fields are {listed(list(known), 'and')}."
    if kind == "literal_error":
        expected = "must be " + context["expected"].replace("'", "`")
    elif kind in EXPECTED:
        expected = "must be " + EXPECTED[kind]
    else:  # one of ours
        expected = error["msg"]
    return f"`{name}` (={quote(error['input'])}) {expected}."
