"""What a card says makes its model again does: the command is read as a shell and `train` read it."""

import shlex
from typing import Any

import pytest

from training import recipe
from training.publish import reproduce


def made_by(*arguments: str) -> tuple[list[str], list[str]]:
    return words(recipe.load(arguments[0], list(arguments[1:])).as_dict())


def words(table: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Those of the commands to train and to evaluate a model of this recipe."""
    document = {"id": table["id"], "training": {"recipe": table, "device": "CPU, 2 threads"}}
    train, _, evaluate = reproduce.commands(document, run="runs/00000-mine", compared=None)
    return shlex.split(train)[4:], shlex.split(evaluate)[4:]


@pytest.mark.parametrize("id", recipe.available())
def test_a_shipped_recipe_is_named_and_no_more(id: str):
    assert made_by(id)[0] == [id]


@pytest.mark.parametrize(
    "arguments",
    [
        ("dcgan-mnist", "id=dcgan-mnist-32", "network.base_channels=32"),
        ("dcgan-mnist", "network.base_channels=32"),  # under the shipped one's id
        ("dcgan-mnist", "id=mine", 'name="Mine; and $yours"', "stabilizer.real_target=[0.9, 0.9]"),
        ("dcgan-mnist", 'id="32"', 'name="true"'),
        ("mlp-mnist", "id=mine", "stabilizer.diff_augment=['color', 'cutout']", "data.horizontal_flips=true"),
        (
            "stylegan-lite-critters",
            "id=mine",
            "network.discriminator=progressive",
            "network.discriminator_base_channels=64",
        ),
        ("stylegan-lite-critters-grown", "id=mine", "growing={start = 8, stable_kimg = [50, 50]}"),
        ("wgan-gp-mnist", "id=mine", "data.count=1000"),
    ],
)
def test_any_other_recipe_is_made_of_a_shipped_one(arguments: tuple[str, ...]):
    wanted = recipe.load(arguments[0], list(arguments[1:]))
    train, _ = words(wanted.as_dict())
    assert recipe.load(train[0], train[1:]) == wanted


def test_a_run_with_a_moved_end_is_reproduced_with_that_end():
    table = recipe.load("dcgan-mnist").as_dict()
    schedule = {"total_kimg": 812.5, "decay_kimg": 400.0}
    document = {"id": "dcgan-mnist", "training": {"recipe": table, "schedule": schedule, "device": "CPU"}}
    train, _, _ = reproduce.commands(document, run="runs/00000-mine", compared=None)
    assert shlex.split(train)[4:] == ["dcgan-mnist", "total_kimg=812.5", "optimizer.decay_kimg=400.0"]


def test_own_pictures_are_asked_for_where_they_were_given():
    train, evaluate = made_by("dcgan-critters", "data.name=folder", "id=mine")
    assert train == ["dcgan-critters", "id=mine", "data.name=folder", "--data", "PICTURES"]
    assert evaluate == ["models/mine", "--data", "PICTURES"]


def test_a_recipe_of_another_version_is_known_by_the_models_id():
    assert words({"id": "old", "loss": "of old"})[0] == ["old"]
