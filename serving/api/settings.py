"""All settings, from the environment: this page is their documentation.

GANYMEDE_MODELS             the model repository; `models` beside the `serving` package unless set
GANYMEDE_WORKERS            processes that answer requests; 1
GANYMEDE_TIMEOUT            seconds a request may take, and the most that its `X-Request-Timeout` can ask for; 30
GANYMEDE_READ_TIMEOUT       seconds in which a request must have arrived whole; 10
GANYMEDE_KEEP_ALIVE         seconds that a connection may be idle between two requests; 75. More than the load balancer
                            in front keeps one, or it sends a request where nobody listens any more: 60 is usual
GANYMEDE_MAX_QUEUE          images that may wait for a model in each process; 2048
GANYMEDE_RATE_LIMIT         images a second that a client gets from each process, counted by API key or else by network
                            address (of IPv6 the /64); no limit unless set
GANYMEDE_API_KEYS_FILE      who may ask, one key a line: its sha256 in hexadecimal, then a name for the logs. It is read
                            again when it changes. Everybody may ask unless set
GANYMEDE_CORS_ORIGINS       origins whose pages may ask, with commas between them, or `*`; none unless set
GANYMEDE_HEARTBEAT          seconds from one inference that proves every model to the next; 10
GANYMEDE_DRAIN              seconds after SIGTERM in which `/readyz` says no and requests are still taken; 3
GANYMEDE_LOG_LEVEL          `debug`, `info`, `warning` or `error`; `info`, which has a line for every request
OTEL_EXPORTER_OTLP_ENDPOINT where traces go; none are made unless it, or ..._TRACES_ENDPOINT, is set
PROMETHEUS_MULTIPROC_DIR    where several processes keep their counters for each other; set by whoever starts them
FORWARDED_ALLOW_IPS         proxies whose `X-Forwarded-For` is believed; 127.0.0.1
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import serving

DEFAULT_MODELS = Path(serving.__file__).parent.parent / "models"  # in a checkout and in a bento alike
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Settings:
    models: Path
    workers: int
    timeout: float
    read_timeout: float
    keep_alive: int
    max_queue: int
    rate_limit: float | None
    api_keys_file: Path | None
    cors_origins: tuple[str, ...]
    heartbeat: float
    drain: float
    log_level: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Raises ValueError where a variable holds what it cannot."""
        read = _Reader(environment)
        return cls(
            models=Path(environment.get("GANYMEDE_MODELS") or DEFAULT_MODELS),
            workers=read.integer("GANYMEDE_WORKERS", 1, 1, 256),
            timeout=read.number("GANYMEDE_TIMEOUT", 30, 0.1, 600),
            read_timeout=read.number("GANYMEDE_READ_TIMEOUT", 10, 0.1, 600),
            keep_alive=read.integer("GANYMEDE_KEEP_ALIVE", 75, 1, 3600),
            max_queue=read.integer("GANYMEDE_MAX_QUEUE", 2048, 1, 1_000_000),
            rate_limit=read.number("GANYMEDE_RATE_LIMIT", None, 0.001, 1_000_000),
            api_keys_file=Path(path) if (path := environment.get("GANYMEDE_API_KEYS_FILE")) else None,
            cors_origins=read.origins("GANYMEDE_CORS_ORIGINS"),
            heartbeat=read.number("GANYMEDE_HEARTBEAT", 10, 0.1, 3600),
            drain=read.number("GANYMEDE_DRAIN", 3, 0, 600),
            log_level=read.choice("GANYMEDE_LOG_LEVEL", "info", LOG_LEVELS),
        )


class _Reader:
    """Values of variables; one that is empty counts as not set. Every complaint names the variable and its range."""

    def __init__(self, environment: Mapping[str, str]):
        self._environment = environment

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        text = self._environment.get(name) or str(default)
        digits = text.isascii() and text.isdigit() and len(text) < 20  # int() itself refuses thousands of digits
        if not (digits and low <= int(text) <= high):
            raise ValueError(f"`{name}` (={text}) must be a whole number between {low} and {high}.")
        return int(text)

    @overload
    def number(self, name: str, default: float, low: float, high: float) -> float: ...
    @overload
    def number(self, name: str, default: None, low: float, high: float) -> float | None: ...
    def number(self, name: str, default: float | None, low: float, high: float) -> float | None:
        text = self._environment.get(name)
        if not text:
            return default
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan  # 1_000 is Python's own
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"`{name}` (={text}) must be a number between {low} and {high}.")
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = (self._environment.get(name) or default).lower()
        if value not in choices:
            raise ValueError(f"`{name}` (={value}) must be one of {', '.join(choices)}.")
        return value

    def origins(self, name: str) -> tuple[str, ...]:
        origins = tuple(origin.strip() for origin in self._environment.get(name, "").split(",") if origin.strip())
        for origin in origins:
            if origin != "*" and not (origin.startswith(("http://", "https://")) and origin.count("/") == 2):
                raise ValueError(f"`{name}` (={origin}) must be `*` or origins such as https://example.org.")
        return origins
