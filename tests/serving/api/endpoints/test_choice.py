"""Which model answers a request that names none: the first, by id, that can do what is asked."""

import asyncio
import shutil
from pathlib import Path

import httpx2
import pytest

from serving.api.endpoints.generate import choose_model
from serving.api.schemas import Label, SampleBody
from serving.api.served_models import ServedModels
from serving.api.telemetry.metrics import Metrics
from tiny_models import CLASSES, document, generator, write_model

WALK = {"keyframes": [1, 2], "frames": 2}


@pytest.mark.parametrize(
    ("route", "body", "model"),
    [
        ("/v1/sample", {}, "tiny-cgan"),
        ("/v1/sample", {"labels": 9}, "tiny-cgan"),
        ("/v1/sample", {"truncation": 0.5}, "tiny-style"),
        ("/v1/digits", {"digits": "7"}, "tiny-cgan"),
        ("/v1/interpolate", WALK, "tiny-cgan"),
        ("/v1/interpolate", WALK | {"truncation": 0}, "tiny-style"),
        ("/v1/interpolate", WALK | {"space": "w"}, "tiny-style"),
        ("/v1/style-mix", {"rows": [1], "columns": [2]}, "tiny-style"),
    ],
)
def test_it_is_the_first_that_can(http: httpx2.Client, route: str, body: dict, model: str):
    response = http.post(route, json=body)
    assert (response.status_code, response.headers["x-ganymede-model"]) == (200, model)


@pytest.mark.parametrize(
    ("route", "body", "what"),
    [
        ("/v1/sample", {"labels": "Ankle boot"}, 'has the classes of `labels` (="Ankle boot")'),
        ("/v1/sample", {"n": 2, "labels": [9, 10]}, "has the classes of `labels` (=[9, 10])"),
        (
            "/v1/interpolate",
            WALK | {"labels": 3, "truncation": 0.5, "space": "w"},
            'has a `space` "w" and takes `truncation` and has the classes of `labels` (=3)',
        ),
    ],
)
def test_what_none_can_is_told(http: httpx2.Client, route: str, body: dict, what: str):
    response = http.post(route, json=body)
    assert (response.status_code, response.json()["code"]) == (404, "unknown-model")
    assert response.json()["detail"] == f"No model here {what}."


def test_it_is_the_first_that_has_the_classes(repository_folder: Path, tmp_path: Path):
    shutil.copytree(repository_folder / "tiny-dcgan", tmp_path / "tiny-dcgan")
    for id, classes in (("tiny-digits", CLASSES), ("tiny-words", [*"abcdefghi", "Ankle boot"])):
        files = {"generator.onnx": generator(conditional=True, seed=2)}
        write_model(tmp_path / id, document(id, "cgan", channels=1, classes=classes), files)

    async def chosen(*asked: Label | list[Label]) -> list[str]:
        models = ServedModels(Metrics(), max_queue=2048)
        models.load(tmp_path)
        bodies = [SampleBody.model_validate({"labels": labels}) for labels in asked]
        try:
            return [choose_model(models, body).model.id for body in bodies]
        finally:
            await models.close()

    digits, words = ["tiny-digits"] * 3, ["tiny-words"] * 2
    assert asyncio.run(chosen("7", 9, [0, "9"], "Ankle boot", [0, "i"])) == digits + words
