"""A model that is there stays until the new one is whole, and is not replaced where that would lose something."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from small import small_trainer
from training.errors import ExportError
from training.loop import loop
from training.monitoring.statistics import new_run
from training.publish import export as exporting
from training.publish import model_folder

NEW = tiny_models.document("tiny", "dcgan", channels=1) | {"metrics": [], "files": {}}
CARD = ("README.md", "samples.png", "training.jsonl", "generator.onnx", "evaluation.partial.json")


def old(folder: Path, *names: str, **fields: Any) -> Path:
    """A model that this project wrote, with what was added to it."""
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(NEW | fields))
    for name in (*CARD, *names):
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a run that can be exported."""
    job = small_trainer("mlp-mnist", cache)
    folder = new_run(tmp_path_factory.mktemp("runs"), job.recipe)
    loop.run(job, folder)
    return folder


def test_a_model_without_metrics_may_be_replaced(tmp_path: Path):
    model_folder.check_replaceable(tmp_path / "none", NEW)
    model_folder.check_replaceable(old(tmp_path / "tiny"), NEW)
    (tmp_path / "empty").mkdir()
    model_folder.check_replaceable(tmp_path / "empty", NEW)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"metrics": [{"name": "fid", "value": 1.0, "protocol": "p"}]}, "would lose 1 metrics (fid)"),
        ({"dataset": {"name": "mine", "licence": "MIT", "source": "me"}}, "1 fields of model.json (dataset)"),
        ({"directions": {}}, "1 fields of model.json (directions)"),
    ],
)
def test_what_a_model_json_would_lose_is_named(added: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(ExportError) as error:
        model_folder.check_replaceable(old(tmp_path / "tiny", **added), NEW)
    assert message in str(error.value) and "Give `--replace`" in str(error.value)


@pytest.mark.parametrize("name", ["notes.txt", ".git", "weights.pt"])
def test_files_that_no_export_wrote_are_named(name: str, tmp_path: Path):
    with pytest.raises(ExportError, match=rf"1 files of others \({name}\)"):
        model_folder.check_replaceable(old(tmp_path / "tiny", name), NEW)


@pytest.mark.parametrize("content", [None, "", "[]", '{"metrics": 3}', "\0"])
def test_a_folder_of_something_else_is_left_alone(content: str | None, tmp_path: Path):
    (tmp_path / "photos.zip").touch()
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(ExportError, match=r"a folder without a model\.json of ours"):
        model_folder.check_replaceable(tmp_path, NEW)
    with pytest.raises(ExportError, match="what is no folder"):
        model_folder.check_replaceable(tmp_path / "photos.zip", NEW)


def test_the_files_of_every_family_and_card_are_ours():
    folders = sorted((Path(__file__).parents[3] / "models").iterdir())
    assert folders
    for folder in folders:
        document = json.loads((folder / "model.json").read_text())
        kept = document | {"metrics": []}
        with pytest.raises(ExportError) as error:
            model_folder.check_replaceable(folder, kept)
        assert "metrics (" in str(error.value) and "files of others" not in str(error.value)


@pytest.mark.parametrize("kind", ["folder", "link", "file", "nothing"])
def test_the_new_folder_takes_the_place_of_the_old(kind: str, tmp_path: Path):
    target, new = tmp_path / "tiny", tmp_path / ".tiny.partial"
    new.mkdir()
    (new / "model.json").write_text("new")
    if kind == "folder":
        old(target)
    elif kind == "link":
        target.symlink_to(old(tmp_path / "elsewhere"))
    elif kind == "file":
        target.touch()
    model_folder.put(new, target)
    assert (target / "model.json").read_text() == "new" and not target.is_symlink()
    assert sorted(os.listdir(tmp_path)) == (["elsewhere", "tiny"] if kind == "link" else ["tiny"])
    assert kind != "link" or (tmp_path / "elsewhere" / "README.md").exists()


def test_the_old_folder_returns_where_the_new_cannot_come(tmp_path: Path):
    target = old(tmp_path / "tiny")
    with pytest.raises(OSError):
        model_folder.put(tmp_path / ".tiny.partial", target)  # it is not there
    assert (target / "README.md").exists() and os.listdir(tmp_path) == ["tiny"]
    target.rename(tmp_path / ".tiny.old")  # as a kill between the renames leaves it
    with pytest.raises(OSError):
        model_folder.put(tmp_path / ".tiny.partial", target)
    assert (target / "README.md").exists() and os.listdir(tmp_path) == ["tiny"]


def test_an_export_that_fails_leaves_the_old_model(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    models = tmp_path / "models"
    target = exporting.export(run, models)
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.publish.model_card.write", full)
    with pytest.raises(OSError) as error:
        exporting.export(run, models)
    assert error.value.filename == str(models / f".{target.name}.partial")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert os.listdir(models) == [target.name]
    monkeypatch.undo()
    document = json.loads((target / "model.json").read_text())
    document["metrics"] = [{"name": "fid", "value": 1.0, "protocol": "p"}]
    (target / "model.json").write_text(json.dumps(document))
    with pytest.raises(ExportError, match=r"1 metrics \(fid\)"):
        exporting.export(run, models)
    assert exporting.export(run, models, replace=True) == target
    assert json.loads((target / "model.json").read_text())["metrics"] == []
