"""HTTP as it comes over a connection, before there is a request: what is broken, endless or slow ends here.

uvicorn's own protocol answers broken HTTP with plain text, waits for ever for the rest of a request or for a client to
take its reply, keeps headers however many come, and loses the body of a request that offers another protocol.
"""

import asyncio
import fcntl
import sys
import termios
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
from starlette.datastructures import MutableHeaders
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.api.cycle import Cycle
from serving.api.http import problems
from serving.api.http.context import SCOPE_KEY, UNDER_WAY_KEY, new_request_id
from serving.api.http.problems import Problem
from serving.api.telemetry import logs

MAX_HEAD_BYTES = 32 * 1024  # the request line and the headers
GRACE_SECONDS = 5.0  # in which the gate answers 408 itself, where a body is slow
MIN_PROGRESS = 16 * 1024  # bytes of a reply that a client must take in `read_timeout`

Sender = Callable[[], tuple[str, int] | None]
"""The address of who sent a request, or was named by a trusted proxy."""

Shed = Callable[[Scope, bytes | None, Sender], tuple[MutableHeaders, bytes] | None]
"""A request and its body, or None where that did not come with the head -> the reply that refuses it, or None."""


class Protocol(HttpToolsProtocol):
    """One connection. The class attributes are the server's: set them before it starts."""

    read_timeout: float = 10.0  # seconds, from the first byte of a request that does not come whole to its last
    refused: Callable[[str], None] = staticmethod(lambda code: None)  # told the code of each problem answered here
    shed: Shed = staticmethod(lambda scope, body, sender: None)  # what is refused before there is a task for it
    latest: "Protocol | None" = None  # on which the latest request came
    parser: Any  # an httptools.HttpRequestParser, until the connection is lost

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._unanswered: deque[Cycle] = deque()
        self._in_head = True  # of a request
        self._receiving = False  # a request has begun and is not complete
        self._unparsed = 0  # bytes of its head since the packet in which it began
        self._trailers = 0  # bytes
        self._held: bytearray | None = None  # what came with its head of the body of a request that has no task yet
        self._keep = True  # the connection, after a request that was shed
        self._shed = False  # this request was: its body is passed over
        self._too_large = False
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._unsent = 0  # bytes, when `_writing` was set

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None and "." in self.client[0]:  # an IPv6 socket writes ::ffff: before those of IPv4
            self.client = self.client[0].removeprefix("::ffff:"), self.client[1]
        self._reading = self.loop.call_later(self.read_timeout, self._slow)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._reading, self._writing, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        for cycle in self._unanswered:  # uvicorn tells the last one; the others' replies would go to a closed socket
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._unparsed += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._decide(whole=False)
            self.send_400_response("")
        self._decide(whole=False)
        if self.transport.is_closing():
            return
        if self._in_head and self._unparsed > MAX_HEAD_BYTES:
            self._too_large = True
            self.send_400_response("")
        elif self._receiving:
            self._reading = self._reading or self.loop.call_later(self.read_timeout, self._slow)
        else:
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None
            if not self._unanswered and self.timeout_keep_alive_task is None:
                self._idle()

    def _parse(self, data: bytes) -> None:
        """Raises HttpParserError. An offer of another protocol (of HTTP/2 by Java's client, say) is passed over.

        The parser stops at the end of such a head. It is shown the head once more, without the offer.
        """
        while data:
            try:
                return self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                fields = [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
                data = b"\r\n".join([line, *fields, b"", data[offer.args[0] :]])
        return None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if Protocol.latest is self:
            self.scope[UNDER_WAY_KEY] = self.tasks  # pyright: ignore[reportGeneralTypeIssues]  ours
        Protocol.latest = self
        self._receiving = self._in_head = True
        self._unparsed = self._trailers = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            return super().on_header(name, value)
        self._trailers += len(name) + len(value)  # nobody reads them
        self._check(self._trailers)
        return None

    def on_headers_complete(self) -> None:
        self._check(len(self.url) + sum(len(name) + len(value) for name, value in self.headers))
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("this is no proxy")
        if self.parser.should_upgrade():  # it will be back
            return
        target = httptools.parse_url(self.url)
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = self.parser.get_http_version()
        self.scope["path"] = unquote(target.path.decode("ascii"))
        self.scope["raw_path"] = target.path
        self.scope["query_string"] = target.query or b""
        self._held = bytearray()
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        if self._held is not None:
            self._held += body
        elif not self._shed:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._receiving, self._in_head = False, True
        self._decide(whole=True)
        if not self._shed:
            return super().on_message_complete()
        self._shed = False
        if not self._keep:
            self.transport.close()
        return None

    def _decide(self, *, whole: bool) -> None:
        """Refuses the request that is held, where there is one, or makes a task for it. whole: all its body is here."""
        if self._held is None:
            return
        body, self._held = bytes(self._held), None
        at_once = not self._unanswered and not self.flow.write_paused  # it could be answered
        self._shed = at_once and self._refuse_early(body if whole else None)
        if not self._shed:
            self._begin()
            if body:
                super().on_body(body)

    def _begin(self) -> None:
        """A task for the request, at once or when those before it are answered."""
        cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.scope["http_version"] >= "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self.cycle = cycle
        self._unanswered.append(cycle)
        app = cast(Any, self.app)
        if len(self._unanswered) == 1:
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _refuse_early(self, body: bytes | None) -> bool:
        """Whether the request is answered with that: no task was made for it, and nothing else is."""
        found = self.shed(cast(Scope, self.scope), body, self._sender)
        if found is None:
            return False
        headers, document = found
        self._keep = self.parser.should_keep_alive() and headers.get("connection") != "close"
        if not self._keep:
            headers["Connection"] = "close"
        fields = b"".join(b"%s: %s\r\n" % field for field in [*self.server_state.default_headers, *headers.raw])
        self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\n%s\r\n%s" % (fields, document))
        return True

    def _sender(self) -> tuple[str, int] | None:
        """Who sent the request or is named by a trusted proxy: what uvicorn's middleware has for those with a task."""
        proxies: Any = getattr(self.app, "trusted_hosts", ())
        if self.client is None or self.client[0] not in proxies:
            return self.client
        named = b", ".join(value for name, value in self.headers if name == b"x-forwarded-for")
        host, port = proxies.get_trusted_client_address(named.decode("latin-1"))
        return (host, port) if host else self.client

    def on_response_complete(self) -> None:
        self._unanswered.popleft()
        super().on_response_complete()
        if self.transport.is_closing() and self._writing is None:  # once all is taken, which may be never
            self._watch()

    def _idle(self) -> None:
        """From now on, until something comes."""
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        if self._writing is not None:  # what is left of a large reply is looked after
            self._idle()
        elif self.transport.get_write_buffer_size():  # closing would wait for it to be taken
            self._cut()
        else:
            super().timeout_keep_alive_handler()

    def _check(self, size: int) -> None:
        if size > MAX_HEAD_BYTES:
            self._too_large = True
            raise ValueError("the head is too large")  # the parser makes an HttpParserError of it

    def send_400_response(self, msg: str) -> None:
        """The end of a connection on which nothing more can be understood."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._receiving and not self._in_head:  # the rest of a request that was answered already
                return self.transport.close()
        elif not cycle.more_body:  # what was understood is answered first
            cycle.keep_alive = False
            return self.flow.pause_reading()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
        if self._too_large:
            return self._refuse(problems.head_too_large(MAX_HEAD_BYTES))
        return self._refuse(problems.bad_http("What came is not an HTTP/1.1 request."))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _slow(self) -> None:
        """The time in which a request had to come is over."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # it is not the client's fault
            self._reading = self.loop.call_later(self.read_timeout, self._slow)
        elif self._receiving and self._in_head:
            self._refuse(problems.slow_request(self.read_timeout))
        elif self._receiving and cycle is not None and not cycle.response_complete:
            self._reading = self.loop.call_later(GRACE_SECONDS, self.transport.abort)
        else:  # nothing came, or the rest of a request that was answered already
            self.transport.close()

    def _watch(self) -> None:
        """Looks in a while how much of what is unsent was taken."""
        self._unsent = self._count_unsent()
        self._writing = self.loop.call_later(self.read_timeout, self._stalled)

    def _stalled(self) -> None:
        """The time in which a client had to take a part of its reply is over."""
        if self._count_unsent() > self._unsent - MIN_PROGRESS:
            self._cut()
        else:
            self._watch()

    def _count_unsent(self) -> int:
        """Bytes, with those that the kernel holds: Linux takes more only once a third of its megabytes is free."""
        try:
            descriptor = self.transport.get_extra_info("socket").fileno()
            held = int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:  # it does not tell
            held = 0
        return self.transport.get_write_buffer_size() + held

    def _cut(self) -> None:
        """Ends the connection with a client that does not take its reply."""
        self.refused("slow-reader")
        scope = self._unanswered[0].scope if self._unanswered else self.scope
        exchange = cast(Scope, scope).get(SCOPE_KEY)
        if exchange is not None:
            logs.cut(exchange, "slow-reader")
        self.transport.abort()

    def _refuse(self, problem: Problem) -> None:
        self.refused(problem.code)
        request_id = new_request_id()
        body = problem.document(instance="about:blank", request_id=request_id)
        lines = [
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
            f"Content-Type: {problems.MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            f"X-Request-Id: {request_id}",
            "Connection: close",
        ]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.transport.close()
