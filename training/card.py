"""The model card: README.md of a model folder, in Hugging Face's form, made from its model.json alone."""

import json
from pathlib import Path
from typing import Any

FAMILIES = {"dcgan": "DCGAN", "cgan": "conditional DCGAN", "stylegan": "style-based"}
TITLES = {
    "fid": "FID",
    "judge_accuracy": "Judge accuracy",
    "judge_worst_class": "Judge accuracy, worst class",
    "smallest_class_share": "Smallest class share",
}


def write(folder: Path) -> None:
    """Writes folder/README.md from folder/model.json."""
    document = json.loads((folder / "model.json").read_text())
    (folder / "README.md").write_text(render(document))


def render(document: dict[str, Any]) -> str:
    """model.json -> the card's text."""
    image, training, dataset = document["image"], document["training"], document["dataset"]
    colour = "grey" if image["channels"] == 1 else "RGB"
    size = sum(file["size"] for file in document["files"].values())
    kind = f"{FAMILIES[document['family']]} generator of {image['width']} x {image['height']} {colour} pictures"
    lines = [
        "---",
        f"license: {document['licence'].lower()}",
        "library_name: onnx",
        f"tags: [gan, {document['family']}]",
        "---",
        "",
        f"# {document['name']}",
        "",
        "![samples](samples.png)",
        "",
        samples_caption(document),
        "",
        f"A {kind}, latent size {document['latent_size']}, {size / 1e6:.1f} MB of ONNX.",
        "",
        f"Data: {dataset['name']} ({dataset['licence']}; {dataset['source']}). Weights: {document['licence']}.",
        "",
        "## Figures",
        "",
        *(_figures(document["metrics"]) or ["Not measured yet: `python -m training evaluate`."]),
        "",
        "## Training",
        "",
        f"`python -m training train {document['id']}`: {training['images_seen'] / 1e6:.2f} million pictures in "
        f"{training['seconds'] / 60:.0f} minutes on {training['device']}; recipe sha256 "
        f"`{training['recipe_sha256'][:12]}`, code `{(training['git_revision'] or 'unknown')[:12]}`.",
        "",
    ]
    return "\n".join(lines)


def shown(metric: dict[str, Any]) -> str:
    """A metric's value as cards and pages show it."""
    return f"{metric['value']:.2f}" if metric["name"] == "fid" else f"{metric['value']:.1%}"


def samples_caption(document: dict[str, Any]) -> str:
    if document["classes"]:
        return f"Seed 0, indices 0 to {len(document['classes']) * 10 - 1}, one class a column; not chosen by hand."
    return "Seed 0, indices 0 to 63; not chosen by hand."


def _figures(metrics: list[dict[str, Any]]) -> list[str]:
    if not metrics:
        return []
    rows = ["| figure | value | protocol |", "| --- | --- | --- |"]
    for metric in metrics:
        rows.append(f"| {TITLES[metric['name']]} | {shown(metric)} | {metric['protocol']} |")
    by_class = next((metric["by_class"] for metric in metrics if "by_class" in metric), None)
    if by_class:
        rows += ["", "Read as asked, class by class: " + ", ".join(f"{k} {v:.1%}" for k, v in by_class.items()) + "."]
    return rows
