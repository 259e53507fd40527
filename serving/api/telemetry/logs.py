"""Logs through the standard `logging`: lines for people on a terminal, JSON anywhere else.

    {"time": "2026-11-22T18:02:45.120Z", "level": "info", "logger": "ganymede.access", "message": "POST /v1/sample 200",
     "request_id": "5f0c...", "client": "10.0.0.7", "route": "/v1/sample", "status": 200, "images": 16, "ms": 7.9}

Bodies, queries and headers are never logged, and so no API key: a client appears as its key's name or its address.
"""

import asyncio
import json
import logging
import logging.config
import os
import sys
import time
from contextlib import suppress
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from typing import Any

from serving.api.http.context import RequestContext

FIELDS = "fields"  # the attribute of a record that holds what a JSON line has besides its message
PROBES = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")  # requested every few seconds: not logged
QUIET = ("_granian", "uvicorn", "bentoml", "opentelemetry")  # below warnings they repeat what is logged here

logger = logging.getLogger("ganymede.access")


def config(level: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`: all loggers write to stderr, in one format."""
    formatter = "plain" if sys.stderr.isatty() else "json"
    quiet = {"level": max(logging.WARNING, logging.getLevelName(level.upper()))}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"()": Plain, "fmt": "%(asctime)s %(levelname)s %(message)s"}, "json": {"()": Json}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": formatter}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {name: {"handlers": [], "propagate": True, **quiet} for name in QUIET},
    }


def configure(level: str) -> None:
    logging.raiseExceptions = False  # a full disk, or a closed pipe, does not end requests
    logging.config.dictConfig(config(level))


def answered(context: RequestContext, route: str, seconds: float) -> None:
    """Log a request whose reply ends; an observer of `ContextMiddleware`.

    These lines do not pass through `logging`, which costs 60 us for each, 9 % of a request for one image. They are
    written together at the end of the event loop's turn.
    """
    level = logging.WARNING if context.status >= 500 else logging.INFO
    if context.path in PROBES or not logger.isEnabledFor(level):
        return
    if not _lines:
        asyncio.get_running_loop().call_soon(_write)
    _lines.append((_plain if sys.stderr.isatty() else _json)(level, context, route, 1000 * seconds))


_lines: list[str] = []


def _write() -> None:
    content = "".join(_lines).encode("utf-8", "backslashreplace")
    _lines.clear()
    with suppress(OSError):  # a full disk, or a closed pipe: requests go on
        while content:
            content = content[os.write(sys.stderr.fileno(), content) :]


def _json(level: int, context: RequestContext, route: str, ms: float) -> str:
    now = time.time()
    images = f', "images": {context.images}' if context.images else ""
    code = f', "code": "{context.problem.code}"' if context.problem is not None else ""
    return (
        f'{{"time": "{_iso(now)}", "level": "{logging.getLevelName(level).lower()}", "logger": "{logger.name}", '
        f'"message": {quoted(f"{context.method} {context.path[:200]} {context.status}")}, '
        f'"request_id": "{context.request_id}", "client": {quoted(context.client)}, "route": "{route}", '
        f'"status": {context.status}, "ms": {ms:.2f}{images}{code}}}\n'
    )


def _plain(level: int, context: RequestContext, route: str, ms: float) -> str:
    message = printable(f"{context.method} {context.path[:200]} {context.status}")
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"{when} {logging.getLevelName(level)} {message} in {ms:.1f} ms [{context.request_id}]\n"


def _iso(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def printable(text: str) -> str:
    """Escape what could end a line: a path may hold anything once it is decoded."""
    return text if text.isprintable() else ascii(text)[1:-1]


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


class Plain(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)
