"""It is a BentoML service: its clients call it, and `bentoml build` packs one that serves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

import pictures
from server import ROOT, Server, free_port, running
from serving.api.web.pages import FOLDER

CLIENTS = {
    "SyncHTTPClient": """
import sys, bentoml
with bentoml.SyncHTTPClient(sys.argv[1]) as client:
    sys.stdout.buffer.write(getattr(client, sys.argv[2])(**eval(sys.argv[3])))
""",
    "AsyncHTTPClient": """
import asyncio, sys, bentoml
async def main():
    async with bentoml.AsyncHTTPClient(sys.argv[1]) as client:
        sys.stdout.buffer.write(await getattr(client, sys.argv[2])(**eval(sys.argv[3])))
asyncio.run(main())
""",
}
WITHIN = """
import asyncio, sys
from serving.api.service import Ganymede

async def main():
    service = Ganymede.inner()
    sys.stdout.buffer.write(await getattr(service, sys.argv[1])(**eval(sys.argv[2])))

asyncio.run(main())
"""
VARIANTS = ("serve", "cuda", "bulk", "sbom")  # the locks of an image
BENTOML = str(Path(sys.executable).with_name("bentoml"))


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(
    ("name", "route", "body"),
    [
        ("sample", "/v1/sample", {"n": 3, "seed": 2**64 - 1}),
        ("digits", "/v1/digits", {"digits": "42", "seed": 7}),
        ("interpolate", "/v1/interpolate", {"keyframes": [1, {"seed": 2, "index": 3}], "frames": 4}),
        ("style_mix", "/v1/style-mix", {"rows": [1], "columns": [2, 3], "styles": "fine"}),
    ],
)
def test_bentomls_own_clients_get_the_pictures(
    server: Server, http: httpx2.Client, kind: str, name: str, route: str, body: dict
):
    command = [sys.executable, "-c", CLIENTS[kind], server.url, name, repr(body)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == http.post(route, json=body).content


def test_a_service_in_the_same_process_gets_the_pictures(repository_folder: Path, http: httpx2.Client):
    body = {"model": "tiny-style", "n": 3, "seed": 7}
    env = os.environ | {"GANYMEDE_MODELS": str(repository_folder)}
    command = [sys.executable, "-c", WITHIN, "sample", repr(body)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
    assert done.stdout == http.post("/v1/sample", json=body).content, done.stderr


def test_the_served_schema_is_bentomls():
    code = "import json; from serving.api.service import Ganymede; print(json.dumps(Ganymede.schema(), indent=1))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (FOLDER / "schema.json").read_text() == done.stdout, "make docs"


@pytest.mark.parametrize("kind", CLIENTS)
def test_bentomls_own_clients_are_told_what_was_wrong(server: Server, kind: str):
    command = [sys.executable, "-c", CLIENTS[kind], server.url, "sample", repr({"n": 1000})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "`n` (=1000) must be between 1 and 256." in done.stderr


@pytest.mark.slow
def test_a_built_bento_serves_its_models_without_training_code(
    repository_folder: Path, http: httpx2.Client, tmp_path: Path
):
    checkout = tmp_path / "checkout"
    for folder in ("serving", "training", "requirements", "deploy"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bentofile.yaml", "Containerfile"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(repository_folder, checkout / "models")
    home = {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    command = [BENTOML, "build", "--output", "tag"]
    built = subprocess.run(command, cwd=checkout, env=os.environ | home, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    (source,) = (tmp_path / "home" / "bentos" / "ganymede").glob("*/src")
    packed = {file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()}
    assert {f"models/{model}/model.json" for model in ("tiny-cgan", "tiny-dcgan", "tiny-style")} <= packed
    image = {"Containerfile", "deploy/sbom.py", *(f"requirements/{name}.txt" for name in VARIANTS)}
    assert {name for name in packed if not name.startswith(("serving/", "models/"))} == {"bentofile.yaml", *image}
    kinds = {Path(name).suffix for name in packed if name.startswith("serving/")}
    assert kinds == {".py", ".typed", ".html", ".css", ".js", ".json", ".svg"}

    port = free_port()
    serve = [BENTOML, "serve", "ganymede:latest", "--host", "127.0.0.1", "--port", str(port)]
    with running(serve, port, tmp_path / "log.txt", env=home, cwd=tmp_path) as bento:
        body = {"model": "tiny-style", "n": 4, "seed": 7}
        reply = httpx2.post(f"{bento.url}/v1/sample", json=body)
        assert pictures.decode(reply.content).shape == (32, 32, 3)
        assert reply.content == http.post("/v1/sample", json=body).content, "the same as the server of the checkout"
        assert httpx2.get(f"{bento.url}/v1/models").json() == http.get("/v1/models").json()
        problem = httpx2.post(f"{bento.url}/v1/sample", json={"n": 0}).json()
        assert problem["code"] == "invalid-request"
        assert bento.stop() == 0


def test_a_bad_repository_is_one_line_of_bentoml_serve_too(tmp_path: Path):
    env = os.environ | {"GANYMEDE_MODELS": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
    command = [BENTOML, "serve", "serving.api.service:Ganymede", "--port", str(free_port())]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert str(tmp_path) in line and "no model" in line
