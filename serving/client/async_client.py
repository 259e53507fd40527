"""The client for asyncio: one method a route. `client` is its twin; what they share does no I/O."""

import asyncio
import builtins
import copy
from collections.abc import Sequence
from typing import Literal, Self, TypeVar

import httpx2

from serving.client import requests
from serving.client.call import Call
from serving.client.connection import DEFAULT_RETRIES, DEFAULT_TIMEOUT, Options, Server
from serving.client.errors import GanymedeError
from serving.client.models import Model
from serving.client.pages import IN_FLIGHT, Pages, joined
from serving.client.pictures import Pictures
from serving.client.pools import AsyncPool
from serving.client.requests import PAGE, Edits, KeyframeEdits, Labels, Place, Request, Styles
from serving.client.streams import AsyncStream

T = TypeVar("T")


class AsyncClient:
    """A Ganymede server.

    async with AsyncClient("http://127.0.0.1:3000") as client:
        async for image in client.stream("dcgan-mnist", n=100_000, seed=7):
            ...

    Methods raise the errors of `serving.client.errors`. What is None is left to the server, but for seeds, which are
    drawn. The tasks of one event loop share its connections; another loop, or a forked process, opens its own. It
    pickles as its settings, the API key among them.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
    ):
        """base_url and api_key: GANYMEDE_BASE_URL and GANYMEDE_API_KEY unless given, and http://127.0.0.1:3000.

        timeout: seconds an attempt may take. retries: attempts after the first, where the failure may pass: a broken
        connection, or 408, 409, 429 and 5xx. Unless they are 0, a refusal that says when to come back, within two
        minutes, uses up none of them: the call does come back, for ten minutes.
        """
        self._options = Options(timeout, retries)
        self._pool = AsyncPool(Server.of(base_url, api_key))

    @property
    def base_url(self) -> str:
        return self._pool.server.base_url

    async def sample(
        self,
        model: str | None = None,
        *,
        n: int = 1,
        seed: int | None = None,
        start: int = 0,
        labels: Labels | None = None,
        truncation: float | None = None,
        edits: Edits = (),
    ) -> Pictures:
        """The images at addresses (seed, start) to (seed, start + n - 1), in one request: at most 256.

        `labels`, of a conditional model: one for all or one each, by index or name; else they follow from the address.
        `edits`, of a style model with directions: steps such as ("sefa-0", 2.5), or ("sefa-0", 2.5, [0, 1]) on layers.
        """
        return await self._call(
            requests.sample(model, n=n, seed=seed, start=start, labels=labels, truncation=truncation, edits=edits)
        )

    def stream(
        self,
        model: str | None = None,
        *,
        n: int,
        seed: int | None = None,
        start: int = 0,
        labels: Labels | None = None,
        truncation: float | None = None,
        edits: Edits = (),
        page: int = PAGE,
        in_flight: int = IN_FLIGHT,
    ) -> AsyncStream:
        """As `sample` for any `n`, for `async for`: images in order, from requests for `page` images each.

        `page` is at most 256, and for large images what 64 MiB of pixels hold. `in_flight` requests run at a time, and
        no more pages than that are held in memory.
        """
        pages = Pages(
            model,
            n=n,
            seed=seed,
            start=start,
            labels=labels,
            truncation=truncation,
            edits=edits,
            page=page,
            in_flight=in_flight,
        )
        return AsyncStream(pages, self._call)

    async def digits(
        self, digits: str | Sequence[int], *, rows: int = 1, seed: int | None = None, model: str | None = None
    ) -> Pictures:
        """Pictures of `digits` from left to right, in `rows` variations, row by row."""
        return await self._call(requests.digits(digits, rows=rows, seed=seed, model=model))

    async def interpolate(
        self,
        model: str | None = None,
        *,
        keyframes: Sequence[Place],
        frames: int = 60,
        method: Literal["slerp", "lerp"] | None = None,
        space: Literal["z", "w"] = "z",
        loop: bool = False,
        labels: Labels | None = None,
        truncation: float | None = None,
        edits: KeyframeEdits = (),
    ) -> Pictures:
        """`frames` images on the way from the first of `keyframes` to the last, and with `loop` back again.

        `edits`: as of `sample`, for all frames, or a list of them for each keyframe. More than 256 frames come in
        several requests.
        """
        walk = requests.walk(
            model,
            keyframes=keyframes,
            frames=frames,
            method=method,
            space=space,
            loop=loop,
            labels=labels,
            truncation=truncation,
            edits=edits,
        )
        return joined([await self._call(request) for request in walk])

    async def style_mix(
        self,
        model: str | None = None,
        *,
        rows: Sequence[Place],
        columns: Sequence[Place],
        styles: Styles = "coarse",
        labels: Labels | None = None,
        truncation: float | None = None,
    ) -> Pictures:
        """Every row's image with `styles` from every column's: len(rows) * len(columns) of them, row by row."""
        return await self._call(
            requests.style_mix(model, rows=rows, columns=columns, styles=styles, labels=labels, truncation=truncation)
        )

    async def models(self) -> list[Model]:
        """What the server has, in order of id."""
        return await self._call(requests.models())

    async def model(self, id: str) -> Model:
        """One of them."""
        return await self._call(requests.model(id))

    def with_options(self, *, timeout: float | None = None, retries: int | None = None) -> Self:
        """This client, connections and all, with another timeout or number of retries: for one call, or many."""
        other = copy.copy(self)
        other._options = self._options.but(timeout, retries)
        return other

    async def close(self) -> None:
        """Closes the connections, those of `with_options` too."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, request: Request[T]) -> T:
        call = Call(request, self._options, self._pool.server.base_url, self._pool.proxy)
        while True:
            try:
                return await self._attempt(call)
            except GanymedeError as error:
                await asyncio.sleep(call.pause_after(error))

    async def _attempt(self, call: Call[T]) -> T:
        request, seconds = call.request, call.options.timeout
        try:
            async with asyncio.timeout(seconds):  # a byte now and then is not an answer in time
                response = await self._pool.client().request(
                    request.method, request.path, content=request.body, headers=call.headers, timeout=seconds
                )
        except builtins.TimeoutError as error:
            raise call.late("it is still arriving") from error
        except httpx2.RequestError as error:
            raise call.lost(error) from error
        return call.result(response.status_code, response.headers, response.content)
