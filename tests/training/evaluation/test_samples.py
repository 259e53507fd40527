"""The images that are measured are functions of their numbers, and paths lead from latent to latent."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from serving.engine.latents import address_range, latents
from serving.engine.repository import load_repository
from serving.engine.runtime import Runtime
from training.evaluation import samples


@pytest.fixture(scope="module")
def runtimes(repository_folder: Path) -> dict[str, Runtime]:
    return {id: Runtime(model, threads=1) for id, model in load_repository(repository_folder).items()}


def test_classes_come_in_turn_wherever_a_batch_begins(runtimes: dict[str, Runtime]):
    pictures, labels = samples.generate(runtimes["tiny-cgan"], 0, 25)
    later, later_labels = samples.generate(runtimes["tiny-cgan"], 13, 5)
    assert labels is not None and labels.tolist() == [*range(10), *range(10), *range(5)]
    assert later_labels is not None and later_labels.tolist() == [3, 4, 5, 6, 7]
    np.testing.assert_array_equal(later, pictures[13:18])


@pytest.mark.parametrize(
    ("id", "space"), [("tiny-dcgan", "z"), ("tiny-cgan", "z"), ("tiny-style", "z"), ("tiny-style", "w")]
)
def test_a_step_of_one_leads_from_one_latent_to_the_other(
    runtimes: dict[str, Runtime], id: str, space: Literal["z", "w"]
):
    runtime = runtimes[id]
    z = latents(address_range(samples.PATH_SEED, 0, 24), runtime.model.latent_size)
    labels = np.arange(24) // 2 % 10 if id == "tiny-cgan" else None
    np.testing.assert_array_equal(samples.path_ends(runtime, space, 1.0, 0, 24), runtime.generate(z, labels))


@pytest.mark.parametrize(("id", "space"), [("tiny-cgan", "z"), ("tiny-style", "w")])
def test_steps_do_not_depend_on_the_batch(runtimes: dict[str, Runtime], id: str, space: Literal["z", "w"]):
    runtime = runtimes[id]
    steps = samples.path_ends(runtime, space, 0.05, 0, 40)
    parts = [samples.path_ends(runtime, space, 0.05, start, n) for start, n in ((0, 1), (1, 14), (15, 25))]
    np.testing.assert_array_equal(np.concatenate(parts), steps)

    def change(pictures: np.ndarray) -> float:
        return np.abs(pictures[1::2].astype(float) - pictures[0::2]).mean()

    assert 0 < change(steps) < change(samples.path_ends(runtime, space, 0.5, 0, 40))


def test_a_model_without_w_has_no_paths_there(runtimes: dict[str, Runtime]):
    with pytest.raises(ValueError, match=r"tiny-dcgan: `space` \(='w'\) is for style models"):
        samples.path_ends(runtimes["tiny-dcgan"], "w", 0.1, 0, 2)
