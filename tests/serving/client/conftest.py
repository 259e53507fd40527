"""Both clients as one: every test of `client` runs with Client and with AsyncClient."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server import Server
from serving.client import AsyncClient, AsyncStream, Client, retries
from stranger import Stranger, listening


class Blocking:
    """An AsyncClient whose calls run to their end on a loop of its own, so that tests are written once."""

    def __init__(self, *arguments: Any, **options: Any):
        self._client = AsyncClient(*arguments, **options)
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **options: Any) -> Any:
            result = attribute(*arguments, **options)
            if inspect.iscoroutine(result):
                return self._runner.run(result)
            return BlockingStream(result, self._runner) if isinstance(result, AsyncStream) else result

        return call

    def with_options(self, **options: Any) -> "Blocking":
        other = object.__new__(Blocking)
        other._runner, other._client = self._runner, self._client.with_options(**options)
        return other

    def __enter__(self) -> "Blocking":
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


class BlockingStream:
    def __init__(self, stream: AsyncStream, runner: asyncio.Runner):
        self._stream = stream
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __len__(self) -> int:
        return len(self._stream)

    def __iter__(self) -> Iterator[Any]:
        return self._iterate(self._stream.__aiter__())

    def pages(self) -> Iterator[Any]:
        return self._iterate(self._stream.pages())

    def _iterate(self, items: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(items, None)

        async def close() -> None:
            await items.aclose()

        try:
            while (item := self._runner.run(following())) is not None:
                yield item
        finally:
            self._runner.run(close())


Connect = Callable[..., Any]


@pytest.fixture(scope="module", params=[Client, Blocking], ids=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """`connect(url, **options)`: a client, once of each kind."""
    return request.param


@pytest.fixture(scope="module")
def client(server: Server, connect: Connect) -> Iterator[Any]:
    with connect(server.url) as client:
        yield client


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with listening() as stranger:
        yield stranger


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come after milliseconds."""
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.004)
