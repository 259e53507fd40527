"""Replies with images: the images of a plan in the requested format, and the headers that say what they are."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat

import numpy as np
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving import __version__
from serving.api.http.problems import deadline_exceeded, overloaded, retry_after
from serving.engine import encoding
from serving.engine.cpus import available_cpus
from serving.engine.encoding import Layout
from serving.engine.generation import Plan, RequestError
from serving.engine.latents import Address

PNG, JPEG, WEBP, GIF = "image/png", "image/jpeg", "image/webp", "image/gif"
ZIP, NPY, JSON = "application/zip", "application/x-npy", "application/json"
FORMATS = {PNG: "png", JPEG: "jpeg", WEBP: "webp", ZIP: "zip", NPY: "npy", JSON: "json", GIF: "gif"}
STILLS = (PNG, JPEG, WEBP, ZIP, NPY, JSON)  # the first is the default
ANIMATIONS = (*STILLS, GIF)
EXTENSIONS = {"png": PNG, "jpg": JPEG, "webp": WEBP}  # of an image's URL
PIECES = {media_type for media_type, format in FORMATS.items() if format in encoding.PIECES}
ONE_IMAGE = {media_type for media_type, format in FORMATS.items() if format in encoding.ONE_IMAGE}

MAX_PIXEL_BYTES = 2**26
"""Limit for all images of a reply, enlarged and not yet encoded: 256 digits at scale 16 are below it."""

MAX_PENDING_BYTES = 2**28
"""Limit for the pixels of all replies in flight: four of the largest. It bounds the memory of replies. Those of up to
INLINE_BYTES are always accepted, or slow readers of large replies would block them."""

INLINE_BYTES = 2**16
"""Encoding runs at about 70 MB/s: up to this size it takes less than a millisecond, and another thread costs more."""

CHUNK_BYTES = 2**16
"""Size of the pieces of a reply that is sent while it is encoded: a change of threads is cheap beside it."""

SMOOTHING = 0.2  # weight of the newest reply in the measured rate


@dataclass(slots=True)
class Order:
    """The images of a plan, and the requested format and layout."""

    plan: Plan
    layout: Layout
    media_type: str
    size: int = field(init=False)  # bytes of all pixels, before they are encoded

    def __post_init__(self) -> None:
        self.size = encoding.pixel_bytes(self.plan, self.layout, self.format)

    @property
    def format(self) -> str:
        return FORMATS[self.media_type]

    @property
    def streams(self) -> bool:
        """True where the reply is so large that it is sent while it is encoded, by `Encoder.stream`."""
        return self.size > INLINE_BYTES and self.media_type in PIECES

    def check_size(self) -> None:
        """Raises RequestError where the reply would exceed MAX_PIXEL_BYTES or what its format can hold."""
        if self.size > MAX_PIXEL_BYTES:
            spec, layout = self.plan.model.image, self.layout
            found = f"{len(self.plan)} images of {spec.width} x {spec.height} pixels"
            if self.media_type != NPY:
                found += f" at `scale` (={layout.scale})"
            if layout.is_grid(self.format):
                found += f" and `columns` (={layout.columns})"
            most = f"{MAX_PIXEL_BYTES // 2**20} MiB of pixels"
            raise RequestError("/scale", f"{found} exceed {most}; request fewer or smaller ones.")
        encoding.check_size(self.plan, self.layout, self.format)


class Encoder:
    """Encodes images, off the event loop where it takes long, as many replies at a time as there are CPU cores."""

    def __init__(self) -> None:
        self._threads = available_cpus()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="encoder")
        self._pending = 0  # bytes
        self._bytes_per_second = 7e7  # until it is measured

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Reserve `size` bytes for a reply before it is generated. Raises Problem 503 where there is none."""
        if size > max(INLINE_BYTES, MAX_PENDING_BYTES - self._pending):
            raise overloaded(retry_after(self._pending / (self._threads * self._bytes_per_second)))
        self._pending += size
        try:
            yield
        finally:
            self._pending -= size

    async def encode(self, order: Order, images: np.ndarray, sources: np.ndarray | None) -> bytes:
        """Return the whole reply; see `encoding.encode`."""
        arguments = order.plan, images, sources, order.layout, order.format
        if order.size <= INLINE_BYTES:
            return encoding.encode(*arguments)

        def timed() -> tuple[bytes, float]:
            began = time.perf_counter()
            content = encoding.encode(*arguments)
            return content, time.perf_counter() - began

        content, seconds = await asyncio.get_running_loop().run_in_executor(self._pool, timed)
        self._bytes_per_second += SMOOTHING * (order.size / seconds - self._bytes_per_second)
        return content

    async def stream(self, order: Order, images: np.ndarray) -> AsyncIterator[bytes | memoryview]:
        """Yield the reply in pieces of CHUNK_BYTES; see `encoding.pieces`."""
        pieces, loop = encoding.pieces(order.plan, images, order.layout, order.format), asyncio.get_running_loop()
        encodes = order.media_type != NPY
        while chunk := await loop.run_in_executor(self._pool, _join, pieces) if encodes else next(pieces, b""):
            yield chunk


class Streamed(StreamingResponse):
    """A reply that is sent while it is encoded. `reservation` is closed at its end, however it ends.

    Ends with Problem 504 where it was not sent whole by the deadline, on the clock of time.monotonic().
    """

    def __init__(
        self, pieces: AsyncIterator[bytes | memoryview], media_type: str, reservation: ExitStack, deadline: float
    ):
        super().__init__(pieces, media_type=media_type)
        self._reservation, self._deadline = reservation, deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = self._deadline - time.monotonic()
        with self._reservation:
            try:
                async with asyncio.timeout(left):
                    await super().__call__(scope, receive, send)
            except TimeoutError:
                raise deadline_exceeded(max(0.0, left)) from None


def _join(pieces: Iterator[bytes | memoryview]) -> bytes:
    """Return the next pieces, CHUNK_BYTES or the rest; nothing at the end."""
    chunk = bytearray()
    for piece in pieces:
        chunk += piece
        if len(chunk) >= CHUNK_BYTES:
            break
    return bytes(chunk)


Fields = list[tuple[bytes, bytes]]
"""Headers in the form of ASGI."""


def headers(plan: Plan) -> Fields:
    """Return the headers that name the model and the addresses: a range, or one by one, empty between addresses.

    Truncation is there where it was requested.
    """
    fields = [*origin(plan.model.id, plan.model.sha256)]
    first = plan.addresses[0]
    if first is not None and _are_range_from(first, plan.addresses):
        fields += (b"x-ganymede-seed", b"%d" % first.seed), (b"x-ganymede-start", b"%d" % first.index)
    else:
        addresses = ",".join(f"{a.seed}:{a.index}" if a else "" for a in plan.addresses)
        fields.append((b"x-ganymede-addresses", addresses.encode()))
    if plan.labels is not None:
        fields.append((b"x-ganymede-labels", ",".join(map(str, plan.labels)).encode()))
    if plan.truncation is not None:
        fields.append((b"x-ganymede-truncation", b"%r" % plan.truncation))
    return fields


def _are_range_from(first: Address, addresses: Sequence[Address | None]) -> bool:
    indices = range(first.index, first.index + len(addresses))
    return list(addresses) == list(zip(repeat(first.seed), indices))


@lru_cache(64)
def origin(id: str, sha256: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that name the model, its files and the server's version."""
    return (
        (b"x-ganymede-model", id.encode()),
        (b"x-ganymede-model-sha256", sha256.encode()),
        (b"x-ganymede-version", __version__.encode()),
    )
