"""The wording of error messages: tests/messages.txt holds it, and other tests hold codes, pointers and exit codes.

After a change of words, this writes the file anew; its diff is what a reviewer reads:

    .venv/bin/python -m pytest tests/test_messages.py --update-golden

Messages that list what there is, such as every recipe, are left out: they change with each addition.
"""

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import serving.__main__
import training.__main__
from serving.api.http.problems import Problem
from serving.api.http.validation import parse_json
from serving.api.schemas import DigitsBody, InterpolateBody, SampleBody, StyleMixBody
from serving.api.settings import Settings
from serving.bulk.job import Subject, plan
from serving.client import Client
from serving.engine import generation
from serving.engine.repository import load_model, load_repository
from serving.engine.runtime import Runtime
from training import recipe

GOLDEN = Path(__file__).with_name("messages.txt")
Trigger = tuple[str, Callable[[], object]]
TOP = 2**64 - 1

BODIES = {
    SampleBody: [
        b"[]",
        {"n": 0},
        {"n": "3"},
        {"n": None},
        {"seed": -1},
        {"scale": 17},
        {"truncation": 1.7},
        {"truncation": "1"},
        {"truncation": float("nan")},
        {"model": 3},
        {"labels": {}},
        {"labels": []},
        {"labels": [1, "a", None]},
    ],
    DigitsBody: [{}, {"digits": "12a"}, {"digits": ""}, {"digits": [1, 10]}, {"digits": 12}],
    InterpolateBody: [
        {"keyframes": [1]},
        {"keyframes": 1},
        {"keyframes": [1, "2"]},
        {"keyframes": [1, {"seed": -2}]},
        {"keyframes": [1, {"index": 1}]},
        {"keyframes": [1, {"seed": 1, "z/~": 0}]},
        {"keyframes": [1, 2], "method": "cubic"},
        {"keyframes": [1, 2], "loop": 1},
        {"keyframes": [1, 2], "frames": 1_000_001},
    ],
    StyleMixBody: [
        {"rows": [1], "columns": [2], "styles": "thick"},
        {"rows": [1], "columns": [2], "styles": 3},
        {"rows": [1], "columns": [2], "styles": [0, "1"]},
    ],
}
SETTINGS = {
    "WORKERS": ["0", "2.5"],
    "TIMEOUT": ["soon", "nan"],
    "DRAIN": ["-1"],
    "RATE_LIMIT": ["0"],
    "LOG_LEVEL": ["loud"],
    "CORS_ORIGINS": ["example.org"],
}
COMMANDS = [
    "generate",
    "generate m -o a.png -n 0",
    "generate m --out d --part 3",
    "generate tiny-dcgan",
    "generate tiny-dcgan -o grid",
    "generate other -o a.png",
    "generate tiny-dcgan -o a.png --verify",
    "generate tiny-dcgan --labels 1 -o a.png",
    "generate tiny-cgan --labels seven -o a.png",
    "generate tiny-cgan --truncation 0.5 -o a.png",
    "generate tiny-dcgan -o missing/a.png",
    "models --models missing",
    "serve --port http",
    "serve --workers 0",
]
TRAINING = [
    "train dcgan-mnist --threads -1",
    "train dcgan-mnist total_kimg=50",
    "train --resume nowhere",
    "export nowhere",
    "evaluate nowhere",
    "series dcgan-mnist=soon --out out",
    "series dcgan-mnist dcgan-mnist=2 --out out",
]
RECIPES = [
    "dcgan-mnist optimizer.batch=0",
    "dcgan-mnist optimizer.beta1=1.0",
    "dcgan-mnist optimizer.beta2=nan",
    "dcgan-mnist network.base_channels=0",
    "dcgan-mnist penalty.r1_gamma=0.1 network.discriminator_norm=batch",
    "dcgan-mnist loss=hinge stabilizer.real_target=[0.9,0.9]",
    "dcgan-mnist seed=-1",
    "stylegan-lite-critters-grown total_kimg=20 growing={start=12}",
    "stylegan-lite-critters-grown total_kimg=20 growing={start=8}",
    "stylegan-lite-critters-grown growing={start=8} network.discriminator=dcgan",
    "stylegan-lite-critters-grown network.discriminator=mlp",
]
MODELS: list[tuple[str, str, Any]] = [  # model, field of model.json, value; ... removes it
    ("tiny-dcgan", "schema_version", 2),
    ("tiny-dcgan", "name", ...),
    ("tiny-dcgan", "family", "vae"),
    ("tiny-dcgan", "image", [16, 16]),
    ("tiny-dcgan", "image/width", 0),
    ("tiny-dcgan", "image/channels", 4),
    ("tiny-dcgan", "classes", ["0"]),
    ("tiny-cgan", "classes", None),
    ("tiny-dcgan", "style", {}),
    ("tiny-style", "style/fine", [4]),
    ("tiny-style", "files", {"generator.onnx": {}}),
    ("tiny-dcgan", "metrics", [{"name": "fid"}]),
]
JOBS: list[dict[str, Any]] = [
    {"n": 0},
    {"shard_size": 0},
    {"format": "zip"},
    {"image": "gif"},
    {"image": "png", "format": "npy"},
    {"truncation": 0.5},
    {"labels": "1"},
]
CLIENTS: list[dict[str, Any]] = [
    {"timeout": 0},
    {"retries": -1},
    {"base_url": "localhost:3000"},
    {"api_key": "ключ"},
]
STREAMS: list[dict[str, Any]] = [{"n": -1}, {"page": 0}, {"in_flight": 0}, {"labels": [1, 2]}]


def api(models: Path) -> Iterator[Trigger]:
    for body, values in BODIES.items():
        for value in values:
            text = value if isinstance(value, bytes) else json.dumps(value).encode()
            yield f"{body.__name__} {text.decode()}", lambda body=body, text=text: parse_json(body, text)
    for name, texts in SETTINGS.items():
        for text in texts:
            environment = {f"GANYMEDE_{name}": text}
            yield f"GANYMEDE_{name}={text}", lambda given=environment: Settings.from_environment(given)


def commands(models: Path) -> Iterator[Trigger]:
    for line in COMMANDS:
        given = ["--models", str(models)] if "-o" in line else []
        yield line, functools.partial(serving.__main__.main, [*line.split(), *given])


def client(models: Path) -> Iterator[Trigger]:
    for options in CLIENTS:
        yield f"Client({options})", lambda options=options: Client(**options)
    for options in STREAMS:
        stream: dict[str, Any] = {"n": 5, "seed": 7} | options
        yield f"stream({options})", lambda its=stream: Client("http://127.0.0.1:1").stream("tiny-cgan", **its)


def engine(models: Path) -> Iterator[Trigger]:
    def changed(model: str, path: str, value: object) -> None:
        folder = Path(shutil.copytree(models / model, models.parent / "changed" / model, dirs_exist_ok=True))
        document = json.loads((models / model / "model.json").read_text())
        *parents, name = path.split("/")
        target = document
        for parent in parents:
            target = target[parent]
        target[name] = value
        if value is ...:
            del target[name]
        (folder / "model.json").write_text(json.dumps(document))
        load_model(folder)

    for case in MODELS:
        yield "{}: {} = {}".format(*case), lambda case=case: changed(*case)
    for name in ("tiny-dcgan", "tiny-cgan", "tiny-style"):
        runtime = Runtime(load_model(models / name), threads=1)
        for options in ({"labels": 10}, {"labels": "ten"}, {"truncation": 0.5}, {"n": 2, "start": TOP}):
            if name != "tiny-style" or "truncation" not in options:
                given: dict[str, Any] = {"seed": 7} | options
                yield f"{name} sample {options}", lambda r=runtime, its=given: generation.sample(r, **its)
    (models / "tiny-dcgan" / "generator.onnx").write_bytes(b"changed")
    yield "a changed file", lambda: load_repository(models)
    (models / "tiny-dcgan" / "generator.onnx").unlink()
    yield "a missing file", lambda: load_repository(models)
    yield "no folder", lambda: load_repository(models / "none")


def bulk(models: Path) -> Iterator[Trigger]:
    plain = Subject("plain", "f" * 64, 16, 16, 1, None, False)
    for options in JOBS:
        yield f"{options}", functools.partial(plan, plain, **(dict[str, Any](n=5, seed=7) | options))
    classed = Subject("classed", "f" * 64, 16, 16, 1, ("zero", "one"), False)
    yield "labels '0,four'", lambda: plan(classed, n=5, seed=7, labels="0,four")


def trainings(models: Path) -> Iterator[Trigger]:
    for line in RECIPES:
        name, *overrides = line.split()
        yield f"recipe {line}", lambda name=name, overrides=overrides: recipe.load(name, overrides)
    for line in TRAINING:
        yield line, functools.partial(training.__main__.main, line.split())


def message(trigger: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """Every line that a user is shown."""
    try:
        code = trigger()
    except Problem as problem:
        return "\n".join(f"{error.pointer}: {error.detail}" for error in problem.errors) or problem.detail
    except SystemExit as error:
        code = error.code
    except Exception as error:  # of any kind: another test says which
        return str(error)
    assert code == 1, "nothing was wrong"
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize("area", [api, commands, client, engine, bulk, trainings], ids=lambda area: area.__name__)
def test_messages_are_those_of_the_golden_file(
    area: Callable[[Path], Iterator[Trigger]],
    repository_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
):
    models = Path(shutil.copytree(repository_folder, tmp_path / "models"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    found = {name: message(trigger, capsys).replace(str(tmp_path), "TMP") for name, trigger in area(models)}
    assert "" not in found.values()
    lines = [f"[{area.__name__}]"]
    for name, text in found.items():
        lines += [name, *(f"    {line}" for line in text.splitlines())]
    section = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", "\n".join(lines)) + "\n"
    golden = (
        dict(re.findall(r"^(\[\w+\]\n)((?:.|\n)*?\n)(?=\n|\Z)", GOLDEN.read_text(), re.M)) if GOLDEN.exists() else {}
    )
    head, _, body = section.partition("\n")
    if request.config.getoption("--update-golden"):
        golden[head + "\n"] = body
        GOLDEN.write_text("\n".join(key + text for key, text in sorted(golden.items())))
    assert golden[head + "\n"] == body
