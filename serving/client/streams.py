"""Any number of images, in order, page by page: several requests are in flight, and no more pages are held."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, closing
from itertools import islice
from threading import Event

from serving.client.pages import Pages
from serving.client.pictures import Picture, Pictures
from serving.client.requests import Request


class Stream:
    """Iterates over images; `pages()` over the replies they came in. Each iteration asks the server anew.

    Who leaves the loop early waits for the requests that are under way. A stream pickles as its range of addresses and
    its client's settings. An iteration does not; a forked process that inherits one goes on from its position, and
    elsewhere `start` is the address to resume at.
    """

    def __init__(self, pages: Pages, fetch: Callable[[Request[Pictures], Event], Pictures]):
        self._pages = pages
        self._fetch = fetch

    @property
    def seed(self) -> int:
        """Drawn unless it was given."""
        return self._pages.seed

    def __len__(self) -> int:
        return self._pages.n

    def __iter__(self) -> Iterator[Picture]:
        with closing(self.pages()) as pages:
            for page in pages:
                yield from page

    def pages(self) -> Generator[Pictures]:
        """Raises what a request of the client raises, once the pages before it were given."""
        requests, waiting = iter(self._pages), deque[tuple[Request[Pictures], Future[Pictures]]]()
        pid, pool, stopped = os.getpid(), self._threads(), Event()

        def submit(requests: Iterable[Request[Pictures]]) -> None:
            waiting.extend((request, pool.submit(self._fetch, request, stopped)) for request in requests)

        try:
            submit(islice(requests, self._pages.in_flight))
            while waiting:
                if pid != os.getpid():  # a fork leaves the threads with the parent: what they fetch never comes here
                    pid, pool, stopped = os.getpid(), self._threads(), Event()
                    inherited = [request for request, _ in waiting]
                    waiting.clear()
                    submit(inherited)
                page = self._pages.check(waiting.popleft()[1].result())
                submit(islice(requests, 1))
                yield page
        finally:
            if pid == os.getpid():
                stopped.set()  # who leaves early does not wait for requests that wait to be sent again ...
                pool.shutdown(cancel_futures=True)  # ... but for those under way: the client may be closed next

    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._pages.in_flight, thread_name_prefix="ganymede-stream")


class AsyncStream:
    """Iterates over images; `pages()` over the replies they came in. Each iteration asks the server anew.

    Who may leave the loop early and goes on in the same task should close what is iterated, as `contextlib.aclosing`
    does: until then its requests go on. Pickles as `Stream` does.
    """

    def __init__(self, pages: Pages, fetch: Callable[[Request[Pictures]], Awaitable[Pictures]]):
        self._pages = pages
        self._fetch = fetch

    @property
    def seed(self) -> int:
        """Drawn unless it was given."""
        return self._pages.seed

    def __len__(self) -> int:
        return self._pages.n

    async def __aiter__(self) -> AsyncIterator[Picture]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for picture in page:
                    yield picture

    async def pages(self) -> AsyncGenerator[Pictures]:
        """Raises what a request of the client raises, once the pages before it were given."""
        requests, waiting = iter(self._pages), deque[asyncio.Task[Pictures]]()

        async def fetch(request: Request[Pictures]) -> Pictures:
            return await self._fetch(request)

        try:
            for request in islice(requests, self._pages.in_flight):
                waiting.append(asyncio.create_task(fetch(request)))
            while waiting:
                page = self._pages.check(await waiting[0])
                waiting.popleft()
                for request in islice(requests, 1):
                    waiting.append(asyncio.create_task(fetch(request)))
                yield page
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
