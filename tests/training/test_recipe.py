"""A recipe that cannot be is refused by the name of its field."""

from pathlib import Path

import pytest

from training import recipe
from training.datasets import loaders
from training.errors import RecipeError


def refusal(name: str, *overrides: str) -> str:
    """What is said of a recipe that cannot be."""
    with pytest.raises(RecipeError) as error:
        recipe.load(name, list(overrides))
    return str(error.value)


@pytest.mark.parametrize("name", recipe.available())
def test_every_shipped_recipe_is_read_and_names_itself(name: str):
    loaded = recipe.load(name)
    assert loaded.id == name
    assert loaded.data.name in loaders.NAMES
    assert recipe.from_dict(loaded.as_dict()) == loaded  # what a checkpoint holds is the recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.batch=1", "`optimizer.batch` (=1) must be at least 2."),
        ("optimizer.batch=many", "`optimizer.batch` (='many') must be a valid integer."),
        ("optimizer.batch=64.0", "`optimizer.batch` (=64.0) must be a valid integer."),
        ("total_kimg='5'", "`total_kimg` (='5') must be a valid number."),
        ("data.horizontal_flips=1", "`data.horizontal_flips` (=1) must be a valid boolean."),
        ("optimizer.bach=64", "unknown field `optimizer.bach`; known here: batch, beta1, beta2, decay_kimg, "),
        ("total_kimg=nan", "`total_kimg` (=nan) must be a finite number."),
        ("total_kimg=-1", "`total_kimg` (=-1) must be greater than 0."),
        ("precision=fp16", "`precision` (='fp16') must be 'float32' or 'bfloat16'."),
        ("family=vae", "`family` (='vae') must be one of mlp, dcgan, cgan, stylegan, stylegan2."),
        ("network.base_channels=0", "`network.base_channels` (=0) must be at least 1."),
        ("style_mixing=0.5", "`style_mixing` and `penalty.path_length` are for families stylegan and stylegan2."),
        ("penalty.path_length=2", "`style_mixing` and `penalty.path_length` are for families stylegan and stylegan2."),
        ("penalty.r1_gamma=-1", "`penalty.r1_gamma` (=-1) must be at least 0."),
        ("penalty.r1_interval=0", "`penalty.r1_interval` (=0) must be at least 1."),
        ("optimizer.discriminator_steps=0", "`optimizer.discriminator_steps` (=0) must be at least 1."),
        ("stabilizer.input_noise=inf", "`stabilizer.input_noise` (=inf) must be a finite number."),
        ("stabilizer.feature_matching=1.5", "`stabilizer.feature_matching` (=1.5) must be at most 1."),
        ("stabilizer.real_target=[0.9]", "`stabilizer.real_target` (=[0.9]) must be [low, high], 0 < low <= high."),
        ("stabilizer.real_target=[1.2, 0.7]", "(=[1.2, 0.7]) must be [low, high], 0 < low <= high."),
        ("stabilizer.real_target=[1.0, 1.2]", "(=[1.0, 1.2]) must have a mean of at most 1."),
        ("stabilizer.diff_augment=['colour']", "(='colour') must be 'color', 'translation' or 'cutout'."),
        ("stabilizer.mismatched_labels=0.5", "`stabilizer.mismatched_labels` is for family 'cgan'"),
        ("loss=hinged", "`loss` (='hinged') must be 'minimax', 'non_saturating', 'wasserstein'"),
        ("monitoring.on_alarm=panic", "`monitoring.on_alarm` (='panic') must be 'continue' or 'stop'."),
        ("id", "override 'id' must be field=value"),
        ("id.x=1", "override 'id.x=1': `id` is a value, not a table."),
        ("data=3", "`data` (=3) must be a table."),
        ("id=My_GAN", "`id` (='My_GAN') must be lower-case letters, digits, '-' and '.'"),
        ("id=..", "`id` (='..') must be lower-case letters"),
        ("seed=-1", "`seed` (=-1) must be at least 0."),
        ("seed=1764234517000000000", "`seed` (=1764234517000000000) must be less than 4294967296."),
        ("optimizer.beta1=1.0", "`optimizer.beta1` (=1.0) must be less than 1."),
        ("stabilizer.mismatched_labels=1", "`stabilizer.mismatched_labels` (=1) must be less than 1."),
        ("optimizer.beta2=nan", "`optimizer.beta2` (=nan) must be a finite number."),
    ],
)
def test_a_wrong_field_is_rejected_with_value_and_range(override: str, message: str):
    assert message in refusal("dcgan-mnist", override)


@pytest.mark.parametrize("penalty", ["r1_gamma", "r2_gamma", "wgan_gp"])
def test_a_penalty_per_image_and_a_batch_norm_do_not_combine(penalty: str):
    none = "penalty={r1_gamma = 0.0}"
    message = refusal("dcgan-mnist", none, f"penalty.{penalty}=0.1", "network.discriminator_norm=batch")
    assert message.startswith(f"`penalty.{penalty}` holds the gradient at each picture")
    assert "choose `network.discriminator_norm` none or spectral" in message


@pytest.mark.parametrize(
    ("growing", "message"),
    [
        ("start = 12", "`growing.start` (=12) must be one of 4, 8, 16, 32."),
        ("start = 64", "`growing.start` (=64) must be one of 4, 8, 16, 32."),
        (
            "start = 8",
            "`growing.stable_kimg` (=[]) must have one entry for each resolution from 8 px to before 32 px: 2.",
        ),
        ("start = 16, stable_kimg = [1, 1]", "(=[1.0, 1.0]) must have one entry for each resolution from 16 px"),
        ("start = 16, stable_kimg = [-1]", "`growing.stable_kimg` (=-1) must be at least 0."),
        ("start = 16, stable_kimg = [1], fade_kimg = -1", "`growing.fade_kimg` (=-1) must be at least 0."),
        (
            "start = 8, stable_kimg = [9, 9], fade_kimg = 2",
            "`total_kimg` (=20) must be at least 22, where `growing`",
        ),
    ],
)
def test_a_network_must_be_whole_at_the_end_of_its_growth(growing: str, message: str):
    assert message in refusal("stylegan-lite-critters-grown", "total_kimg=20", f"growing={{{growing}}}")


def test_growth_may_take_the_whole_run():
    growing = "growing={start = 8, stable_kimg = [9, 9], fade_kimg = 1}"
    assert recipe.load("stylegan-lite-critters-grown", ["total_kimg=20", growing]).growing
    assert recipe.load("stylegan-lite-critters-grown", ["growing={start = 32}"]).growing  # nothing to grow


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.discriminator=dcgan", "`growing` needs `network.discriminator` (='dcgan') to be 'progressive'."),
        ("network.discriminator=mlp", "`network.discriminator` (='mlp') must be 'progressive' or 'dcgan'."),
        ("network.discriminator_base_channels=0", "`network.discriminator_base_channels` (=0) must be at least 1."),
        (
            "network.discriminator_base_channels=32",
            "`network.discriminator_base_channels` (=32) needs `network.discriminator` (='progressive') to be 'dcgan'",
        ),
    ],
)
def test_a_discriminator_of_strided_convolutions_does_not_grow(override: str, message: str):
    assert message in refusal("stylegan-lite-critters-grown", "growing={start = 8}", override)


@pytest.mark.parametrize("loss", ["wasserstein", "hinge", "relativistic"])
def test_a_label_cannot_be_smoothed_where_the_loss_has_none(loss: str):
    with pytest.raises(RecipeError, match=f"for the losses 'minimax', 'non_saturating', 'least_squares'; '{loss}'"):
        recipe.load("dcgan-mnist", [f"loss={loss}", "stabilizer.real_target=[0.9, 0.9]"])


def test_overrides_reach_every_level_and_change_the_hash():
    plain, changed = recipe.load("dcgan-mnist"), recipe.load("dcgan-mnist", ["optimizer.batch=128", "seed=3"])
    assert (changed.optimizer.batch, changed.seed) == (128, 3)
    assert changed.sha256 != plain.sha256 == recipe.load("dcgan-mnist").sha256


def test_a_missing_recipe_or_field_is_named(tmp_path: Path):
    with pytest.raises(RecipeError, match="one of cgan-mnist, dcgan-cifar10"):
        recipe.load("dcgan-mnits")
    path = tmp_path / "half.toml"
    path.write_text('id = "half"\nname = "Half"\nfamily = "dcgan"\n')
    with pytest.raises(RecipeError, match="missing field: `total_kimg`"):
        recipe.load(str(path))
    path.write_text("id = ")
    with pytest.raises(RecipeError, match=r"half\.toml: "):
        recipe.load(str(path))
