"""Fields of recipes with their ranges, and tables validated by pydantic into frozen dataclasses."""

import dataclasses
import typing
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from training.errors import RecipeError

CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)
# Strict: "3" is no number, 1 is not true, and 2.0 is no whole number; a whole number is a number.
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Count = Annotated[Whole, Field(ge=1)]
CountOrNone = Annotated[Whole, Field(ge=0)]
Number = Annotated[float, Field(strict=True)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]

T = TypeVar("T")


def validated(cls: type[T], table: Any, path: str = "") -> T:
    """Return the dataclass that a (nested) table describes. Raises RecipeError with the first field that is wrong."""
    try:
        return TypeAdapter(cls).validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
    name = ".".join([path] * bool(path) + [str(part) for part in first["loc"] if isinstance(part, str)])
    match first["type"]:
        case "missing":
            raise RecipeError(f"missing field: `{name}`.")
        case "unexpected_keyword_argument":
            known = ", ".join(sorted(field.name for field in dataclasses.fields(_class_at(cls, first["loc"][:-1]))))
            raise RecipeError(f"unknown field `{name}`; known here: {known}.")
        case "dataclass_type":
            raise RecipeError(f"`{name}` (={first['input']!r}) must be a table.")
    said = first["msg"].replace("Input should be", "must be").replace("String should", "must")
    said = said.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    raise RecipeError(f"`{name}` (={first['input']!r}) {said}.")


def _class_at(cls: Any, loc: tuple[int | str, ...]) -> Any:
    for part in loc:
        hint = typing.get_type_hints(cls)[str(part)]
        cls = next(each for each in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(each))
    return cls
