"""A model's card is made from its folder, says what was measured, and shows what it says."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.engine import generation
from serving.engine.latents import address_range
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training.__main__ import main
from training.datasets import critters
from training.evaluation import attribute_classifier, samples, style_mixing
from training.evaluation.metric import Baseline, Value, value
from training.publish import card_images, model_card


@pytest.fixture(params=["tiny-dcgan", "tiny-cgan", "tiny-style"])
def folder(request: pytest.FixtureRequest, repository_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository_folder / request.param, tmp_path / request.param))


@pytest.fixture
def style_folder(repository_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository_folder / "tiny-style", tmp_path / "tiny-style"))


def measured(folder: Path, *figures: Value) -> str:
    """The card of the model in `folder` with these figures and no others."""
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(document | {"metrics": list(figures)}))
    model_card.write(folder)
    return (folder / "README.md").read_text()


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_command_draws_and_writes_and_measures_nothing(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = (folder / "model.json").read_bytes()
    assert main(["card", str(folder)]) == 0
    assert (folder / "model.json").read_bytes() == before
    text = (folder / "README.md").read_text()
    assert text == model_card.render(folder)
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"samples.png", "interpolation.png"} | (
        {"mixing.png", "truncation.png"} if folder.name == "tiny-style" else set()
    )
    assert all(f"]({name})" in text for name in pictures)
    assert f"python -m training train {folder.name}\n" in text
    assert "The record of this run was not kept" in text
    assert capsys.readouterr().out == f"written: {folder / 'README.md'}\n"


def test_the_strips_are_what_the_server_interpolates(folder: Path):
    model_card.write(folder)
    runtime = Runtime(load_model(folder), threads=1)
    classes = runtime.model.classes
    plan = generation.interpolate(
        runtime,
        keyframes=address_range(0, 2, 2),
        frames=10,
        space="w" if runtime.model.style else "z",
        labels="1" if classes else None,
    )
    second = pixels(folder / "interpolation.png")[32:64]  # two pixels for one of 16
    strip = np.concatenate(list(runtime.synthesize(plan.inputs)), axis=1).squeeze()  # (16, 160) or (16, 160, 3)
    np.testing.assert_array_equal(second[::2, ::2], strip)


def test_the_mixing_image_has_sources_and_a_grid_per_group(style_folder: Path):
    model_card.write(style_folder)
    runtime = Runtime(load_model(style_folder), threads=1)
    own, _ = samples.generate(runtime, 0, 8, seed=0)
    side, found = 5 * 32, pixels(style_folder / "mixing.png")
    assert found.shape == (side, 3 * side + 2 * 16, 3)
    for number, group in enumerate(samples.STYLES):
        grid = found[:, number * (side + 16) :][:, :side]
        np.testing.assert_array_equal(grid[32:64:2, 0:32:2], own[0])
        np.testing.assert_array_equal(grid[0:32:2, 32:64:2], own[4])
        plan = generation.style_mix(runtime, rows=[(0, 1)], columns=[(0, 6)], styles=group)  # pyright: ignore[reportArgumentType]
        np.testing.assert_array_equal(grid[64:96:2, 96:128:2], runtime.synthesize(plan.inputs)[0])


def test_the_truncation_image_goes_from_one_image_to_samples(style_folder: Path):
    model_card.write(style_folder)
    found = pixels(style_folder / "truncation.png")
    assert found.shape == (6 * 32, 8 * 32, 3)
    assert (found[:32].reshape(32, 8, 32, 3) == found[:32, None, :32]).all()  # psi 0
    np.testing.assert_array_equal(found[-32:], pixels(style_folder / "samples.png")[:32])  # psi 1


def test_figures_that_were_measured_alike_share_a_note(style_folder: Path):
    text = measured(
        style_folder,
        value("fid", 12.345, "this way", 2500, "x", Baseline(1.5, "2,500 training pictures")),
        value("precision", 0.25, "that way", 2500, "x", Baseline(0.75, "2,500 training pictures")),
        value("recall", 0.5, "that way", 2500, "x"),
    )
    assert "| FID | 12.35 | 1.50 | 2,500 | 1 |" in text or "| FID | 12.34 | 1.50 | 2,500 | 1 |" in text
    assert "| Precision | 25.0% | 75.0% | 2,500 | 2 |\n| Recall | 50.0% |  | 2,500 | 2 |" in text
    assert "\n1. this way\n2. that way\n" in text
    assert "- 75% (of real ones 25%) of its pictures lie outside of what real pictures cover" in text
    assert "- 50% of real pictures lie outside of what it covers" in text


def mixing_figures(by_attribute: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    accuracy, sure, less_sure = (dict.fromkeys(critters.ATTRIBUTES, share) for share in (0.9, 0.8, 0.5))
    return [
        value(
            f"mixing_{group}_share", 0.5, "as the reader reads", 10, "none",
            by_attribute=by_attribute, reader_accuracy=accuracy, reader_confidence=sure, confidence=less_sure,
            follows={name: "column" if style_mixing.LEVEL[name] == group else "row" for name in critters.ATTRIBUTES},
        )
        for group in samples.STYLES
    ]  # fmt: skip


def test_mixing_is_told_by_attribute_and_its_worst_named(style_folder: Path):
    shares = {name: {"row": 0.7, "column": 0.2, "pairs": 10} for name in critters.ATTRIBUTES}
    shares["mouth"] = {"row": 0.11, "column": 0.6, "pairs": 10}
    text = measured(style_folder, *mixing_figures(shares))
    assert "| mouth | 11% | 60% | 11% | 60% | 11% | 60% | 90.0% | 80% | 50% |" in text
    assert "- With coarse styles mixed, the row decides the mouth in 11% of mixes only." in text
    assert "- With fine styles mixed, the row decides the mouth in 11% of mixes only." in text


def test_what_mixing_and_w_cost_is_said(style_folder: Path):
    ppl = (value(f"ppl_{space}", length, "so", 10, "none") for space, length in (("z", 100.0), ("w", 200.0)))
    worse = measured(style_folder, value("fid", 10.0, "a", 50, "x"), value("fid_mixed", 13.0, "b", 50, "x"), *ppl)
    assert (
        "- Mixes of two pictures are farther from real ones than pictures of one latent: FID 13.00 for 10.00." in worse
    )
    assert "- Paths in w are no smoother than paths in z" in worse
    better = measured(style_folder, value("fid", 10.0, "a", 50, "x"), value("fid_mixed", 13.0, "b", 40, "x"))
    assert "- Mixes of two" not in better and "- Paths in w" not in better  # of other numbers of images: not compared


def test_a_classifiers_errors_are_told_beside_its_real_ones(style_folder: Path):
    by_class, real = {"Shirt": 0.7, "Bag": 0.875}, {"Shirt": 0.725, "Bag": 0.99}
    table = [[7, 3], [0, 10]]
    read = value("gan_test_accuracy", 0.8, "so", 10, "x", by_class=by_class, real_by_class=real, confusion=table)
    text = measured(style_folder, read)
    assert "class by class, and in brackets real ones: Shirt 70.0% (72.5%), Bag 87.5% (99.0%)." in text
    assert "- Asked for Bag, what it makes is read as something else in 12.5% (of real ones 1.0%)." in text
    assert "| asked \\ read | Shirt | Bag |" in text
    some = value(
        "gan_test_accuracy", 0.8, "so", 10, "x", by_class=by_class, real_by_class={"Shirt": 0.9}, confusion=table
    )
    assert "Shirt 70.0% (90.0%), Bag 87.5% (none seen)." in measured(style_folder, some)
    judged = value("judge_accuracy", 0.9, "so", 10, "x", by_class={"Shirt": 0.9, "Bag": 1.0}, confusion=table)
    text = measured(style_folder, judged, read)
    assert "- Asked for Shirt, what it makes is read as something else in 10.0%." in text
    assert "- Asked for Bag" not in text  # said once, by the digit classifier


def test_truncation_is_a_table(style_folder: Path):
    rows = [{"psi": psi, "fid": 10 * psi, "precision": 1 - psi, "recall": psi} for psi in (0.4, 1.0)]
    text = measured(style_folder, value("truncation_psi", 0.4, "so", 10, "x", by_psi=rows))
    assert "| 0.4 | 4.00 | 60.0% | 40.0% |\n| 1 | 10.00 | 0.0% | 100.0% |" in text


def test_a_model_of_several_processes_is_made_again_by_as_many(style_folder: Path):
    document = json.loads((style_folder / "model.json").read_text())
    document["training"]["device"] = "CPU, 1 thread, 2 processes"
    (style_folder / "model.json").write_text(json.dumps(document))
    assert "python -m training train tiny-style --devices 2\n" in measured(style_folder)


def test_a_model_from_a_snapshot_says_which(style_folder: Path):
    document = json.loads((style_folder / "model.json").read_text())
    document["training"] |= {"images_seen": 500_000, "seconds": 60.0, "recipe": {"total_kimg": 600.0}}
    (style_folder / "model.json").write_text(json.dumps(document))
    text = measured(style_folder)
    assert "0.50 million pictures (500 of 600 kimg) in 1 minutes" in text
    assert "python -m training export runs/00000-tiny-style/snapshots/000500.0.pt  #" in text

    document["training"]["images_seen"] = 600_000
    (style_folder / "model.json").write_text(json.dumps(document))
    text = measured(style_folder)
    assert "(600 kimg)" in text and "export runs/00000-tiny-style  #" in text


def test_the_curve_is_drawn_from_what_is_kept_of_the_run(style_folder: Path, tmp_path: Path):
    lines = [
        {"kimg": k, "seconds": 60 * k, "generator_loss": 1 + k, "r1_penalty": 0.123456789, "real_probability": 0.5}
        | ({"fid": 500 / k} if k in (101, 333, 500) else {})
        for k in range(1, 501)
    ]  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    (run / "options.json").write_text("{}")
    (run / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    document = json.loads((style_folder / "model.json").read_text())
    document["training"]["recipe"] = {"monitoring": {"fid_pictures": 1000}}
    (style_folder / "model.json").write_text(json.dumps(document))
    assert main(["card", str(style_folder), "--run", str(run)]) == 0

    kept = [json.loads(line) for line in (style_folder / card_images.RECORD).read_text().splitlines()]
    assert {1, 101, 333, 500} <= {line["kimg"] for line in kept} and 120 <= len(kept) <= 123
    assert kept == sorted(kept, key=lambda line: line["kimg"])
    assert kept[0] == {"kimg": 1, "seconds": 60, "generator_loss": 2, "real_probability": 0.5}  # what a curve shows
    text = (style_folder / "README.md").read_text()
    assert "FID on the way, of 1,000 pictures: 5.0 at 101 kimg (101 min); 1.5 at 333 kimg (333 min); 1.0 at" in text
    assert "![training](training.png)" in text
    height, width, _ = pixels(style_folder / "training.png").shape
    assert width > 2 * height  # side by side

    assert main(["card", str(style_folder)]) == 0  # later, without the run
    assert (style_folder / "README.md").read_text() == text


def test_a_run_that_is_none_is_refused_and_nothing_is_written(style_folder: Path, capsys: pytest.CaptureFixture[str]):
    before = sorted(style_folder.iterdir())
    assert main(["card", str(style_folder), "--run", str(style_folder)]) == 1
    assert "is no run folder" in capsys.readouterr().err
    assert sorted(style_folder.iterdir()) == before


def test_the_levels_of_attributes_are_those_that_are_rendered():
    assert style_mixing.LEVEL.keys() == critters.ATTRIBUTES.keys()
    assert attribute_classifier.GRID == 16
