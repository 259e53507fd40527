"""One call, from its first attempt to its result or its error: all that the two clients do alike, without any I/O."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import httpx2

from serving.client.connection import Options
from serving.client.errors import (
    ConnectionError,
    GanymedeError,
    ReplyError,
    TimeoutError,
    TransportError,
    status_error,
)
from serving.client.requests import Request
from serving.client.retries import PATIENCE, pause, told_to_wait

T = TypeVar("T")


@dataclass
class Call(Generic[T]):
    request: Request[T]
    options: Options
    id: str = field(default_factory=lambda: secrets.token_hex(16))  # sent, so that even a lost reply has one
    failures: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Accept": self.request.accept, "X-Request-Id": self.id}
        if self.request.body is not None:
            # A server that is told works for nobody who has gone.
            headers |= {"Content-Type": "application/json", "X-Request-Timeout": f"{self.options.timeout:.3f}"}
        return headers

    def result(self, status: int, headers: Mapping[str, str], body: bytes) -> T:
        """What a reply means. Raises StatusError, or ReplyError where it is not what was asked for."""
        if not 200 <= status < 300:
            raise status_error(status, headers, body, self.id)
        try:
            return self.request.read(headers, body)
        except (ValueError, KeyError, TypeError, EOFError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise ReplyError(f"The reply is not what was asked for: {reason}.", request_id=self.id) from error

    def pause_after(self, error: GanymedeError) -> float:
        """Seconds to wait before the next attempt. Raises `error` where there is none."""
        told = told_to_wait(error) > 0
        left = self.began + PATIENCE - time.monotonic() if told else self.options.retries - self.failures
        seconds = pause(error, self.failures) if left > 0 and self.options.retries else None
        if seconds is None:
            raise error
        self.failures += not told
        return seconds

    def lost(self, base_url: object, error: httpx2.RequestError) -> TransportError:
        """The error of an attempt that brought no whole reply."""
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx2.TimeoutException):
            return self.late(base_url, reason)
        if isinstance(error, httpx2.DecodingError):
            return ReplyError(f"{base_url} answered with a damaged body: {reason}.", request_id=self.id)
        return ConnectionError(f"{base_url} gave no whole answer: {reason}.", request_id=self.id)

    def late(self, base_url: object, reason: str) -> TimeoutError:
        seconds = self.options.timeout
        return TimeoutError(f"{base_url} gave no whole answer within {seconds:g} s: {reason}.", request_id=self.id)
