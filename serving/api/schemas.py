"""What the routes take: one strict model a body.

Strict means no coercion: "3", true and 2.0 are not integers, and a field nobody knows is an error rather than a setting
without effect. Integers of 64 bits arrive exact. `validation` puts what is wrong into words.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Tag
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from serving.engine.latents import ADDRESS_LIMIT, Address

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included."""

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"minimum": self.low, "maximum": self.high}

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


def told_apart(expected: str, kinds: dict[type, str]) -> Discriminator:
    """Which member of a union a value is meant for, by its JSON type; `expected` is asked for where it is none.

    The tags stand in parentheses because they are no part of a JSON pointer; `validation` drops them.
    """
    return Discriminator(
        lambda value: kinds.get(type(value)), custom_error_type="kind", custom_error_message=f"must be {expected}"
    )


Seed = Annotated[int, Between(0, ADDRESS_LIMIT - 1)]


class AddressBody(BaseModel):
    """Where a picture lies in its model's stream."""

    model_config = STRICT

    seed: Seed
    index: Seed = 0


Keyframe = Annotated[
    Annotated[Seed, Tag("(seed)")] | Annotated[AddressBody, Tag("(address)")],
    told_apart('a seed or {"seed": ..., "index": ...}', {int: "(seed)", dict: "(address)", AddressBody: "(address)"}),
]

Label = Annotated[
    Annotated[int, Tag("(index)")] | Annotated[str, Tag("(name)")],
    told_apart("the index or the name of a class", {int: "(index)", str: "(name)"}),
]

Labels = Annotated[
    Annotated[int, Tag("(index)")]
    | Annotated[str, Tag("(name)")]
    | Annotated[list[Label], Items(1, 256), Tag("(list)")],
    told_apart("the index or the name of a class, or a list of them", {int: "(index)", str: "(name)", list: "(list)"}),
]

Digits = Annotated[
    Annotated[str, Field(pattern="^[0-9]*$"), Items(1, 64), Tag("(text)")]
    | Annotated[list[Annotated[int, Between(0, 9)]], Items(1, 64), Tag("(list)")],
    told_apart("a string or a list of digits", {str: "(text)", list: "(list)"}),
]

Styles = Annotated[
    Annotated[Literal["coarse", "middle", "fine"], Tag("(name)")]
    | Annotated[list[Annotated[int, Between(0, 255)]], Items(1, 256), Tag("(layers)")],
    told_apart("`coarse`, `middle`, `fine` or a list of layers", {str: "(name)", list: "(layers)"}),
]

Truncation = Annotated[float, Between(0, 1)]
GridColumns = Annotated[int, Between(1, 256)]


class Body(BaseModel):
    """What every POST takes."""

    model_config = STRICT
    route: ClassVar[str]

    model: str | None = Field(None, description="An id of `GET /v1/models`; the first that can do it, unless given.")
    scale: Annotated[int, Between(1, 16)] = Field(1, description="Every pixel becomes scale x scale pixels.")


class SampleBody(Body):
    """`POST /v1/sample`: pictures at indices `start` to `start + n - 1` of a seed."""

    route: ClassVar[str] = "/v1/sample"

    n: Annotated[int, Between(1, 256)] = 1
    seed: Seed | None = Field(None, description="Drawn, and told in the reply, unless given.")
    start: Seed = 0
    labels: Labels | None = Field(None, description="Conditional models: one class for all pictures, or one each.")
    truncation: Truncation | None = Field(None, description="Style models: 0 is the mean picture, 1 the full variety.")
    columns: GridColumns | None = Field(None, description="The width of the grid; nearly square unless given.")


class DigitsBody(Body):
    """`POST /v1/digits`: the digits asked for, in order, `rows` times."""

    route: ClassVar[str] = "/v1/digits"

    digits: Digits
    rows: Annotated[int, Between(1, 16)] = Field(1, description="How many variations.")
    seed: Seed | None = Field(None, description="Drawn, and told in the reply, unless given.")
    columns: GridColumns | None = Field(None, description="The width of the grid; that of `digits` unless given.")


class InterpolateBody(Body):
    """`POST /v1/interpolate`: frames on the way from one address to the next."""

    route: ClassVar[str] = "/v1/interpolate"

    keyframes: Annotated[list[Keyframe], Items(2, 16)]
    frames: Annotated[int, Between(2, 256)] = Field(60, description="In total.")
    method: Literal["slerp", "lerp"] | None = Field(None, description="`slerp` in z, `lerp` in w unless given.")
    space: Literal["z", "w"] = Field("z", description="`w` is for style models.")
    loop: bool = Field(False, description="Go back to the first keyframe, and play for ever.")
    fps: Annotated[int, Between(1, 50)] = Field(25, description="Frames a second of an animation.")
    labels: Labels | None = Field(None, description="Conditional models: one class for all, or one a keyframe.")
    truncation: Truncation | None = Field(None, description="Style models: 0 is the mean picture, 1 the full variety.")
    columns: GridColumns | None = Field(None, description="The width of the grid; up to 16 unless given.")


class StyleMixBody(Body):
    """`POST /v1/style-mix`: every row's picture with `styles` taken from every column's."""

    route: ClassVar[str] = "/v1/style-mix"

    rows: Annotated[list[Keyframe], Items(1, 16)]
    columns: Annotated[list[Keyframe], Items(1, 16)]
    styles: Styles = "coarse"
    truncation: Truncation | None = Field(None, description="Style models: 0 is the mean picture, 1 the full variety.")


class PictureQuery(BaseModel):
    """The path and the query of a picture's URL."""

    model_config = STRICT

    seed: Seed
    index: Seed
    label: Label | None = Field(None, description="Conditional models: the class; of the index unless given.")
    truncation: Truncation | None = Field(None, description="Style models: 0 is the mean picture, 1 the full variety.")
    scale: Annotated[int, Between(1, 16)] = Field(1, description="Every pixel becomes scale x scale pixels.")


def address(keyframe: int | AddressBody) -> Address:
    """A keyframe as sent, a seed alone or {seed, index} -> its address."""
    return Address(keyframe, 0) if isinstance(keyframe, int) else Address(keyframe.seed, keyframe.index)
