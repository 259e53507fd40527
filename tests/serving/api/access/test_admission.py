"""Admission control: so many requests in work, and a truthful `Retry-After` for those beyond."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.api.access import admission as module
from serving.api.access.admission import AdmissionMiddleware
from serving.api.http.problems import Problem


class Endpoint:
    """Reads the whole body, waits until it is told to answer, and answers in two messages."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            while (await receive()).get("more_body"):
                pass
        await self.answers.wait()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})


class Client:
    """Sends a body in pieces, each when it is told to, and takes the reply when it is told to."""

    def __init__(self, *pieces: bytes, method: str = "POST", path: str = "/v1/sample"):
        self.scope: Scope = {"type": "http", "method": method, "path": path}
        self.pieces = asyncio.Queue[Message]()
        self.left = len(pieces)
        for piece in pieces:
            self.pieces.put_nowait({"type": "http.request", "body": piece, "more_body": True})
        self.reads = asyncio.Event()
        self.reads.set()

    def finish(self) -> "Client":
        self.pieces.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        return self

    async def send(self, message: Message) -> None:
        await self.reads.wait()


def admission_of(endpoint: Endpoint, limit: int) -> AdmissionMiddleware:
    return AdmissionMiddleware(endpoint, posts={"/v1/sample"}, gets="/v1/images/", limit=limit)


def begin(admission: AdmissionMiddleware, client: Client) -> asyncio.Task[None]:
    return asyncio.create_task(admission(client.scope, client.pieces.get, client.send))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def code_of(task: asyncio.Task[Any]) -> str | None:
    error = task.exception() if task.done() else None
    return error.code if isinstance(error, Problem) else None


def test_a_request_beyond_the_limit_is_rejected_until_one_ends():
    async def scenario() -> None:
        endpoint = Endpoint()
        admission = admission_of(endpoint, 2)
        first, second, third = (begin(admission, Client().finish()) for _ in range(3))
        await settle()
        assert (code_of(first), code_of(second), code_of(third)) == (None, None, "overloaded")
        endpoint.answers.set()
        await asyncio.gather(first, second)
        await begin(admission, Client().finish())

    asyncio.run(scenario())


def test_a_request_whose_body_is_incomplete_holds_no_place():
    async def scenario() -> None:
        endpoint = Endpoint()
        admission = admission_of(endpoint, 1)
        slow = begin(admission, Client(b"{"))
        await settle()
        endpoint.answers.set()
        await begin(admission, Client().finish())
        slow.cancel()

    asyncio.run(scenario())


def test_a_client_that_reads_slowly_holds_no_place():
    async def scenario() -> None:
        endpoint, reader = Endpoint(), Client().finish()
        admission = admission_of(endpoint, 1)
        reader.reads.clear()
        endpoint.answers.set()
        slow = begin(admission, reader)
        await settle()
        await begin(admission, Client().finish())
        reader.reads.set()
        await slow

    asyncio.run(scenario())


def test_a_failed_or_cancelled_request_gives_its_place_back():
    async def scenario() -> None:
        endpoint = Endpoint()
        admission = admission_of(endpoint, 1)
        task = begin(admission, Client().finish())
        await settle()
        task.cancel()
        await settle()
        endpoint.answers.set()
        await begin(admission, Client().finish())

    asyncio.run(scenario())


def test_image_urls_count_and_other_routes_do_not():
    async def scenario() -> None:
        endpoint = Endpoint()
        admission = admission_of(endpoint, 1)
        held = begin(admission, Client(method="GET", path="/v1/images/m/7/0.png"))
        await settle()
        rejected = begin(admission, Client(method="GET", path="/v1/images/m/7/1.png"))
        await settle()
        assert code_of(rejected) == "overloaded"
        other = begin(admission, Client(method="GET", path="/v1/models"))
        endpoint.answers.set()
        await asyncio.gather(held, other)

    asyncio.run(scenario())


async def rejection(admission: AdmissionMiddleware) -> Problem:
    with pytest.raises(Problem) as rejected:
        await admission(Client().scope, Client().finish().pieces.get, Client().send)
    assert (rejected.value.status, rejected.value.code) == (503, "overloaded")
    return rejected.value


def test_retry_after_is_how_long_the_requests_in_work_take(monkeypatch: pytest.MonkeyPatch):
    """Ten in work, each of which takes half a second: after 5 s there is a place for ten more."""
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)

    async def scenario() -> str:
        nonlocal now
        endpoints = [Endpoint() for _ in range(10)]
        turns = iter(range(10_000))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await endpoints[next(turns) % 10](scope, receive, send)

        admission = AdmissionMiddleware(app, posts={"/v1/sample"}, gets="/v1/images/", limit=10)
        tasks = [begin(admission, Client().finish()) for _ in range(10)]
        await settle()
        for turn in range(200):
            now += 0.5
            endpoints[turn % 10].answers.set()
            await tasks[turn % 10]
            endpoints[turn % 10].answers.clear()
            tasks[turn % 10] = begin(admission, Client().finish())
            await settle()
        retry_after = (await rejection(admission)).headers["Retry-After"]
        for task in tasks:
            task.cancel()
        return retry_after

    assert asyncio.run(scenario()) == "5"


def test_idle_time_does_not_raise_retry_after(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)

    async def scenario() -> str:
        nonlocal now
        endpoint = Endpoint()
        admission = admission_of(endpoint, 1)
        for _ in range(100):
            task = begin(admission, Client().finish())
            await settle()
            now += 0.01
            endpoint.answers.set()
            await task
            endpoint.answers.clear()
            now += 60
        held = begin(admission, Client().finish())
        await settle()
        retry_after = (await rejection(admission)).headers["Retry-After"]
        held.cancel()
        return retry_after

    assert asyncio.run(scenario()) == "1"
