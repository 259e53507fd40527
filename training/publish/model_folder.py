"""The folder of a published model: what its replacement would lose, and the replacement itself."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from serving.engine.model_json import GRAPHS
from training.errors import ExportError

OURS = {  # beside the files that model.json names and the images of its metrics
    "README.md",
    "directions.npz",
    "directions.png",
    "evaluation.partial.json",
    "interpolation.png",
    "misread.png",
    "mixing.png",
    "model.json",
    "nearest.png",
    "samples.png",
    "training.jsonl",
    "training.png",
    "truncation.png",
    *(name for names in GRAPHS.values() for name in names),
}


def check_replaceable(target: Path, document: dict[str, Any]) -> None:
    """Raises ExportError where the model of `document` would take the place of what cannot be made again."""
    if not os.path.lexists(target):
        return
    if lost := "; ".join(_lost(target, document)):
        raise ExportError(f"{target} would lose {lost}. Give `--replace`, or take it out of the way.")


def _lost(target: Path, document: dict[str, Any]) -> list[str]:
    if not target.is_dir():
        return ["what is no folder"]
    try:
        old = json.loads((target / "model.json").read_bytes())
        metrics = [metric["name"] for metric in old.get("metrics", [])]
        ours = OURS | set(old.get("files", {})) | {metric.get("picture") for metric in old.get("metrics", [])}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ["a folder without a model.json of ours"] if os.listdir(target) else []
    strangers = sorted(set(os.listdir(target)) - ours)
    fields = sorted(name for name in old if name not in document)
    if old.get("dataset") != document["dataset"]:
        fields.append("dataset")
    found = {"metrics": metrics, "files of others": strangers, "fields of model.json": fields}
    shown = {what: ", ".join(names[:5]) + ", ..." * (len(names) > 5) for what, names in found.items()}
    return [f"{len(names)} {what} ({shown[what]})" for what, names in found.items() if names]


def put(folder: Path, target: Path) -> None:
    """Puts a whole model folder in its place. The old one stays until then, and returns where that fails."""
    old = target.with_name(f".{target.name}.old")
    if os.path.lexists(old) and not os.path.lexists(target):  # another was killed between the two renames
        old.rename(target)
    _remove(old)
    replaced = os.path.lexists(target)
    if replaced:
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if replaced:
            old.rename(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
