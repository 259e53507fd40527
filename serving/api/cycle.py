"""A request as the application has it, and its reply on the wire: what uvicorn does, in fewer steps.

uvicorn writes the head of a reply and its body one after the other, each with a system call, and looks at each header
four times: a fifth of what the event loop does for a small picture. Here the head goes with the first of the body.
"""

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

WITHOUT_BODY = (204, 304)


class Cycle(RequestResponseCycle):
    def __init__(self, **options: Any):
        super().__init__(**options)
        self._start: Any = None  # the message that begins the reply, until there is some of its body
        self._until_closed = False  # is how long the body is

    async def send(self, message: Any) -> None:
        """Raises RuntimeError for a message that cannot be sent as HTTP; then nothing of it is."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        head = b"" if self.response_started else self._head()
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk if more else chunk + b"0\r\n\r\n"
        elif not self._until_closed:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("The body is not as long as `Content-Length` says.")
        self.response_started, self.waiting_for_100_continue = True, False
        self.transport.write(head + body if head else body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _head(self) -> bytes:
        """The status line and the headers; sets what they say of the body and the connection."""
        status, headers = self._start["status"], self._start["headers"]
        lines = [b"%b: %b" % field for field in (*self.default_headers, *headers)]
        fields = cast(dict[bytes, bytes], dict(headers))  # names are in lower case (ASGI)
        closes = b"close" in fields.get(b"connection", b"").lower()
        if not self.keep_alive and not closes:
            lines.append(b"connection: close")
        self.keep_alive = self.keep_alive and not closes
        length = fields.get(b"content-length")
        if length is not None:
            self.expected_content_length = int(length)
        elif self.scope["method"] != "HEAD" and status not in WITHOUT_BODY:
            self._until_closed = self.scope["http_version"] < "1.1"  # it knows no chunks (RFC 9112, section 6.1)
            self.chunked_encoding = not self._until_closed
            if self.chunked_encoding:
                lines.append(b"transfer-encoding: chunked")
        head = b"\r\n".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines) - 1:
            raise RuntimeError("A header holds the end of a line.")
        return b"%b%b\r\n\r\n" % (STATUS_LINE[status], head)
