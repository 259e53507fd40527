"""The attributes of critters are those they were rendered with, and a network learns to read them."""

from io import BytesIO
from pathlib import Path

import dicebear
import numpy as np
import pytest
import resvg_py
from PIL import Image, ImageColor

from training.datasets import critters
from training.evaluation import attribute_classifier


def colour(name: str, index: int) -> np.ndarray:
    """The RGB value of an attribute of image `index`."""
    value = critters.attributes(index)[list(critters.ATTRIBUTES).index(name)]
    return np.array(ImageColor.getrgb(critters.attribute_values()[name][value]))


def test_the_colours_that_attributes_say_are_in_the_picture():
    for index in range(8):
        picture = critters.render(index).astype(int)
        assert (picture[0, 0] == colour("background colour", index)).all()
        of_the_body = (picture == colour("body colour", index)).all(axis=2)
        assert of_the_body.mean() > 0.1


def test_attributes_are_computed_once_and_of_their_split(tmp_path: Path):
    train, test = (critters.cached_attributes(tmp_path, split, 5) for split in ("train", "test"))
    np.testing.assert_array_equal(train[3], critters.attributes(3))
    np.testing.assert_array_equal(test[4], critters.attributes(critters.HELD_OUT + 4))
    (kept,) = tmp_path.glob("critters-attributes-*-train-5.npy")
    np.save(kept, train + 1)
    np.testing.assert_array_equal(critters.cached_attributes(tmp_path, "train", 5), train + 1)  # not found again


def test_an_absent_attribute_is_a_value_of_its_own():
    values = critters.attribute_values()
    assert {name for name, known in values.items() if critters.ABSENT in known} == {"top", "pattern"}
    without_top = values["top"].index(critters.ABSENT)
    assert any(critters.attributes(i)[1] == without_top for i in range(40))


def test_two_bodies_that_are_mirror_images_are_one():
    def outline(body: str, flip: str) -> np.ndarray:
        bare: dict[str, object] = {"topProbability": 0, "patternProbability": 0, "animationVariant": "none"}
        colours = {"bodyColor": ["ff0000"], "backgroundColor": ["0000ff"]}
        avatar = dicebear.Avatar(critters._style(), {"bodyVariant": [body], "flip": [flip], **bare, **colours})
        png = resvg_py.svg_to_bytes(svg_string=avatar.to_string(), width=64, height=64, skip_system_fonts=True)
        picture = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
        rows = picture[32:]  # below the eyes, which are not the body's
        return (rows[..., 2] < 200).argmax(axis=1)  # where each row of the body begins

    np.testing.assert_allclose(outline("tilt", "none"), outline("lean", "horizontal"), atol=1)
    assert np.abs(outline("tilt", "none") - outline("lean", "none")).max() > 1
    assert "lean" not in critters.attribute_values()["body"]


def test_files_of_other_attributes_have_other_names(monkeypatch: pytest.MonkeyPatch):
    before = critters.vocabulary()
    monkeypatch.setattr(critters, "attribute_values", lambda: {"body": ("dome", "lean")})
    assert critters.vocabulary.__wrapped__() != before


@pytest.mark.slow
def test_an_attribute_classifier_learns_and_knows_its_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attribute_classifier, "EPOCHS", 20)
    monkeypatch.setattr(attribute_classifier, "WIDTHS", (16, 24, 32))
    found = attribute_classifier.load(tmp_path, 16, train=256, held_out=64)
    assert list(found.accuracy) == list(critters.ATTRIBUTES)
    assert found.accuracy["background colour"] > 0.5  # of 12 colours

    def fail(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(attribute_classifier, "_train", fail)
    again = attribute_classifier.load(tmp_path, 16, train=256, held_out=64)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    assert (again.accuracy, again.confidence) == (found.accuracy, found.confidence)
    np.testing.assert_array_equal(again(pictures), found(pictures))
    truth = critters.cached_attributes(tmp_path, "test", 64)
    unseen = np.load(tmp_path / "critters-64-test-64.npy").reshape(64, 16, 4, 16, 4, 3).mean(axis=(2, 4)).round()
    right = (again(unseen.astype(np.uint8)) == truth).mean(axis=0)
    assert right == pytest.approx(list(found.accuracy.values()), abs=0.05)
    assert again.mean_confidence(unseen.astype(np.uint8)) == pytest.approx(found.confidence, abs=0.05)
    assert 1 / 13 < found.confidence["body"] < 1  # of 13 bodies


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_an_attribute_classifier_takes_every_style_models_size(resolution: int):
    network = attribute_classifier.Network(resolution, 5)
    assert network(attribute_classifier.torch.zeros(2, 3, resolution, resolution)).shape == (2, 5)
