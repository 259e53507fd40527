"""Latents of NumPy's RandomState, the convention of StyleGAN's own tools: seed 85 is RandomState(85).randn."""

import json
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from serving.engine import generation
from serving.engine.generation import RequestError
from serving.engine.latents import Address, address_range, check_address, draw_seed, latents
from serving.engine.model_json import DocumentError, parse
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime

TOP = 2**32 - 1


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(load_model(tiny_models.build_imported(tmp_path_factory.mktemp("models")) / "tiny-imported"))


def test_a_seed_means_the_latent_of_stylegan2s_own_tools():
    found = latents([Address(85, 0)], 3, "numpy-randomstate")
    np.testing.assert_allclose(found[0], [0.1768507210788626, 2.3777541249700573, 0.998732857053734], rtol=1e-6)
    assert found.dtype == np.float32


def test_seed_and_index_add_up():
    many = latents(address_range(600, 0, 6), 8, "numpy-randomstate")
    singles = latents([Address(seed, 0) for seed in range(600, 606)], 8, "numpy-randomstate")
    np.testing.assert_array_equal(many, singles)
    rows = np.array([(600, 5), (0, 605)], np.uint64)
    np.testing.assert_array_equal(latents(rows, 8, "numpy-randomstate"), many[[5, 5]])


@pytest.mark.parametrize(
    ("seed", "last", "field"),
    [(TOP, 0, None), (0, TOP, None), (TOP, 1, "index"), (TOP + 1, 0, "seed"), (2**64 - 1, 2**64 - 1, "seed")],
)
def test_the_last_seed_of_32_bits_has_a_latent(seed: int, last: int, field: str | None):
    error = check_address("numpy-randomstate", seed, last)
    assert (error and error[0]) == field
    assert check_address("philox", seed, last) is None


def test_a_drawn_seed_has_latents_up_to_the_last_index():
    for last in (0, 255, TOP - 1, TOP, 2**40):
        assert draw_seed("numpy-randomstate", last) <= max(0, TOP - last)


@pytest.mark.parametrize(("seed", "start", "pointer"), [(TOP + 1, 0, "/seed"), (TOP - 1, 1, "/start")])
def test_a_range_without_latents_is_rejected(runtime: Runtime, seed: int, start: int, pointer: str):
    with pytest.raises(RequestError) as error:
        generation.sample(runtime, n=2, seed=seed, start=start)
    assert error.value.pointer == pointer
    generation.sample(runtime, n=1, seed=TOP - 1, start=1)


def test_every_address_of_a_path_or_a_mix_is_looked_at(runtime: Runtime):
    good, bad = Address(TOP, 0), Address(TOP, 1)
    for pointer, call in {
        "/keyframes/1": lambda: generation.interpolate(runtime, keyframes=[good, bad], frames=3),
        "/rows/0": lambda: generation.style_mix(runtime, rows=[bad], columns=[good], styles="fine"),
        "/columns/1": lambda: generation.style_mix(runtime, rows=[good], columns=[good, bad], styles="fine"),
    }.items():
        with pytest.raises(RequestError) as error:
            call()
        assert error.value.pointer == pointer


def test_few_and_many_latents_are_the_same(runtime: Runtime):
    """Few travel as addresses and are drawn by the thread that computes; many are drawn before."""
    many = runtime.synthesize(generation.sample(runtime, n=32, seed=600).inputs)
    for i in (0, 7, 31):
        one = runtime.synthesize(generation.sample(runtime, seed=600 + i, labels=i % 3).inputs)
        np.testing.assert_array_equal(one[0], many[i])


def test_a_class_reaches_the_mapping_network(runtime: Runtime):
    red, green = (
        runtime.synthesize(generation.sample(runtime, seed=1, labels=name).inputs) for name in ("red", "green")
    )
    assert (red != green).any()
    mix = generation.style_mix(
        runtime, rows=[Address(1, 0)], columns=[Address(2, 0)], styles=range(6), labels=["red", "green"]
    )
    column = runtime.synthesize(generation.sample(runtime, seed=2, labels="green").inputs)
    np.testing.assert_array_equal(runtime.synthesize(mix.inputs), column)
    assert mix.sources is not None and mix.sources.labels == [0, 1]


def test_how_a_seed_becomes_a_latent_is_part_of_the_sha256(runtime: Runtime, tmp_path: Path):
    folder = tiny_models.build_imported(tmp_path) / "tiny-imported"
    document = json.loads((folder / "model.json").read_text())
    for latents_, same in (("numpy-randomstate", True), ("philox", False)):
        (folder / "model.json").write_text(json.dumps(document | {"latents": latents_}))
        assert (load_model(folder).sha256 == runtime.model.sha256) is same
    with pytest.raises(DocumentError, match="`latents`"):
        parse(json.dumps(document | {"latents": "mersenne"}).encode())


@pytest.mark.parametrize(("size", "most"), [(16, 16), (128, 16), (256, 4), (512, 1), (1024, 1)])
def test_micro_batches_follow_the_image_size(runtime: Runtime, size: int, most: int, monkeypatch: pytest.MonkeyPatch):
    from dataclasses import replace

    image = replace(runtime.model.image, height=size, width=size)
    monkeypatch.setattr(runtime, "model", replace(runtime.model, image=image))
    assert runtime.max_batch == most
