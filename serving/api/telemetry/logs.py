"""What is logged: lines for people on a terminal, JSON for machines anywhere else.

    {"time": "2026-11-22T18:02:45.120Z", "level": "info", "logger": "ganymede.access", "message": "POST /v1/sample 200",
     "request_id": "5f0c...", "client": "10.0.0.7", "route": "/v1/sample", "status": 200, "images": 16, "ms": 7.9}

Bodies, queries and headers are never logged, and so no API key: a client is named by its key's name or its address.
"""

import asyncio
import json
import logging
import os
import sys
import time
from contextlib import suppress
from functools import lru_cache
from json.encoder import encode_basestring as _quoted
from typing import Any

from serving.api.http.context import Exchange

FIELDS = "fields"  # the attribute of a record that holds what a JSON line has besides its message
QUIET = ("uvicorn", "bentoml", "opentelemetry")  # what they say at info is said here, or of no use

PLAIN = "%(asctime)s %(levelname)s %(message)s"

logger = logging.getLogger("ganymede.access")


def configure(level: str) -> None:
    """Everything that this process logs goes to stderr, in one form."""
    global _form
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter(PLAIN))
        _form = _plain_line
    else:
        handler.setFormatter(Json())
        _form = _json_line
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        other = logging.getLogger(name)
        other.handlers, other.propagate = [], True
        other.setLevel(max(logging.ERROR, root.level))


def answered(exchange: Exchange, route: str, seconds: float) -> None:
    """A line for a reply: a warning where the server could not do what it should, else information.

    The logging module, with a record for each, would take a tenth of the time of a request, and a system call for each
    as much again: all lines of one turn of the event loop are written at once, at its end.
    """
    level = logging.WARNING if exchange.status >= 500 else logging.INFO
    if not logger.isEnabledFor(level):
        return
    if not _lines:
        asyncio.get_running_loop().call_soon(_write)
    _lines.append(_form(time.time(), logging.getLevelName(level), exchange, route, 1000 * seconds))


def cut(exchange: Exchange, code: str) -> None:
    """Another line for a reply that was begun, and whose client did not get all of it."""
    fields = {"request_id": exchange.request_id, "client": exchange.client, "code": code}
    logger.info("%s %s cut off", exchange.method, _printable(exchange.path), extra={FIELDS: fields})


_lines: list[str] = []


def _write() -> None:
    content = "".join(_lines).encode("utf-8", "backslashreplace")
    _lines.clear()
    with suppress(OSError):  # a full disk, or nobody reads: the requests go on
        while content:
            content = content[os.write(sys.stderr.fileno(), content) :]


def _json_line(now: float, level: str, exchange: Exchange, route: str, ms: float) -> str:
    message = _quoted(f"{exchange.method} {_printable(exchange.path)} {exchange.status}")
    images = f', "images": {exchange.images}' if exchange.images else ""
    code = f', "code": "{exchange.problem.code}"' if exchange.problem is not None else ""
    return (
        f'{{"time": "{_iso(now)}", "level": "{level.lower()}", "logger": "{logger.name}", "message": {message}, '
        f'"request_id": {_quoted(exchange.request_id)}, "client": {_quoted(exchange.client)}, "route": "{route}", '
        f'"status": {exchange.status}, "ms": {ms:.2f}{images}{code}}}\n'
    )


def _plain_line(now: float, level: str, exchange: Exchange, route: str, ms: float) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    message = f"{exchange.method} {_printable(exchange.path)} {exchange.status}"
    return f"{when},{int(now % 1 * 1000):03} {level} {message} in {ms:.1f} ms [{exchange.request_id}]\n"


_form = _json_line


def _iso(now: float) -> str:
    return f"{_second(int(now))}.{int(now % 1 * 1000):03}Z"


@lru_cache(maxsize=2)
def _second(now: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))


def _printable(path: str) -> str:
    """A path may hold anything once it is decoded, such as an end of line."""
    return path[:200] if path.isprintable() else ascii(path[:200])[1:-1]


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
