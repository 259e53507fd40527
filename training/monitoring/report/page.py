"""The page of a run. All of it is in the one file: images are data URIs, and the browser is told to fetch nothing."""

import base64
import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from training.monitoring.report.curves import Curve
from training.monitoring.report.record import Record
from training.monitoring.timelapse import spread, timelapse
from training.recipe import Growing, from_dict

TEMPLATE = Path(__file__).with_name("page.html")
GRIDS = 12  # at most
TITLES = {
    "fid": "FID",
    "pairwise_distance": "Distance of samples",
    "modes": "Classes found",
    "discriminator_loss": "Loss of D",
    "generator_loss": "Loss of G",
    "real_probability": "D(real)",
    "fake_probability": "D(fake)",
    "real_logit": "Logit, real",
    "fake_logit": "Logit, generated",
    "logit_gap": "Logit gap",
    "discriminator_gradient_norm": "Gradient norm of D",
    "generator_gradient_norm": "Gradient norm of G",
    "r1_penalty": "R1",
    "r2_penalty": "R2",
    "wgan_gradient_penalty": "WGAN-GP",
    "path_length_penalty": "Path length",
    "feature_matching": "Feature matching",
    "mode_seeking": "Mode seeking",
    "kimg_per_second": "kimg a second",
    "resolution": "Resolution, px",
    "alpha": "Fade-in",
}


def render(record: Record, curves: list[Curve]) -> str:
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{record.options['name']}, {record.name}"),
        name=escape(record.options["name"]),
        facts=_facts(record),
        samples=_samples(record),
        figures=_figures(record),
        curves="".join(map(_curve, curves)),
        alarms=_alarms(record.alarms),
        settings=_settings(record.options),
    )


def _facts(record: Record) -> str:
    options, last = record.options, record.last
    total = options.get("schedule", options)["total_kimg"]
    whole = "finished" if last["kimg"] >= total else "not finished"
    data = options["data"]
    facts = [
        record.name,
        f"family {options['family']}",
        f"{data['name']} at {data['resolution']} px",
        f"{last['kimg']:,.1f} of {total:,g} kimg, {whole}",
        f"{duration(last['seconds'])} of training",
    ]
    return "".join(f"<li>{escape(fact)}</li>" for fact in facts)


def duration(seconds: float) -> str:
    """Such as "2 h 5 min", "18 min 51 s" or "9 s"."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {s} s" if minutes else f"{s} s"


def _samples(record: Record) -> str:
    if not record.grids:
        return "<p>No grid was kept yet.</p>"
    moving = timelapse([path for _, path in record.grids])
    cells = [_cell(data_uri(moving, "gif"), "time-lapse", "moving")]
    for kimg, path in spread(record.grids, GRIDS):
        cells.append(_cell(data_uri(path.read_bytes(), "png"), f"{kimg:,.1f} kimg"))
    return f'<div class="grids">{"".join(cells)}</div>'


def _cell(uri: str, caption: str, kind: str = "still") -> str:
    image = f'<img src="{uri}" alt="Samples, {caption}">'
    return f'<figure class="{kind}">{image}<figcaption>{caption}</figcaption></figure>'


def _figures(record: Record) -> str:
    """The last value of every statistic; when it was measured, if that was not at the end; and the best FID."""
    tiles = []
    for key, title in TITLES.items():
        kimg, values = record.series(key)
        if not values:
            continue
        notes = [f"at {kimg[-1]:,.1f} kimg"] if kimg[-1] != record.last["kimg"] else []
        if key == "fid":
            best = min(range(len(values)), key=values.__getitem__)
            notes.append(f"best {values[best]:.4g} at {kimg[best]:,.1f} kimg")
        tiles.append(f"<div><dt>{escape(title)}</dt><dd>{values[-1]:.4g}<small>{'; '.join(notes)}</small></dd></div>")
    return f"<dl>{''.join(tiles)}</dl>"


def _curve(curve: Curve) -> str:
    """Both images, of which the style sheet shows one: a <image> would print what the screen had chosen."""
    note = f" <span>{escape(curve.figure.note)}</span>" if curve.figure.note else ""
    pictures = "".join(
        f'<img class="{kind}" src="{data_uri(data, "png")}" alt="{escape(curve.text)}">'
        for kind, data in (("light", curve.light), ("dark", curve.dark))
    )
    return f"<figure><figcaption>{escape(curve.figure.title)}{note}</figcaption>{pictures}</figure>"


def _alarms(alarms: list[dict[str, Any]]) -> str:
    if not alarms:
        return "<p>None was raised.</p>"
    rows = [
        (str(number), f"{alarm['kimg']:,.1f}", alarm["name"].replace("_", " "), alarm["reason"])
        for number, alarm in enumerate(alarms, 1)
    ]
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        "<p>Each is marked by its number in the curves.</p>"
        '<table class="alarms"><thead><tr><th></th><th>kimg</th><th>alarm</th><th>reason</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _settings(options: dict[str, Any]) -> str:
    """options.json, a table a part; what differs from the default is set off, with the default beside it."""
    usual = defaults(options["family"])
    tables = []
    for part, values in _parts(options).items():
        known = _parts(usual).get(part, {})
        rows = []
        for key, value in values.items():
            changed = key in known and known[key] != value
            usual_value = f" <small>default {_value(known[key])}</small>" if changed else ""
            kind = ' class="changed"' if changed else ""
            rows.append(f"<tr{kind}><th>{escape(key)}</th><td>{_value(value)}{usual_value}</td></tr>")
        tables.append(f'<table class="settings"><caption>{escape(part)}</caption>{"".join(rows)}</table>')
    return "".join(tables)


def _parts(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tables in a recipe by their names, and what stands in none as "recipe"."""
    tables = {key: value for key, value in options.items() if isinstance(value, dict)}
    return {"recipe": {key: value for key, value in options.items() if key not in tables}} | tables


def defaults(family: str) -> dict[str, Any]:
    """What options.json holds of a recipe that sets only what it must, and growing as if it were on."""
    required = {"id": "any", "name": "any", "family": family, "total_kimg": 1.0}
    growing = {"growing": vars(Growing())} if family == "stylegan" else {}
    document = json.loads(json.dumps(from_dict(required | {"network": {}}).as_dict() | growing))
    return {key: value for key, value in document.items() if key not in required}


def _value(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value))


def data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
