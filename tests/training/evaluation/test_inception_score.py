"""The Inception Score has the values that can be computed by hand, and that of torch-fidelity."""

import numpy as np
import pytest
import torch

from draws import normal
from training.evaluation import inception_score


def test_inception_score_is_between_one_and_the_classes():
    assert inception_score.inception_score(np.eye(10)[np.arange(200) % 10]) == pytest.approx(10)
    assert inception_score.inception_score(np.eye(10)[np.arange(200) % 4]) == pytest.approx(4)
    assert inception_score.inception_score(np.eye(10)[np.zeros(200, int)]) == pytest.approx(1)
    assert inception_score.inception_score(np.full((200, 10), 0.1)) == pytest.approx(1)


def test_inception_score_is_that_of_torch_fidelity():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = torch.from_numpy(2 * normal(300, 10, 0))
    theirs = isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    assert inception_score.inception_score(logits.softmax(dim=1).numpy()) == pytest.approx(theirs)


def test_temperature_is_the_draws_and_the_likeliest():
    logits = torch.from_numpy(5 * normal(20_000, 4, 0))
    labels = torch.multinomial((logits / 3).softmax(dim=1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    found = inception_score.temperature(logits.numpy(), labels.numpy())
    assert found == pytest.approx(3, rel=0.05)

    def loss(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits / temperature, labels).item()

    assert loss(found) < min(loss(found * 0.99), loss(found * 1.01))


def test_temperature_of_perfect_logits_is_bounded():
    logits = np.eye(3)
    assert inception_score.temperature(logits, np.arange(3)) == pytest.approx(logits.std(ddof=1) / 1000)
