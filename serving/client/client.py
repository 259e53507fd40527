"""The client: one method a route. `async_client` is its twin; what they share does no I/O."""

import copy
import time
from collections.abc import Sequence
from threading import Event
from typing import Literal, Self, TypeVar

import httpx2

from serving.client import requests
from serving.client.call import Call
from serving.client.connection import DEFAULT_RETRIES, DEFAULT_TIMEOUT, Options, Server
from serving.client.errors import GanymedeError
from serving.client.models import Model
from serving.client.pages import IN_FLIGHT, Pages, joined
from serving.client.pictures import Pictures
from serving.client.pools import Pool
from serving.client.requests import PAGE, Edits, KeyframeEdits, Labels, Place, Request, Styles
from serving.client.streams import Stream

T = TypeVar("T")


class Client:
    """A Ganymede server.

    with Client("http://127.0.0.1:3000") as client:
        for image in client.sample("dcgan-mnist", n=16, seed=7):
            image.save(f"{image.seed}-{image.index}.png")

    Methods raise the errors of `serving.client.errors`. What is None is left to the server, but for seeds, which are
    drawn. Threads share its connections. A forked process opens its own, and a client, its methods and streams pickle
    as settings, the API key among them, so they work in the workers of a `DataLoader`, multiprocessing, joblib or Ray.
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
        self._pool = Pool(Server.of(base_url, api_key))

    @property
    def base_url(self) -> str:
        return self._pool.server.base_url

    def sample(
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
        return self._call(
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
    ) -> Stream:
        """As `sample` for any `n`, to iterate over: images in order, from requests for `page` images each.

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
        return Stream(pages, self._call)

    def digits(
        self, digits: str | Sequence[int], *, rows: int = 1, seed: int | None = None, model: str | None = None
    ) -> Pictures:
        """Pictures of `digits` from left to right, in `rows` variations, row by row."""
        return self._call(requests.digits(digits, rows=rows, seed=seed, model=model))

    def interpolate(
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
        return joined([self._call(request) for request in walk])

    def style_mix(
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
        return self._call(
            requests.style_mix(model, rows=rows, columns=columns, styles=styles, labels=labels, truncation=truncation)
        )

    def models(self) -> list[Model]:
        """What the server has, in order of id."""
        return self._call(requests.models())

    def model(self, id: str) -> Model:
        """One of them."""
        return self._call(requests.model(id))

    def with_options(self, *, timeout: float | None = None, retries: int | None = None) -> Self:
        """This client, connections and all, with another timeout or number of retries: for one call, or many."""
        other = copy.copy(self)
        other._options = self._options.but(timeout, retries)
        return other

    def close(self) -> None:
        """Closes the connections, those of `with_options` too."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, request: Request[T], stopped: Event | None = None) -> T:
        """`stopped`: set once nobody waits for the result any more."""
        call, stopped = Call(request, self._options, self._pool.server.base_url, self._pool.proxy), stopped or Event()
        while True:
            try:
                return self._attempt(call)
            except GanymedeError as error:
                if stopped.wait(call.pause_after(error)):
                    raise

    def _attempt(self, call: Call[T]) -> T:
        request, seconds = call.request, call.options.timeout
        deadline, body = time.monotonic() + seconds, bytearray()
        try:
            with self._pool.client().stream(
                request.method, request.path, content=request.body, headers=call.headers, timeout=seconds
            ) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > deadline:  # a byte now and then is not an answer in time
                        raise call.late("it is still arriving")
        except httpx2.RequestError as error:
            raise call.lost(error) from error
        return call.result(response.status_code, response.headers, bytes(body))
