"""One call, from its first attempt to its result or its error: all that the two clients do alike, without any I/O."""

import secrets
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import httpx2

from serving.client.connection import DEFAULT_BASE_URL, Options, Proxy
from serving.client.errors import (
    CertificateError,
    ConnectionError,
    GanymedeError,
    ProxyError,
    ReplyError,
    TimeoutError,
    TransportError,
    UnknownHostError,
    is_problem_of_ours,
    redirect_error,
    status_error,
)
from serving.client.requests import Request
from serving.client.retries import PATIENCE, pause, told_to_wait

T = TypeVar("T")


@dataclass
class Call(Generic[T]):
    request: Request[T]
    options: Options
    base_url: str = DEFAULT_BASE_URL
    proxy: Proxy | None = None  # that it goes through
    id: str = field(default_factory=lambda: secrets.token_hex(16))  # sent, so that even a lost reply has one
    failures: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Accept": self.request.accept, "X-Request-Id": self.id}
        if self.request.body is not None:
            # A server that is told works for nobody who has gone.
            headers |= {"Content-Type": "application/json", "X-Request-Timeout": f"{self.options.timeout:.3f}"}
        else:
            headers["Cache-Control"] = "no-cache"  # a cache would answer with another request's id
        return headers

    def result(self, status: int, headers: Mapping[str, str], body: bytes) -> T:
        """What a reply means. Raises StatusError, or ReplyError where it is not what was asked for."""
        if 300 <= status < 400 and "location" in headers:
            raise redirect_error(status, self.base_url, self.request.path, headers["location"], self.id)
        if not 200 <= status < 300:
            if is_problem_of_ours(body):
                self._check_id(headers)
            source = str(self.proxy) if self.proxy and "x-request-id" not in headers else "the server"
            raise status_error(status, headers, body, self.id, source=source)
        self._check_id(headers)
        try:
            return self.request.read(headers, body)
        except (ValueError, KeyError, TypeError, EOFError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise ReplyError(f"The reply is not what was asked for: {reason}.", request_id=self.id) from error

    def _check_id(self, headers: Mapping[str, str]) -> None:
        """Every reply of the server has its request's id. Another's, for all that fits, would be another's images."""
        found = headers.get("x-request-id")
        if found is None:
            reason = f"The reply is not what was asked for: it has no X-Request-Id, so {self.base_url} is no Ganymede"
            raise ReplyError(f"{reason} server, or what is in between drops it.", request_id=self.id)
        if found != self.id:
            reason = f"The reply has the request id {found[:60]}, where {self.id} was sent: it answers another request"
            raise ReplyError(f"{reason}, or what is in between replaces X-Request-Id.", request_id=self.id)

    def pause_after(self, error: GanymedeError) -> float:
        """Seconds to wait before the next attempt. Raises `error` where there is none."""
        told = told_to_wait(error) > 0
        left = self.began + PATIENCE - time.monotonic() if told else self.options.retries - self.failures
        seconds = pause(error, self.failures) if left > 0 and self.options.retries else None
        if seconds is None:
            raise error
        self.failures += not told
        return seconds

    def lost(self, error: httpx2.RequestError) -> TransportError:
        """The error of an attempt that brought no whole reply."""
        causes = list(_causes(error))
        reason, url = str(error) or type(error).__name__, self.base_url
        if isinstance(error, httpx2.TimeoutException):
            return self.late(reason)
        if isinstance(error, httpx2.DecodingError):
            return ReplyError(f"{url} answered with a damaged body: {reason}.", request_id=self.id)
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return CertificateError(
                    f"The TLS certificate of {url} does not verify: {cause.verify_message.rstrip('.')}.",
                    request_id=self.id,
                )
        if self.proxy and isinstance(error, httpx2.ProxyError | httpx2.ConnectError):
            detail = f"T{str(self.proxy)[1:]} did not connect to {url}: {_detail(causes)}."
            return ProxyError(detail, request_id=self.id)
        host = httpx2.URL(url).host
        for cause in causes:
            if isinstance(cause, socket.gaierror):
                detail = f"The name `{host}` of {url} does not resolve: {cause.strerror}."
                return UnknownHostError(detail, request_id=self.id)
        for cause in causes:
            if isinstance(cause, ssl.SSLError):
                detail = f"{url} does not speak TLS, or no version of it that is known here: {cause.reason or cause}."
                return ConnectionError(detail, request_id=self.id)
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return ConnectionError(f"Nothing listens at {url}: the connection was refused.", request_id=self.id)
        return ConnectionError(f"{url} gave no whole answer: {reason}.", request_id=self.id)

    def late(self, reason: str) -> TimeoutError:
        seconds = self.options.timeout
        return TimeoutError(f"{self.base_url} gave no whole answer within {seconds:g} s: {reason}.", request_id=self.id)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that led to `error`, itself first; one for each address that was tried."""
    yield error
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())  # of a group
    for cause in (error.__cause__ or error.__context__, *inner):
        if cause is not None:
            yield from _causes(cause)


def _detail(causes: list[BaseException]) -> str:
    """What the system says, where it does."""
    said = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return (said[-1] if said else str(causes[0])).rstrip(".")
