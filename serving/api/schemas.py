"""Pydantic models of the requests, one a body. Replies are in `reply_models`.

The models are strict. They coerce nothing: "3", true and 2.0 are not integers. An unknown field is an error. 64-bit
integers keep every digit. `validation` writes the messages.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from serving.engine.directions import Edit, parse_edit
from serving.engine.latents import ADDRESS_LIMIT, Address

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included.

    An integer that may need more than 32 bits has `format: int64` in its schema, unsigned ones too. openapi-generator
    7.26 makes 64-bit fields of it in Java, Kotlin, Go and Rust, and 32-bit ones of a bare `integer`. `uint64` is also
    in the OpenAPI registry of formats, but only the Rust generator knows it: the others then write 32 bits.
    """

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        wide = {"format": "int64"} if self.high >= 2**31 else {}
        return handler(schema) | {"minimum": self.low, "maximum": self.high} | wide

    def check(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise PydanticCustomError("range", "must be between {low} and {high}", vars(self))
        return value


@dataclass(frozen=True)
class Items:
    """A list, or a string, of `low` to `high` items."""

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = handler(schema)
        kind = "Length" if inner.get("type") == "string" else "Items"
        return inner | {f"min{kind}": self.low, f"max{kind}": self.high}

    def check(self, value: Any) -> Any:
        if not self.low <= len(value) <= self.high:
            context = {"low": self.low, "high": self.high, "found": len(value)}
            raise PydanticCustomError("length", "must have {low} to {high} items, not {found}", context)
        return value


def by_json_type(expected: str, kinds: dict[type, str]) -> Discriminator:
    """Discriminator of a union by the JSON type of the value; the error names `expected`.

    The tags stand in parentheses because they are no part of a JSON pointer; `validation` drops them.
    """
    return Discriminator(
        lambda value: kinds.get(type(value)), custom_error_type="kind", custom_error_message=f"must be {expected}"
    )


Seed = Annotated[int, Between(0, ADDRESS_LIMIT - 1)]
DrawnSeed = Annotated[
    Seed | None, Field(description="By default the server draws one that the model has. The reply carries it.")
]


class AddressBody(BaseModel):
    """Position of an image in its model's stream."""

    model_config = STRICT

    seed: Seed
    index: Seed = 0


Keyframe = Annotated[
    Annotated[Seed, Tag("(seed)")] | Annotated[AddressBody, Tag("(address)")],
    by_json_type('a seed or {"seed": ..., "index": ...}', {int: "(seed)", dict: "(address)", AddressBody: "(address)"}),
]

Label = Annotated[
    Annotated[int, Tag("(index)")] | Annotated[str, Tag("(name)")],
    by_json_type("the index or the name of a class", {int: "(index)", str: "(name)"}),
]

LABEL_RULE = "A number is an index; a text is a name or, where no class is called so, an index."

Labels = Annotated[
    Annotated[int, Tag("(index)")]
    | Annotated[str, Tag("(name)")]
    | Annotated[list[Label], Items(1, 256), Tag("(list)")],
    by_json_type(
        "the index or the name of a class, or a list of them", {int: "(index)", str: "(name)", list: "(list)"}
    ),
]

Digits = Annotated[
    Annotated[str, Field(pattern="^[0-9]*$"), Items(1, 64), Tag("(text)")]
    | Annotated[list[Annotated[int, Between(0, 9)]], Items(1, 64), Tag("(list)")],
    by_json_type("a string or a list of digits", {str: "(text)", list: "(list)"}),
]

Styles = Annotated[
    Annotated[Literal["coarse", "middle", "fine"], Tag("(name)")]
    | Annotated[list[Annotated[int, Between(0, 255)]], Items(1, 256), Tag("(layers)")],
    by_json_type("`coarse`, `middle`, `fine` or a list of layers", {str: "(name)", list: "(layers)"}),
]

Truncation = Annotated[float, Between(0, 1)]
StyleTruncation = Annotated[
    Truncation | None, Field(description="Style models: 0 is the mean image, 1 the full variety.")
]


class EditBody(BaseModel):
    """A step along a semantic direction of a style model."""

    model_config = STRICT

    direction: str = Field(description="A name of `directions` in `GET /v1/models/{id}`.")
    strength: Annotated[float, Between(-5, 5)] = Field(description="1 is one standard deviation of w along it.")
    layers: Annotated[list[Annotated[int, Between(0, 255)]], Items(1, 256)] | None = Field(
        None, description="By default those of the direction."
    )


Edits = Annotated[list[EditBody], Items(0, 8)]
KeyframeEdits = Annotated[
    Annotated[Edits, Tag("(edits)")] | Annotated[list[Edits], Items(2, 16), Tag("(lists)")],
    Discriminator(
        lambda value: (
            None if not isinstance(value, list) else "(lists)" if value and isinstance(value[0], list) else "(edits)"
        ),
        custom_error_type="kind",
        custom_error_message="must be a list of edits, or one for each keyframe",
    ),
]

MAX_FRAMES = 1_000_000  # of an interpolation, over all of its replies
Scale = Annotated[int, Between(1, 16), Field(description="Every pixel becomes scale x scale pixels.")]
GridColumns = Annotated[int, Between(1, 256)]


class Body(BaseModel):
    """Fields of every POST."""

    model_config = STRICT
    route: ClassVar[str]

    model: str | None = Field(None, description="An id of `GET /v1/models`; by default the first model that fits.")
    scale: Scale = 1


class SampleBody(Body):
    """`POST /v1/sample`: images at indices `start` to `start + n - 1` of a seed."""

    route: ClassVar[str] = "/v1/sample"

    n: Annotated[int, Between(1, 256)] = 1
    seed: DrawnSeed = None
    start: Seed = 0
    labels: Labels | None = Field(
        None, description=f"Conditional models: one class for all images, or one each. {LABEL_RULE}"
    )
    truncation: StyleTruncation = None
    edits: Edits = Field([], description="Style models with directions: steps along them.")
    columns: GridColumns | None = Field(None, description="Width of the grid; by default it is nearly square.")


class DigitsBody(Body):
    """`POST /v1/digits`: the given digits, in order, `rows` times."""

    route: ClassVar[str] = "/v1/digits"

    digits: Digits
    rows: Annotated[int, Between(1, 16)] = Field(1, description="Variations of each digit.")
    seed: DrawnSeed = None
    columns: GridColumns | None = Field(None, description="Width of the grid; by default the number of digits.")


class InterpolateBody(Body):
    """`POST /v1/interpolate`: frames on the way from one address to the next."""

    route: ClassVar[str] = "/v1/interpolate"

    keyframes: Annotated[list[Keyframe], Items(2, 16)]
    frames: Annotated[int, Between(2, MAX_FRAMES)] = Field(
        60, description="Number of frames in total; of more than 256, `start` and `n` choose those of a reply."
    )
    start: Annotated[int, Between(0, MAX_FRAMES - 1)] = Field(0, description="First frame of the reply.")
    n: Annotated[int, Between(1, 256)] | None = Field(
        None, description="Number of frames in the reply; by default all from `start`."
    )
    method: Literal["slerp", "lerp"] | None = Field(None, description="By default `slerp` in z and `lerp` in w.")
    space: Literal["z", "w"] = Field("z", description="`w` is for style models.")
    loop: bool = Field(False, description="Return to the first keyframe, and repeat the animation.")
    fps: Annotated[int, Between(1, 50)] = Field(25, description="Frames per second of an animation.")
    labels: Labels | None = Field(
        None, description=f"Conditional models: one class for all keyframes, or one each. {LABEL_RULE}"
    )
    truncation: StyleTruncation = None
    edits: KeyframeEdits = Field(
        [], description="Style models with directions: one list of edits for all frames, or one for each keyframe."
    )
    columns: GridColumns | None = Field(None, description="Width of the grid; by default at most 16.")


class StyleMixBody(Body):
    """`POST /v1/style-mix`: every row's image with `styles` of every column's image."""

    route: ClassVar[str] = "/v1/style-mix"

    rows: Annotated[list[Keyframe], Items(1, 16)]
    columns: Annotated[list[Keyframe], Items(1, 16)]
    styles: Styles = Field("coarse", description="Layers that come from the column; by default `coarse`.")
    labels: Labels | None = Field(
        None, description="Conditional models: one class for all, or one for each of the rows and then of the columns."
    )
    truncation: StyleTruncation = None


EDIT_TEXTS = {
    "type": "array",
    "items": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9_-]{0,63}:-?[0-9]+(\.[0-9]+)?(:[0-9]+(,[0-9]+)*)?$"},
    "minItems": 0,
    "maxItems": 8,
}


class ImageQuery(BaseModel):
    """Path and query of an image's URL."""

    model_config = STRICT

    seed: Seed
    index: Seed
    label: str | None = Field(
        None,
        description="Conditional models: the class, by its name or, where none is called so, its index; by default "
        "`index` modulo the number of classes.",
    )
    truncation: StyleTruncation = None
    edit: Annotated[Edits, WithJsonSchema(EDIT_TEXTS)] = Field(
        [], description="Style models with directions: `sefa-0:2.5`, or `sefa-0:2.5:0,1` on chosen layers; repeatable."
    )
    scale: Scale = 1

    @field_validator("edit", mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        """Read the form that edits have in a URL."""
        try:
            edits = [parse_edit(str(text)) for text in (value if isinstance(value, list) else [value])]
        except ValueError as error:
            raise PydanticCustomError("edit", "must be a step: {reason}", {"reason": str(error)}) from None
        return [
            {"direction": each.direction, "strength": each.strength}
            | ({} if each.layers is None else {"layers": list(each.layers)})
            for each in edits
        ]


class InputTensor(BaseModel):
    """A tensor of a request of the Open Inference Protocol, in `data` or after the JSON."""

    model_config = ConfigDict(strict=True, frozen=True)

    name: str
    shape: Annotated[list[Annotated[int, Between(0, 2**31 - 1)]], Items(1, 8)]
    datatype: str
    parameters: dict[str, Any] = Field({}, description="`binary_data_size`: bytes of the tensor after the JSON.")
    data: list[Any] | None = Field(None, description="Numbers, flat or nested, where the tensor is not binary.")


class OutputTensor(BaseModel):
    """A tensor that a reply of the Open Inference Protocol shall have."""

    model_config = ConfigDict(strict=True, frozen=True)

    name: str
    parameters: dict[str, Any] = Field({}, description="`binary_data`: true for a tensor after the JSON.")


class InferBody(BaseModel):
    """`POST /v2/models/{model}/infer`: latents or addresses, to images and styles. What is not known is left alone."""

    model_config = ConfigDict(strict=True, frozen=True)

    id: str | None = Field(None, description="Echoed.")
    parameters: dict[str, Any] = Field({}, description="`binary_data_output`: true for binary tensors unless said.")
    inputs: Annotated[list[InputTensor], Items(1, 8)]
    outputs: Annotated[list[OutputTensor], Items(1, 8)] | None = Field(None, description="By default all.")


def edit(body: EditBody) -> Edit:
    """Return an edit as the engine has it."""
    return Edit(body.direction, body.strength, None if body.layers is None else tuple(body.layers))


def address(keyframe: int | AddressBody) -> Address:
    """Address of a keyframe, which is a seed or {seed, index}."""
    return Address(keyframe, 0) if isinstance(keyframe, int) else Address(keyframe.seed, keyframe.index)
