"""What the discriminator sees keeps to the paper's ranges, and gradients pass through it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training import augment
from training.regularizers import gradient_penalty

ALL = ("color", "translation", "cutout")
every_policy = pytest.mark.parametrize("policy", [*((name,) for name in ALL), ALL], ids=[*ALL, "all"])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def seeded(images: Tensor, policy: tuple[str, ...], seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    return augment.diff_augment(images, policy)


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    """Thousands of draws fill the interval evenly."""
    width = high - low
    assert low - 1e-4 <= values.min() < low + 0.01 * width
    assert high - 0.01 * width < values.max() <= high + 1e-4
    assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.02 * width)
    assert values.std().item() == pytest.approx(width / 12**0.5, rel=0.04)


def test_color_draws_from_the_ranges_of_the_paper():
    # Two patterns that add nothing to each other's means: one of light and dark, one of colours.
    light = torch.tensor([0.2, -0.2]).reshape(1, 1, 2).expand(3, 4, 2)
    hue = torch.tensor([0.1, -0.3, 0.2]).reshape(3, 1, 1).expand(3, 4, 2)
    seen = augment.color((light + hue).expand(5000, 3, 4, 2))

    brightness = seen.mean(dim=(1, 2, 3))
    contrast = ((seen * light).sum(dim=(1, 2, 3))) / light.square().sum()
    saturation = ((seen * hue).sum(dim=(1, 2, 3))) / hue.square().sum() / contrast
    assert_uniform(brightness, -0.5, 0.5)
    assert_uniform(contrast, 0.5, 1.5)
    assert_uniform(saturation, 0.0, 2.0)
    off_diagonal = torch.corrcoef(torch.stack([brightness, contrast, saturation])) - torch.eye(3)
    assert off_diagonal.abs().max() < 0.06  # each its own draw
    made = contrast[:, None, None, None] * (light + saturation[:, None, None, None] * hue)
    torch.testing.assert_close(seen, made + brightness[:, None, None, None])  # and there is nothing else


def test_a_grey_picture_has_no_saturation_to_change():
    images = torch.rand(16, 1, 6, 6) * 2 - 1
    grey, rgb = seeded(images, ("color",)), seeded(images.expand(-1, 3, -1, -1), ("color",))
    torch.testing.assert_close(grey.expand(-1, 3, -1, -1), rgb)


@pytest.mark.parametrize("height, width, down, right", [(28, 28, 4, 4), (32, 64, 4, 8), (20, 8, 3, 1)])
def test_translation_moves_by_whole_pixels_up_to_an_eighth(height: int, width: int, down: int, right: int):
    n = 1000
    picture = torch.rand(2, height, width) + 0.5
    padded = F.pad(picture, (right, right, down, down))
    seen = augment.translation(picture.expand(n, -1, -1, -1))
    shifts = {
        (y, x): padded[:, down + y : down + y + height, right + x : right + x + width]
        for y in range(-down, down + 1)
        for x in range(-right, right + 1)
    }
    found = [next(shift for shift, moved in shifts.items() if torch.equal(moved, one)) for one in seen]
    assert {y for y, _ in found} == set(range(-down, down + 1))
    assert {x for _, x in found} == set(range(-right, right + 1))
    assert len(set(found)) > 0.8 * len(shifts)  # rows and columns apart


@pytest.mark.parametrize("height, width", [(28, 28), (32, 16), (7, 7)])
def test_cutout_removes_one_rectangle_of_half_the_size(height: int, width: int):
    seen = augment.cutout(torch.ones(3000, 2, height, width))
    gone = seen == 0
    assert torch.equal(gone[:, 0], gone[:, 1]) and ((seen == 1) | gone).all()
    for lines, size in ((gone[:, 0].any(dim=2), height), (gone[:, 0].any(dim=1), width)):
        length = (size + 1) // 2
        lengths = lines.sum(dim=1)
        assert lengths.max() == length and lengths.min() == length - length // 2  # half of it over an edge
        assert (lines.int().diff(dim=1) != 0).sum(dim=1).max() <= 2  # one piece
        hidden = lines.float().mean(dim=0)
        assert torch.allclose(hidden, hidden.flip(0), atol=0.06)  # neither side more than the other
        assert hidden.min() > 0.2  # every line is hidden at times
    both = gone[:, 0].any(dim=2).sum(dim=1) * gone[:, 0].any(dim=1).sum(dim=1)
    assert torch.equal(both, gone[:, 0].sum(dim=(1, 2)))  # full in both directions


@every_policy
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (4, 3, 16, 16), (4, 2, 1, 1)], ids=str)
def test_shape_and_type_are_kept_and_the_images_left_alone(policy, dtype, shape):
    images = (torch.rand(shape) * 2 - 1).to(dtype)
    before = images.clone()
    seen = augment.diff_augment(images, policy)
    assert seen.shape == images.shape and seen.dtype == dtype and seen.isfinite().all()
    assert torch.equal(images, before)


@every_policy
def test_every_image_has_its_own_draws_and_a_seed_repeats(policy):
    images = (torch.rand(1, 3, 16, 16) * 2 - 1).expand(8, -1, -1, -1)
    seen = seeded(images, policy)
    assert all(not torch.equal(seen[0], other) for other in seen[1:])
    assert torch.equal(seeded(images, policy), seen)
    assert not torch.equal(seeded(images, policy, seed=2), seen)


@every_policy
def test_gradients_of_both_orders_pass_through(policy):
    images = torch.rand(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: seeded(x, policy), images, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: seeded(x, policy).square(), images, fast_mode=True)


def test_a_penalty_is_taken_through_the_augmentation():
    weight = torch.tensor(2.0, requires_grad=True)
    images = torch.rand(8, 1, 8, 8, requires_grad=True)
    seen = seeded(images, ("translation", "cutout"))
    penalty = gradient_penalty(images, weight * seen.sum(dim=(1, 2, 3)))
    (gradient,) = torch.autograd.grad(penalty, weight)
    shown = (seen != 0).sum().item() / 8  # pixels an image that D sees
    assert penalty.item() == pytest.approx(2**2 * shown / 2) and gradient.item() == pytest.approx(2 * shown)


def test_policies_are_applied_in_their_order():
    images = torch.rand(8, 3, 16, 16)
    torch.manual_seed(1)
    color_first = augment.cutout(augment.color(images))
    torch.manual_seed(1)
    cutout_first = augment.color(augment.cutout(images))
    assert torch.equal(seeded(images, ("color", "cutout")), color_first)
    assert torch.equal(seeded(images, ("cutout", "color")), cutout_first)
    assert augment.diff_augment(images, ()) is images


def test_input_noise_is_normal_and_of_its_standard_deviation():
    images = torch.rand(64, 3, 16, 16)
    noise = augment.input_noise(images, 0.2) - images
    assert noise.mean().item() == pytest.approx(0, abs=0.005)
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)
    assert noise.abs().gt(0.4).float().mean().item() == pytest.approx(0.0455, abs=0.004)  # past two deviations
    assert augment.input_noise(images, 0.0) is images
    assert augment.input_noise(images.bfloat16(), 0.2).dtype == torch.bfloat16
