"""A run that has collapsed is told from one that has not, on real images, and every alarm says why."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.datasets import loaders
from training.datasets.dataset import Dataset
from training.datasets.transforms import to_unit
from training.monitoring import collapse
from training.monitoring.collapse import Alarm, CollapseDetector

DATA = Path(__file__).parents[2] / "data"
BALANCED = {"real_probability": 0.6, "fake_probability": 0.4, "real_logit": 0.5, "fake_logit": -0.5}
WON = {"real_probability": 0.999, "fake_probability": 0.002, "real_logit": 7.0, "fake_logit": -6.5}

MakeDetector = Callable[..., CollapseDetector]


@pytest.fixture(scope="module")
def real() -> Dataset:
    return loaders.load("mnist", DATA, 28)


@pytest.fixture(scope="module")
def unseen() -> Dataset:
    return loaders.load("mnist", DATA, 28, "test")


@pytest.fixture
def watch(real: Dataset) -> MakeDetector:
    return lambda **options: CollapseDetector(real.images, real.labels, 10, **{"patience": 3, **options})


def looks(watching: CollapseDetector, pictures: Tensor, times: int = 4) -> tuple[dict[str, float], list[list[str]]]:
    """The measures of the last of so many looks at the same images, and the names of the alarms of each."""
    names, measures = [], {}
    for _ in range(times):
        measures, raised = watching.look(pictures, BALANCED, None)
        names.append([alarm.name for alarm in raised])
    return measures, names


def test_real_pictures_that_were_held_out_raise_nothing(real: Dataset, unseen: Dataset):
    assert real.labels is not None
    watching = CollapseDetector(real.images[:128], real.labels[:128], 10, patience=3)
    measures, raised = looks(watching, torch.cat([real.images[128:], unseen.images]))
    assert raised == [[], [], [], []]
    assert measures == {"pairwise_distance": pytest.approx(1, abs=0.02), "modes": 10}


def test_the_data_is_at_its_own_distance_with_every_class(real: Dataset, watch: MakeDetector):
    measures, _ = looks(watch(), real.images)
    assert measures == {"pairwise_distance": pytest.approx(1), "modes": 10}


def test_one_digit_over_and_over_is_alike_and_of_one_class(unseen: Dataset, watch: MakeDetector):
    watching, pictures = watch(), unseen.images[:1].expand(128, -1, -1, -1)
    watching.look(pictures, BALANCED, None)
    measures, (alike, lost) = watching.look(pictures, BALANCED, None)
    assert measures == {"pairwise_distance": 0, "modes": 1}
    assert alike == Alarm(
        "samples_alike", "Samples are much alike: 0% as far apart as real pictures are, and 50% is the least."
    )
    assert lost == Alarm(  # the first of the test set is a 7
        "classes_lost",
        "9 of 10 classes are lost (0, 1, 2, 3, 4, 5, 6, 8, 9): "
        "each has less than 10% of its even share of 128 pictures.",
    )


def test_three_classes_are_not_alike_and_the_rest_lost(unseen: Dataset, watch: MakeDetector):
    assert unseen.labels is not None
    kept = unseen.images[unseen.labels < 3]
    measures, raised = looks(watch(), kept.repeat(5, 1, 1, 1))
    assert raised == [[], ["classes_lost"], [], []]
    assert measures["pairwise_distance"] > 0.85
    assert measures["modes"] in (3, 4)  # one of the 21 is read as a 7


def test_noise_is_far_apart_and_shows_no_class(watch: MakeDetector):
    noise = torch.randint(0, 256, (128, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    measures, raised = looks(watch(), noise)
    assert raised == [[], ["classes_lost"], [], []]
    assert measures["pairwise_distance"] > 1.1 and measures["modes"] == 0


def test_few_images_are_measured_but_no_classes_counted(unseen: Dataset, watch: MakeDetector):
    assert set(looks(watch(), unseen.images)[0]) == {"pairwise_distance"}


def test_without_labels_there_are_no_classes_to_lose(real: Dataset):
    measures, raised = looks(CollapseDetector(real.images, None, None, 3), real.images[:1].expand(128, -1, -1, -1))
    assert measures == {"pairwise_distance": 0}
    assert raised == [[], ["samples_alike"], [], []]


def test_a_class_that_the_data_hardly_have_is_not_missed(real: Dataset):
    assert real.labels is not None
    common, rare = (torch.nonzero(mask).flatten() for mask in (real.labels != 7, real.labels == 7))
    chosen = torch.cat([common, rare[:3]])
    watching = CollapseDetector(real.images[chosen], real.labels[chosen], 10, 3)
    measures, raised = looks(watching, real.images[common])
    assert raised == [[], [], [], []]
    assert measures["modes"] == 9


def test_float_data_and_smaller_images_are_compared_alike(real: Dataset, watch: MakeDetector):
    floats = CollapseDetector(to_unit(real.images), real.labels, 10, 3)
    assert looks(floats, real.images)[0] == looks(watch(), real.images)[0]
    small = torch.nn.functional.avg_pool2d(real.images.float(), 2).round().to(torch.uint8)  # of a network that grows
    assert looks(watch(), small)[0] == {"pairwise_distance": pytest.approx(1, abs=0.01), "modes": 10}


def test_distance_is_the_mean_over_pairs():
    pictures = torch.tensor([0.0, 3.0, 7.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)  # 2 values apart for each 1
    assert collapse.pairwise_distance(pictures) == pytest.approx(2 * (3 + 7 + 4) / 3)


@pytest.mark.parametrize(
    ("statistics", "reason"),
    [
        (WON, "The discriminator has won: D(real) is 0.9990 and D(fake) 0.0020."),
        (
            {"real_probability": 0.7, "fake_probability": 0.01, "real_logit": 1.5, "fake_logit": -8.0},
            "The discriminator has won: its logits of real and of generated pictures are 9.5 apart.",
        ),
    ],
)
def test_a_discriminator_that_is_certain_at_three_looks_has_won(
    statistics: dict[str, float], reason: str, real: Dataset, watch: MakeDetector
):
    watching = watch()
    raised = [watching.look(real.images, statistics, None)[1] for _ in range(4)]
    assert raised == [[], [], [Alarm("discriminator_saturated", reason)], []]


def test_a_discriminator_that_is_caught_up_with_has_not_won(real: Dataset, watch: MakeDetector):
    watching = watch()
    for statistics in (WON, WON, BALANCED, WON, WON):
        assert watching.look(real.images, statistics, None)[1] == []


def test_a_critic_has_no_end_to_be_at(real: Dataset, watch: MakeDetector):
    watching = watch(saturates=False)
    assert [watching.look(real.images, WON, None)[1] for _ in range(4)] == [[], [], [], []]


def test_fid_rises_once_it_is_worse_often_enough_in_a_row(real: Dataset, watch: MakeDetector):
    watching = watch(patience=2)
    raised = [watching.look(real.images, BALANCED, fid)[1] for fid in (30, 20, 25, None, 22, 21, 19, 23, 18.5)]
    rising = Alarm("fid_rising", "FID is 22.0: worse than its best, 20.0, for 2 measurements in a row.")
    assert raised == [[], [], [], [], [rising], [], [], [], []]
    assert watching.best_fid == 18.5


def test_a_sign_that_went_away_is_an_alarm_anew(real: Dataset, unseen: Dataset, watch: MakeDetector):
    watching, collapsed = watch(), unseen.images[:1].expand(64, -1, -1, -1)
    names = [
        [alarm.name for alarm in watching.look(pictures, BALANCED, None)[1]]
        for pictures in (collapsed, collapsed, collapsed, real.images, collapsed, collapsed)
    ]
    assert names == [[], ["samples_alike"], [], [], [], ["samples_alike"]]


def test_a_resumed_watch_raises_what_the_unbroken_one_does(unseen: Dataset, watch: MakeDetector):
    collapsed = unseen.images[:1].expand(128, -1, -1, -1)
    unbroken, first = watch(), watch()
    for watching in (unbroken, first):
        watching.look(collapsed, WON, 10.0)
    second = watch()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for fid in (11.0, 12.0, 13.0):
        assert second.look(collapsed, WON, fid) == unbroken.look(collapsed, WON, fid)
    assert second.state_dict() == unbroken.state_dict()
