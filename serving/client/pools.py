"""The connections of a client: one pool for each process and, with asyncio, for each event loop.

Two processes that share a socket after a fork read each other's replies; a connection of one event loop fails in
another. A pool looks at the process id at each call, which holds for any way to fork: `os.register_at_fork` is not told
of those in C.
"""

import asyncio
import os
import weakref
from asyncio import AbstractEventLoop

import httpx2

from serving.client.connection import Server


class Pool:
    """The connections of a `Client`. Pickles as its settings, and so does what holds it."""

    def __init__(self, server: Server):
        self.server = server
        self.proxy = server.proxy()
        self._options = server.options(self.proxy)  # once: what is wrong with the environment is raised here
        self._closed = False
        self._clients: dict[int, httpx2.Client] = {}  # by process id
        weakref.finalize(self, _close, self._clients)  # a copied method or stream has nobody to close its client

    def __reduce__(self) -> tuple[type["Pool"], tuple[Server]]:
        return type(self), (self.server,)

    def client(self) -> httpx2.Client:
        """The client of this process. Raises RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError("This client is closed.")
        pid = os.getpid()
        if (found := self._clients.get(pid)) is None:
            found = self._clients.setdefault(pid, httpx2.Client(**self._options))  # atomic: threads agree on one
            for other in self._clients.keys() - {pid}:
                # Dropped, not closed: a thread of the parent may have held its locks at the fork.
                self._clients.pop(other, None)
        return found

    def close(self) -> None:
        """Closes the connections of this process, and no parent's."""
        self._closed = True
        _close(self._clients)


def _close(clients: dict[int, httpx2.Client]) -> None:
    if (client := clients.pop(os.getpid(), None)) is not None:
        client.close()


class AsyncPool:
    """The connections of an `AsyncClient`. Pickles as its settings, and so does what holds it."""

    def __init__(self, server: Server):
        self.server = server
        self.proxy = server.proxy()
        self._options = server.options(self.proxy)
        self._closed = False
        self._clients: dict[tuple[int, AbstractEventLoop], httpx2.AsyncClient] = {}  # by process id and event loop

    def __reduce__(self) -> tuple[type["AsyncPool"], tuple[Server]]:
        return type(self), (self.server,)

    def client(self) -> httpx2.AsyncClient:
        """The client of the running event loop. Raises RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError("This client is closed.")
        key = pid, _ = os.getpid(), asyncio.get_running_loop()
        if (found := self._clients.get(key)) is None:
            found = self._clients.setdefault(key, httpx2.AsyncClient(**self._options))
            for other in list(self._clients):
                if other[0] != pid or other[1].is_closed():
                    self._clients.pop(other, None)
        return found

    async def close(self) -> None:
        """Closes the connections of this process: those of the running event loop now, others' as their loops run."""
        self._closed = True
        running = asyncio.get_running_loop()
        for (pid, loop), client in [(key, self._clients.pop(key)) for key in list(self._clients)]:
            if pid != os.getpid() or loop.is_closed():
                continue
            if loop is running:
                await client.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(client.aclose(), loop)
