"""What a discriminator can be given besides its layers does what its paper says."""

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from training.networks import cgan, dcgan, mlp
from training.networks.layers import Ensemble, MinibatchDiscrimination, MinibatchStddev


def spectral(family: str) -> Any:
    torch.manual_seed(0)
    if family == "mlp":
        return mlp.Discriminator(mlp.Config(hidden_size=32, discriminator_norm="spectral"), 28, 1)
    config = cgan.Config(
        base_channels=8,
        discriminator_norm="spectral",
        discriminator_conditioning="projection",
        minibatch_discrimination=4,
    )
    return cgan.Discriminator(config, 28, 1, 10)


def singular_values(discriminator: nn.Module) -> dict[str, float]:
    """The largest of each layer's weights, as they are used; the exact ones, by decomposition."""
    weights: dict[str, Any] = {name: m.weight for name, m in discriminator.named_modules() if is_parametrized(m)}
    return {name: torch.linalg.matrix_norm(w.flatten(1), 2).item() for name, w in weights.items()}


def steps(discriminator: nn.Module, count: int) -> None:
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-3, betas=(0.5, 0.999))
    labels = torch.arange(16) % 10
    for _ in range(count):
        real, fake = torch.randn(16, 1, 28, 28) + 1, torch.randn(16, 1, 28, 28) - 1
        loss = F.relu(1 - discriminator(real, labels)).mean() + F.relu(1 + discriminator(fake, labels)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(("family", "layers"), [("mlp", 3), ("cgan", 5)])
def test_spectral_norm_holds_the_largest_singular_value_at_one(family: str, layers: int):
    discriminator = spectral(family)
    steps(discriminator, 30)
    found = singular_values(discriminator.eval())
    assert len(found) == layers
    assert all(value == pytest.approx(1, abs=0.05) for value in found.values()), found
    raw = [p for n, p in discriminator.named_parameters() if n.endswith("weight.original")]
    assert any(
        abs(torch.linalg.matrix_norm(p.flatten(1), 2).item() - 1) > 0.2 for p in raw
    )  # or there was nothing to do


def test_spectral_norm_bounds_what_an_mlp_makes_of_a_difference():
    """Miyato et al. 2018, eq. 7: with every layer's norm and every activation's slope at most 1, D's is at most 1."""
    discriminator = spectral("mlp")
    steps(discriminator, 30)
    a, b = torch.randn(2, 64, 1, 28, 28)
    with torch.no_grad():
        slopes = (discriminator.eval()(a) - discriminator(b)).abs() / (a - b).flatten(1).norm(dim=1)
    assert slopes.max() <= 1.05


@torch.no_grad()
def test_spectral_norm_survives_a_checkpoint_and_a_copy():
    discriminator, images, labels = spectral("cgan"), torch.randn(4, 1, 28, 28), torch.arange(4)
    with torch.enable_grad():
        steps(discriminator, 3)
    twin, other = copy.deepcopy(discriminator), spectral("cgan")
    other.load_state_dict(discriminator.state_dict(), strict=True)
    for _ in range(3):  # in training mode: the power iterations go on alike
        logits = discriminator(images, labels)
        assert torch.equal(twin(images, labels), logits)
        assert torch.equal(other(images, labels), logits)
    expected = discriminator.eval()(images, labels)
    for parameter in twin.parameters():
        parameter.add_(torch.randn_like(parameter))
    assert not torch.allclose(twin.eval()(images, labels), expected)
    assert torch.equal(discriminator(images, labels), expected)


def test_spectral_norm_allows_functional_calls_and_hessians():
    """As the unrolled discriminator and the gradient penalties need them."""
    discriminator, other = spectral("cgan"), spectral("cgan").eval()
    images, labels = torch.randn(4, 1, 28, 28, requires_grad=True), torch.arange(4)
    updated = {name: p + 0.01 * torch.randn_like(p) for name, p in discriminator.named_parameters()}
    logits = functional_call(discriminator.eval(), updated, (images, labels))
    other.load_state_dict(discriminator.state_dict() | updated)
    torch.testing.assert_close(logits, other(images, labels))

    (gradient,) = torch.autograd.grad(discriminator.train()(images, labels).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    grads = {name: p.grad for name, p in discriminator.named_parameters() if name.endswith("original")}
    assert all(grad is not None and grad.isfinite().all() and grad.any() for grad in grads.values())


@torch.no_grad()
@pytest.mark.parametrize("family", [mlp, dcgan])
def test_dropout_is_of_the_hidden_layers_and_of_training_alone(family: Any):
    torch.manual_seed(0)
    discriminator = family.Discriminator(family.Config(dropout=0.3), 28, 1)
    images = torch.randn(8, 1, 28, 28)
    dropped = (discriminator.features(images) == 0).float().mean().item()
    assert dropped == pytest.approx(0.3, abs=0.05)
    assert not torch.equal(discriminator(images), discriminator(images))
    discriminator.eval()
    assert torch.equal(discriminator(images), discriminator(images))
    assert (discriminator.features(images) != 0).all()


def test_without_batch_norm_d_judges_each_image_alone():
    images = torch.randn(4, 1, 28, 28)
    for norm in ("none", "spectral"):
        alone = dcgan.Discriminator(dcgan.Config(base_channels=8, discriminator_norm=norm), 28, 1).eval()
        torch.testing.assert_close(alone(images)[:1], alone(images[:1]))
    together = dcgan.Discriminator(dcgan.Config(base_channels=8), 28, 1)
    assert not torch.allclose(together(images)[:1], together(images[:2])[:1])


def nearness(tensor: Tensor, rows: list[list[float]], kernels: int, size: int) -> list[list[float]]:
    """Salimans et al. 2016, section 3.2, in loops; the sum over the batch divided by its size."""
    matrices = [
        [[sum(tensor[c * kernels + b, a].item() * row[a] for a in range(len(row))) for c in range(size)]
         for b in range(kernels)]
        for row in rows
    ]  # fmt: skip
    return [
        [
            sum(math.exp(-sum(abs(p - q) for p, q in zip(one[b], two[b], strict=True))) for two in matrices) / len(rows)
            for b in range(kernels)
        ]
        for one in matrices
    ]


@torch.no_grad()
@pytest.mark.parametrize("shape", [(6,), (2, 3, 1), (1, 2, 3)])
def test_minibatch_discrimination_is_the_papers_formula(shape: tuple[int, ...]):
    layer = MinibatchDiscrimination(features=6, kernels=3, kernel_size=4)
    x = torch.randn(5, *shape)
    y = layer(x)
    assert y.shape == (5, shape[0] + 3, *shape[1:])
    assert torch.equal(y[:, : shape[0]], x)
    planes = y[:, shape[0] :].reshape(5, 3, -1)
    expected = torch.tensor(nearness(layer.tensor.weight, x.flatten(1).tolist(), kernels=3, size=4))
    torch.testing.assert_close(planes, expected[:, :, None].expand_as(planes))


@torch.no_grad()
def test_minibatch_discrimination_tells_a_collapsed_batch():
    layer = MinibatchDiscrimination(features=64, kernels=8)
    one = torch.randn(1, 64)
    torch.testing.assert_close(layer(one.expand(16, -1))[:, 64:], torch.ones(16, 8))
    apart = layer(1000 * torch.randn(16, 64))[:, 64:]
    torch.testing.assert_close(apart, torch.full((16, 8), 1 / 16))


def test_minibatch_discrimination_keeps_single_precision():
    """Rows that bfloat16 could not tell apart."""
    layer = MinibatchDiscrimination(features=64, kernels=8)
    x = 10 + 0.01 * torch.randn(8, 64)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), expected)


def test_minibatch_deviation_tells_a_collapsed_batch():
    stddev = MinibatchStddev(group=2)
    x = torch.tensor([0.0, 1.0, 4.0, 1.0]).reshape(4, 1)  # groups are images 0 and 2, and 1 and 3
    for rows in (x, x[:, :, None, None].expand(-1, -1, 2, 2)):
        y = stddev(rows)
        assert y.shape == (4, 2, *rows.shape[2:])
        for pixel in y[:, 1].reshape(4, -1).unbind(1):
            assert pixel.tolist() == pytest.approx([2, 1e-4, 2, 1e-4], abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["concatenation", "projection"])
def test_several_discriminators_say_what_each_says(conditioning: Any):
    config = cgan.Config(base_channels=8, discriminator_norm="none", discriminator_conditioning=conditioning)
    members: list[nn.Module] = [cgan.Discriminator(config, 28, 1, 10) for _ in range(3)]
    ensemble, images, labels = Ensemble(members), torch.randn(5, 1, 28, 28), torch.arange(5)
    logits, features = ensemble(images, labels), ensemble.features(images, labels)
    assert logits.shape == (3, 5)
    assert features.shape == (5, 3 * 16 * 7 * 7)
    for k, member in enumerate(members):
        assert torch.equal(logits[k], member(images, labels))
        assert torch.equal(features.chunk(3, dim=1)[k], member.features(images, labels))  # pyright: ignore[reportCallIssue]
    assert not torch.allclose(logits[0], logits[1])
    assert len(list(ensemble.parameters())) == sum(len(list(member.parameters())) for member in members)
