"""Checkpoints of elsewhere: what is in a file, and the generator that it holds.

Only two readers ever open one: `pickles.load`, which runs nothing, and `torch.load(weights_only=True)`.
"""

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from serving.engine.latents import Source
from training.errors import CheckpointError, TrainingError
from training.loop import checkpoint
from training.networks import NETWORKS, NetworkConfig, cgan, dcgan, mlp, stylegan, stylegan2
from training.publish import pickles
from training.publish.pickles import Record, Stored
from training.recipe import Recipe

FORMATS = ("stylegan2", "dcgan", "ganymede")
SIZES = (4, 1024)  # pixels of a side
TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle of a torch.save of before 1.6
NESTED = ("g_ema", "netG", "generator", "G", "model", "state_dict", "model_state_dict")  # where a network may lie
PREFIXES = ("module.", "netG.", "generator.", "average.", "g_ema.", "G.", "model.")
READABLE = (
    "a StyleGAN2-ADA network pickle (PyTorch), a state dict of one, the DCGAN tutorial's netG, or a checkpoint or "
    "state dict of this project's networks"
)
State = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A generator, and what its file tells of it."""

    format: str  # in words
    family: str
    network: NetworkConfig
    resolution: int
    channels: int
    classes: int | None  # how many
    latents: Source
    generator: Any
    recipe: Recipe | None = None  # of a checkpoint of this project ...
    state: dict[str, Any] | None = None  # ... and what else it holds

    @property
    def parameters(self) -> int:
        return sum(each.numel() for each in self.generator.parameters())


def read(path: Path, kind: str = "auto") -> Checkpoint:
    """The generator in a file. `kind`: "auto", or the one of FORMATS that it must be. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file.")
    try:
        with path.open("rb") as file:
            head = file.read(len(TORCH_MAGIC))
        if zipfile.is_zipfile(path) or head == TORCH_MAGIC:
            found = _of_torch(path)
        else:
            found = _of_pickle(path, pickles.load(path))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from None
    if kind not in ("auto", found.format.partition(" ")[0]):
        raise CheckpointError(f"{path}: is of format {found.format}, and `--format` asks for {kind}.")
    return found


def _of_torch(path: Path) -> Checkpoint:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises whatever its readers meet
        reason = str(error)
        if named := re.search(r"(?:Unsupported global|GLOBAL) (\S+)", reason):
            raise CheckpointError(
                f"{path}: names {named[1]}, which a file of weights does not need and which is not run; "
                "save a state dict instead, `torch.save(netG.state_dict(), ...)`."
            ) from None
        raise CheckpointError(f"{path}: torch cannot read it; it is cut short or damaged.") from None
    if isinstance(loaded, dict) and "recipe" in loaded and "average" in loaded:
        return _of_run(path, loaded)
    return _of_state(path, _network_in(path, loaded))


def _network_in(path: Path, loaded: Any) -> State:
    """The state dict of the generator in what `torch.save` wrote, without the prefixes that wrappers add."""
    for _ in range(4):
        if isinstance(loaded, Mapping) and not any(isinstance(value, Tensor) for value in loaded.values()):
            inner = next((loaded[name] for name in NESTED if isinstance(loaded.get(name), Mapping)), None)
            if inner is not None:
                loaded = inner
    if not isinstance(loaded, Mapping) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path}: holds {_described(loaded)} and no weights of a generator; give {READABLE}.")
    state = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}
    for _ in range(4):
        for prefix in PREFIXES:
            inside = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
            if inside and (prefix != "module." or len(inside) == len(state)):
                state = inside
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _described(value: Any) -> str:
    """A value as messages name it."""
    if isinstance(value, Record):
        return f"{value.module}.{value.name}"
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(str(key)[:40] for key in list(value)[:4]) or 'nothing'}"
    return f"a {type(value).__name__}"


def _of_pickle(path: Path, loaded: Any) -> Checkpoint:
    parts = loaded if isinstance(loaded, tuple | list) else [loaded]
    if any(isinstance(part, Record) and part.module.startswith("dnnlib.tflib") for part in parts):
        raise CheckpointError(
            f"{path}: is a TensorFlow pickle (dnnlib.tflib), which is not supported; convert it to PyTorch with the "
            "`legacy.py` of stylegan2-ada-pytorch first."
        )
    generator = loaded
    if isinstance(loaded, dict):
        generator = next((loaded[name] for name in ("G_ema", "G") if loaded.get(name)), None)
    meta = generator.args[0] if isinstance(generator, Record) and generator.args else None
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise CheckpointError(f"{path}: is a pickle of {_described(loaded)}; give {READABLE}.")
    state: State = {}
    attributes: dict[str, dict[str, Any]] = {}
    _collect(path, generator, "", state, attributes)
    if "synthesis.b4.const" not in state:
        found = _other(state) or f"a network of class {str(meta.get('class_name'))[:40]}"
        raise CheckpointError(f"{path}: holds {found}, which is not supported; give {READABLE}.")
    return _stylegan2(path, state, attributes)


def _collect(
    path: Path, module: Any, prefix: str, state: State, attributes: dict[str, dict[str, Any]], depth: int = 0
) -> None:
    """Parameters and buffers of a module and those inside it, by name; and each module's own attributes."""
    of = module.args[0] if isinstance(module, Record) and module.args else None
    of = of.get("state") if isinstance(of, dict) else module.state if isinstance(module, Record) else None
    if not isinstance(of, dict) or depth > 8:
        raise CheckpointError(f"{path}: `{prefix.rstrip('.') or 'G_ema'}` is {_described(module)} and no module.")
    attributes[prefix.rstrip(".")] = {name: value for name, value in of.items() if not name.startswith("_")}
    for kind in ("_parameters", "_buffers"):
        for name, value in dict(of.get(kind) or {}).items():
            if isinstance(value, Stored):
                try:
                    state[prefix + name] = value.tensor()
                except ValueError as error:
                    raise CheckpointError(f"{path}: `{prefix}{name}` is {error}; the file is damaged.") from None
    for name, inner in dict(of.get("_modules") or {}).items():
        if inner is not None:
            _collect(path, inner, f"{prefix}{name}.", state, attributes, depth + 1)


def _of_run(path: Path, state: dict[str, Any]) -> Checkpoint:
    """A checkpoint or snapshot of this project."""
    try:
        recipe, state = checkpoint.read_run(path)
        classes, channels = state["classes"], state["channels"]
        shape = (recipe.network, recipe.data.resolution, channels, len(classes or ()) or None)
        generator = _filled(path, NETWORKS[recipe.family].Generator(*shape), state["average"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is a run's checkpoint without {error}.") from None
    _check_finite(path, state["average"])
    return Checkpoint("ganymede checkpoint", recipe.family, *shape, "philox", generator, recipe, state)


def _of_state(path: Path, state: State) -> Checkpoint:
    for marks, build in STATE_DICTS:
        if all(any(re.fullmatch(mark, name) for name in state) for mark in marks):
            return build(path, state)
    found = _other(state) or f"a state dict of another network ({', '.join(list(state)[:3])}, ...)"
    raise CheckpointError(f"{path}: holds {found}, which is not supported; give {READABLE}.")


def _other(state: State) -> str | None:
    """The name of a network that is known and not supported."""
    known = {
        r"synthesis\.L\d+_.*": "a generator of StyleGAN3's own configurations",
        r"feat_\d+\..*|se_\d+\..*": "a FastGAN generator",
        r"style\.\d+\.weight|convs\.\d+\.conv\.weight": "a StyleGAN2 generator of rosinality's code",
        r"linear0\..*|blocks\.\d+\.\d+\..*conv2d.*": "a StudioGAN generator",
        r"MainLayers\..*|Model\.MainLayers\..*": "an R3GAN generator",
    }
    return next((text for mark, text in known.items() if any(re.fullmatch(mark, name) for name in state)), None)


def _stylegan2(path: Path, state: State, attributes: Mapping[str, Mapping[str, Any]] | None = None) -> Checkpoint:
    """Sizes are read off the shapes; what shapes do not tell, off the modules' attributes where there are any."""
    attributes = attributes or {}
    try:
        resolution = max(int(name[1]) for name in _matches(state, r"synthesis\.b(\d+)\.conv1\.weight"))
        widths = {int(name[1]): len(state[name[0]]) for name in _matches(state, r"synthesis\.b(\d+)\.conv1\.weight")}
        w_size = state["synthesis.b4.conv1.affine.weight"].shape[1]
        layers = len(_matches(state, r"mapping\.fc(\d+)\.weight"))
        embed = state.get("mapping.embed.weight")
        classes = None if embed is None else embed.shape[1]
        latent_size = state["mapping.fc0.weight"].shape[1] - (0 if embed is None else len(embed))
        channels = len(state[f"synthesis.b{resolution}.torgb.weight"])
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"{path}: is a StyleGAN2 generator without {error}.") from None
    _check_image(path, resolution, channels, (1, 3, 4))
    layer = attributes.get("synthesis.b4.conv1", {})
    for name, of in attributes.items():
        if name.startswith("synthesis.") and of.get("activation", "lrelu") not in ("lrelu", "linear"):
            raise CheckpointError(f"{path}: `{name}` has the activation {of['activation']}; only lrelu is supported.")
    clamp = layer.get("conv_clamp")
    network = _config(
        path,
        stylegan2.Config,
        widths,
        latent_size=latent_size,
        w_size=w_size,
        mapping_layers=layers,
        architecture="skip" if resolution == 4 or "synthesis.b4.torgb.weight" in state else "resnet",
        conv_clamp=float(clamp) if isinstance(clamp, int | float) else None,
    )
    generator = _filled(path, stylegan2.Generator(network, resolution, channels, classes), state)
    for name, of in attributes.items():
        if of.get("use_noise") is False:
            generator.get_submodule(name).noise_strength.data.zero_()
    described = "stylegan2 pickle" if attributes else "stylegan2 state dict"
    return Checkpoint(described, "stylegan2", network, resolution, channels, classes, "numpy-randomstate", generator)


def _dcgan(path: Path, state: State) -> Checkpoint:
    """The tutorial's sequence, and this project's own: (transposed convolution, batch norm, ReLU) x n, tanh.

    Strides and paddings are in no file: 1 and 0 in the first layer, 2 and 1 in the others, whose kernels are 4 x 4.
    """
    prefix = next(name[1] for name in _matches(state, r"(.*?)0\.weight"))
    convs = [state[name] for name in (f"{prefix}{3 * k}.weight" for k in range(len(state))) if name in state]
    ours = prefix.endswith("layers.")
    if not all(weight.dim() == 4 for weight in convs) or len(convs) < 3:
        raise CheckpointError(f"{path}: `{prefix}0.weight` begins no DCGAN; give {READABLE}.")
    first, planes = convs[0].shape[2], convs[-1].shape[1]
    if any(weight.shape[2:] != (4, 4) for weight in convs[1:]) or first != convs[0].shape[3]:
        kernels = ", ".join("x".join(map(str, weight.shape[2:])) for weight in convs)
        raise CheckpointError(f"{path}: has kernels of {kernels} pixels; of a DCGAN all but the first must be 4x4.")
    channels, patch = _patched(planes) if ours else (planes, 1)
    resolution = patch * first << len(convs) - 1
    _check_image(path, resolution, channels, (1, 3))
    network = dcgan.Config(latent_size=len(convs[0]), base_channels=len(convs[-1]), patch=patch)
    generator = _filled(
        path, Sequence(convs, f"{prefix}{3 * len(convs) - 3}.bias" in state, patch), _named(state, prefix)
    )
    described = "ganymede state dict" if ours else "dcgan state dict"
    return Checkpoint(described, "dcgan", network, resolution, channels, None, "philox", generator)


class Sequence(nn.Module):
    """A DCGAN's generator of any depth. z (N, Z) -> images (N, C, R, R) in [-1, 1]."""

    def __init__(self, convs: list[Tensor], bias: bool, patch: int):
        super().__init__()
        layers: list[nn.Module] = []
        for k, weight in enumerate(convs):
            inside, outside, size, _ = weight.shape
            last = k == len(convs) - 1
            layers.append(nn.ConvTranspose2d(inside, outside, size, 2 if k else 1, 1 if k else 0, bias=bias and last))
            layers += [nn.Tanh()] if last else [nn.BatchNorm2d(outside), nn.ReLU()]
        if patch > 1:
            layers.append(nn.PixelShuffle(patch))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])


def _patched(planes: int) -> tuple[int, int]:
    """The channels of the image and the side of a patch, of which `planes` are the product with its square."""
    return next(
        ((c, p) for p in (1, 2, 4) for c in (1, 3) if c * p * p == planes),
        (planes, 1),
    )


def _cgan(path: Path, state: State) -> Checkpoint:
    body = {name.removeprefix("body."): value for name, value in state.items() if name.startswith("body.")}
    conditional_norms = "body.layers.1.scale.weight" in state
    first, last = body["layers.0.weight"], max(_matches(body, r"layers\.(\d+)\.weight"), key=lambda m: int(m[1]))
    weight = body[last[0]]
    channels, patch = _patched(weight.shape[1])
    resolution = patch * first.shape[2] << int(last[1]) // 3
    table = state["body.layers.1.scale.weight" if conditional_norms else "embedding.weight"]
    size = cgan.Config.embedding_size if conditional_norms else table.shape[1]
    network = cgan.Config(
        latent_size=len(first) - (0 if conditional_norms else size),
        base_channels=len(weight),
        patch=patch,
        generator_conditioning="batch_norm" if conditional_norms else "concatenation",
        embedding_size=size,
    )
    return _ours(path, "cgan", network, resolution, channels, len(table), state)


def _mlp(path: Path, state: State) -> Checkpoint:
    weights = [state[m[0]] for m in sorted(_matches(state, r"layers\.(\d+)\.weight"), key=lambda m: int(m[1]))]
    values = len(weights[-1])
    shapes = [(c, round((values / c) ** 0.5)) for c in (1, 3)]
    channels, resolution = next(((c, r) for c, r in shapes if c * r * r == values), (1, 0))
    network = mlp.Config(latent_size=weights[0].shape[1], hidden_size=len(weights[0]), hidden_layers=len(weights) - 1)
    return _ours(path, "mlp", network, resolution, channels, None, state)


def _stylegan(path: Path, state: State) -> Checkpoint:
    """StyleGAN-lite. The learning-rate multiplier of its mapping network is in no shape: it is taken to be 0.01."""
    stages = len(_matches(state, r"synthesis\.to_rgb\.(\d+)\.weight"))
    widths = {4 << k: len(state[f"synthesis.layers.{2 * k + 1}.bias"]) for k in range(stages)}
    channels, patch = _patched(len(state["synthesis.to_rgb.0.weight"]))
    demodulated = len(state["synthesis.layers.1.style.weight"]) == widths[4]
    network = _config(
        path,
        stylegan.Config,
        widths,
        latent_size=state["mapping.layers.0.weight"].shape[1],
        w_size=len(state["mapping.layers.0.weight"]),
        mapping_layers=len(_matches(state, r"mapping\.layers\.(\d+)\.weight")),
        modulation="demodulation" if demodulated else "adain",
        patch=patch,
    )
    return _ours(path, "stylegan", network, patch * max(widths), channels, None, state)


def _ours(
    path: Path, family: str, network: Any, resolution: int, channels: int, classes: int | None, state: State
) -> Checkpoint:
    _check_image(path, resolution, channels, (1, 3))
    try:
        generator = NETWORKS[family].Generator(network, resolution, channels, classes)
    except TrainingError as error:
        raise CheckpointError(f"{path}: is no {family} generator: {error}") from None
    generator = _filled(path, generator, state)
    return Checkpoint("ganymede state dict", family, network, resolution, channels, classes, "philox", generator)


STATE_DICTS: tuple[tuple[tuple[str, ...], Callable[[Path, State], Checkpoint]], ...] = (
    ((r"mapping\.fc0\.weight", r"synthesis\.b4\.const"), _stylegan2),
    (
        (r"mapping\.layers\.0\.weight", r"synthesis\.to_rgb\.0\.weight", r"synthesis\.layers\.1\.style\.weight"),
        _stylegan,
    ),
    ((r"body\.layers\.0\.weight", r"embedding\.weight|body\.layers\.1\.scale\.weight"), _cgan),
    (
        (r"(main\.|layers\.|network\.|net\.|gen\.|)0\.weight", r"(main\.|layers\.|network\.|net\.|gen\.|)3\.weight"),
        _dcgan,
    ),
    ((r"layers\.0\.weight", r"layers\.0\.bias", r"layers\.2\.weight"), _mlp),
)


def _matches(state: Mapping[str, Any], pattern: str) -> list[re.Match[str]]:
    return [match for name in state if (match := re.fullmatch(pattern, name))]


def _named(state: State, prefix: str) -> State:
    """The entries of a sequence, under the name that it has here."""
    return {f"layers.{name.removeprefix(prefix)}" if name.startswith(prefix) else name: v for name, v in state.items()}


def _config(path: Path, kind: Any, widths: Mapping[int, int], **fields: Any) -> Any:
    """A configuration with the channels that were found: min(channel_base / R, channel_max)."""
    most = max(widths.values())
    narrow = [size * width for size, width in widths.items() if width < most]
    base = narrow[0] if narrow else most * max(widths)
    config = kind(channel_base=base, channel_max=most, **fields)
    expected = {size: config.channels(size) for size in widths}
    if sorted(widths) != [4 << k for k in range(len(widths))] or expected != widths:
        found = ", ".join(f"{width} at {size} px" for size, width in sorted(widths.items()))
        raise CheckpointError(f"{path}: has {found} channels; they must be min(channel_base / R, channel_max) at R px.")
    return config


def _check_image(path: Path, resolution: int, channels: int, allowed: tuple[int, ...]) -> None:
    low, high = SIZES
    if not low <= resolution <= high or channels not in allowed:
        raise CheckpointError(
            f"{path}: makes images of {resolution} px and {channels} channels; {low} to {high} px and "
            f"{', '.join(map(str, allowed))} channels are supported."
        )


def _filled(path: Path, generator: nn.Module, state: State) -> Any:
    """The network with the weights, all of which must be there and finite. Raises CheckpointError."""
    expected = generator.state_dict()
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in state and name not in optional]
    # filters of modules that have none here; the grown layers of a network that is whole
    unknown = [name for name in state if name not in expected and not name.endswith("resample_filter")]
    wrong: Literal["misses", "has the unknown"] | None = "misses" if missing else "has the unknown" if unknown else None
    if wrong:
        names = missing or unknown
        raise CheckpointError(
            f"{path}: {wrong} `{names[0]}`" + (f" and {len(names) - 1} more" if names[1:] else "") + "."
        )
    for name, value in expected.items():
        if name in state and state[name].shape != value.shape:
            shapes = [" x ".join(map(str, shape)) or "a scalar" for shape in (state[name].shape, value.shape)]
            raise CheckpointError(f"{path}: `{name}` is {shapes[0]}, where the other layers ask for {shapes[1]}.")
    _check_finite(path, state)
    generator.load_state_dict({name: value for name, value in state.items() if name in expected}, strict=False)
    return generator.eval().requires_grad_(False)


def _check_finite(path: Path, state: State) -> None:
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"{path}: `{name}` has values that are NaN or infinite.")
