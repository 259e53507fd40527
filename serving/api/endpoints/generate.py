"""The four operations as HTTP has them: a body -> a plan of the engine, its pictures, and the reply asked for."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
from starlette.responses import Response

from serving.api.access.rate_limit import Quota
from serving.api.http import responses as replies
from serving.api.http.context import Exchange
from serving.api.http.negotiation import negotiate
from serving.api.http.problems import FieldError, Problem, invalid, quote
from serving.api.http.responses import Fields, Order, Packer, Streamed
from serving.api.http.validation import parse_json
from serving.api.schemas import Body, DigitsBody, InterpolateBody, SampleBody, StyleMixBody, address
from serving.api.served_models import Generator, Generators
from serving.engine import generation, images
from serving.engine.encoding import Animation, Layout
from serving.engine.generation import Plan, RequestError
from serving.engine.latents import draw_seed
from serving.engine.repository import Model

STRIP = 16  # frames in a row, where an interpolation is asked for as one picture


class Operations:
    """What answers with pictures: the models, and the packing of what they make."""

    def __init__(self, generators: Generators, quota: Quota | None):
        self.generators = generators
        self._packer = Packer()
        self._quota = quota

    async def answer(self, exchange: Exchange, body: Body, accept: str | None) -> Response:
        """A POST's reply; await it within `exchange.in_time`.

        Raises Problem: 404 unknown model, 406 format, 422 what the model cannot do, 503.
        """
        media_type = negotiate(accept, replies.ANIMATIONS if isinstance(body, InterpolateBody) else replies.STILLS)
        generator, count = _generator(self.generators, body), _count(body)
        try:
            if _maps(body):  # others come meanwhile
                with generator.reserve(count):
                    plan, layout = await asyncio.to_thread(_plan, generator, body)
            else:
                problem = generator.refusal(count)  # drawing latents for what is refused would be in vain
                if problem is not None:
                    raise problem
                plan, layout = _plan(generator, body)
            order = Order(plan, layout, media_type)
            order.check_size()
        except RequestError as error:
            raise invalid(FieldError(error.pointer, error.message)) from None
        return await self.draw(exchange, generator, order, [(b"vary", b"Accept")])

    def crowded(self, kind: type[Body], content: bytes) -> Problem | None:
        """The 503 that `answer` would come to because the model's queue is full; None where anything else is wrong."""
        if not self.generators.busy:
            return None
        try:
            body = parse_json(kind, content)
            return _generator(self.generators, body).refusal(_count(body))
        except Problem:
            return None

    async def draw(self, exchange: Exchange, generator: Generator, order: Order, headers: Fields) -> Response:
        """The pictures of a plan as a reply with `headers`. Raises Problem 429, 503, 504 within `exchange.in_time`."""
        plan = order.plan
        exchange.images = len(plan)
        with ExitStack() as room:
            room.enter_context(self._packer.reserve(order))
            if self._quota is not None:  # what is refused costs the one that the gate took
                self._quota.charge(exchange.client, len(plan))
            pictures = await generator.draw(_inputs(order), exchange)
            if order.streams:
                pieces = self._packer.stream(order, pictures)
                response = Streamed(pieces, order.media_type, room.pop_all(), exchange.deadline)
                if order.media_type == replies.NPY:
                    response.raw_headers.append((b"content-length", b"%d" % images.npy_bytes(pictures)))
            else:
                began = time.monotonic()
                content = await self._packer.pack(order, *_split(plan, pictures))
                exchange.encode = time.monotonic() - began
                response = Response(content, media_type=order.media_type)
        generator.metrics.drawn(generator.model.id, exchange)
        response.raw_headers += replies.headers(plan)
        response.raw_headers.append((b"server-timing", exchange.server_timing.encode()))
        response.raw_headers += headers
        return response


def _inputs(order: Order) -> dict[str, np.ndarray]:
    """The rows of a plan and, for a style mix as one picture, those of its sources after them."""
    plan = order.plan
    if plan.sources is None or order.media_type not in replies.ONE_PICTURE:
        return plan.inputs
    return {name: np.concatenate([rows, plan.sources.inputs[name]]) for name, rows in plan.inputs.items()}


def _split(plan: Plan, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The pictures of a plan, and those of its sources where they were asked for."""
    return pictures[: len(plan)], pictures[len(plan) :] if len(pictures) > len(plan) else None


def _count(body: Body) -> int:
    """How many pictures it takes at most."""
    match body:
        case SampleBody():
            return body.n
        case DigitsBody():
            return len(body.digits) * body.rows
        case InterpolateBody():
            return body.frames
        case StyleMixBody():
            return (len(body.rows) + 1) * (len(body.columns) + 1) - 1  # the sources are along two edges
        case _:
            raise TypeError(f"{type(body).__name__} is the body of no operation")


def _maps(body: Body) -> bool:
    """Whether planning it runs the mapping network."""
    return isinstance(body, StyleMixBody) or (isinstance(body, InterpolateBody) and body.space == "w")


def _generator(generators: Generators, body: Body) -> Generator:
    """The model that is named, or the first that can do what is asked."""
    if body.model is not None:
        return generators.get(body.model)
    needs = _needs(body)
    generator = generators.first(lambda model: all(able(model) for able, _ in needs))
    if generator is None:
        raise Problem(404, "unknown-model", f"No model here {' and '.join(what for _, what in needs)}.")
    return generator


def _needs(body: Body) -> list[tuple[Callable[[Model], bool], str]]:
    """What a model must be able to do, and in words."""
    if isinstance(body, DigitsBody):
        return [(generation.draws_digits, "draws the ten digits")]
    if isinstance(body, StyleMixBody):
        return [(_has_styles, "mixes styles")]
    assert isinstance(body, SampleBody | InterpolateBody)
    needs: list[tuple[Callable[[Model], bool], str]] = []
    if isinstance(body, InterpolateBody) and body.space == "w":
        needs.append((_has_styles, 'has a `space` "w"'))
    if body.truncation is not None:
        needs.append((_has_styles, "takes `truncation`"))
    if (labels := body.labels) is not None:
        needs.append(
            (lambda model: generation.has_classes(model, labels), f"has the classes of `labels` (={quote(labels)})")
        )
    return needs


def _has_styles(model: Model) -> bool:
    return model.style is not None


def _plan(generator: Generator, body: Body) -> tuple[Plan, Layout]:
    """Raises RequestError for what is wrong with a body for this model."""
    runtime = generator.runtime
    match body:
        case SampleBody():
            plan = generation.sample(
                runtime,
                n=body.n,
                seed=_seed(body.seed),
                start=body.start,
                labels=body.labels,
                truncation=body.truncation,
            )
            return plan, Layout(body.columns or images.square_columns(body.n), body.scale)
        case DigitsBody():
            digits = [int(digit) for digit in body.digits]
            plan = generation.digits(runtime, digits=digits, rows=body.rows, seed=_seed(body.seed))
            return plan, Layout(body.columns or len(digits), body.scale)
        case InterpolateBody():
            plan = generation.interpolate(
                runtime,
                keyframes=[address(keyframe) for keyframe in body.keyframes],
                frames=body.frames,
                method=body.method,
                space=body.space,
                loop=body.loop,
                labels=body.labels,
                truncation=body.truncation,
            )
            return plan, Layout(body.columns or min(body.frames, STRIP), body.scale, Animation(body.fps, body.loop))
        case StyleMixBody():
            plan = generation.style_mix(
                runtime,
                rows=[address(row) for row in body.rows],
                columns=[address(column) for column in body.columns],
                styles=body.styles,
                truncation=body.truncation,
            )
            return plan, Layout(len(body.columns), body.scale)
        case _:
            raise TypeError(f"{type(body).__name__} is the body of no operation")


def _seed(seed: int | None) -> int:
    return draw_seed() if seed is None else seed
