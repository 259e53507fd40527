"""All settings of the server, from the environment; `make docs` writes them into docs/deployment.md."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

import serving

PREFIX = "GANYMEDE_"
MODELS = Path(serving.__file__).parent.parent / "models"  # beside the package in a checkout and in a bento alike


def _origins(text: Any) -> Any:
    return tuple(origin.strip() for origin in text.split(",") if origin.strip()) if isinstance(text, str) else text


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if origin != "*" and not (origin.startswith(("http://", "https://")) and origin.count("/") == 2):
            raise ValueError
    return origins


def _check_digits(text: Any) -> Any:
    if isinstance(text, str) and ("_" in text or not text.isascii()):  # Python's own forms, which no document names
        raise ValueError
    return text


Integer = Annotated[int, BeforeValidator(_check_digits)]
Number = Annotated[float, BeforeValidator(_check_digits)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_origins), AfterValidator(_check_origins)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)]


def _field(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    return Field(default, description=text, ge=low, le=high, allow_inf_nan=False if low is not None else None)


class Settings(BaseModel):
    """Each field is the variable GANYMEDE_<NAME>; one that is empty counts as not set."""

    model_config = ConfigDict(frozen=True)

    models: Path = _field(MODELS, "the model repository; `models` beside the `serving` package unless set")
    workers: Integer = _field(1, "processes that answer requests", 1, 256)
    timeout: Number = _field(30, "seconds a request may take, and the limit for its `X-Request-Timeout`", 0.1, 600)
    read_timeout: Number = _field(10, "seconds in which the body of a request must arrive", 0.1, 600)
    keep_alive: Integer = _field(
        75,
        "seconds in which the head of a request must arrive, and that a connection may be idle between two requests. "
        "Set it higher than the idle timeout of the load balancer in front, usually 60, which else sends requests to "
        "closed connections",
        1,
        3600,
    )
    max_queue: Integer = _field(2048, "images that may wait for a model in each process", 1, 1_000_000)
    rate_limit: Annotated[float | None, BeforeValidator(_check_digits)] = _field(
        None,
        "images per second that a client gets from each process, by API key or else by network address (of IPv6 the "
        "/64); no limit unless set",
        0.001,
        1_000_000,
    )
    api_keys_file: Path | None = _field(
        None,
        "API keys, one a line: its sha256 in hexadecimal, then a name for the logs. The file is read again when it "
        "changes. No key is required unless set",
    )
    cors_origins: Origins = _field(
        (), "origins whose pages may send requests, separated by commas, or `*`; none unless set"
    )
    heartbeat: Number = _field(10, "seconds between two inferences that verify every model", 0.1, 3600)
    drain: Number = _field(3, "seconds after SIGTERM in which `/readyz` answers 503 and requests are accepted", 0, 600)
    log_level: LogLevel = _field("info", "`debug`, `info`, `warning` or `error`; `info` logs every request")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables. Raises ValueError where one has a value that it cannot have."""
        values = {name: environment.get(PREFIX + name.upper()) for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in values.items() if value})
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise ValueError(f"`{PREFIX}{name.upper()}` (={values[name]}) must be {cls.allowed(name)}.") from None

    @classmethod
    def allowed(cls, name: str) -> str:
        """Return the values that a setting can have, in words."""
        schema = cls.model_json_schema()["properties"][name]
        number = next((kind for kind in schema.get("anyOf", [schema]) if "minimum" in kind), None)
        if number is not None:
            kind = "whole number" if number["type"] == "integer" else "number"
            return f"a {kind} between {number['minimum']:g} and {number['maximum']:,}".replace(",", "")
        if "enum" in schema:
            return f"one of {', '.join(schema['enum'])}"
        return "`*` or origins such as https://example.org" if name == "cors_origins" else "a path"
