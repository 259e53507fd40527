"""What is logged: lines for people on a terminal, JSON for machines anywhere else.

    {"time": "2026-11-22T18:02:45.120Z", "level": "info", "logger": "ganymede.access", "message": "POST /v1/sample 200",
     "request_id": "5f0c...", "client": "10.0.0.7", "route": "/v1/sample", "status": 200, "images": 16, "ms": 7.9}

Bodies, queries and headers are never logged, and so no API key: a client is named by its key's name or its address.
"""

import json
import logging
import sys
import time
from typing import Any

from serving.api.exchange import Exchange

FIELDS = "fields"  # the attribute of a record that holds what a JSON line has besides its message
QUIET = ("uvicorn", "bentoml", "opentelemetry")  # what they say at info is said here, or of no use

logger = logging.getLogger("ganymede.access")


def configure(level: str) -> None:
    """Everything that this process logs goes to stderr, in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain() if sys.stderr.isatty() else Json())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        other = logging.getLogger(name)
        other.handlers, other.propagate = [], True
        other.setLevel(max(logging.ERROR, root.level))


def answered(exchange: Exchange, route: str, seconds: float) -> None:
    """A line for a reply: a warning where the server could not do what it should, else information."""
    level = logging.WARNING if exchange.status >= 500 else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields = {
        "request_id": exchange.request_id,
        "client": exchange.client,
        "route": route,
        "status": exchange.status,
        "ms": round(1000 * seconds, 2),
    }
    if exchange.images:
        fields["images"] = exchange.images
    if exchange.problem is not None:
        fields["code"] = exchange.problem.code
    logger.log(level, "%s %s %d", exchange.method, _printable(exchange.path), exchange.status, extra={FIELDS: fields})


def _printable(path: str) -> str:
    """A path may hold anything once it is decoded, such as an end of line."""
    return path[:200] if path.isprintable() else ascii(path[:200])[1:-1]


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Plain(logging.Formatter):
    """Time, level and message; of a request also how long it took and its id."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = getattr(record, FIELDS, {})
        suffix = f" in {fields['ms']:.1f} ms [{fields['request_id']}]" if "ms" in fields else ""
        return super().formatMessage(record) + suffix
