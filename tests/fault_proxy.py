"""A TCP proxy that spoils connections on purpose: what lies between a client and its server, at its worst."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Fault:
    """What happens to one connection, once `after` bytes of the reply (of the request, for half-close) have passed.

    delay: the rest waits for `seconds`. drip: it goes byte by byte, one every `seconds`. reset: RST to the client.
    truncate: FIN to the client, as though all had been said. half-close: FIN to the server in the midst of the request.
    """

    kind: Literal["delay", "drip", "reset", "truncate", "half-close"]
    after: int = 0
    seconds: float = 0.0


@dataclass
class Proxy:
    """Each connection takes the first of `faults` that are left; without one it is passed through."""

    server_port: int
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, started: threading.Event) -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._connect(reader, writer)
            finally:
                tasks.discard(task)

        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        await self._stop.wait()
        listener.close()
        await asyncio.sleep(0)  # what was accepted at the last moment has a task now
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _connect(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        fault = self.faults.pop(0) if self.faults else None
        to_server, to_client = (fault, None) if fault and fault.kind == "half-close" else (None, fault)
        writers = [client]
        try:
            replies, server = await asyncio.open_connection("127.0.0.1", self.server_port)
            writers.append(server)
            with suppress(ConnectionError):
                await asyncio.gather(_pump(reader, server, to_server), _pump(replies, client, to_client))
        finally:
            for writer in writers:  # all of them, before anything is waited for
                writer.close()
            for writer in writers:
                with suppress(ConnectionError):
                    await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
    """Passes bytes on until the sender ends, then ends, too; or until the fault."""
    passed = 0
    while data := await reader.read(65536):
        if fault is None or passed + len(data) <= fault.after:
            passed += len(data)
            writer.write(data)
            await writer.drain()
            continue
        before, rest = data[: fault.after - passed], data[fault.after - passed :]
        writer.write(before)
        await writer.drain()
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
            writer.write(rest)
        elif fault.kind == "drip":
            for byte in rest:
                writer.write(bytes([byte]))
                await asyncio.sleep(fault.seconds)
        elif fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)  # for 0 seconds: what is closed is reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            raise ConnectionResetError
        elif fault.kind == "truncate":
            writer.write_eof()
            raise ConnectionResetError
        else:
            break
        fault = None
    with suppress(OSError):
        writer.write_eof()


@contextmanager
def proxied(server_port: int) -> Iterator[Proxy]:
    """A proxy before a server on this machine."""
    proxy, started = Proxy(server_port), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(started)))
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()
