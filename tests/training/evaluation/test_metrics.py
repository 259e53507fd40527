"""Metrics have the values that can be computed by hand, and those of torch-fidelity."""

import math

import numpy as np
import pytest
import torch

from training.evaluation import metrics


def normal(n: int, d: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + mean


def test_fid_of_two_gaussians_is_the_closed_form():
    """Means (0, 0) and (3, 4), deviations (1, 2) and (2, 1): 25 + (1 - 2)^2 + (2 - 1)^2."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200_000, 2)) * [1, 2]
    b = rng.standard_normal((200_000, 2)) * [2, 1] + [3, 4]
    assert metrics.fid(a, b) == pytest.approx(27, rel=0.01)


def test_fid_of_a_set_with_itself_is_zero():
    a = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    assert metrics.fid(a, a) == pytest.approx(0, abs=1e-6)


def test_kid_of_two_gaussians_is_the_closed_form():
    """In one dimension (xy + 1)^3 compares three moments: (dm3)^2 + 3 (dm2)^2 + 3 (dm1)^2.

    N(0, 1) has moments 0, 1, 0 and N(1, 1) has 1, 2, 4.
    """
    a, b = normal(20_000, 1, 0), normal(20_000, 1, 1, mean=1.0)
    assert metrics.kid(a, b, subsets=60, subset_size=300) == pytest.approx(4**2 + 3 * 1**2 + 3 * 1**2, rel=0.05)


def test_kid_of_small_sets_is_unbiased():
    """Of one distribution it is zero on average; biased it would be 2 (E k(x, x) - E k(x, y)) / n = 1.95."""
    found = [
        metrics.kid(normal(10, 4, seed), normal(10, 4, 1000 + seed), subsets=1, subset_size=10) for seed in range(400)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found)) < 0.2
    assert min(found) < 0 < max(found)


def test_kid_asks_for_subsets_that_the_sets_can_give():
    with pytest.raises(ValueError, match=r"`subset_size` \(=11\) must be between 2 and 10"):
        metrics.kid(normal(10, 2, 0), normal(20, 2, 1), subsets=1, subset_size=11)


def test_realism_is_a_real_points_reach_by_the_distance_to_it():
    """Real points on a line at 0, 1, 3 and 13: to their nearest other one they reach 1, 1, 2 and 10.

    The half that reaches farthest, 3 and 13, is left out; what lies beside 13 is judged from 1.
    """
    real = np.array([[0.0], [1.0], [3.0], [13.0]])
    fake = np.array([[0.5], [-2.0], [12.0], [1.0]])
    found = metrics.realism(fake, real, k=1)
    assert found[:3] == pytest.approx([1 / 0.5, 1 / 2, 1 / 11])
    assert found[3] > 1e100 and np.isfinite(found[3])  # a copy of a real point


def test_precision_and_recall_of_identical_and_of_disjoint_sets_are_one_and_zero():
    a = normal(50, 8, 0)
    assert metrics.precision_recall(a, a) == (1, 1)
    assert metrics.precision_recall(a, a + 1000) == (0, 0)


def test_a_lost_half_costs_recall_and_a_foreign_half_precision():
    clusters = normal(200, 4, 0) + np.repeat([0, 1000], 100)[:, None]
    whole, half = clusters, clusters[:100] + 0.01
    assert metrics.precision_recall(half, whole) == pytest.approx((1, 0.5), abs=0.02)
    assert metrics.precision_recall(whole, half) == pytest.approx((0.5, 1), abs=0.02)


def test_precision_and_recall_are_those_of_a_loop_over_all_pairs_and_of_torch_fidelity(
    monkeypatch: pytest.MonkeyPatch,
):
    from torch_fidelity.metric_prc import prc_features_to_metric

    monkeypatch.setattr(metrics, "ROWS", 16)  # several blocks, the last of them not full
    fake, real = normal(70, 3, 0, mean=0.5), normal(90, 3, 1)

    def share_within(points: np.ndarray, manifold: np.ndarray) -> float:
        radii = [sorted(np.linalg.norm(manifold - center, axis=1))[3] for center in manifold]
        return float(np.mean([any(np.linalg.norm(manifold - point, axis=1) <= radii) for point in points]))

    found = metrics.precision_recall(fake, real, k=3)
    assert found == (share_within(fake, real), share_within(real, fake))
    assert 0 < found[0] < 1 and 0 < found[1] < 1
    theirs = prc_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), verbose=False)
    assert found == pytest.approx((theirs["precision"], theirs["recall"]))


def test_precision_asks_for_more_points_than_neighbours():
    with pytest.raises(ValueError, match=r"`k` \(=3\) must be between 1 and 2"):
        metrics.precision_recall(normal(3, 2, 0), normal(9, 2, 1), k=3)


def test_one_nearest_neighbour_is_at_chance_on_one_distribution_and_certain_on_two(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "ROWS", 300)
    a, b = normal(1000, 2, 0), normal(1000, 2, 1)
    assert metrics.one_nearest_neighbour(a, b) == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(2000))
    assert metrics.one_nearest_neighbour(a, b + 100) == 1
    assert metrics.one_nearest_neighbour(a, a + 1e-6) == 0  # each point's nearest is its copy in the other set


def test_one_nearest_neighbour_asks_for_sets_of_one_size():
    with pytest.raises(ValueError, match="the sets have 4 and 5 points"):
        metrics.one_nearest_neighbour(normal(4, 2, 0), normal(5, 2, 1))


def test_nearest_neighbours_are_found_across_blocks_with_exact_distances(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "ROWS", 7)
    rng = np.random.default_rng(0)
    references = rng.integers(0, 256, (50, 784), dtype=np.uint8)
    points = references[[49, 3, 20]].copy()
    points[1, 0] ^= 1  # one level of one pixel away from its reference
    points[2, :2] = references[20, :2] ^ np.array([3, 4], np.uint8)
    distances, indices = metrics.nearest_neighbours(points, references)
    assert indices.tolist() == [49, 3, 20]
    steps = points[2, :2].astype(int) - references[20, :2]
    assert distances.tolist() == [0, 1, math.hypot(*steps)]


def test_data_copying_is_a_half_for_new_pictures_and_one_for_copies():
    held_out = np.arange(1.0, 101)
    assert metrics.data_copying(held_out, held_out) == 0.5  # ties count half
    assert metrics.data_copying(np.zeros(10), held_out) == 1
    assert metrics.data_copying(np.full(10, 1000.0), held_out) == 0
    assert metrics.data_copying(np.array([0.0, 25.5]), held_out) == (1 + 0.75) / 2


def test_path_length_of_a_straight_line_is_its_length_squared_whatever_the_step():
    """From 0 to (3, 4) the whole path is 5 long."""
    t = np.random.default_rng(0).random((300, 1))
    for epsilon in (1e-4, 0.02, 0.5):
        found = metrics.perceptual_path_length(t * [3, 4], (t + epsilon) * [3, 4], epsilon)
        assert found == pytest.approx(25, rel=1e-6)


def test_path_length_of_a_circle_is_what_its_chords_make_of_it():
    """A quarter of the unit circle: chords of 2 sin(angle / 2), which tend to the arc as the step shrinks."""
    t = np.random.default_rng(0).random(300) * 0.9

    def circle(t: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)], axis=1)

    found = metrics.perceptual_path_length(circle(t), circle(t + 0.1), 0.1)
    assert found == pytest.approx((2 * math.sin(0.1 * math.pi / 4) / 0.1) ** 2)
    found = metrics.perceptual_path_length(circle(t), circle(t + 1e-4), 1e-4)
    assert found == pytest.approx((math.pi / 2) ** 2, rel=1e-6)


def test_path_length_leaves_the_least_and_the_greatest_hundredth_out():
    ends = np.ones((1000, 1))
    ends[0], ends[1:4] = 1e6, 0
    assert metrics.perceptual_path_length(np.zeros((1000, 1)), ends, 1.0) == 1


def test_inception_score_is_the_number_of_classes_at_best_and_one_at_worst():
    assert metrics.inception_score(np.eye(10)[np.arange(200) % 10]) == pytest.approx(10)
    assert metrics.inception_score(np.eye(10)[np.arange(200) % 4]) == pytest.approx(4)
    assert metrics.inception_score(np.eye(10)[np.zeros(200, int)]) == pytest.approx(1)
    assert metrics.inception_score(np.full((200, 10), 0.1)) == pytest.approx(1)


def test_inception_score_is_that_of_torch_fidelity():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = torch.from_numpy(2 * normal(300, 10, 0))
    theirs = isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    assert metrics.inception_score(logits.softmax(dim=1).numpy()) == pytest.approx(theirs)


def test_temperature_is_that_of_the_draws_and_no_other_is_likelier():
    logits = torch.from_numpy(5 * normal(20_000, 4, 0))
    labels = torch.multinomial((logits / 3).softmax(dim=1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    found = metrics.temperature(logits.numpy(), labels.numpy())
    assert found == pytest.approx(3, rel=0.05)

    def loss(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits / temperature, labels).item()

    assert loss(found) < min(loss(found * 0.99), loss(found * 1.01))


def test_temperature_of_logits_that_are_always_right_ends_at_a_thousandth_of_their_deviation():
    logits = np.eye(3)
    assert metrics.temperature(logits, np.arange(3)) == pytest.approx(logits.std(ddof=1) / 1000)


def test_accuracy_is_counted_class_by_class():
    predicted, asked = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 1])
    assert metrics.accuracy_by_class(predicted, asked, ["a", "b", "never asked for"]) == {"a": 1.0, "b": 0.75}


def test_confusion_counts_what_was_read_for_what_was_asked():
    predicted, asked = np.array([0, 2, 1, 1, 2]), np.array([0, 0, 1, 1, 1])
    assert metrics.confusion(predicted, asked, 3).tolist() == [[1, 0, 1], [0, 2, 1], [0, 0, 0]]


def test_a_lost_class_has_share_zero_and_an_even_one_share_one():
    assert metrics.smallest_class_share(np.arange(100) % 10, 10) == 1.0
    assert metrics.smallest_class_share(np.arange(90) % 9, 10) == 0.0


def test_modes_are_counted_and_their_kl_is_the_closed_form():
    assert metrics.modes_and_kl(np.arange(3000) % 1000, 1000) == (1000, pytest.approx(0, abs=1e-12))
    assert metrics.modes_and_kl(np.arange(3000) % 500, 1000) == (500, pytest.approx(math.log(2)))
    assert metrics.modes_and_kl(np.full(10, 999), 1000) == (1, pytest.approx(math.log(1000)))
    three_to_one = metrics.modes_and_kl(np.array([0, 0, 0, 1]), 2)
    assert three_to_one == (2, pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_even_draws_have_the_kl_of_their_number():
    _, kl = metrics.modes_and_kl(np.random.default_rng(0).integers(0, 1000, 26_000), 1000)
    assert kl == pytest.approx(999 / 52_000, rel=0.2)
