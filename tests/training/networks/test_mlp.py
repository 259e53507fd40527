"""The vanilla GAN: dense layers for images of any size, from a point of the plane to a digit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from serving.engine.latents import address_range, latents
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training import recipe
from training.errors import RecipeError
from training.loop import checkpoint
from training.networks import mlp
from training.publish.export import export
from training.validation import validated


@pytest.mark.parametrize(("channels", "resolution"), [(2, 1), (1, 28), (3, 32)])
def test_an_image_has_any_size_and_values_within_one(channels: int, resolution: int):
    config = mlp.Config(latent_size=8, hidden_size=16)
    pictures = mlp.Generator(config, resolution, channels)(1000 * torch.randn(6, 8))
    assert pictures.shape == (6, channels, resolution, resolution)
    assert 0.9 < pictures.abs().max() <= 1
    assert mlp.Discriminator(config, resolution, channels)(pictures).shape == (6,)


def test_the_defaults_are_the_papers_networks():
    """100 latents, two hidden layers of 1200, 784 values: each layer has in x out weights and out biases."""
    sizes = {
        mlp.Generator: 100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 784 + 784,
        mlp.Discriminator: 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 + 1,
    }
    for network, parameters in sizes.items():
        assert sum(p.numel() for p in network(mlp.Config(), 28, 1).parameters()) == parameters


def test_the_generator_is_relu_layers_and_tanh():
    generator = mlp.Generator(mlp.Config(latent_size=4, hidden_size=8, hidden_layers=3), 2, 1)
    z = torch.randn(5, 4)
    x = z
    *hidden, last = [m for m in generator.modules() if isinstance(m, nn.Linear)]
    assert len(hidden) == 3
    for layer in hidden:
        x = (x @ layer.weight.t() + layer.bias).clamp(min=0)
    expected = torch.tanh(x @ last.weight.t() + last.bias)
    torch.testing.assert_close(generator(z), expected.reshape(5, 1, 2, 2))
    assert torch.equal(generator.fakes(z, None, 0.0), generator(z))


@pytest.mark.parametrize("field", ["latent_size", "hidden_size", "hidden_layers"])
def test_a_network_without_layers_is_refused(field: str):
    with pytest.raises(RecipeError, match=rf"^`network.{field}` \(=0\) must be at least 1\.$"):
        validated(mlp.Config, {field: 0}, "network")


def test_batch_norm_is_refused():
    with pytest.raises(RecipeError, match=r"`network.discriminator_norm` \(='batch'\) must be 'none' or 'spectral'"):
        recipe.load("mlp-mnist", ["network.discriminator_norm=batch"])


def test_the_exported_mlp_gives_torchs_pictures(tmp_path: Path):
    chosen = recipe.load("mlp-mnist", ["network.hidden_size=32", "network.latent_size=16"])
    torch.manual_seed(4)
    generator = mlp.Generator(mlp.Config(latent_size=16, hidden_size=32), 28, 1)
    with torch.no_grad():
        generator.layers[-3].weight.mul_(20)  # pyright: ignore[reportCallIssue, reportArgumentType]  # images, not grey
    snapshot = {
        "recipe": chosen.as_dict(),
        "images_seen": 0,
        "seconds": 0.0,
        "device": "CPU",
        "git_revision": None,
        "channels": 1,
        "classes": None,
        "source": {"name": "MNIST", "licence": "CC BY-SA 3.0", "source": "a test"},
        "average": generator.state_dict(),
    }
    checkpoint.save(tmp_path / "snapshot.pt", snapshot)
    folder = export(tmp_path / "snapshot.pt", tmp_path / "models")
    runtime = Runtime(load_model(folder))
    z = latents(address_range(9, 0, 33), 16)
    with torch.no_grad():
        expected = generator(torch.from_numpy(z)).permute(0, 2, 3, 1).numpy()
    for batch in (1, 33):
        found = np.concatenate([runtime.generate(z[k : k + batch]) for k in range(0, 33, batch)])
        assert np.abs(found - (expected + 1) * 127.5).max() < 0.51  # the nearest level
    assert "A fully connected generator of 28 x 28 grey pictures" in (folder / "README.md").read_text()
