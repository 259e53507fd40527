"""What stands before every route: request ids, what a POST may carry, and errors in one form.

An ASGI middleware, outside everything that could answer with a page or a traceback of its own.
"""

import logging
import re
import uuid
from collections.abc import Mapping

from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api import problems
from serving.api.problems import Problem
from serving.api.validation import parse_json

BODY_KEY = "ganymede.body"
"""Where the parsed body of a POST waits in the ASGI scope."""

MAX_BODY_BYTES = 64 * 1024
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")  # what is echoed goes into logs: nothing that could end a line

# No route redirects. Starlette's router does, from /v1/sample/ to a host of the sender's choosing.
REDIRECTS = {301, 302, 303, 307, 308}

logger = logging.getLogger("ganymede")


class Gate:
    """`bodies` maps the path of every POST route to the model of its body."""

    def __init__(self, app: ASGIApp, bodies: Mapping[str, type[BaseModel]]):
        self.app = app
        self.bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        reply = Reply(scope, send)
        try:
            body = self.bodies.get(scope["path"]) if scope["method"] == "POST" else None
            if body is not None:
                scope[BODY_KEY] = parse_json(body, await read_body(Headers(scope=scope), receive))
            await self.app(scope, receive, reply.send)
        except Problem as problem:
            await reply.refuse(problem)
        except ClientGone:
            # Nobody hears it, but BentoML's timeout would wait a minute for a first word.
            await reply.refuse(Problem(400, "incomplete-body", "The connection ended before the body did."))
        except Exception:
            logger.exception("request %s failed: %s %s", reply.request_id, scope["method"], scope["path"])
            if reply.started:
                raise  # too late for another answer: the server cuts the connection
            await reply.refuse(problems.of_status(500, scope["path"], scope["method"]))
        return None


class Reply:
    """Passes an answer on with its request id, or a problem document in the place of an error without one."""

    def __init__(self, scope: Scope, send: Send):
        self.scope = scope
        self.started = False
        self._send = send
        self._replaced = False
        sent = Headers(scope=scope).get("x-request-id", "")
        self.request_id = sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            status = message["status"]
            if status in REDIRECTS:
                status = 404
            if status >= 400:
                self._replaced = True
                return await self.refuse(self._explain(status, headers))
            headers["X-Request-Id"] = self.request_id
            self.started = True
        if not self._replaced:
            await self._send(message)
        return None

    async def refuse(self, problem: Problem) -> None:
        body = problem.document(instance=self.scope["path"], request_id=self.request_id)
        headers = MutableHeaders(problem.headers)
        headers["Content-Type"] = problems.MEDIA_TYPE
        headers["Content-Length"] = str(len(body))
        headers["X-Request-Id"] = self.request_id
        self.started = True
        await self._send({"type": "http.response.start", "status": problem.status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})

    def _explain(self, status: int, headers: Headers) -> Problem:
        """The problem a route left for this answer, or one that says what the status and the headers do."""
        if problems.SCOPE_KEY in self.scope:
            return self.scope[problems.SCOPE_KEY]
        problem = problems.of_status(status, self.scope["path"], self.scope["method"])
        problem.headers |= {name: headers[name] for name in ("allow", "retry-after") if name in headers}
        return problem


class ClientGone(Exception):
    """The connection ended before the body did; nobody is left to answer."""


async def read_body(headers: Headers, receive: Receive) -> bytes:
    """The body of a JSON request, refused while it arrives where it is no JSON or too long: Problem 415 or 413."""
    content_type = headers.get("content-type")
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise problems.unsupported_media_type(content_type)
    announced = headers.get("content-length", "0")
    if len(announced) > 9 or int(announced) > MAX_BODY_BYTES:
        raise problems.body_too_large(MAX_BODY_BYTES)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise problems.body_too_large(MAX_BODY_BYTES)
        if not message.get("more_body", False):
            return bytes(body)
