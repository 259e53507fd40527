"""Pydantic models of the JSON replies: images, models, health and problems.

`openapi` makes schemas of them. The routes write plain dicts; tests validate real replies against these models.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from serving.api.schemas import Between, Seed, Truncation

Absent = SkipJsonSchema[None]  # the field may be left out; it is never null
Count = Annotated[int, Between(0, 2**63 - 1)]
Positive = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Reply(BaseModel):
    """Base of replies and of their parts. Later versions may add fields, and a `model.json` may have its own."""

    model_config = ConfigDict(strict=True, extra="allow")


class Image(Reply):
    """An image with its address."""

    seed: Seed | None = Field(description="null with `index`: the image lies between addresses, or is a mix of two.")
    index: Seed | None
    png: str = Field(json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"})
    label: Annotated[int, Field(ge=0)] | Absent = Field(None, description="Conditional models: index of the class.")
    class_: str | Absent = Field(None, alias="class", description="Conditional models: name of the class.")


class Images(Reply):
    """The images of a request, in order."""

    model: str
    model_sha256: Sha256 = Field(description="SHA-256 over the model's files.")
    version: str = Field(description="Version of the server.")
    images: list[Image]
    truncation: Truncation | Absent = None
    edits: list[Any] | Absent = Field(None, description="As they were requested.")


class ImageShape(Reply):
    """Shape of a model's images, in pixels."""

    height: Positive
    width: Positive
    channels: Positive = Field(description="1 (grey) or 3 (RGB).")


class Style(Reply):
    """Layers of a style model."""

    layers: Positive
    w_size: Positive
    coarse: list[int]
    middle: list[int]
    fine: list[int]


class Direction(Reply):
    """A semantic direction of a style model, for `edits`."""

    name: str
    method: str = Field(description="`sefa`, `ganspace`, or `attribute` for one that is named after what it moves.")
    layers: list[int] = Field(description="Layers that it acts on by default.")


class File(Reply):
    """Size and checksum of an ONNX file, or of the directions."""

    sha256: Sha256
    size: Count = Field(description="In bytes.")


class Training(Reply):
    """Origin of a model's weights: a recipe and its run, or an imported checkpoint."""

    images_seen: Count | Absent = Field(None, description="Real images seen in training.")


class Metric(Reply):
    """Result of one metric, and how it was measured."""

    name: str
    value: float
    protocol: str


class Model(Reply):
    """The `model.json` of a model."""

    schema_version: Literal[1]
    id: str
    name: str
    family: Literal["mlp", "dcgan", "cgan", "stylegan", "stylegan2"]
    licence: str
    dataset: dict[str, Any]
    image: ImageShape
    latent_size: Positive
    latents: Literal["philox", "numpy-randomstate"] | Absent = Field(
        None,
        description="How an address becomes a latent: `philox`, also where it is absent, or `numpy-randomstate`, "
        "`RandomState(seed + index).randn`, for which seed + index is at most 2^32 - 1.",
    )
    classes: list[str] | None = Field(description="Names of the classes of a conditional model.")
    style: Style | None = Field(description="null unless the model is a style model.")
    directions: list[Direction] | Absent = Field(None, description="Style models that have some.")
    files: dict[str, File]
    training: Training
    metrics: list[Metric]
    sha256: Sha256 = Field(description="SHA-256 over the model's files.")


class Models(Reply):
    """Every model, in order of id."""

    models: list[Model]


class Status(Reply):
    """State of the process."""

    status: Literal["alive", "ready"]


class Alive(Reply):
    """Liveness, in the words of the Open Inference Protocol."""

    live: bool


class Ready(Reply):
    """Readiness, in the words of the Open Inference Protocol."""

    ready: bool
    name: str | Absent = Field(None, description="Id of the model that was asked about.")


class ServerMetadata(Reply):
    """The server, in the words of the Open Inference Protocol."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Reply):
    """A tensor that a model takes or gives."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 is the number of images.")


class ModelMetadata(Reply):
    """A model, in the words of the Open Inference Protocol."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata] = Field(description="`seed`, `z` and `w` are alternatives.")
    outputs: list[TensorMetadata]


class ReplyTensor(Reply):
    """A tensor of a reply, in `data` or after the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | Absent = Field(None, description="`binary_data_size`: bytes after the JSON.")
    data: list[float] | Absent = None


class InferReply(Reply):
    """The outputs of a model."""

    model_name: str
    model_version: str
    id: str | Absent = None
    outputs: list[ReplyTensor]


class FieldError(Reply):
    """One invalid field of a request."""

    pointer: str = Field(description="A JSON pointer (RFC 6901); `/name` for a query parameter.")
    detail: str


class Problem(Reply):
    """Problem document (RFC 9457)."""

    type: str = Field(json_schema_extra={"format": "uri"})
    title: str
    status: Annotated[int, Between(400, 599)]
    detail: str = Field(description="What was found and what is allowed.")
    instance: str = Field(description="Path of the request.")
    code: str = Field(description="Stable identifier of the kind of problem, for programs.")
    request_id: str
    errors: list[FieldError] | Absent = None
    error: str | Absent = Field(None, description="Under `/v2`: the same as `detail`.")
