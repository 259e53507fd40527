"""Recipes: everything that decides what a run becomes, as frozen dataclasses read from TOML.

A published model is `training/recipes/<id>.toml`. Any field is overridden on the command line by its dotted name:
`python -m training train dcgan-mnist optimizer.batch=128 total_kimg=500`.
"""

import dataclasses
import hashlib
import json
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from training.errors import RecipeError
from training.networks import NETWORKS, NetworkConfig, dcgan

FOLDER = Path(__file__).with_name("recipes")


@dataclass(frozen=True, kw_only=True)
class Data:
    name: str = "mnist"
    resolution: int = 28
    count: int | None = None  # the first so many pictures; None: all


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Adam for both networks (Kingma and Ba 2015)."""

    batch: int = 64
    generator_lr: float = 2e-4  # Radford et al. 2016, section 3
    discriminator_lr: float = 2e-4
    beta1: float = 0.5  # Radford et al. 2016, section 3
    beta2: float = 0.999
    decay_kimg: float = 0.0  # both rates fall linearly to zero over the last so many kimg


@dataclass(frozen=True, kw_only=True)
class Penalty:
    r1_gamma: float = 0.0  # on real pictures; 0: none
    r2_gamma: float = 0.0  # on generated pictures, at every step; 0: none
    r1_interval: int = (
        1  # steps from one evaluation to the next; its weight is multiplied to match (Karras et al. 2020)
    )


@dataclass(frozen=True, kw_only=True)
class Growing:
    """Progressive growing (Karras et al. 2018): each resolution is faded in, then trained."""

    start: int = 8  # first resolution
    stable_kimg: tuple[float, ...] = ()  # for each resolution but the last, from `start` up, once it is whole
    fade_kimg: float = 0.0  # of every resolution but the first


@dataclass(frozen=True, kw_only=True)
class Recipe:
    id: str  # of the model, and its folder's name
    name: str  # for people
    family: Literal["dcgan", "cgan", "stylegan"]
    total_kimg: float  # thousands of real pictures shown
    seed: int = 0
    loss: Literal["non_saturating", "relativistic"] = "non_saturating"
    precision: Literal["float32", "bfloat16"] = "float32"  # of convolutions and products; weights are always float32
    ema_half_life_kimg: float = 10.0
    style_mixing: float = 0.0  # probability that a generated picture has two styles
    data: Data = field(default_factory=Data)
    network: NetworkConfig = field(default_factory=dcgan.Config)
    optimizer: Optimizer = field(default_factory=Optimizer)
    penalty: Penalty = field(default_factory=Penalty)
    growing: Growing | None = None

    def __post_init__(self) -> None:
        positive = {
            "total_kimg": self.total_kimg,
            "optimizer.generator_lr": self.optimizer.generator_lr,
            "optimizer.discriminator_lr": self.optimizer.discriminator_lr,
            "penalty.r1_interval": self.penalty.r1_interval,
            "ema_half_life_kimg": self.ema_half_life_kimg,
        }
        for name, value in positive.items():
            if not 0 < value < float("inf"):
                raise RecipeError(f"`{name}` (={value}) must be greater than 0.")
        if self.optimizer.batch < 2:
            raise RecipeError(f"`optimizer.batch` (={self.optimizer.batch}) must be at least 2.")
        if not 0 <= self.style_mixing <= 1:
            raise RecipeError(f"`style_mixing` (={self.style_mixing}) must be between 0 and 1.")
        if self.family != "stylegan" and (self.style_mixing or self.growing):
            raise RecipeError("`style_mixing` and `growing` are for family 'stylegan'.")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def available() -> list[str]:
    """Ids of the recipes that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe by id or by the path of a TOML file, with `field=value` overrides applied. Raises RecipeError."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise RecipeError(f"no recipe {name!r}: give the path of a .toml file, or one of {', '.join(available())}.")
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from error
    for override in overrides or []:
        _override(table, override)
    return from_dict(table)


def from_dict(table: dict[str, Any]) -> Recipe:
    """The recipe a (nested) table describes, every field checked. Raises RecipeError."""
    family = table.get("family")
    if family not in NETWORKS:
        raise RecipeError(f"`family` (={family!r}) must be one of {', '.join(NETWORKS)}.")
    return _build(Recipe, table, "", {"network": NETWORKS[family].Config})


def _override(table: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"override {override!r} must be field=value, such as optimizer.batch=128.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    *parents, last = name.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"override {override!r}: `{parent}` is a value, not a table.")
    table[last] = value


def _build(cls: type, table: Any, path: str, classes: dict[str, type]) -> Any:
    """A dataclass from a table: unknown fields, missing ones and wrong types are refused by name."""
    if not isinstance(table, dict):
        raise RecipeError(f"`{path.rstrip('.')}` (={table!r}) must be a table.")
    hints = typing.get_type_hints(cls)
    if unknown := sorted(table.keys() - hints.keys()):
        raise RecipeError(f"unknown field `{path}{unknown[0]}`; known here: {', '.join(sorted(hints))}.")
    try:
        return cls(
            **{name: _value(classes.get(name, hints[name]), value, f"{path}{name}") for name, value in table.items()}
        )
    except TypeError as error:
        missing = [
            f.name
            for f in dataclasses.fields(cls)
            if f.name not in table and f.default is f.default_factory is dataclasses.MISSING
        ]
        raise RecipeError(f"missing field: `{path}{missing[0]}`." if missing else str(error)) from error


def _value(hint: Any, value: Any, path: str) -> Any:
    options = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        (hint,) = [option for option in options if option is not types.NoneType]
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, f"{path}.", {})
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value not in options:
            raise RecipeError(f"`{path}` (={value!r}) must be one of {', '.join(map(repr, options))}.")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise RecipeError(f"`{path}` (={value!r}) must be a list.")
        return tuple(_value(options[0], item, path) for item in value)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise RecipeError(f"`{path}` (={value!r}) must be of type {hint.__name__}.")
    return value
