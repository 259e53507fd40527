"""Bodies and query strings become the models of `schemas`, or a problem that says what was wrong and what is right."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.message import Message
from typing import Any, TypeVar, cast

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

JSON = "application/json"
PAIRS = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str)
"""Objects become tuples of pairs, with every key; numbers stay text, which may be too long for Python's integers."""

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
    if content_type != JSON and not _is_json(content_type or ""):
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
    """A request body -> `model`. A byte-order mark before it is passed over, as RFC 8259 allows.

    Raises Problem 422 with an error for every invalid field, and for every field that is given twice.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        parsed = model.model_validate_json(body)
    except ValidationError as error:
        raise _problem(model, error) from None
    repeated = list(_repeated(PAIRS.decode(body.decode()), []))
    if repeated:
        raise invalid(
            *[FieldError(_pointer(path), f"`{_name(path)[:60]}` is given twice.") for path in repeated[:MAX_ERRORS]]
        )
    return parsed


def parse_query(model: type[Parsed], values: Iterable[tuple[str, str]]) -> Parsed:
    """The parts of a URL -> `model`, held to the rules of a body: what reads as a JSON number is one, the rest is text.

    A field that is a text stays one: a class may be called "10".

    Raises Problem 422 with an error for every value that is wrong.
    """
    fields: dict[str, int | float | str | list[str]] = {}
    texts = {name for name, field in model.model_fields.items() if field.annotation == str | None}
    for name, text in values:
        if name == "edit":  # the one that may be repeated
            fields[name] = [*fields.get(name, []), text]  # pyright: ignore[reportGeneralTypeIssues]
            continue
        if name in fields:
            raise invalid(FieldError(_pointer([name]), f"`{name[:60]}` is given twice."))
        number = re.fullmatch(r"-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,39})?", text) and name not in texts
        fields[name] = json.loads(text) if number else text
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _problem(model, error) from None


def _is_json(content_type: str) -> bool:
    """True for JSON in UTF-8, which is all that JSON may be in (RFC 8259, section 8.1)."""
    message = Message()
    message["Content-Type"] = content_type
    return message.get_content_type() == JSON and message.get_content_charset("utf-8") in ("utf-8", "utf8")


def _repeated(node: Any, path: list[int | str]) -> Iterator[list[int | str]]:
    """The paths of keys that stand in an object twice; `node` is what PAIRS makes of a document."""
    if isinstance(node, list):
        for i, item in enumerate(cast(list[Any], node)):
            yield from _repeated(item, [*path, i])
    elif isinstance(node, tuple):
        seen: set[str] = set()
        for key, value in cast(tuple[tuple[str, Any], ...], node):
            if key in seen:
                yield [*path, key]
            seen.add(key)
            yield from _repeated(value, [*path, key])


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


def _name(path: Sequence[int | str]) -> str:
    return str(path[0]) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path[1:])


def _message(model: type[BaseModel], path: list[int | str], error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "json_invalid":
        return f"The body must be JSON: {context['error']}."
    if not path:
        return "The body must be a JSON object."
    name = _name(path)
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
