"""Semantic directions: what is read from a model's folder, and what edits do to w."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engine import generation
from serving.engine.directions import Edit, parse_edit
from serving.engine.generation import RequestError
from serving.engine.latents import Address
from serving.engine.repository import ModelError, load_model
from serving.engine.runtime import Runtime
from tiny_models import add_directions

UP, FINE = Edit("up", 2.0), Edit("fine", -1.5)


@pytest.fixture(scope="module")
def folder(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("directions") / "tiny-style"
    shutil.copytree(repository_folder / "tiny-style", copy)
    return copy


@pytest.fixture(scope="module")
def vectors(folder: Path) -> dict[str, np.ndarray]:
    return add_directions(folder)


@pytest.fixture(scope="module")
def runtime(folder: Path, vectors: dict[str, np.ndarray]) -> Runtime:
    return Runtime(load_model(folder), threads=1)


def styles(runtime: Runtime, *seeds: int, psi: float = 1) -> np.ndarray:
    """The w (N, 6, 12) of index 0 of some seeds."""
    address = np.array([(seed, 0) for seed in seeds], np.uint64)
    inputs = {"address": address, "psi": np.full((len(seeds), 6), psi, np.float32)}
    return runtime.map(**runtime.with_latents(inputs))


def test_an_edit_adds_to_w_on_its_layers(runtime: Runtime, vectors: dict[str, np.ndarray]):
    plan = generation.sample(runtime, seed=7, edits=[UP, FINE, Edit("up", 1.0, (0,))], truncation=0.5)
    w = styles(runtime, 7, psi=0.5)
    w += 2 * vectors["up"]
    w[:, 4:] -= np.float32(1.5) * vectors["fine"]
    w[:, 0] += vectors["up"]
    assert np.abs(runtime.synthesize(plan.inputs).astype(int) - runtime.synthesize({"w": w})).max() <= 1


def test_an_edit_of_nothing_changes_nothing(runtime: Runtime):
    plain = runtime.synthesize(generation.sample(runtime, seed=7, n=3).inputs)
    zero = runtime.synthesize(generation.sample(runtime, seed=7, n=3, edits=[Edit("up", 0.0)]).inputs)
    moved = runtime.synthesize(generation.sample(runtime, seed=7, n=3, edits=[UP]).inputs)
    assert (plain == zero).all() and (plain != moved).any()


def test_an_image_does_not_depend_on_its_batch(runtime: Runtime):
    many = runtime.synthesize(generation.sample(runtime, seed=7, n=20, edits=[UP, FINE]).inputs)
    for index in (0, 7, 19):
        one = runtime.synthesize(generation.sample(runtime, seed=7, start=index, edits=[UP, FINE]).inputs)
        assert (one[0] == many[index]).all()


@pytest.mark.parametrize("space", ["z", "w"])
def test_edits_of_keyframes_are_met_at_keyframes(runtime: Runtime, space: Any):
    keyframes = [Address(7, 0), Address(8, 0), Address(9, 0)]
    edits = [[], [UP], [UP, FINE]]
    plan = generation.interpolate(runtime, keyframes=keyframes, frames=5, space=space, edits=edits)
    frames = runtime.synthesize(plan.inputs)
    for k, (address, each) in enumerate(zip(keyframes, edits, strict=True)):
        alone = runtime.synthesize(generation.sample(runtime, seed=address.seed, edits=each).inputs)
        assert (frames[2 * k] == alone[0]).all()
    assert plan.addresses[0] == keyframes[0] and plan.addresses[1] is None


def test_one_list_of_edits_holds_for_all_frames(runtime: Runtime):
    keyframes = [Address(7, 0), Address(8, 0)]
    same = generation.interpolate(runtime, keyframes=keyframes, frames=4, edits=[UP])
    each = generation.interpolate(runtime, keyframes=keyframes, frames=4, edits=[[UP], [UP]])
    assert (runtime.synthesize(same.inputs) == runtime.synthesize(each.inputs)).all()


@pytest.mark.parametrize(
    ("edits", "pointer"),
    [
        ([Edit("none", 1)], "/edits/0/direction"),
        ([UP, Edit("up", 1, (0, 6))], "/edits/1/layers/1"),
    ],
)
def test_what_the_model_has_not_is_pointed_at(runtime: Runtime, edits: list[Edit], pointer: str):
    with pytest.raises(RequestError) as error:
        generation.sample(runtime, seed=7, edits=edits)
    assert error.value.pointer == pointer
    with pytest.raises(RequestError) as error:
        generation.interpolate(runtime, keyframes=[Address(7, 0)] * 2, frames=2, edits=[[], edits])
    assert error.value.pointer == pointer.replace("/edits", "/edits/1")


def test_edits_need_as_many_lists_as_keyframes(runtime: Runtime):
    with pytest.raises(RequestError) as error:
        generation.interpolate(runtime, keyframes=[Address(7, 0)] * 3, frames=2, edits=[[], [UP]])
    assert error.value.pointer == "/edits"


def test_a_model_without_directions_takes_no_edits(repository_folder: Path):
    for id in ("tiny-style", "tiny-dcgan"):
        with pytest.raises(RequestError) as error:
            generation.sample(Runtime(load_model(repository_folder / id), threads=1), seed=7, edits=[UP])
        assert error.value.pointer == "/edits"


def test_the_sha256_of_a_model_covers_its_directions(repository_folder: Path, runtime: Runtime):
    assert runtime.model.sha256 != load_model(repository_folder / "tiny-style").sha256
    assert list(runtime.model.directions) == ["up", "fine"]


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


@pytest.mark.parametrize(
    "change",
    [
        lambda known, arrays: arrays.pop("up"),
        lambda known, arrays: arrays.update(more=arrays["up"]),
        lambda known, arrays: arrays.update(up=arrays["up"].astype(np.float64)),
        lambda known, arrays: arrays.update(up=arrays["up"][:11]),
        lambda known, arrays: arrays.update(up=np.full(12, np.nan, np.float32)),
        lambda known, arrays: arrays.update(up=np.zeros(10**6, np.float32)),
        lambda known, arrays: arrays.update(up=np.array([{}] * 12, object)),
        lambda known, arrays: known["directions"].pop(),
        lambda known, arrays: known["directions"][0].update(layers=[6]),
        lambda known, arrays: known["directions"][0].update(layers=[]),
        lambda known, arrays: known["directions"][0].update(name="../up"),
        lambda known, arrays: known["directions"][0].update(name="fine"),
        lambda known, arrays: known.pop("directions"),
    ],
)
def test_directions_that_do_not_fit_are_rejected(folder: Path, vectors: object, tmp_path: Path, change: Change):
    copy = tmp_path / "tiny-style"
    shutil.copytree(folder, copy)
    known, arrays = json.loads((copy / "model.json").read_text()), dict(np.load(copy / "directions.npz"))
    change(known, arrays)
    np.savez_compressed(copy / "directions.npz", **arrays)
    data = (copy / "directions.npz").read_bytes()
    known["files"]["directions.npz"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (copy / "model.json").write_text(json.dumps(known))
    with pytest.raises(ModelError, match="directions"):
        load_model(copy)


def test_a_damaged_file_is_rejected(folder: Path, vectors: object, tmp_path: Path):
    copy = tmp_path / "tiny-style"
    shutil.copytree(folder, copy)
    data = bytearray((copy / "directions.npz").read_bytes())
    data[60] ^= 1
    (copy / "directions.npz").write_bytes(data)
    with pytest.raises(ModelError, match="sha256"):
        load_model(copy)


@pytest.mark.parametrize("edit", [UP, FINE, Edit("sefa-coarse-0", -0.25, (0, 3))])
def test_the_text_of_an_edit_is_read_back(edit: Edit):
    assert parse_edit(str(edit)) == edit


@pytest.mark.parametrize("text", ["", "up", "up:", ":1", "up:x", "up:1:a", "up:1:0,"])
def test_a_text_that_is_no_edit(text: str):
    with pytest.raises(ValueError, match="NAME:STRENGTH"):
        parse_edit(text)
