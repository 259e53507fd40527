"""One rule for labels everywhere: a number is an index, a text is a name and only then an index."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

import tiny_models
from server import Server, serving
from serving.__main__ import main
from serving.bulk.errors import BulkError
from serving.bulk.labels import label_rule
from serving.client import Client

CLASSES = ["1", "10", "2", "5", "cat", "3.5", "a,b", "0", "-1", "größe"]  # as folders sort, and worse
TEXTS = {"1": 0, "10": 1, "2": 2, "5": 3, "cat": 4, "3.5": 5, "0": 7, "-1": 8, "größe": 9, "3": 3, "9": 9, "07": 7}
WRONG = ["11", "-2", "1.0", "dog", "²", "1" * 5000, "true"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    document = tiny_models.document("numbers", "cgan", channels=1, classes=CLASSES) | {"name": "Größe"}
    graph = tiny_models.generator(conditional=True, seed=2)
    tiny_models.write_model(folder / "numbers", document, {"generator.onnx": graph})
    return folder


@pytest.fixture(scope="module")
def numbers(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(repository, tmp_path_factory.mktemp("log") / "log.txt") as server:
        yield server


@pytest.fixture(scope="module")
def by_index(numbers: Server) -> list[bytes]:
    """The image of each class at one address, asked for by JSON numbers."""
    body = {"model": "numbers", "seed": 7, "start": 4}
    with httpx2.Client(base_url=numbers.url) as http:
        found = [http.post("/v1/sample", json={**body, "labels": i}).content for i in range(10)]
    assert len(set(found)) == 10
    return found


@pytest.mark.parametrize(("label", "index"), TEXTS.items())
def test_a_text_means_the_same_class_everywhere(
    label: str, index: int, numbers: Server, repository: Path, by_index: list[bytes], tmp_path: Path
):
    with httpx2.Client(base_url=numbers.url) as http:
        assert http.get("/v1/images/numbers/7/4.png", params={"label": label}).content == by_index[index]
        for labels in (label, [label]):
            body = {"model": "numbers", "seed": 7, "start": 4, "labels": labels}
            assert http.post("/v1/sample", json=body).content == by_index[index]
    with Client(numbers.url) as client:
        assert client.sample("numbers", n=2, seed=7, labels=label).labels == [index, index]
        assert client.sample("numbers", n=1, seed=7, labels=[label]).labels == [index]
    options = ["--models", str(repository), "--seed", "7", "--start", "4", f"--labels={label}"]
    assert main(["generate", "numbers", *options, "-o", str(tmp_path / "x.png")]) == 0
    assert (tmp_path / "x.png").read_bytes() == by_index[index]
    rule = label_rule(label, "numbers", CLASSES)
    assert rule is not None and rule.labels == (index,)


def test_a_number_is_an_index(numbers: Server):
    with Client(numbers.url) as client:
        assert client.sample("numbers", n=3, seed=7, labels=[1, 2, 0]).labels == [1, 2, 0]


def test_lists_of_texts_on_the_command_line(repository: Path, tmp_path: Path):
    rule = label_rule("10,3,cat", "numbers", CLASSES)
    assert rule is not None and rule.labels == (1, 3, 4)
    whole = label_rule("a,b", "numbers", CLASSES)  # a name with a comma
    assert whole is not None and whole.labels == (6,)
    options = ["--models", str(repository), "--seed", "7", "-o", str(tmp_path / "x.zip")]
    assert main(["generate", "numbers", *options, "-n", "2", "--labels", "a,b"]) == 0  # one class for both


@pytest.mark.parametrize("label", WRONG)
def test_a_text_that_means_no_class_is_rejected(label: str, numbers: Server):
    with httpx2.Client(base_url=numbers.url) as http:
        for response in (
            http.get("/v1/images/numbers/7/4.png", params={"label": label}),
            http.post("/v1/sample", json={"model": "numbers", "labels": label}),
        ):
            assert response.status_code == 422
            assert response.json()["errors"][0]["pointer"] in ("/label", "/labels")
    with pytest.raises(BulkError):
        label_rule(label, "numbers", CLASSES)


def test_a_listing_never_fails_on_the_encoding(repository: Path):
    done = subprocess.run(
        [sys.executable, "-m", "serving", "models", "--models", str(repository)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and b"Gr\\xf6\\xdfe" in done.stdout
