"""The model card: README.md of a model folder and its images, in Hugging Face's form, made from that folder alone."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training import files
from training.monitoring.statistics import read_lines
from training.monitoring.timelapse import spread
from training.publish import card_images, reproduce

FAMILIES = {
    "mlp": "fully connected",
    "dcgan": "DCGAN",
    "cgan": "conditional DCGAN",
    "stylegan": "style-based",
    "stylegan2": "StyleGAN2",
}
TITLES = {  # in the order of the card
    "judge_accuracy": "Judge accuracy",
    "judge_worst_class": "Judge accuracy, worst class",
    "gan_train_accuracy": "Real pictures read after learning from these",
    "gan_test_accuracy": "Read as asked after learning from real pictures",
    "gan_test_worst_class": "Read as asked after learning from real pictures, worst class",
    "smallest_class_share": "Smallest class share",
    "inception_score": "Inception Score",
    "modes": "Modes",
    "modes_kl": "KL from even modes",
    "fid": "FID",
    "fid_train": "FID against the training set",
    "fid_mixed": "FID of mixes of two",
    "kid": "KID",
    "precision": "Precision",
    "recall": "Recall",
    "realism": "Realism",
    "one_nearest_neighbour": "1-nearest-neighbour accuracy",
    "ppl_z": "Perceptual path length in z",
    "ppl_w": "Perceptual path length in w",
    "data_copying_pixels": "Data copying, pixels",
    "data_copying_features": "Data copying, features",
    "mixing_coarse_share": "Attributes kept apart, coarse styles mixed",
    "mixing_middle_share": "Attributes kept apart, middle styles mixed",
    "mixing_fine_share": "Attributes kept apart, fine styles mixed",
    "truncation_psi": "Truncation psi of the lowest FID",
}
SHARE = ".1%"
METHODS = {  # of directions
    "attribute": "named after the attribute that they give",
    "sefa": "SeFa, over all layers and over each group",
    "ganspace": "GANSpace",
}
GOAL = 0.8  # share of images
STEPS = 5  # of a run whose FID is told
FORMATS = {  # of what is not a share
    "inception_score": ".2f",
    "modes": ",.0f",
    "modes_kl": ".3f",
    "fid": ".2f",
    "fid_train": ".2f",
    "fid_mixed": ".2f",
    "kid": ".4f",
    "realism": ".3f",
    "ppl_z": ",.0f",
    "ppl_w": ",.0f",
    "truncation_psi": ".1f",
}
Metrics = dict[str, dict[str, Any]]  # by name


def write(folder: Path) -> None:
    """Draws the images of a model folder that follow from it and writes its README.md. Raises ModelError."""
    card_images.draw(Runtime(load_model(folder)))
    files.write(folder / "README.md", render(folder))


def render(folder: Path) -> str:
    """A model's folder -> the card's text."""
    document = json.loads((folder / "model.json").read_text())
    files = {path.name for path in folder.iterdir()}
    image = document["image"]
    colour = "grey" if image["channels"] == 1 else "RGB"
    size = sum(file["size"] for name, file in document["files"].items() if name.endswith(".onnx"))
    kind = f"{FAMILIES[document['family']]} generator of {image['width']} x {image['height']} {colour} pictures"
    metrics = {metric["name"]: metric for metric in document["metrics"]}
    parts = [
        "---",
        f"license: {document['licence'].lower()}",
        "library_name: onnx",
        f"tags: [gan, {document['family']}]",
        "---",
        "",
        f"# {document['name']}",
        *_picture("samples.png", _samples_caption(document), files),
        "",
        f"A {kind}, latent size {document['latent_size']}, {size / 1e6:.1f} MB of ONNX.",
        "",
        f"Data: {_data(document['dataset'])}. Weights: {document['licence']}.",
        *_picture("interpolation.png", _interpolation_caption(document), files),
        *_mixing(document, metrics, files),
        *_truncation(metrics, files),
        *_directions(document.get("directions", []), files),
        "",
        "## Figures",
        "",
        *(_figures(document["metrics"]) or ["Not measured yet: `python -m training evaluate`."]),
        *_badly(metrics, files),
        *_nearest(files),
        *_training(document, read_lines(folder / card_images.RECORD), files),
        *_notes(document["metrics"]),
        "",
    ]
    return "\n".join(parts)


def shown(metric: dict[str, Any], key: Literal["value", "floor"] = "value") -> str:
    """A metric's value, or its floor, as cards and pages show it; nothing where there is no floor."""
    return format(metric[key], FORMATS.get(metric["name"], SHARE)) if key in metric else ""


def _picture(name: str, caption: str, files: Collection[str]) -> list[str]:
    if name not in files:
        return []
    return ["", f"![{name.removesuffix('.png')}]({name})", "", caption]


def _samples_caption(document: dict[str, Any]) -> str:
    classes = document["classes"]
    rows, columns = card_images.samples_shape(document["image"]["height"], classes)
    by_class = ", one class a column" if classes and columns == len(classes) else ""
    return f"Seed 0, indices 0 to {rows * columns - 1}{by_class}; not chosen by hand."


def _data(dataset: dict[str, Any]) -> str:
    """Of an imported model some of it is unknown, or all."""
    details = "; ".join(dataset[key] for key in ("licence", "source") if key in dataset)
    return dataset.get("name", "unknown") + (f" ({details})" if details else "")


def _interpolation_caption(document: dict[str, Any]) -> str:
    way = "straight lines in w" if document["style"] else "great circles in z"
    within = ", each within one class" if document["classes"] else ""
    strips = card_images.fewer(document["image"]["height"], card_images.STRIPS)
    return f"From picture to picture, along {way}{within}: seed 0, indices 0 to {2 * strips - 1}."


def _mixing(document: dict[str, Any], metrics: Metrics, files: Collection[str]) -> Iterator[str]:
    if "mixing.png" not in files:
        return
    yield from ("", "## Style mixing")
    n = card_images.fewer(document["image"]["height"], card_images.SOURCES)
    caption = (
        "Coarse, middle and fine styles come from the picture above the column, all others from the one at the left "
        f"of the row: seed 0, rows 0 to {n - 1}, columns {n} to {2 * n - 1}."
    )
    yield from _picture("mixing.png", caption, files)
    if "mixing_coarse_share" not in metrics:
        return
    groups = [metrics[f"mixing_{styles}_share"] for styles in ("coarse", "middle", "fine")]
    yield from ("", "How often an attribute of the mix is the row's and how often the column's, where they differ:", "")
    yield "| attribute | coarse: row | column | middle: row | column | fine: row | column | right | sure, real | sure |"
    yield "| --- |" + " ---: |" * 9
    for name, accuracy in groups[0]["reader_accuracy"].items():
        cells = [f"{group['by_attribute'][name][side]:.0%}" for group in groups for side in ("row", "column")]
        sure = (groups[0][key][name] for key in ("reader_confidence", "confidence"))
        yield f"| {name} | {' | '.join(cells)} | {accuracy:.1%} | {' | '.join(f'{share:.0%}' for share in sure)} |"
    yield ""
    yield (
        "Right: how often the network that reads them is right on critters it has not seen. Sure: its mean probability "
        "of what it reads, in those and in this model's pictures; where it is less, so is the worth of its readings."
    )


def _truncation(metrics: Metrics, files: Collection[str]) -> Iterator[str]:
    if "truncation.png" not in files:
        return
    yield from ("", "## Truncation")
    psis = ", ".join(f"{psi:g}" for psi in card_images.PSIS)
    yield from _picture("truncation.png", f"psi {psis} from top to bottom, on every layer.", files)
    if "truncation_psi" in metrics:
        rows = metrics["truncation_psi"]["by_psi"]
        yield from ("", "| psi | FID | precision | recall |", "| ---: | ---: | ---: | ---: |")
        for row in rows:
            yield f"| {row['psi']:g} | {row['fid']:.2f} | {row['precision']:.1%} | {row['recall']:.1%} |"


def _directions(directions: list[dict[str, Any]], files: Collection[str]) -> Iterator[str]:
    if not directions:
        return
    yield from ("", "## Semantic directions", "")
    methods = {name: [each["name"] for each in directions if each["method"] == name] for name in METHODS}
    yield from (f"- {title}: {', '.join(methods[name])}." for name, title in METHODS.items() if methods[name])
    shown = card_images.shown_directions(each["name"] for each in directions)
    strengths = f"{card_images.STRENGTHS[0]:g} to {card_images.STRENGTHS[-1]:g}"
    caption = (
        f"{', '.join(shown)} from top to bottom, strength {strengths}: seed 0, index 0 at the left and 1 at the right."
    )
    yield from _picture("directions.png", caption, files)
    named = [each for each in directions if "moved" in each]
    if not named:
        return
    first, goal = named[0], f"{GOAL:.0%}"
    good = [each["name"] for each in named if each["moved"] >= GOAL and min(each["kept"].values()) >= GOAL]
    yield from (
        "",
        f"At strength {first['strength']:g}, of {first['samples']:,} images, as the attribute classifier reads them: "
        "the share that shows the value then, of those that did not before, and of each other attribute the share of "
        f"images that keep theirs. {len(good)} of {len(named)} move their attribute in {goal} and keep each other in "
        f"{goal}{': ' if good else ''}{', '.join(good)}.",
        "",
        f"| direction | layers | moved | {' | '.join(f'{name} kept' for name in _attributes(named))} |",
        "| --- | --- | ---: |" + " ---: |" * len(_attributes(named)),
    )
    for each in named:
        kept = [f"{each['kept'][name]:.0%}" if name in each["kept"] else "" for name in _attributes(named)]
        layers = f"{each['layers'][0]} to {each['layers'][-1]}"
        yield f"| {each['name']} | {layers} | {each['moved']:.0%} | {' | '.join(kept)} |"


def _attributes(named: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in named for name in (each["attribute"], *each["kept"])))


def _figures(metrics: list[dict[str, Any]]) -> list[str]:
    """A row a figure; how it was measured is told in a note at the end of the card."""
    if not metrics:
        return []
    notes = _numbered(metrics)
    lines = ["| figure | value | floor | samples | note |", "| --- | ---: | ---: | ---: | ---: |"]
    floors: dict[str, list[str]] = {}
    for metric in metrics:
        title = TITLES[metric["name"]]
        cells = (title, shown(metric), shown(metric, "floor"), f"{metric['samples']:,}", notes[metric["protocol"]])
        lines.append(f"| {' | '.join(map(str, cells))} |")
        if "floor" in metric:
            floors.setdefault(metric["floor_protocol"], []).append(title)
    if floors:
        pictures = "; ".join(f"{protocol} ({', '.join(titles)})" for protocol, titles in floors.items())
        lines += ["", f"Floor: the same measure of real pictures in the place of generated ones: {pictures}."]
    for metric in metrics:
        if "by_class" in metric:
            lines += ["", _by_class(metric)]
        if "confusion" in metric:
            lines += ["", *_confusion(list(metric["by_class"]), metric["confusion"])]
    return lines


def _by_class(metric: dict[str, Any]) -> str:
    if "real_by_class" not in metric:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in metric["by_class"].items())
        return f"Read as asked, class by class: {shares}."
    real = metric["real_by_class"]
    shares = ", ".join(
        f"{name} {share:.1%} ({f'{real[name]:.1%}' if name in real else 'none seen'})"
        for name, share in metric["by_class"].items()
    )
    return f"Read as asked after learning from real pictures, class by class, and in brackets real ones: {shares}."


def _numbered(metrics: list[dict[str, Any]]) -> dict[str, int]:
    """The protocols of the figures, each once, with its number from 1 up."""
    return {protocol: number for number, protocol in enumerate(dict.fromkeys(m["protocol"] for m in metrics), 1)}


def _notes(metrics: list[dict[str, Any]]) -> Iterator[str]:
    if metrics:
        yield from ("", "## Notes", "")
        yield from (f"{number}. {protocol}" for protocol, number in _numbered(metrics).items())


def _confusion(classes: list[str], table: list[list[int]]) -> list[str]:
    """The images asked as the class of a row and read as that of a column, counted."""
    rows = [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(classes, table, strict=True)]
    return [f"| asked \\ read | {' | '.join(classes)} |", f"| ---: |{' ---: |' * len(classes)}", *rows]


def _badly(metrics: Metrics, files: Collection[str]) -> Iterator[str]:
    """What falls short of real images, in words and in the worst images."""
    lines = list(_shortcomings(metrics))
    if lines:
        yield from ("", "## What it does badly", "", *lines)
    if "realism" in metrics:
        yield from _picture(metrics["realism"]["picture"], _worst_caption(metrics["realism"]), files)
    if "shown" in metrics.get("judge_accuracy", {}):
        misread = metrics["judge_accuracy"]["shown"]
        classes = list(metrics["judge_accuracy"]["by_class"])
        words = ", ".join(f"{classes[each['label']]} as {each['read']}" for each in misread)
        yield from _picture("misread.png", f"The first that the judge reads as something else: {words}.", files)


def _nearest(files: Collection[str]) -> Iterator[str]:
    if "nearest.png" in files:
        yield from ("", "## Whether it copies")
        caption = "Above: the pictures nearest to any training picture, the nearest first; below each, that one."
        yield from _picture("nearest.png", caption, files)


def _shortcomings(metrics: Metrics) -> Iterator[str]:
    def outside(name: str) -> str:
        real = f" (of real ones {1 - metrics[name]['floor']:.0%})" if "floor" in metrics[name] else ""
        return f"{1 - metrics[name]['value']:.0%}{real}"

    if "precision" in metrics:
        yield f"- {outside('precision')} of its pictures lie outside of what real pictures cover (precision)."
    if "recall" in metrics:
        yield f"- {outside('recall')} of real pictures lie outside of what it covers (recall)."
    if "smallest_class_share" in metrics:
        yield f"- Its rarest digit is made {shown(metrics['smallest_class_share'])} as often as an even share."
    mixed, plain = metrics.get("fid_mixed"), metrics.get("fid")
    if mixed and plain and mixed["samples"] == plain["samples"] and mixed["value"] > plain["value"]:
        fids = f"FID {shown(mixed)} for {shown(plain)}"
        yield f"- Mixes of two pictures are farther from real ones than pictures of one latent: {fids}."
    if "ppl_w" in metrics and metrics["ppl_w"]["value"] > metrics["ppl_z"]["value"]:
        yield "- Paths in w are no smoother than paths in z: the perceptual path length there is greater."
    for reading in (metrics.get(name, {}) for name in ("judge_accuracy", "gan_test_accuracy")):
        if by_class := reading.get("by_class"):
            real = reading.get("real_by_class", {})
            worst = min(by_class, key=lambda name: by_class[name] - real.get(name, 1))
            of_real = f" (of real ones {1 - real[worst]:.1%})" if worst in real else ""
            yield f"- Asked for {worst}, what it makes is read as something else in {1 - by_class[worst]:.1%}{of_real}."
            break  # the digit classifier is the more accurate
    for styles in ("coarse", "middle", "fine"):
        if group := metrics.get(f"mixing_{styles}_share"):
            shares = {name: group["by_attribute"][name][side] for name, side in group["follows"].items()}
            name = min(shares, key=shares.__getitem__)
            side = group["follows"][name]
            yield f"- With {styles} styles mixed, the {side} decides the {name} in {shares[name]:.0%} of mixes only."


def _worst_caption(metric: dict[str, Any]) -> str:
    seed = metric["shown"][0]["address"][0]
    indices = ", ".join(str(each["address"][1]) for each in metric["shown"])
    return f"The least real of {metric['samples']:,} samples by their realism score: seed {seed}, indices {indices}."


def _training(document: dict[str, Any], record: list[dict[str, Any]], files: Collection[str]) -> Iterator[str]:
    training = document["training"]
    if "source" in training:
        source = training["source"]
        yield from ("", "## Origin", "")
        yield f"Imported from `{source['file']}` ({source['format']}), sha256 `{source['sha256']}`."
        return
    kimg, seconds = training["images_seen"] / 1000, training["seconds"]
    total = training.get("schedule", training["recipe"]).get("total_kimg", kimg)
    seen = f"{kimg:,.0f} kimg" if kimg >= total else f"{kimg:,.0f} of {total:,.0f} kimg"
    yield from ("", "## Training", "")
    speed = f", {training['images_seen'] / seconds:,.0f} a second" if seconds else ""
    yield (
        f"{kimg / 1000:.2f} million pictures ({seen}) in {seconds / 60:.0f} minutes{speed}, on "
        f"{training['device']}. Recipe sha256 `{training['recipe_sha256'][:12]}`, code "
        f"`{(training['git_revision'] or 'unknown')[:12]}`."
    )
    measured = [line for line in record if "fid" in line]
    if measured:
        pictures = training["recipe"]["monitoring"]["fid_pictures"]
        best = min(measured, key=lambda line: line["fid"])
        steps = "; ".join(f"{line['fid']:.1f} at {_when(line)}" for line in spread(measured, STEPS))
        yield from (
            "",
            f"FID on the way, of {pictures:,} pictures: {steps}; lowest {best['fid']:.1f} at {_when(best)}.",
        )
    curve = _picture("training.png", "The run's record.", files)
    yield from curve or ("", "The record of this run was not kept, so there is no curve of it.")
    compared = next((metric["samples"] for metric in document["metrics"] if metric["name"] == "fid"), None)
    trained = f"runs/00000-{document['id']}"
    if kimg < total and not measured:  # or `export` takes the best snapshot by itself
        trained += f"/snapshots/{kimg:08.1f}.pt"
    commands = reproduce.commands(document, run=trained, compared=compared)
    yield from ("", "To make it again:", "", "```bash", *commands, "```")


def _when(line: dict[str, Any]) -> str:
    return f"{line['kimg']:,.0f} kimg ({line['seconds'] / 60:,.0f} min)"
