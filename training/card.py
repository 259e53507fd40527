"""The model card: README.md of a model folder, in Hugging Face's form, made from its model.json alone."""

import json
from pathlib import Path
from typing import Any, Literal

FAMILIES = {"mlp": "fully connected", "dcgan": "DCGAN", "cgan": "conditional DCGAN", "stylegan": "style-based"}
TITLES = {  # in the order of the card
    "judge_accuracy": "Judge accuracy",
    "judge_worst_class": "Judge accuracy, worst class",
    "smallest_class_share": "Smallest class share",
    "inception_score": "Inception Score",
    "modes": "Modes",
    "modes_kl": "KL from even modes",
    "fid": "FID",
    "kid": "KID",
    "precision": "Precision",
    "recall": "Recall",
    "one_nearest_neighbour": "1-nearest-neighbour accuracy",
    "ppl_z": "Perceptual path length in z",
    "ppl_w": "Perceptual path length in w",
    "data_copying_pixels": "Data copying, pixels",
    "data_copying_features": "Data copying, features",
}
NEAREST_CAPTION = "Above: the pictures nearest to any training picture, the nearest first; below each, that one."
SHARE = ".1%"
FORMATS = {  # of what is not a share
    "inception_score": ".2f",
    "modes": ",.0f",
    "modes_kl": ".3f",
    "fid": ".2f",
    "kid": ".4f",
    "ppl_z": ",.0f",
    "ppl_w": ",.0f",
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


def shown(metric: dict[str, Any], key: Literal["value", "floor"] = "value") -> str:
    """A metric's value, or its floor, as cards and pages show it; nothing where there is no floor."""
    return format(metric[key], FORMATS.get(metric["name"], SHARE)) if key in metric else ""


def samples_caption(document: dict[str, Any]) -> str:
    if document["classes"]:
        return f"Seed 0, indices 0 to {len(document['classes']) * 10 - 1}, one class a column; not chosen by hand."
    return "Seed 0, indices 0 to 63; not chosen by hand."


def _figures(metrics: list[dict[str, Any]]) -> list[str]:
    if not metrics:
        return []
    lines = ["| figure | value | floor | protocol |", "| --- | ---: | ---: | --- |"]
    floors: dict[str, list[str]] = {}
    for metric in metrics:
        title = TITLES[metric["name"]]
        lines.append(f"| {title} | {shown(metric)} | {shown(metric, 'floor')} | {metric['protocol']} |")
        if "floor" in metric:
            floors.setdefault(metric["floor_protocol"], []).append(title)
    if floors:
        pictures = "; ".join(f"{protocol} ({', '.join(titles)})" for protocol, titles in floors.items())
        lines += ["", f"Floor: the same measure of real pictures in the place of generated ones: {pictures}."]
    for metric in metrics:
        if "by_class" in metric:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in metric["by_class"].items())
            lines += ["", f"Read as asked, class by class: {shares}."]
        if "confusion" in metric:
            lines += ["", *_confusion(list(metric["by_class"]), metric["confusion"])]
        if "picture" in metric:
            lines += ["", f"![nearest training pictures]({metric['picture']})", "", NEAREST_CAPTION]
    return lines


def _confusion(classes: list[str], table: list[list[int]]) -> list[str]:
    """The pictures asked as the class of a row and read as that of a column, counted."""
    rows = [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(classes, table, strict=True)]
    return [f"| asked \\ read | {' | '.join(classes)} |", f"| ---: |{' ---: |' * len(classes)}", *rows]
