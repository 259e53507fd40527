"""Requests become rows of the last graph: the same address, the same row, whichever operation asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from serving.engine import generation
from serving.engine.generation import Plan, RequestError
from serving.engine.latents import Address, address_range, latents, slerp
from serving.engine.repository import load_repository
from serving.engine.runtime import Runtime

TOP = 2**64 - 1


@pytest.fixture(scope="module")
def runtimes(repository_folder: Path) -> dict[str, Runtime]:
    return {id: Runtime(model) for id, model in load_repository(repository_folder).items()}


def w_of(runtime: Runtime, plan: generation.Plan) -> np.ndarray:
    """The styles of a plan's addresses (N, L, W)."""
    return runtime.map(latents(plan.inputs["address"], runtime.model.latent_size), plan.inputs["psi"])


def render(runtime: Runtime, plan: Plan) -> np.ndarray:
    images = runtime.synthesize(plan.inputs)
    assert len(images) == len(plan) == len(plan.addresses)
    return images


@contextmanager
def rejected(pointer: str, message: str) -> Iterator[None]:
    with pytest.raises(RequestError, match=message) as caught:
        yield
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("id", ["tiny-dcgan", "tiny-cgan", "tiny-style"])
def test_a_sample_is_its_addresses_one_by_one(runtimes: dict[str, Runtime], id: str):
    runtime = runtimes[id]
    plan = generation.sample(runtime, n=20, seed=7, start=3)
    assert plan.addresses == address_range(7, 3, 20)
    together = render(runtime, plan)
    for i in (0, 7, 19):
        np.testing.assert_array_equal(render(runtime, generation.sample(runtime, seed=7, start=3 + i))[0], together[i])
    assert len({image.tobytes() for image in together}) == 20


def test_a_sample_is_the_latents_of_its_addresses(runtimes: dict[str, Runtime]):
    plan = generation.sample(runtimes["tiny-dcgan"], n=2, seed=TOP, start=TOP - 1)
    np.testing.assert_array_equal(plan.inputs["address"], np.array([[TOP, TOP - 1], [TOP, TOP]], np.uint64))
    z = latents([Address(TOP, TOP - 1), Address(TOP, TOP)], 8)
    np.testing.assert_array_equal(render(runtimes["tiny-dcgan"], plan), runtimes["tiny-dcgan"].synthesize({"z": z}))
    assert plan.labels is None
    many = generation.sample(runtimes["tiny-dcgan"], n=100, seed=TOP)
    np.testing.assert_array_equal(many.inputs["z"], latents(address_range(TOP, 0, 100), 8))


def test_a_range_past_the_last_address_is_rejected(runtimes: dict[str, Runtime]):
    with rejected("/start", rf"`start` \(={TOP}\) must be between 0 and {TOP - 1}"):
        generation.sample(runtimes["tiny-dcgan"], n=2, seed=1, start=TOP)


def test_without_labels_the_class_follows_from_the_index(runtimes: dict[str, Runtime]):
    plan = generation.sample(runtimes["tiny-cgan"], n=12, seed=7, start=8)
    assert plan.labels == [8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert plan.inputs["label"].tolist() == plan.labels


@pytest.mark.parametrize(("labels", "expected"), [(3, [3, 3]), ("3", [3, 3]), ([3, "9"], [3, 9]), ((0, 1), [0, 1])])
def test_labels_are_one_for_all_or_one_an_image(runtimes: dict[str, Runtime], labels, expected: list[int]):
    plan = generation.sample(runtimes["tiny-cgan"], n=2, seed=7, labels=labels)
    assert plan.labels == expected
    same = generation.sample(runtimes["tiny-cgan"], n=2, seed=7, labels=expected)
    np.testing.assert_array_equal(render(runtimes["tiny-cgan"], plan), render(runtimes["tiny-cgan"], same))


@pytest.mark.parametrize(
    ("labels", "pointer", "message"),
    [
        (10, "/labels", r"`labels` \(=10\) must be an index between 0 and 9 or one of 0, 1, 2"),
        (-1, "/labels", r"`labels` \(=-1\)"),
        (True, "/labels", r"`labels` \(=True\)"),
        ("ten", "/labels", r"`labels` \(='ten'\)"),
        ([0, "x"], "/labels/1", r"`labels\[1\]` \(='x'\)"),
        ([0, 1, 2], "/labels", "has 3 entries; it must be one label for all, or 2"),
        ([], "/labels", "has 0 entries"),
    ],
)
def test_a_label_that_is_no_class_is_rejected(runtimes: dict[str, Runtime], labels, pointer: str, message: str):
    with rejected(pointer, message):
        generation.sample(runtimes["tiny-cgan"], n=2, seed=7, labels=labels)


def test_what_a_model_cannot_do_is_rejected(runtimes: dict[str, Runtime]):
    dcgan, cgan, style = runtimes["tiny-dcgan"], runtimes["tiny-cgan"], runtimes["tiny-style"]
    ends = address_range(1, 0, 2)
    with rejected("/labels", "tiny-dcgan has no classes"):
        generation.sample(dcgan, seed=1, labels=[0])
    with rejected("/truncation", r"`truncation` \(=0.5\) is for style models"):
        generation.sample(cgan, seed=1, truncation=0.5)
    with rejected("/model", "whose classes are the digits"):
        generation.digits(style, digits="12", seed=1)
    with rejected("/model", "must be a style model"):
        generation.style_mix(cgan, rows=ends, columns=ends, styles="coarse")
    with rejected("/space", "tiny-cgan has only"):
        generation.interpolate(cgan, keyframes=ends, frames=4, space="w")
    with rejected("/styles/1", r"`styles\[1\]` \(=6\) must be a layer between 0 and 5"):
        generation.style_mix(style, rows=ends, columns=ends, styles=[5, 6])


def test_truncation_pulls_towards_one_picture(runtimes: dict[str, Runtime]):
    runtime = runtimes["tiny-style"]

    def spread(truncation: float | None) -> float:
        return float(
            render(runtime, generation.sample(runtime, n=16, seed=1, truncation=truncation)).std(axis=0).mean()
        )

    assert spread(0.0) == 0 < spread(0.3) < spread(0.7) < spread(1.0) == spread(None)


def test_digits_are_read_left_to_right_and_row_by_row(runtimes: dict[str, Runtime]):
    runtime = runtimes["tiny-cgan"]
    plan = generation.digits(runtime, digits="2026", rows=2, seed=5)
    assert plan.labels == [2, 0, 2, 6, 2, 0, 2, 6]
    assert plan.addresses == address_range(5, 0, 8)
    same = generation.sample(runtime, n=1, seed=5, start=7, labels="6")
    np.testing.assert_array_equal(render(runtime, plan)[7], render(runtime, same)[0])
    assert generation.digits(runtime, digits=[2, 0, 2, 6], rows=2, seed=5).labels == plan.labels


@pytest.mark.parametrize("id", ["tiny-dcgan", "tiny-cgan", "tiny-style"])
@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_a_frame_on_a_keyframe_is_that_addresss_picture(runtimes: dict[str, Runtime], id: str, method):
    runtime = runtimes[id]
    keyframes = [Address(1, 4), Address(9, 9), Address(TOP, TOP)]
    plan = generation.interpolate(runtime, keyframes=keyframes, frames=9, method=method)
    assert plan.addresses == [keyframes[0], None, None, None, keyframes[1], None, None, None, keyframes[2]]
    images = render(runtime, plan)
    for frame in (0, 4, 8):
        address = plan.addresses[frame]
        assert address is not None
        alone = generation.sample(runtime, seed=address.seed, start=address.index)
        np.testing.assert_array_equal(images[frame], render(runtime, alone)[0])
    assert len({image.tobytes() for image in images}) == 9


def test_a_keyframe_in_w_is_that_addresss_picture(runtimes: dict[str, Runtime]):
    runtime = runtimes["tiny-style"]
    plan = generation.interpolate(runtime, keyframes=address_range(1, 0, 2), frames=3, space="w", truncation=0.7)
    ends = generation.sample(runtime, n=2, seed=1, truncation=0.7)
    np.testing.assert_array_equal(render(runtime, plan)[[0, 2]], render(runtime, ends))
    middle = w_of(runtime, ends).mean(axis=0)
    np.testing.assert_allclose(plan.inputs["w"][1], middle, rtol=1e-5, atol=1e-6)


def test_a_path_in_w_is_straight_unless_asked_otherwise(runtimes: dict[str, Runtime]):
    runtime, ends = runtimes["tiny-style"], address_range(1, 0, 2)
    a, b = w_of(runtime, generation.sample(runtime, n=2, seed=1))
    paths = {
        method: generation.interpolate(runtime, keyframes=ends, frames=3, space="w", method=method).inputs["w"][1]
        for method in (None, "lerp", "slerp")
    }
    np.testing.assert_array_equal(paths[None], paths["lerp"])
    np.testing.assert_allclose(paths["slerp"], slerp(a, b, 0.5))
    assert not np.allclose(paths["lerp"], paths["slerp"])


def test_a_loop_goes_on_to_just_before_its_beginning(runtimes: dict[str, Runtime]):
    runtime = runtimes["tiny-dcgan"]
    a, b = address_range(1, 0, 2)
    loop = generation.interpolate(runtime, keyframes=[a, b], frames=8, loop=True)
    assert loop.addresses == [a, None, None, None, b, None, None, None]
    there_and_back = generation.interpolate(runtime, keyframes=[a, b, a], frames=9)
    np.testing.assert_array_equal(loop.inputs["z"], there_and_back.inputs["z"][:8])


def test_frames_that_meet_no_keyframe_are_even(runtimes: dict[str, Runtime]):
    plan = generation.interpolate(runtimes["tiny-dcgan"], keyframes=address_range(1, 0, 3), frames=6, method="lerp")
    a, b, c = latents(address_range(1, 0, 3), 8)
    expected = [a, 0.6 * a + 0.4 * b, 0.2 * a + 0.8 * b, 0.8 * b + 0.2 * c, 0.4 * b + 0.6 * c, c]
    np.testing.assert_allclose(plan.inputs["z"], expected, rtol=1e-5, atol=1e-6)
    assert plan.addresses[1:5] == [None] * 4


def test_a_frame_has_the_class_of_its_nearest_keyframe(runtimes: dict[str, Runtime]):
    plan = generation.interpolate(runtimes["tiny-cgan"], keyframes=address_range(1, 0, 2), frames=5, labels=[3, "8"])
    assert plan.labels == [3, 3, 8, 8, 8]
    one = generation.interpolate(runtimes["tiny-cgan"], keyframes=address_range(1, 0, 2), frames=3, labels=4)
    assert one.labels == [4, 4, 4]
    by_address = generation.interpolate(runtimes["tiny-cgan"], keyframes=[Address(1, 13), Address(1, 27)], frames=2)
    assert by_address.labels == [3, 7]


def test_a_single_frame_is_the_first_keyframe(runtimes: dict[str, Runtime]):
    plan = generation.interpolate(runtimes["tiny-dcgan"], keyframes=address_range(1, 0, 2), frames=1)
    assert plan.addresses == [Address(1, 0)]


@pytest.mark.parametrize(
    ("styles", "layers"), [("coarse", [0, 1]), ("middle", [2, 3]), ("fine", [4, 5]), ([0, 5], [0, 5])]
)
def test_a_mix_has_the_columns_styles_and_the_rows_rest(runtimes: dict[str, Runtime], styles, layers: list[int]):
    runtime = runtimes["tiny-style"]
    rows, columns = address_range(1, 0, 2), address_range(2, 0, 3)
    plan = generation.style_mix(runtime, rows=rows, columns=columns, styles=styles, truncation=0.8)
    assert len(plan) == 6 and plan.addresses == [None] * 6
    w_rows = w_of(runtime, generation.sample(runtime, n=2, seed=1, truncation=0.8))
    w_columns = w_of(runtime, generation.sample(runtime, n=3, seed=2, truncation=0.8))
    for position, w in enumerate(plan.inputs["w"]):
        for layer in range(6):
            source = w_columns[position % 3] if layer in layers else w_rows[position // 3]
            np.testing.assert_array_equal(w[layer], source[layer])
    assert plan.sources is not None and plan.sources.addresses == [*rows, *columns]
    np.testing.assert_array_equal(plan.sources.inputs["w"], np.concatenate([w_rows, w_columns]))


def test_a_mix_of_all_layers_is_the_column_and_of_none_the_row(runtimes: dict[str, Runtime]):
    runtime = runtimes["tiny-style"]
    rows, columns = [Address(1, 0)], [Address(2, 0)]
    whole = generation.style_mix(runtime, rows=rows, columns=columns, styles=range(6))
    nothing = generation.style_mix(runtime, rows=rows, columns=columns, styles=[])
    assert whole.sources is not None
    row, column = render(runtime, whole.sources)
    np.testing.assert_array_equal(render(runtime, whole)[0], column)
    np.testing.assert_array_equal(render(runtime, nothing)[0], row)
