"""How long a request is worked for: until its deadline, and no longer than its client waits."""

import asyncio
import time

import pytest
from starlette.types import Message

from serving.api.http.context import RequestContext
from serving.api.http.problems import Problem


def waits_for(context: RequestContext, seconds: float) -> Problem | None:
    async def scenario() -> None:
        with context.until_deadline():
            await asyncio.sleep(seconds)

    try:
        asyncio.run(scenario())
    except Problem as problem:
        return problem
    return None


def sends(*messages: str) -> RequestContext:
    """An context whose client does these things, and then nothing."""
    left = list(messages)

    async def receive() -> Message:
        return {"type": left.pop(0)} if left else await asyncio.Future()

    return RequestContext("POST", "/v1/sample", "id", "client", {}, receive, deadline=time.monotonic() + 20)


def test_what_a_client_has_left_is_cancelled():
    began = time.monotonic()
    problem = waits_for(sends("http.request", "http.disconnect"), 20)
    assert problem is not None and problem.code == "client-gone"
    assert time.monotonic() - began < 10


def test_who_sends_nothing_more_is_waited_for():
    assert waits_for(sends("http.request"), 0.2) is None


def test_a_reply_that_is_late_is_a_504():
    problem = waits_for(RequestContext.internal("/v1/sample", 0.1), 20)
    assert problem is not None and (problem.status, problem.code) == (504, "deadline-exceeded")


def test_nothing_is_left_behind():
    async def scenario() -> set[asyncio.Task[None]]:
        with sends().until_deadline():
            await asyncio.sleep(0.1)  # long enough for it to look after the client
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(scenario()) == set()


def test_a_cancellation_from_elsewhere_is_passed_on():
    async def scenario() -> None:
        with sends().until_deadline():
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())
