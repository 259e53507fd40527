"""`/v2`: the Open Inference Protocol, which KServe and Triton speak: latents in, images and styles out.

A request has JSON, and its tensors either in it or, by the binary tensor extension, after it: then
`Inference-Header-Content-Length` is the length of the JSON. Replies are alike. Each model takes one of these:

    seed   UINT64 [N, 1], with index UINT64 [N, 1], 0 unless given   the image at an address, as `/v1/sample` has it
    z      FP32 [N, Z]                                               a latent
    w      FP32 [N, L, W], or [N, W] for all layers                  a style, of a style model

and with `seed` or `z` also `label` INT64 [N, 1] for a conditional model, and `psi` FP32 [N, 1] or [N, L] for a style
model. It gives `image` UINT8 [N, H, W, C], and a style model `w` FP32 [N, L, W] after truncation: sent back, it gives
the same image.
"""

import asyncio
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from serving import __version__
from serving.api.endpoints.generate import Generate
from serving.api.endpoints.health import Health
from serving.api.http import responses
from serving.api.http.context import SCOPE_KEY, RequestContext
from serving.api.http.problems import FieldError, Problem, invalid, listed, overloaded, quote, unsupported_media_type
from serving.api.http.validation import MAX_BODY_BYTES, parse_json, read_body
from serving.api.schemas import InferBody, InputTensor
from serving.api.served_models import ServedModel, ServedModels
from serving.api.settings import Settings
from serving.engine.latents import check_address
from serving.engine.repository import Model

ROUTE = "/v2/models/{model}/infer"
PATH = re.compile(r"/v2/models/[^/]+/infer")
HEALTH = ("/v2/health/live", "/v2/health/ready")
VERSION = "1"  # of every model: another one is another id
HEADER_LENGTH = "inference-header-content-length"
BINARY = "application/octet-stream"
MEDIA_TYPES = ("", "application/json", BINARY)  # of a request; tritonclient names none
DTYPES = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8"), "UINT64": np.dtype("<u8"), "UINT8": np.dtype("u1")}

MAX_IMAGES = 256  # of a request, as of /v1/sample
MAX_BYTES = 2**24
"""Limit for the body of a request: 256 styles of 18 layers of 512 numbers are 9.4 MB."""
MAX_PENDING_BYTES = 2**26
"""Limit for the bodies above MAX_BODY_BYTES in work, together: it bounds the memory of requests."""
JSON_BYTES = 12
"""Memory of a number on its way into JSON, beside its byte in the image."""


class Spec(NamedTuple):
    """A tensor of a model: its type, and its shape after the batch axis, of which the first is the described one."""

    datatype: str
    shapes: tuple[tuple[int, ...], ...]


class Infer:
    """Answers the routes of the protocol."""

    def __init__(self, models: ServedModels, settings: Settings, generate: Generate, health: Health):
        self._models = models
        self._settings = settings
        self._generate = generate
        self._health = health
        self._pending = 0  # bytes of large bodies

    def routes(self) -> list[Route]:
        return [
            Route("/v2", self.server),
            Route(HEALTH[0], self.live),
            Route(HEALTH[1], self.ready),
            Route("/v2/models/{model}", self.model),
            Route("/v2/models/{model}/ready", self.model_ready),
            Route(ROUTE, Post(self), methods=["POST"]),
        ]

    async def server(self, request: Request) -> Response:
        return JSONResponse({"name": "ganymede", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        if self._health.problem is not None:
            raise self._health.problem
        return JSONResponse({"ready": True})

    async def model(self, request: Request) -> Response:
        return JSONResponse(describe(self._models.get(request.path_params["model"]).model))

    async def model_ready(self, request: Request) -> Response:
        model = self._models.get(request.path_params["model"]).model
        problem = self._health.model_problem(model.id)
        if problem is not None:
            raise problem
        return JSONResponse({"name": model.id, "ready": True})

    async def infer(self, context: RequestContext, id: str, receive: Receive) -> Response:
        """Return the reply to a request. Raises Problem."""
        served = self._models.get(id)
        context.set_deadline(self._settings.timeout)
        with self._reserve_body(context.headers) as limit, context.until_deadline(self._settings.read_timeout) as until:
            content = await read_body(context.headers, receive, limit)
            until.body_received()
            arguments = served.model, content, _header_length(context.headers, len(content))
            small = len(content) <= MAX_BODY_BYTES
            work = _read(*arguments) if small else await asyncio.to_thread(_read, *arguments)
            del content
            return await self._answer(context, served, work)

    async def _answer(self, context: RequestContext, served: ServedModel, work: "Work") -> Response:
        wanted, inputs = {name for name, _ in work.outputs}, work.inputs
        tensors: dict[str, np.ndarray] = {}
        context.images = work.n if "image" in wanted else 0
        with self._generate.encoder.reserve(_reply_bytes(served.model, work)):
            self._generate.charge(context, work.n)
            if "w" in wanted and "w" not in inputs:
                with served.reserve(work.n):  # other requests can arrive while the mapping network runs
                    inputs = {
                        "w": await asyncio.to_thread(lambda: served.runtime.map(**served.runtime.with_latents(inputs)))
                    }
            if "w" in wanted:
                tensors["w"] = inputs["w"]
            if "image" in wanted:
                tensors["image"] = await served.generate(inputs, context)
            small = sum(tensor.nbytes for tensor in tensors.values()) <= responses.INLINE_BYTES
            arguments = served.model, work, tensors
            content, length = _write(*arguments) if small else await asyncio.to_thread(_write, *arguments)
        served.metrics.generated(served.model.id, context)
        response = Response(content, media_type="application/json" if length is None else BINARY)
        if length is not None:
            response.headers["Inference-Header-Content-Length"] = str(length)
        response.headers["Server-Timing"] = context.server_timing
        response.raw_headers += responses.origin(served.model.id, served.model.sha256)
        return response

    @contextmanager
    def _reserve_body(self, headers: Mapping[str, str]) -> Iterator[int]:
        """Reserve memory for a body and yield its limit. Raises Problem 415, or 503 where there is no memory.

        A body that does not say how long it is has the limit of the other routes.
        """
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in MEDIA_TYPES:
            raise unsupported_media_type(headers["content-type"], MEDIA_TYPES[1:])
        announced = headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() and len(announced) < 10 else 0
        if not MAX_BODY_BYTES < size <= MAX_BYTES:
            yield MAX_BYTES if size else MAX_BODY_BYTES
            return
        if self._pending + size > MAX_PENDING_BYTES:
            raise overloaded(1)
        self._pending += size
        try:
            yield MAX_BYTES
        finally:
            self._pending -= size


class Post:
    """`POST /v2/models/{model}/infer` as an ASGI application."""

    def __init__(self, infer: Infer):
        self._infer = infer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._infer.infer(scope[SCOPE_KEY], scope["path_params"]["model"], receive)
        await response(scope, receive, send)


class Work(NamedTuple):
    """A request, once it was found to fit its model."""

    id: str | None
    n: int
    inputs: dict[str, np.ndarray]  # as Runtime.synthesize takes them
    outputs: list[tuple[str, bool]]  # name, and True for a binary tensor


def inputs_of(model: Model) -> dict[str, Spec]:
    """The tensors that a model takes: alternatives among them."""
    specs = {"seed": Spec("UINT64", ((1,), ())), "index": Spec("UINT64", ((1,), ()))}
    specs["z"] = Spec("FP32", ((model.latent_size,),))
    if model.classes is not None:
        specs["label"] = Spec("INT64", ((1,), ()))
    if (style := model.style) is not None:
        specs["psi"] = Spec("FP32", ((1,), (), (style.layers,)))
        specs["w"] = Spec("FP32", ((style.layers, style.w_size), (style.w_size,)))
    return specs


def outputs_of(model: Model) -> dict[str, Spec]:
    """The tensors that a model gives."""
    image = model.image
    specs = {"image": Spec("UINT8", ((image.height, image.width, image.channels),))}
    if (style := model.style) is not None:
        specs["w"] = Spec("FP32", ((style.layers, style.w_size),))
    return specs


def describe(model: Model) -> dict[str, Any]:
    """Return the metadata of a model, in the words of the protocol. Not all of `inputs` go together."""

    def tensors(specs: Mapping[str, Spec]) -> list[dict[str, Any]]:
        return [
            {"name": name, "datatype": spec.datatype, "shape": [-1, *spec.shapes[0]]} for name, spec in specs.items()
        ]

    return {
        "name": model.id,
        "versions": [VERSION],
        "platform": "onnxruntime_onnx",
        "inputs": tensors(inputs_of(model)),
        "outputs": tensors(outputs_of(model)),
    }


def _header_length(headers: Mapping[str, str], size: int) -> int:
    """Return the length of the JSON in a body of `size` bytes."""
    text = headers.get(HEADER_LENGTH)
    if text is None:
        return size
    if not (text.isdecimal() and text.isascii() and len(text) < 10 and 0 < int(text) <= size):
        detail = f"`Inference-Header-Content-Length` (={quote(text)}) must be between 1 and {size}, the body's length."
        raise Problem(422, "invalid-request", detail)
    return int(text)


def _read(model: Model, content: bytes, length: int) -> Work:
    body = parse_json(InferBody, content[:length])
    tensors = _tensors(model, body.inputs, memoryview(content)[length:])
    n = len(next(iter(tensors.values())))
    inputs = _rows(model, tensors, n)
    default = body.parameters.get("binary_data_output") is True
    known = outputs_of(model)
    if body.outputs is None:
        return Work(body.id, n, inputs, [(name, default) for name in known])
    outputs: list[tuple[str, bool]] = []
    for i, output in enumerate(body.outputs):
        if output.name not in known or output.name in dict(outputs):
            raise _error(f"/outputs/{i}/name", f"`outputs[{i}].name`", output.name, f"{listed(list(known))}, each once")
        binary = output.parameters.get("binary_data", default)
        outputs.append((output.name, binary is True))
    return Work(body.id, n, inputs, outputs)


def _tensors(model: Model, inputs: Sequence[InputTensor], binary: memoryview) -> dict[str, np.ndarray]:
    """Return the tensors of a request by name, N rows each. Raises Problem 422."""
    specs, tensors, position = inputs_of(model), {}, 0
    for i, tensor in enumerate(inputs):
        path, field = f"/inputs/{i}", f"inputs[{i}]"
        if tensor.name not in specs or tensor.name in tensors:
            raise _error(f"{path}/name", f"`{field}.name`", tensor.name, f"{listed(list(specs))}, each once")
        spec = specs[tensor.name]
        if tensor.datatype != spec.datatype:
            raise _error(f"{path}/datatype", f"`{field}.datatype`", tensor.datatype, f"{spec.datatype}")
        n, *shape = tensor.shape
        if tuple(shape) not in spec.shapes or not 1 <= n <= MAX_IMAGES:
            shapes = " or ".join(str(["N", *shape]).replace("'", "") for shape in spec.shapes)
            raise _error(f"{path}/shape", f"`{field}.shape`", tensor.shape, f"{shapes}, N from 1 to {MAX_IMAGES}")
        if tensors and n != len(next(iter(tensors.values()))):
            raise _error(f"{path}/shape", f"`{field}.shape`", tensor.shape, "of as many rows as the tensor before it")
        count, dtype = math.prod(tensor.shape), DTYPES[spec.datatype]
        size = tensor.parameters.get("binary_data_size")
        if size is not None:
            if size != count * dtype.itemsize or type(size) is not int or position + size > len(binary):
                expected = f"{count * dtype.itemsize}, of which {len(binary) - position} bytes are left in the body"
                pointer = f"{path}/parameters/binary_data_size"
                raise _error(pointer, f"`{field}.parameters.binary_data_size`", size, expected)
            values = np.frombuffer(binary[position : position + size], dtype)
            position += size
        else:
            values = _numbers(tensor.data, count, dtype, f"{path}/data", f"{field}.data")
        if dtype.kind == "f" and not np.isfinite(values).all():
            raise invalid(FieldError(f"{path}/data", f"`{field}.data` must be finite numbers of 32 bits."))
        tensors[tensor.name] = values.reshape(tensor.shape)
    if position != len(binary):
        found = f"{len(binary)} bytes follow the JSON, of which tensors use {position}"
        raise invalid(FieldError("/inputs", f"{found}; `binary_data_size` of the inputs must account for all."))
    return tensors


def _numbers(data: list[Any] | None, count: int, dtype: np.dtype, pointer: str, field: str) -> np.ndarray:
    """Return the numbers of nested or flat lists, in order."""
    numbers: list[Any] = data or []
    while numbers and isinstance(numbers[0], list):
        if not all(isinstance(item, list) for item in numbers):
            break
        numbers = [number for item in numbers for number in item]
    kinds = (int, float) if dtype.kind == "f" else (int,)
    if len(numbers) != count or not all(type(number) in kinds for number in numbers):
        kind = "numbers" if dtype.kind == "f" else "integers"
        raise invalid(FieldError(pointer, f"`{field}` must be {count} {kind}, as the shape says."))
    try:
        with np.errstate(over="ignore"):
            return np.array(numbers, dtype)
    except OverflowError:
        raise invalid(FieldError(pointer, f"`{field}` must be numbers that {dtype.name} can hold.")) from None


def _rows(model: Model, tensors: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """Return what the engine takes. Raises Problem 422 where tensors do not go together."""
    sources = [name for name in ("seed", "z", "w") if name in tensors]
    names = ("seed", "z") if model.style is None else ("seed", "z", "w")
    if len(sources) != 1:
        raise invalid(FieldError("/inputs", f"`inputs` must have exactly one of {listed(names, 'and')}."))
    (source,) = sources
    others = {"seed": {"index", "label", "psi"}, "z": {"label", "psi"}, "w": set()}[source]
    if surplus := sorted(tensors.keys() - {source} - others):
        raise invalid(FieldError("/inputs", f"`inputs` must not have {listed(surplus, 'and')} with `{source}`."))
    if source == "w":
        style = model.style
        assert style is not None
        w = tensors["w"] if tensors["w"].ndim == 3 else tensors["w"][:, None, :]
        return {"w": np.broadcast_to(w, (n, style.layers, style.w_size))}
    if source == "seed":
        index = tensors.get("index", np.zeros(n, np.uint64))
        rows = {"address": np.stack([tensors["seed"].reshape(n), index.reshape(n)], axis=1)}
        for address in rows["address"].tolist():
            if error := check_address(model.latent_source, *address):
                raise invalid(FieldError("/inputs", error[1]))
    else:
        rows = {"z": tensors["z"]}
    if model.style is not None:
        psi = tensors.get("psi", np.ones(n, np.float32)).reshape(n, -1)
        if not ((psi >= 0) & (psi <= 1)).all():
            raise invalid(FieldError("/inputs", "`psi` must be between 0 and 1."))
        rows["psi"] = np.broadcast_to(psi, (n, model.style.layers))
    if model.classes is not None:
        rows["label"] = _labels(tensors, rows, len(model.classes))
    return rows


def _labels(tensors: dict[str, np.ndarray], rows: dict[str, np.ndarray], classes: int) -> np.ndarray:
    """Return the classes (N,). Without `label` the class is the index modulo their number, as in `/v1/sample`."""
    if "label" in tensors:
        labels = tensors["label"].reshape(-1)
        if not ((labels >= 0) & (labels < classes)).all():
            raise invalid(FieldError("/inputs", f"`label` must be between 0 and {classes - 1}."))
        return labels
    if "address" not in rows:
        raise invalid(FieldError("/inputs", "`inputs` must have `label` with `z`: the model is conditional."))
    return (rows["address"][:, 1] % np.uint64(classes)).astype(np.int64)


def _reply_bytes(model: Model, work: Work) -> int:
    """Return about the memory that a reply takes. Raises Problem 422 where it is more than one may."""
    total = 0
    for name, binary in work.outputs:
        spec = outputs_of(model)[name]
        count = work.n * math.prod(spec.shapes[0])
        total += count * (DTYPES[spec.datatype].itemsize if binary else DTYPES[spec.datatype].itemsize + JSON_BYTES)
    if total > responses.MAX_PIXEL_BYTES:
        most = f"{responses.MAX_PIXEL_BYTES // 2**20} MiB"
        detail = (
            f"{work.n} images take {total // 2**20} MiB, and {most} is the limit; request fewer, or binary tensors."
        )
        raise invalid(FieldError("/inputs", detail))
    return total


def _write(model: Model, work: Work, tensors: Mapping[str, np.ndarray]) -> tuple[bytes, int | None]:
    """Return the body of a reply, and the length of its JSON where binary tensors follow."""
    outputs, parts = [], []
    for name, binary in work.outputs:
        tensor, spec = tensors[name], outputs_of(model)[name]
        output: dict[str, Any] = {"name": name, "datatype": spec.datatype, "shape": list(tensor.shape)}
        if binary:
            parts.append(np.ascontiguousarray(tensor, DTYPES[spec.datatype]).tobytes())
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = tensor.ravel().tolist()
        outputs.append(output)
    document = {"model_name": model.id, "model_version": VERSION, "outputs": outputs}
    head = json.dumps(document if work.id is None else document | {"id": work.id}).encode()
    return (b"".join([head, *parts]), len(head)) if parts else (head, None)


def _error(pointer: str, field: str, found: object, expected: str) -> Problem:
    return invalid(FieldError(pointer, f"{field} (={quote(found)}) must be {expected}."))
