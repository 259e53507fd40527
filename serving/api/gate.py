"""What stands before every route: who may ask, what a POST may carry, and every error in one form.

An ASGI middleware, outside everything that could answer with a page or a traceback of its own. It has the four POST
routes answered itself: on the way through BentoML's stack each of them would cost three times as much. What BentoML's
clients read goes on to BentoML, all else to our own pages: what neither lists does not exist.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.access.admission import Admission
from serving.api.access.keys import Keys
from serving.api.access.rate_limit import Quota
from serving.api.cors import Cors
from serving.api.endpoints.health import Health
from serving.api.http import problems
from serving.api.http.context import Exchange
from serving.api.http.problems import Problem
from serving.api.http.validation import parse_json
from serving.api.protocol import Sender
from serving.api.schemas import Body
from serving.api.settings import Settings
from serving.api.telemetry import logs
from serving.api.telemetry.metrics import Metrics
from serving.api.telemetry.tracing import Tracing
from serving.api.web import site

MAX_BODY_BYTES = 64 * 1024
BENTOML_PATHS = ("/schema.json",)  # what BentoML's clients read first
OPEN_PATHS = ("/livez", "/readyz")  # an orchestrator has no key
COUNTED_PREFIX = "/v1/"  # what a quota is spent on
TIMED_PREFIX = "/v1/images/"  # besides the POST routes, what has a deadline

logger = logging.getLogger("ganymede")


Operate = Callable[[Exchange, Body, str | None], Awaitable[Response]]
"""Body and `Accept` -> the reply. Raises Problem."""

Crowded = Callable[[type[Body], bytes], Problem | None]
"""Body as it came -> the 503 that it would come to, for want of room; else None."""


class Gate:
    """`pages` answers GET; `bodies` maps the path of each POST route, which `operate` answers, to its body's model."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        pages: Starlette,
        bodies: Mapping[str, type[Body]],
        operate: Operate,
        crowded: Crowded,
        settings: Settings,
        metrics: Metrics,
        health: Health,
        keys: Keys | None,
        quota: Quota | None,
        tracing: Tracing | None,
    ):
        self.app = app
        self.pages = pages
        self.bodies = bodies
        self.operate = operate
        self.crowded = crowded
        self.settings = settings
        self.metrics = metrics
        self.health = health
        self.keys = keys
        self.quota = quota
        self.tracing = tracing
        self.cors = Cors(settings.cors_origins)
        self.admission = Admission()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = header_fields(scope)
        exchange = Exchange.of(scope, headers, receive)
        reply = Reply(self, scope, headers, exchange, send)
        self.metrics.began()
        try:
            if self.cors.is_preflight(exchange.method, headers):
                await reply.empty(204, self.cors.preflight())
            else:
                model = self._admit(headers, exchange)
                app = self._page(exchange) if model is None else await self._operate(exchange, model, headers)
                await app(scope, receive, reply.send)
        except Problem as problem:
            if not reply.started:
                await reply.refuse(problem)
            exchange.problem = problem  # or the reply ends before its time, and the server cuts the connection
        except Exception:
            logger.exception(
                "%s %s failed", exchange.method, exchange.path, extra={logs.FIELDS: {"request_id": exchange.request_id}}
            )
            if reply.started:
                raise  # too late for another answer: the server cuts the connection
            await reply.refuse(problems.of_status(500, exchange.path, exchange.method))
        finally:
            self.leave(exchange)
            reply.end()
            self.metrics.ended()
        return None

    def shed(self, scope: Scope, body: bytes | None, sender: Sender) -> tuple[MutableHeaders, bytes] | None:
        """The 503 that a POST for pictures comes to while there is no room, here or with its model; else None.

        For the server, before there is a task for it: so a flood takes the less from those who are served. Where the
        body did not come with the head, that alone is looked at.
        """
        model = self.bodies.get(scope["path"])
        if model is None or scope["method"] != "POST":
            return None
        if self.admission.full:
            problem = self.admission.refusal()
        elif body is not None and len(body) <= MAX_BODY_BYTES:
            problem = self.crowded(model, body)
        else:
            problem = None
        if problem is None:
            return None
        scope["client"] = sender()
        headers = header_fields(scope)
        exchange = Exchange.of(scope, headers, _unread)
        reply = Reply(self, scope, headers, exchange, _unsent)
        found = reply.document(problem)
        reply.end()
        return found

    def _page(self, exchange: Exchange) -> ASGIApp:
        return self.app if exchange.path in BENTOML_PATHS else self.pages

    def _admit(self, headers: Mapping[str, str], exchange: Exchange) -> type[Body] | None:
        """What the body of a POST must be. Raises the Problem of a request that goes no further."""
        path = exchange.path
        if self.keys is not None and path not in OPEN_PATHS and not site.is_part(path):
            name = self.keys.name(headers.get("authorization"))
            if name is None:
                raise problems.unauthorized()
            exchange.client = name
        if self.quota is not None and path.startswith(COUNTED_PREFIX):
            self.quota.check(exchange.client)
        model = self.bodies.get(path)
        if model is not None or path.startswith(TIMED_PREFIX):
            exchange.limit(headers.get("x-request-timeout"), self.settings.timeout)
        if model is None:
            if path.startswith(TIMED_PREFIX):
                self._enter(exchange)
            return None
        if exchange.method != "POST":
            raise problems.method_not_allowed(path, exchange.method, "POST")
        return model

    async def _operate(self, exchange: Exchange, model: type[Body], headers: Mapping[str, str]) -> Response:
        with exchange.in_time(self.settings.read_timeout) as time_left:
            content = await read_body(headers, exchange.receive)
            time_left.received()
            self._enter(exchange)
            return await self.operate(exchange, parse_json(model, content), headers.get("accept"))

    def _enter(self, exchange: Exchange) -> None:
        self.admission.enter()
        exchange.admitted = True

    def leave(self, exchange: Exchange) -> None:
        """The reply begins, or there will be none."""
        if exchange.admitted:
            exchange.admitted = False
            self.admission.leave()

    def record(self, exchange: Exchange, scope: Scope, headers: Mapping[str, str]) -> None:
        """Counts, logs and traces a request, once its reply is complete."""
        seconds = time.monotonic() - exchange.arrived
        route = exchange.path if exchange.path in self.bodies else self._template(scope)
        self.metrics.answered(exchange, route, seconds)
        if exchange.path not in OPEN_PATHS:
            logs.answered(exchange, route, seconds)
            if self.tracing is not None:
                self.tracing.answered(exchange, route, headers, seconds)

    def _template(self, scope: Scope) -> str:
        """Of a page's route. What was refused here came to no router."""
        found = (route for route in self.pages.routes if route.matches(scope)[0] != Match.NONE)
        return getattr(scope.get("route") or next(found, None), "path", "unknown")


class Reply:
    """Passes an answer on with the headers that all have; in the place of an error it sends a problem document."""

    def __init__(self, gate: Gate, scope: Scope, request: Mapping[str, str], exchange: Exchange, send: Send):
        self.started = False
        self._gate = gate
        self._scope = scope
        self._request = request
        self._exchange = exchange
        self._send = send
        self._replaced = False
        self._recorded = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            status, headers = message["status"], MutableHeaders(raw=message.setdefault("headers", []))
            if status >= 400:
                self._replaced = True
                return await self.refuse(self._explain(status, headers))
            self._begin(status, headers)
        elif not self._replaced and not message.get("more_body", False):
            self.end()
        if not self._replaced:
            await self._send(message)
        return None

    async def refuse(self, problem: Problem) -> None:
        headers, body = self.document(problem)
        await self._send({"type": "http.response.start", "status": problem.status, "headers": headers.raw})
        self.end()
        await self._send({"type": "http.response.body", "body": body})

    def document(self, problem: Problem) -> tuple[MutableHeaders, bytes]:
        """The reply that is a problem document."""
        exchange = self._exchange
        exchange.problem = problem
        body = problem.document(instance=exchange.path, request_id=exchange.request_id)
        headers = MutableHeaders(problem.headers)
        headers["Content-Type"] = problems.MEDIA_TYPE
        headers["Content-Length"] = str(len(body))
        self._begin(problem.status, headers)
        return headers, body

    async def empty(self, status: int, headers: Mapping[str, str]) -> None:
        raw = MutableHeaders(headers)
        self._begin(status, raw)
        self.end()
        await self._send({"type": "http.response.start", "status": status, "headers": raw.raw})
        await self._send({"type": "http.response.body"})

    def end(self) -> None:
        """Records the request, once: just before the last byte goes, or where none ever does."""
        if not self._recorded:
            self._recorded = True
            self._gate.record(self._exchange, self._scope, self._request)

    def _begin(self, status: int, headers: MutableHeaders) -> None:
        self.started = True
        self._gate.leave(self._exchange)
        self._exchange.status = status
        headers.raw.append((b"x-request-id", self._exchange.request_id.encode()))
        headers.raw.append((b"x-content-type-options", b"nosniff"))
        self._gate.cors.add(self._request, headers)
        if self._gate.health.draining:
            headers["Connection"] = "close"  # the next request finds a server that stays

    def _explain(self, status: int, headers: Mapping[str, str]) -> Problem:
        """The problem a route left for this answer, or one that says what the status and the headers do."""
        if self._exchange.problem is not None:
            return self._exchange.problem
        problem = problems.of_status(status, self._exchange.path, self._exchange.method)
        problem.headers |= {name: headers[name] for name in ("allow", "retry-after") if name in headers}
        return problem


async def _unread() -> Message:
    return {"type": "http.disconnect"}


async def _unsent(message: Message) -> None:
    pass


def header_fields(scope: Scope) -> dict[str, str]:
    """By name in lower case; what is sent several times is one list, with commas (RFC 9110, section 5.3)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


async def read_body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """The body of a JSON request, refused while it arrives where it is no JSON or too long.

    Raises Problem 415 or 413, or 400 where the sender left, and nobody hears it.
    """
    content_type = headers.get("content-type")
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise problems.unsupported_media_type(content_type)
    coding = headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise problems.unsupported_coding(coding)
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > 9 or int(announced) > MAX_BODY_BYTES:
        raise problems.body_too_large(MAX_BODY_BYTES)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise problems.incomplete_body()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise problems.body_too_large(MAX_BODY_BYTES)
        if not message.get("more_body", False):
            return bytes(body)
