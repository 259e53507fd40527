"""What is exported is what was trained; what fails a check is not written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from serving.engine.latents import address_range, latents
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from small import OVERRIDES, small_trainer
from training.errors import ExportError
from training.loop import checkpoint, loop
from training.monitoring.statistics import new_run
from training.networks import NETWORKS
from training.publish.export import export


@pytest.fixture(scope="module", params=OVERRIDES)
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A short finished run of each family."""
    job = small_trainer(request.param, cache)
    folder = new_run(tmp_path_factory.mktemp("runs"), job.recipe)
    loop.run(job, folder)
    return folder


@pytest.fixture(scope="module")
def model_folder(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run_folder, tmp_path_factory.mktemp("models"))


def of(*names: str) -> pytest.MarkDecorator:
    """For tests that need no run but these families'."""
    return pytest.mark.parametrize("run_folder", names, indirect=True)


def damaged(run_folder: Path, tmp_path: Path, damage: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a run's checkpoint whose averaged generator is broken on purpose."""
    state = checkpoint.load(run_folder / "checkpoint.pt")
    damage(state["average"])
    checkpoint.save(tmp_path / "checkpoint.pt", state)
    return tmp_path


@pytest.mark.slow
def test_a_network_that_still_grows_is_not_exported(tmp_path: Path, cache: Path):
    job = small_trainer("stylegan-lite-critters-grown", cache)  # whole from 0.16 kimg on
    while job.kimg < 0.144:
        job.step()
    checkpoint.save(tmp_path / "checkpoint.pt", checkpoint.capture(job))
    with pytest.raises(ExportError, match=r"growing, at 0\.144 kimg; all layers are in use from 0\.16 kimg on"):
        export(tmp_path, tmp_path / "models")
    assert not (tmp_path / "models").exists()
    job.step()
    checkpoint.save(tmp_path / "checkpoint.pt", checkpoint.capture(job))
    assert export(tmp_path, tmp_path / "models").is_dir()


@pytest.mark.parametrize("upsampling", ["resize", "shuffle"])
def test_other_upsampling_is_exported(upsampling: str, tmp_path: Path, cache: Path):
    job = small_trainer("dcgan-mnist", cache, f"network.upsampling={upsampling}")
    while not job.finished:
        job.step()
    checkpoint.save(tmp_path / "checkpoint.pt", checkpoint.capture(job))
    folder = export(tmp_path, tmp_path / "models")  # or ONNX does not give torch's images
    operators = [node.op_type for node in onnx.load(str(folder / "generator.onnx")).graph.node]
    assert operators.count("ConvTranspose") == 1  # the first layer alone
    assert ("Resize" in operators) == (upsampling == "resize")
    assert ("DepthToSpace" in operators) == (upsampling == "shuffle")


def test_the_model_document_says_what_was_trained(run_folder: Path, model_folder: Path):
    document: dict[str, Any] = json.loads((model_folder / "model.json").read_text())
    state = checkpoint.load(run_folder / "checkpoint.pt")
    assert document["id"] == model_folder.name == state["recipe"]["id"]
    assert document["training"]["images_seen"] == state["images_seen"] == 320
    assert document["training"]["recipe"] == json.loads(json.dumps(state["recipe"]))
    assert document["training"]["device"].startswith("CPU")
    assert document["metrics"] == []
    assert document["dataset"]["licence"] in ("CC BY-SA 3.0", "CC0 1.0")
    of_styles = {"mixing.png", "truncation.png"} if document["style"] else set()
    assert {path.name for path in model_folder.iterdir()} == {
        *("model.json", "README.md", "samples.png", "interpolation.png", "training.png", "training.jsonl"),
        *of_styles,
        *document["files"],
    }


def test_onnx_gives_torchs_pictures_at_any_batch(run_folder: Path, model_folder: Path):
    """Against the trainer's own forward pass, not against the code that export checks with."""
    runtime = Runtime(load_model(model_folder))
    recipe, state = checkpoint.read_run(run_folder / "checkpoint.pt")
    z = latents(address_range(3, 0, 70), runtime.model.latent_size)
    labels = np.arange(70) % 10 if runtime.model.classes else None
    shape: tuple[Any, ...] = (
        recipe.network,
        recipe.data.resolution,
        state["channels"],
        10 if state["classes"] else None,
    )
    generator = NETWORKS[recipe.family].Generator(*shape)
    generator.load_state_dict(state["average"])
    with torch.no_grad():
        arguments = [torch.from_numpy(z)] + ([] if labels is None else [torch.from_numpy(labels)])
        pictures = generator.eval()(*arguments).clamp(-1, 1).permute(0, 2, 3, 1).numpy()
    for batch in (1, 13, 70):
        rows = [slice(k, k + batch) for k in range(0, 70, batch)]
        found = np.concatenate([runtime.generate(z[r], None if labels is None else labels[r]) for r in rows])
        assert np.abs(found - (pictures + 1) * 127.5).max() < 0.51  # the nearest level


def test_the_graphs_keep_to_the_format(model_folder: Path):
    for path in model_folder.glob("*.onnx"):
        model = onnx.load(path)
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}  # no custom operators
        assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
        assert not any(node.op_type.startswith("Random") for node in model.graph.node)  # one latent, one image
        for value in [*model.graph.input, *model.graph.output]:
            assert value.type.tensor_type.shape.dim[0].dim_param  # N is free
        if path.name != "mapping.onnx":
            assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


@of("cgan-mnist", "stylegan-lite-critters-grown")  # one graph, and two
def test_exporting_again_replaces_the_model_whole(run_folder: Path, model_folder: Path, tmp_path: Path):
    first = shutil.copytree(model_folder, tmp_path / model_folder.name)
    sha256 = load_model(first).sha256
    assert load_model(export(run_folder, tmp_path)).sha256 == sha256  # and the same run gives the same files
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@of("dcgan-mnist")
def test_a_constant_image_is_rejected_and_the_model_kept(run_folder: Path, model_folder: Path, tmp_path: Path):
    def grey(average: dict[str, torch.Tensor]) -> None:
        average["layers.6.weight"].zero_()

    published = shutil.copytree(model_folder, tmp_path / "models" / model_folder.name)
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    with pytest.raises(ExportError, match="constant images"):
        export(damaged(run_folder, tmp_path, grey), tmp_path / "models")
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before
    assert list((tmp_path / "models").iterdir()) == [published]


@of("cgan-mnist")
def test_a_label_without_effect_is_refused(run_folder: Path, tmp_path: Path):
    def deaf(average: dict[str, torch.Tensor]) -> None:
        for name, table in average.items():
            if name.endswith((".scale.weight", ".bias.weight")):
                table[3] = table[7]

    run = damaged(run_folder, tmp_path, deaf)
    with pytest.raises(ExportError, match=r"^labels: two labels gave the same picture"):
        export(run, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


@of("stylegan-lite-critters-grown")
def test_a_style_layer_without_effect_is_refused(run_folder: Path, tmp_path: Path):
    def deaf(average: dict[str, torch.Tensor]) -> None:
        average["synthesis.layers.3.style.weight"].zero_()

    run = damaged(run_folder, tmp_path, deaf)
    with pytest.raises(ExportError, match=r"^styles: layer 3 changes no picture"):
        export(run, tmp_path / "models")
