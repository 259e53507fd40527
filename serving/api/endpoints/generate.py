"""The four POST routes: a body becomes a plan of the engine, the plan images, and those the requested reply."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from serving.api.access.rate_limit import RateLimit
from serving.api.http import responses
from serving.api.http.context import SCOPE_KEY, RequestContext
from serving.api.http.negotiation import negotiate
from serving.api.http.problems import FieldError, Problem, invalid, quote
from serving.api.http.responses import Encoder, Fields, Order, Streamed
from serving.api.http.validation import parse_json, read_json_body
from serving.api.schemas import Body, DigitsBody, EditBody, InterpolateBody, SampleBody, StyleMixBody, address, edit
from serving.api.served_models import ServedModel, ServedModels
from serving.api.settings import Settings
from serving.engine import generation, images
from serving.engine.encoding import Animation, Layout
from serving.engine.generation import Plan, RequestError
from serving.engine.latents import draw_seed
from serving.engine.repository import Model

MAX_PART = 256  # frames of an interpolation in a reply
STRIP = 16  # frames in a row, where an interpolation is requested as one image
BODIES: tuple[type[Body], ...] = (SampleBody, DigitsBody, InterpolateBody, StyleMixBody)


class Generate:
    """Generates images on request."""

    def __init__(self, models: ServedModels, settings: Settings, rate_limit: RateLimit | None):
        self._models = models
        self._settings = settings
        self._rate_limit = rate_limit
        self.encoder = Encoder()

    def routes(self) -> list[Route]:
        return [Route(body.route, Post(self, body, self._settings), methods=["POST"]) for body in BODIES]

    async def answer(self, context: RequestContext, body: Body, accept: str | None) -> Response:
        """Return the reply to a body; await it within `context.until_deadline`.

        Raises Problem: 404 unknown model, 406 format, 422 what the model cannot do, 429, 503, 504.
        """
        media_type = negotiate(accept, responses.ANIMATIONS if isinstance(body, InterpolateBody) else responses.STILLS)
        served, count = choose_model(self._models, body), _count(body)
        try:
            if _uses_mapping(body):  # other requests can arrive while it is planned
                with served.reserve(count):
                    plan, layout = await asyncio.to_thread(_plan, served, body)
            else:
                served.check_queue(count)  # before any work
                plan, layout = _plan(served, body)
            order = Order(plan, layout, media_type)
            order.check_size()
        except RequestError as error:
            raise invalid(FieldError(error.pointer, error.message)) from None
        return await self.fulfil(context, served, order, [(b"vary", b"Accept")])

    def charge(self, context: RequestContext, images: int) -> None:
        """Charge the client for `images`. Raises Problem 429 where it is over its rate limit."""
        if self._rate_limit is not None:
            self._rate_limit.charge(context.client, images)

    async def fulfil(self, context: RequestContext, served: ServedModel, order: Order, headers: Fields) -> Response:
        """Return the images of a plan as a reply with `headers`. Raises Problem 429, 503 or 504."""
        plan = order.plan
        context.images = len(plan)
        with ExitStack() as reservation:
            reservation.enter_context(self.encoder.reserve(order.size))
            self.charge(context, len(plan))
            made = await served.generate(_inputs(order), context)
            if order.streams:
                pieces = self.encoder.stream(order, made)
                response = Streamed(pieces, order.media_type, reservation.pop_all(), context.deadline)
                if order.media_type == responses.NPY:
                    response.raw_headers.append((b"content-length", b"%d" % images.npy_bytes(made)))
            else:
                began = time.monotonic()
                content = await self.encoder.encode(order, *_split(plan, made))
                context.encode_seconds = time.monotonic() - began
                response = Response(content, media_type=order.media_type)
        served.metrics.generated(served.model.id, context)
        response.raw_headers += responses.headers(plan)
        response.raw_headers.append((b"server-timing", context.server_timing.encode()))
        response.raw_headers += headers
        return response


class Post:
    """A route as an ASGI application: Starlette's functions of a request cost more."""

    def __init__(self, generate: Generate, kind: type[Body], settings: Settings):
        self._generate = generate
        self._kind = kind
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context: RequestContext = scope[SCOPE_KEY]
        context.set_deadline(self._settings.timeout)
        with context.until_deadline(self._settings.read_timeout) as limits:
            content = await read_json_body(context.headers, receive)
            limits.body_received()
            body = parse_json(self._kind, content)
            response = await self._generate.answer(context, body, context.headers.get("accept"))
        await response(scope, receive, send)


def _inputs(order: Order) -> dict[str, np.ndarray]:
    """Return the rows of a plan; for a style mix as one image, those of its sources follow."""
    plan = order.plan
    if plan.sources is None or order.media_type not in responses.ONE_IMAGE:
        return plan.inputs
    return {name: np.concatenate([rows, plan.sources.inputs[name]]) for name, rows in plan.inputs.items()}


def _split(plan: Plan, made: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the images of a plan, and those of its sources where they were made."""
    return made[: len(plan)], made[len(plan) :] if len(made) > len(plan) else None


def _count(body: Body) -> int:
    """Return an upper bound of the images that a body needs."""
    match body:
        case SampleBody():
            return body.n
        case DigitsBody():
            return len(body.digits) * body.rows
        case InterpolateBody():
            return min(body.n or body.frames, MAX_PART)
        case StyleMixBody():
            return (len(body.rows) + 1) * (len(body.columns) + 1) - 1  # the sources are along two edges
        case _:
            raise TypeError(f"{type(body).__name__} is not the body of a route")


def _uses_mapping(body: Body) -> bool:
    """True where planning runs the mapping network."""
    return isinstance(body, StyleMixBody) or (isinstance(body, InterpolateBody) and body.space == "w")


def choose_model(models: ServedModels, body: Body) -> ServedModel:
    """Return the model that is named, or the first that can do what is requested. Raises Problem 404."""
    if body.model is not None:
        return models.get(body.model)
    needs = _needs(body)
    served = models.first(lambda model: all(suits(model) for suits, _ in needs))
    if served is None:
        raise Problem(404, "unknown-model", f"No model here {' and '.join(text for _, text in needs)}.")
    return served


def _needs(body: Body) -> list[tuple[Callable[[Model], bool], str]]:
    """Return what a model must be able to do, as predicates and in words."""
    if isinstance(body, DigitsBody):
        return [(generation.draws_digits, "draws the ten digits")]
    assert isinstance(body, SampleBody | InterpolateBody | StyleMixBody)
    needs: list[tuple[Callable[[Model], bool], str]] = []
    if isinstance(body, StyleMixBody):
        needs.append((_has_styles, "mixes styles"))
    if isinstance(body, InterpolateBody) and body.space == "w":
        needs.append((_has_styles, 'has a `space` "w"'))
    if body.truncation is not None:
        needs.append((_has_styles, "takes `truncation`"))
    if not isinstance(body, StyleMixBody) and (names := _edited(body.edits)):
        needs.append(
            (lambda model: names <= model.directions.keys(), f"has the directions of `edits` (={quote(sorted(names))})")
        )
    if (labels := body.labels) is not None:
        needs.append(
            (lambda model: generation.has_classes(model, labels), f"has the classes of `labels` (={quote(labels)})")
        )
    return needs


def _part(body: InterpolateBody) -> range:
    """Return the frames of an interpolation that the reply has. Raises RequestError."""
    if body.start >= body.frames:
        message = f"`start` (={body.start}) must be below `frames` (={body.frames})."
        raise RequestError("/start", message)
    if body.n is not None and body.start + body.n > body.frames:
        message = f"`n` (={body.n}) must be at most {body.frames - body.start}, the frames from `start` on."
        raise RequestError("/n", message)
    n = body.frames - body.start if body.n is None else body.n
    if n > MAX_PART:
        message = f"`frames` (={body.frames}) must be at most {MAX_PART} in a reply; choose some by `start` and `n`."
        raise RequestError("/frames", message)
    return range(body.start, body.start + n)


def _edits(bodies: Sequence[EditBody] | Sequence[Sequence[EditBody]]) -> Any:
    return [edit(each) if isinstance(each, EditBody) else [edit(inner) for inner in each] for each in bodies]


def _edited(bodies: Sequence[EditBody] | Sequence[Sequence[EditBody]]) -> set[str]:
    """Return the names of the directions."""
    return set().union(*({each.direction} if isinstance(each, EditBody) else _edited(each) for each in bodies))


def _has_styles(model: Model) -> bool:
    return model.style is not None


def _plan(served: ServedModel, body: Body) -> tuple[Plan, Layout]:
    """Plan a body for a model. Raises RequestError where the model cannot do it."""
    runtime = served.runtime
    match body:
        case SampleBody():
            plan = generation.sample(
                runtime,
                n=body.n,
                seed=_seed(served.model, body.seed, body.start + body.n - 1),
                start=body.start,
                labels=body.labels,
                truncation=body.truncation,
                edits=[edit(each) for each in body.edits],
            )
            return plan, Layout(body.columns or images.square_columns(body.n), body.scale)
        case DigitsBody():
            digits = [int(digit) for digit in body.digits]
            seed = _seed(served.model, body.seed, len(digits) * body.rows - 1)
            plan = generation.digits(runtime, digits=digits, rows=body.rows, seed=seed)
            return plan, Layout(body.columns or len(digits), body.scale)
        case InterpolateBody():
            part = _part(body)
            plan = generation.interpolate(
                runtime,
                keyframes=[address(keyframe) for keyframe in body.keyframes],
                frames=body.frames,
                method=body.method,
                space=body.space,
                loop=body.loop,
                labels=body.labels,
                truncation=body.truncation,
                edits=_edits(body.edits),
                part=part,
            )
            return plan, Layout(body.columns or min(len(part), STRIP), body.scale, Animation(body.fps, body.loop))
        case StyleMixBody():
            plan = generation.style_mix(
                runtime,
                rows=[address(row) for row in body.rows],
                columns=[address(column) for column in body.columns],
                styles=body.styles,
                labels=body.labels,
                truncation=body.truncation,
            )
            return plan, Layout(len(body.columns), body.scale)
        case _:
            raise TypeError(f"{type(body).__name__} is not the body of a route")


def _seed(model: Model, seed: int | None, last: int) -> int:
    """Return `seed`, or draw one that has latents up to index `last`."""
    return draw_seed(model.latent_source, last) if seed is None else seed
