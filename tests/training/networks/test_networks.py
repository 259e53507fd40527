"""The networks are the papers', and each part of every family has its share in the result."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import recipe
from training.errors import RecipeError
from training.networks import NETWORKS, build_discriminator, cgan, dcgan, mlp, stylegan
from training.networks.layers import Phase
from training.validation import validated

SMALL: dict[str, Any] = {
    "mlp": mlp.Config(latent_size=16, hidden_size=32),
    "dcgan": dcgan.Config(latent_size=16, base_channels=8),
    "dcgan-spectral": dcgan.Config(latent_size=16, base_channels=8, discriminator_norm="spectral"),
    "dcgan-all": dcgan.Config(
        latent_size=16, base_channels=8, dropout=0.2, minibatch_discrimination=4, minibatch_stddev=True
    ),
    "dcgan-resize": dcgan.Config(latent_size=16, base_channels=8, upsampling="resize"),
    "dcgan-shuffle": dcgan.Config(latent_size=16, base_channels=8, upsampling="shuffle"),
    "cgan-concatenation": cgan.Config(latent_size=16, base_channels=8, embedding_size=4, minibatch_stddev=True),
    "cgan-projection": cgan.Config(
        latent_size=16,
        base_channels=8,
        generator_conditioning="batch_norm",
        discriminator_conditioning="projection",
        discriminator_norm="spectral",
        minibatch_discrimination=4,
    ),
    "stylegan-adain": stylegan.Config(latent_size=16, w_size=16, channel_max=16),
    "stylegan-discrimination": stylegan.Config(latent_size=16, w_size=16, channel_max=16, minibatch_discrimination=4),
    "stylegan-dcgan": stylegan.Config(
        latent_size=16,
        w_size=16,
        channel_max=16,
        discriminator="dcgan",
        discriminator_base_channels=8,
        minibatch_discrimination=4,
    ),
    "stylegan-demodulation": stylegan.Config(latent_size=16, w_size=16, channel_max=16, modulation="demodulation"),
    "dcgan-patch": dcgan.Config(latent_size=16, base_channels=8, patch=2),
    "cgan-patch": cgan.Config(latent_size=16, base_channels=8, embedding_size=4, patch=2),
    "stylegan-patch": stylegan.Config(latent_size=16, w_size=16, channel_max=16, patch=2),
}
RESOLUTIONS = {"mlp": (1, 28, 32, 64), "dcgan": (28, 32, 64), "cgan": (28, 32, 64), "stylegan": (8, 32, 64)}
RESOLUTIONS["stylegan-dcgan"] = RESOLUTIONS["dcgan"][1:]  # those that are powers of two, too
RESOLUTIONS["dcgan-patch"] = RESOLUTIONS["cgan-patch"] = (56, 64)
RESOLUTIONS["stylegan-patch"] = (16, 64)
CASES = [(name, r) for name in SMALL for r in RESOLUTIONS.get(name) or RESOLUTIONS[name.partition("-")[0]]]


def config(family: Any, **fields: Any) -> Any:
    """A configuration as a recipe gives it."""
    return validated(family.Config, fields, "network")


def build(name: str, resolution: int, channels: int = 3) -> tuple[Any, Any, Tensor | None]:
    """Generator, discriminator, and the labels of a batch of 12 where there are classes."""
    torch.manual_seed(0)
    family = name.partition("-")[0]
    classes = 10 if family == "cgan" else None
    networks = NETWORKS[family]
    shape: tuple[Any, ...] = (SMALL[name], resolution, channels, classes)
    labels = torch.arange(12) % 10 if classes else None
    return networks.Generator(*shape), build_discriminator(family, *shape), labels


@pytest.mark.parametrize("name", recipe.available())
def test_every_recipe_builds_networks_of_the_right_shapes(name: str):
    chosen = recipe.load(name)
    size, channels = chosen.data.resolution, 1 if chosen.data.name in ("mnist", "fashion-mnist") else 3
    classes = 10 if chosen.family == "cgan" else None
    generator = NETWORKS[chosen.family].Generator(chosen.network, size, channels, classes)  # type: ignore[arg-type]
    discriminator = build_discriminator(chosen.family, chosen.network, size, channels, classes)
    labels = torch.tensor([1, 2]) if classes else None
    with torch.no_grad():
        fakes = generator.fakes(torch.randn(2, chosen.network.latent_size), labels, chosen.style_mixing)
        assert fakes.shape == (2, channels, size, size)
        assert discriminator(fakes, labels).shape == (2,)


@pytest.mark.parametrize(("name", "resolution"), CASES)
def test_every_size_has_its_shapes_every_weight_its_gradient(name: str, resolution: int):
    generator, discriminator, labels = build(name, resolution)
    z = torch.randn(12, 16)
    phases: list[Phase | None] = [None]
    unused: set[str] = set()
    if name.startswith("stylegan"):
        for layer in generator.synthesis.layers:
            layer.noise_strength.data.fill_(0.1)
        stages = range(1, len(generator.synthesis.to_rgb))
        if name in ("stylegan-dcgan", "stylegan-patch"):  # these do not grow
            layers = ("synthesis.to_rgb", "from_rgb")
            unused = {
                f"{layer}.{stage - 1}.{kind}" for layer in layers for stage in stages for kind in ("weight", "bias")
            }
        else:  # a resolution's own colours are used while it grows
            phases += [Phase(stage, 0.5) for stage in stages]
    for phase in phases:
        if phase:
            generator.grow_to(phase)
            discriminator.grow_to(phase)
        fakes = generator.fakes(z, labels, 0.0)
        size = phase.resolution if phase else resolution
        assert fakes.shape == (12, 3, size, size)
        if not name.startswith("stylegan"):
            assert fakes.abs().max() <= 1
        logits = discriminator(fakes, labels)
        assert logits.shape == (12,) and logits.isfinite().all()
        F.softplus(-logits).mean().backward()
    for network in (generator, discriminator):
        for parameter_name, parameter in network.named_parameters():
            if parameter_name in unused:
                continue
            assert parameter.grad is not None and parameter.grad.any(), parameter_name


@torch.no_grad()
@pytest.mark.parametrize(("upsampling", "flat"), [("transposed", False), ("resize", True), ("shuffle", True)])
def test_doubling_a_flat_map_leaves_no_checkerboard(upsampling: str, flat: bool):
    """The paper's layers have another value in each of the four places (Odena et al. 2016)."""
    generator = dcgan.Generator(config(dcgan, latent_size=16, base_channels=8, upsampling=upsampling), 32, 3)
    last = max(i for i, layer in enumerate(generator.layers) if isinstance(layer, nn.ReLU))
    images = generator.layers[last + 1 :](torch.full((1, 8, 16, 16), 0.5))[0, 0, 4:-4, 4:-4]
    assert bool(images.std() < 1e-6) == flat


@torch.no_grad()
@pytest.mark.parametrize("name", ["dcgan-patch", "stylegan-patch"])
def test_a_patch_of_the_image_is_one_place_of_the_networks(name: str):
    """Channel 4c + 2y + x of a place is the value of colour c at row y, column x of its patch (Shi et al. 2016)."""
    generator, discriminator, _ = build(name, 64)
    last = generator.synthesis.to_rgb[-1] if name.startswith("stylegan") else generator.layers[-3]
    last.weight.zero_()
    last.bias.copy_(torch.arange(12) / 16)
    values = torch.tanh(last.bias) if name == "dcgan-patch" else last.bias
    images = generator(torch.randn(2, 16))
    for c in range(3):
        patch = values[4 * c : 4 * c + 4].reshape(2, 2)
        torch.testing.assert_close(images[1, c], patch.repeat(32, 32))
    seen: list[Tensor] = []
    first = discriminator.from_rgb[-1] if name.startswith("stylegan") else discriminator.layers[1]
    first.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    discriminator(images)
    torch.testing.assert_close(seen[0], values[None, :, None, None].expand(2, 12, 32, 32))


def logits_of(name: str, discriminator: Any, features: Tensor, labels: Tensor | None) -> Tensor:
    """The last layer of each family, written out."""
    if name.startswith("stylegan") and name != "stylegan-dcgan":
        return F.linear(features, discriminator.logit.weight * discriminator.logit.scale, discriminator.logit.bias)[
            :, 0
        ]
    last = (discriminator.body if labels is not None else discriminator).layers[-1]
    logits = features @ last.weight.flatten() + last.bias
    if name == "cgan-projection":  # Miyato and Koyama 2018, figure 1d: the class's vector times the sum of the maps
        maps = features.reshape(len(features), -1, *last.weight.shape[2:])
        for n, label in enumerate(labels if labels is not None else []):
            logits[n] += (discriminator.label.weight[label] * maps[n].sum(dim=(1, 2))).sum()
    return logits


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_the_logit_is_read_from_the_features(name: str):
    _, discriminator, labels = build(name, 64)
    discriminator.eval()  # no dropout, and the same singular vectors twice
    images = torch.randn(12, 3, 64, 64)
    features = discriminator.features(images, labels)
    assert features.dim() == 2
    expected = logits_of(name, discriminator, features, labels)
    torch.testing.assert_close(discriminator(images, labels), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_features_of_a_growing_discriminator_are_its_phases():
    _, discriminator, _ = build("stylegan-adain", 32)
    images = torch.randn(12, 3, 16, 16)
    discriminator.grow_to(Phase(2, 0.3))
    expected = logits_of("stylegan", discriminator, discriminator.features(images), None)
    torch.testing.assert_close(discriminator(images), expected)


@pytest.mark.parametrize(
    ("name", "generator_keys", "discriminator_keys"),
    [
        (
            "dcgan",
            "layers.0.weight layers.1.weight layers.3.weight layers.4.weight layers.6.weight layers.6.bias",
            "layers.0.weight layers.2.weight layers.3.weight layers.5.weight layers.5.bias",
        ),
        (
            "cgan-concatenation",
            "embedding.weight body.layers.0.weight body.layers.6.bias",
            "body.layers.0.weight body.layers.3.weight label.weight",
        ),
        (
            "stylegan-adain",
            "mapping.w_mean mapping.layers.0.weight synthesis.constant synthesis.layers.1.conv.weight",
            "from_rgb.0.weight blocks.0.1.bias last_conv.weight hidden.weight logit.bias",
        ),
    ],
)
def test_a_weight_keeps_its_name(name: str, generator_keys: str, discriminator_keys: str):
    """Checkpoints of earlier versions are read by these."""
    generator, discriminator, _ = build(name, 28 if "stylegan" not in name else 32)
    assert set(generator_keys.split()) <= generator.state_dict().keys()
    assert set(discriminator_keys.split()) <= discriminator.state_dict().keys()


def test_dcgan_64_is_the_papers():
    """Figure 1 of Radford et al. 2016: 1024, 512, 256 and 128 channels at 4, 8, 16 and 32 pixels."""
    generator = dcgan.Generator(dcgan.Config(latent_size=100, base_channels=128), 64, 3)
    convolutions = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        (100, 1024), (1024, 512), (512, 256), (256, 128), (128, 3)
    ]  # fmt: skip
    assert not any(isinstance(m, nn.Linear | nn.MaxPool2d) for m in generator.modules())
    assert isinstance(generator.layers[-1], nn.Tanh)


@pytest.mark.parametrize("base", [8, 128])
def test_dcgan_64_has_the_parameters_of_its_widths(base: int):
    """Kernels of 4 x 4 throughout, a scale and a bias a normalised channel, a bias where there is no norm."""
    config, b = dcgan.Config(latent_size=100, base_channels=base), base
    kernels = 16 * (100 * 8 * b + 8 * b * 4 * b + 4 * b * 2 * b + 2 * b * b + b * 3)
    expected = kernels + 2 * (8 * b + 4 * b + 2 * b + b) + 3
    assert sum(p.numel() for p in dcgan.Generator(config, 64, 3).parameters()) == expected
    kernels = 16 * (3 * b + b * 2 * b + 2 * b * 4 * b + 4 * b * 8 * b + 8 * b * 1)
    expected = kernels + b + 2 * (2 * b + 4 * b + 8 * b) + 1
    assert sum(p.numel() for p in dcgan.Discriminator(config, 64, 3).parameters()) == expected


def test_dcgan_begins_with_weights_of_deviation_0_02():
    generator = dcgan.Generator(dcgan.Config(base_channels=64), 28, 1)
    for module in generator.modules():
        if isinstance(module, nn.ConvTranspose2d) and module.weight.numel() > 10_000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dcgan.Generator(dcgan.Config(), 30, 1), "`data.resolution` (=30) must be one of [28, 32, 64] for"),
        (
            lambda: dcgan.Generator(dcgan.Config(patch=2), 32, 1),
            "`data.resolution` (=32) must be one of [56, 64, 128] for this network with `network.patch` 2.",
        ),
        (lambda: dcgan.Generator(dcgan.Config(patch=3), 28, 1), "`network.patch` (=3) must divide `data.resolution`"),
        (lambda: config(stylegan, patch=0), "`network.patch` (=0) must be at least 1."),
        (lambda: stylegan.resolutions(28), "`data.resolution` divided by `network.patch` (=28) must be a power of two"),
        (lambda: config(dcgan, latent_size=0), "`network.latent_size` (=0) must be at least 1."),
        (
            lambda: config(dcgan, base_channels=-8),
            "`network.base_channels` (=-8) must be at least 1.",
        ),
        (
            lambda: config(dcgan, minibatch_discrimination=-1),
            "`network.minibatch_discrimination` (=-1) must be at least 0.",
        ),
        (
            lambda: config(stylegan, minibatch_discrimination=-1),
            "`network.minibatch_discrimination` (=-1) must be at least 0.",
        ),
        (lambda: config(dcgan, dropout=1.0), "`network.dropout` (=1.0) must be less than 1."),
        (
            lambda: config(mlp, dropout=float("nan")),
            "`network.dropout` (=nan) must be a finite number.",
        ),
        (lambda: config(cgan, dropout=-0.1), "`network.dropout` (=-0.1) must be at least 0."),
        (
            lambda: config(cgan, embedding_size=0),
            "`network.embedding_size` (=0) must be at least 1.",
        ),
    ],
)
def test_an_impossible_network_is_rejected_with_a_possible_one(make: Callable[[], object], message: str):
    with pytest.raises(RecipeError) as error:
        make()
    assert str(error.value).startswith(message)


@torch.no_grad()
@pytest.mark.parametrize("of_generator", ["concatenation", "batch_norm"])
@pytest.mark.parametrize("of_discriminator", ["concatenation", "projection"])
def test_the_label_reaches_generator_and_discriminator(of_generator: str, of_discriminator: str):
    config = cgan.Config(
        base_channels=8,
        latent_size=16,
        generator_conditioning=of_generator,  # type: ignore[arg-type]
        discriminator_conditioning=of_discriminator,  # type: ignore[arg-type]
    )
    generator = cgan.Generator(config, 28, 1, 10).eval()
    discriminator = cgan.Discriminator(config, 28, 1, 10).eval()
    pictures = generator(torch.randn(1, 16).expand(10, -1), torch.arange(10))
    logits = discriminator(pictures[:1].expand(10, -1, -1, -1), torch.arange(10))
    assert len(torch.unique(pictures.flatten(1), dim=0)) == 10
    assert len(torch.unique(logits)) == 10


@torch.no_grad()
def test_conditional_batch_norm_is_the_formula():
    """Dumoulin et al. 2017, eq. 5: scale_y (x - mean) / deviation + bias_y, mean and variance over the batch."""
    norm = cgan.ConditionalBatchNorm2d(2, 3)
    x, labels = torch.randn(6, 2, 4, 4) * 3 + 1, torch.arange(6) % 3
    y = norm(x, labels)
    for n in range(6):
        for c in range(2):
            mean, variance = x[:, c].mean(), x[:, c].var(unbiased=False)
            normal = (x[n, c] - mean) / (variance + 1e-5).sqrt()
            expected = norm.scale.weight[labels[n], c] * normal + norm.bias.weight[labels[n], c]
            torch.testing.assert_close(y[n, c], expected, atol=1e-5, rtol=1e-4)


def test_conditional_batch_norm_gives_a_class_its_moments():
    norm = cgan.ConditionalBatchNorm2d(2, 3)
    x, labels = torch.randn(600, 2, 4, 4) * 3 + 1, torch.arange(600) % 3
    y = norm(x, labels)
    for k in range(3):
        found = y[labels == k].transpose(0, 1).flatten(1)  # (C, values)
        torch.testing.assert_close(found.mean(dim=1), norm.bias.weight[k], atol=0.05, rtol=0)
        torch.testing.assert_close(found.std(dim=1), norm.scale.weight[k].abs(), atol=0.05, rtol=0)
