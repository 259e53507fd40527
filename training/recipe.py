"""Recipes: everything that decides what a run becomes, as frozen dataclasses read from TOML.

A published model is `training/recipes/<id>.toml`. Any field is overridden on the command line by its dotted name:
`python -m training train dcgan-mnist optimizer.batch=128 total_kimg=500`.
"""

import dataclasses
import hashlib
import json
import re
import tomllib
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from serving.engine.model_json import ID, ID_RULE, STYLED
from training.errors import RecipeError
from training.losses import LOSSES
from training.networks import NETWORKS, NetworkConfig, dcgan
from training.validation import (
    CHECKED,
    Count,
    CountOrNone,
    Flag,
    Fraction,
    NotNegative,
    Number,
    Positive,
    Share,
    Whole,
    validated,
)  # fmt: skip

FOLDER = Path(__file__).with_name("recipes")

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Data:
    name: str = "mnist"  # one of training.data.NAMES
    resolution: Whole = 28
    count: Whole | None = None  # so many of the images, the first where there is an order; None: all
    horizontal_flips: Flag = False  # each image is mirrored half of the times it is seen
    unused_classes: Literal["reject", "drop", "keep"] = "reject"  # those without an image, of a conditional model


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Optimizer:
    """Adam for both networks (Kingma and Ba 2015). Two rates that differ are TTUR (Heusel et al. 2017)."""

    batch: Annotated[Whole, Field(ge=2)] = 64  # over all processes
    generator_lr: Positive = 2e-4  # Radford et al. 2016, section 3
    discriminator_lr: Positive = 2e-4
    discriminator_steps: Count = 1  # for each of the generator's; a critic wants 5 (Arjovsky et al. 2017, algorithm 1)
    beta1: Fraction = 0.5  # Radford et al. 2016, section 3
    beta2: Fraction = 0.999
    decay_kimg: NotNegative = 0.0  # both rates decay linearly to 0 over the last so many kimg


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Penalty:
    """What holds a network's gradients, each with its weight; 0: none."""

    r1_gamma: NotNegative = 0.0  # of D at real images (Mescheder et al. 2018)
    r1_interval: Count = 1  # steps between two evaluations, the weight multiplied to match (Karras et al. 2020, B)
    r2_gamma: NotNegative = 0.0  # of D at generated images, at every step
    wgan_gp: NotNegative = 0.0  # of D between the two, at every step; 10 in Gulrajani et al. 2017
    weight_clip: NotNegative = 0.0  # every weight of D stays within +- this; 0.01 in Arjovsky et al. 2017
    path_length: NotNegative = 0.0  # of G, style families only; 2 in Karras et al. 2020
    path_length_interval: Count = 4  # as r1_interval


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Stabilizer:
    """What keeps the two networks in balance or the samples apart; the defaults are none of it."""

    # What D should say of a real image, drawn uniformly: [0.9, 0.9] is one-sided label smoothing (Salimans et al.
    # 2016, section 3.4), [0.7, 1.2] its noisy form.
    real_target: tuple[Number, ...] = (1.0, 1.0)
    feature_matching: Share = 0.0  # its share of the generator's loss; 1 in Salimans et al. 2016, section 3.1
    mode_seeking: NotNegative = 0.0  # weight; 1 in Mao et al. 2019
    # Share of real images with another's class in what D is to refuse; 0.5 in Reed et al. 2016; family 'cgan' only.
    mismatched_labels: Fraction = 0.0
    unrolled_steps: CountOrNone = 0  # of D, that G looks ahead (Metz et al. 2017)
    discriminators: Count = 1  # that G faces at once (Durugkar et al. 2017)
    diff_augment: tuple[Literal["color", "translation", "cutout"], ...] = ()  # Zhao et al. 2020
    input_noise: NotNegative = 0.0  # standard deviation of noise on all that D sees (Sonderby et al. 2017) ...
    input_noise_kimg: NotNegative = 0.0  # ... that falls linearly to none in so many kimg; 0: stays


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Growing:
    """Progressive growing (Karras et al. 2018): each resolution is faded in, then trained."""

    start: Whole = 8  # first resolution
    stable_kimg: tuple[NotNegative, ...] = ()  # for each resolution but the last, from `start` up, once it is whole
    fade_kimg: NotNegative = 0.0  # of every resolution but the first

    @property
    def whole_kimg(self) -> float:
        """From where on all layers are in use."""
        return sum(self.stable_kimg) + len(self.stable_kimg) * self.fade_kimg


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Monitoring:
    """What a run looks at in itself, and what it does about it."""

    snapshot_kimg: Positive = 50.0  # between two snapshots, each with a grid and a look for collapse
    keep_snapshots: Count = 20  # the last so many, and the best
    fid_kimg: NotNegative = 0.0  # between two measurements of FID; 0: never
    fid_pictures: Whole = 1000
    patience: Count = 3  # alarms of FID after so many measurements that are worse than the best
    on_alarm: Literal["continue", "stop"] = "continue"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Recipe:
    id: str  # of the model, and its folder's name
    name: Annotated[str, Field(min_length=1)]  # for people
    family: Literal["mlp", "dcgan", "cgan", "stylegan", "stylegan2"]
    total_kimg: Positive  # thousands of real images shown
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0
    loss: Literal["minimax", "non_saturating", "wasserstein", "least_squares", "hinge", "relativistic"] = (
        "non_saturating"
    )
    # of convolutions and products; weights are always float32, and so is all where the device has no bfloat16
    precision: Precision = "float32"
    ema_half_life_kimg: Positive = 10.0
    style_mixing: Share = 0.0  # probability that a generated image has two styles
    data: Data = field(default_factory=Data)
    network: NetworkConfig = field(default_factory=dcgan.Config)
    optimizer: Optimizer = field(default_factory=Optimizer)
    penalty: Penalty = field(default_factory=Penalty)
    stabilizer: Stabilizer = field(default_factory=Stabilizer)
    growing: Growing | None = None
    monitoring: Monitoring = field(default_factory=Monitoring)

    def __post_init__(self) -> None:
        if not re.fullmatch(ID, self.id):
            raise RecipeError(f"`id` (={self.id!r}) must be {ID_RULE}: a model repository takes no other.")
        if self.optimizer.decay_kimg > self.total_kimg:
            raise RecipeError(
                f"`optimizer.decay_kimg` (={self.optimizer.decay_kimg:g}) must be at most `total_kimg` "
                f"(={self.total_kimg:g}): it is the last part of a run, over which its rates decay."
            )
        self._check_axes()

    def _check_axes(self) -> None:
        """Refuses what the chosen loss or network gives no meaning to."""
        target = self.stabilizer.real_target
        if len(target) != 2 or not 0 < target[0] <= target[1]:
            raise RecipeError(f"`stabilizer.real_target` (={list(target)}) must be [low, high], 0 < low <= high.")
        if target != (1.0, 1.0) and not LOSSES[self.loss].has_targets:
            having = ", ".join(repr(name) for name, loss in LOSSES.items() if loss.has_targets)
            raise RecipeError(f"`stabilizer.real_target` is for the losses {having}; {self.loss!r} has no target.")
        if (
            self.loss != "least_squares" and sum(target) > 2
        ):  # the mean of the logistic losses' targets is a probability
            raise RecipeError(f"`stabilizer.real_target` (={list(target)}) must have a mean of at most 1.")
        if getattr(self.network, "discriminator_norm", None) == "batch":
            for name in ("r1_gamma", "r2_gamma", "wgan_gp"):
                if getattr(self.penalty, name):
                    raise RecipeError(
                        f"`penalty.{name}` holds the gradient at each picture, and batch normalisation mixes them: "
                        "choose `network.discriminator_norm` none or spectral."
                    )
        if self.stabilizer.mismatched_labels and self.family != "cgan":
            raise RecipeError("`stabilizer.mismatched_labels` is for family 'cgan': no other has labels.")
        if self.family not in STYLED and (self.style_mixing or self.penalty.path_length):
            raise RecipeError(f"`style_mixing` and `penalty.path_length` are for families {' and '.join(STYLED)}.")
        if self.family != "stylegan" and self.growing:
            raise RecipeError("`growing` is for family stylegan.")
        if self.growing and getattr(self.network, "discriminator", None) == "dcgan":
            raise RecipeError("`growing` needs `network.discriminator` (='dcgan') to be 'progressive'.")
        if self.growing and getattr(self.network, "patch", 1) > 1:
            raise RecipeError("`growing` needs `network.patch` 1: it grows from pixels of the image.")
        if self.growing:
            self._check_growing(self.growing)

    def _check_growing(self, growing: Growing) -> None:
        """Refuses what would end before the network is whole, or never begin."""
        resolution, start, stable = self.data.resolution, growing.start, growing.stable_kimg
        sizes = [size for size in (4 << k for k in range(16)) if size <= resolution]
        if start not in sizes:
            raise RecipeError(f"`growing.start` (={start}) must be one of {', '.join(map(str, sizes))}.")
        steps = len(sizes) - 1 - sizes.index(start)
        if len(stable) != steps:
            raise RecipeError(
                f"`growing.stable_kimg` (={list(stable)}) must have one entry for each resolution from {start} px to "
                f"before {resolution} px: {steps}."
            )
        if growing.whole_kimg > self.total_kimg:
            raise RecipeError(
                f"`total_kimg` (={self.total_kimg:g}) must be at least {growing.whole_kimg:g}, where `growing` ends."
            )

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
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of TOML, or of UTF-8
        raise RecipeError(f"{path}: {error}") from error
    for override in overrides or []:
        _override(table, override)
    return from_dict(table)


def overridden(recipe: Recipe, overrides: list[str]) -> Recipe:
    """Return the recipe with `field=value` overrides applied. Raises RecipeError."""
    table = recipe.as_dict()
    for override in overrides:
        _override(table, override)
    return from_dict(table)


def from_dict(table: dict[str, Any]) -> Recipe:
    """The recipe a (nested) table describes, every field checked. Raises RecipeError."""
    family = table.get("family")
    if family not in NETWORKS:
        raise RecipeError(f"`family` (={family!r}) must be one of {', '.join(NETWORKS)}.")
    network = validated(NETWORKS[family].Config, table.get("network", {}), "network")
    return validated(Recipe, table | {"network": network})


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
