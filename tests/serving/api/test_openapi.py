"""The OpenAPI document: complete, true, and enough for a generated client."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from starlette.routing import Mount

import pictures
import serving
from server import ROOT, Server
from serving.api import openapi, reply_models
from serving.api.app import create_app
from serving.api.settings import Settings
from serving.engine.model_json import GRAPHS

DOCUMENT = openapi.document()
POSTS = {"/v1/sample", "/v1/digits", "/v1/interpolate", "/v1/style-mix"}
EXAMPLES = [
    (path, name, example["value"])
    for path in sorted(POSTS)
    for name, example in DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ].items()
]


def validate(value: object, schema: dict[str, Any]) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def integers(node: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an integer in the document, with the name of its field or parameter."""
    if isinstance(node, list):
        for item in node:
            yield from integers(item, name)
    elif isinstance(node, dict):
        if node.get("type") == "integer":
            yield name, node
        for key, value in node.items():
            inner = key in ("schema", "items", "anyOf", "oneOf")
            yield from integers(value, node.get("name", name) if inner else key)


def undocumented(reply: BaseModel) -> list[str]:
    """Fields of a reply, and of the replies in it, that its model does not have."""
    found = list(reply.model_extra or {})
    for value in reply.__dict__.values():
        for item in value if isinstance(value, list) else [value]:
            found += undocumented(item) if isinstance(item, BaseModel) else []
    return found


def fits(content: bytes, schema: dict[str, Any]) -> None:
    """Holds the content of a reply to its schema and to the pydantic model the schema was made of."""
    validate(json.loads(content), schema)
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        reply = getattr(reply_models, name).model_validate_json(content)
        assert reply.model_dump(mode="json", by_alias=True, exclude_unset=True) == json.loads(content)
        assert name in ("Model", "Models") or undocumented(reply) == []


def documented(path: str, method: str, response: httpx2.Response) -> None:
    """Holds a reply to what the document says of its status, type, headers and content."""
    reply = DOCUMENT["paths"][path][method]["responses"][str(response.status_code)]
    for name, header in reply.get("headers", {}).items():
        optional = {f"X-Ganymede-{name}" for name in ("Seed", "Start", "Addresses", "Labels", "Truncation")}
        assert name in response.headers or name in optional, name
        assert "schema" in header or "$ref" in header
    if "content" in reply:
        media_type = response.headers["content-type"]
        content = reply["content"].get(media_type) or reply["content"][media_type.partition(";")[0]]
        if "json" in media_type:
            fits(response.content, content["schema"])


def test_the_committed_document_is_this_one():
    committed = (ROOT / "docs" / "openapi.json").read_text()
    assert committed == openapi.text(), "python -m serving openapi > docs/openapi.json"


def test_the_server_and_the_command_give_the_committed_document(http: httpx2.Client):
    committed = (ROOT / "docs" / "openapi.json").read_text()
    assert http.get("/openapi.json").text == committed
    command = [sys.executable, "-m", "serving", "openapi"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == committed
    assert json.loads(committed)["info"]["version"] == serving.__version__


def test_every_route_is_in_the_document_and_no_other():
    routes = create_app(Settings.from_environment({})).routes
    served = {f"{route.path}/{{file}}" if isinstance(route, Mount) else route.path for route in routes}  # type: ignore
    assert DOCUMENT["paths"].keys() == served
    assert {path for path, item in DOCUMENT["paths"].items() if "post" in item} == POSTS | {"/v2/models/{model}/infer"}


def test_every_schema_is_valid_and_every_reference_resolves():
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object", name
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', openapi.text())):
        node: Any = DOCUMENT
        for key in reference.split("/"):
            node = node[key]


def test_integers_above_32_bits_have_a_64_bit_format():
    """Else generators for Java, Go and Rust make 32-bit fields of them."""
    wide = set()
    for name, schema in integers(DOCUMENT):
        # A seed or index in a URL has no maximum: generated Go would compare with it, and not compile.
        needs = schema["maximum"] >= 2**31 if "maximum" in schema else name in ("seed", "index")
        assert ("format" in schema) == needs, name
        if "format" in schema:
            assert schema["format"] == "int64"
            wide.add(name)
    assert wide == {"seed", "start", "index", "keyframes", "rows", "columns", "size", "images_seen"}


@pytest.mark.parametrize("folder", sorted((ROOT / "models").iterdir()), ids=lambda folder: folder.name)
def test_a_published_model_fits_the_model_of_its_reply(folder: Path):
    document = json.loads((folder / "model.json").read_text()) | {"sha256": 64 * "0"}
    fits(json.dumps(document).encode(), {"$ref": "#/components/schemas/Model"})


def test_the_document_has_every_family_of_the_engine():
    assert get_args(reply_models.Model.model_fields["family"].annotation) == tuple(GRAPHS)


def test_operations_have_names_of_their_own():
    names = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("path", "name", "body"), EXAMPLES, ids=lambda value: str(value)[:30])
def test_an_example_fits_its_schema_and_gets_what_it_documents(
    http: httpx2.Client, path: str, name: str, body: dict[str, Any]
):
    operation = DOCUMENT["paths"][path]["post"]
    validate(body, operation["requestBody"]["content"]["application/json"]["schema"])
    for accept in operation["responses"]["200"]["content"]:
        response = http.post(path, json=body, headers={"Accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (200, accept), response.text
        documented(path, "post", response)


@pytest.mark.parametrize(
    ("method", "path", "url", "status"),
    [
        ("get", "/v1/models", "/v1/models", 200),
        ("get", "/v1/models/{id}", "/v1/models/tiny-style", 200),
        ("get", "/v1/models/{id}", "/v1/models/none", 404),
        ("get", "/v1/images/{model}/{seed}/{index}.png", "/v1/images/tiny-cgan/7/4.png?label=1", 200),
        ("get", "/v1/images/{model}/{seed}/{index}.jpg", "/v1/images/tiny-cgan/7/4.jpg", 200),
        ("get", "/v1/images/{model}/{seed}/{index}.webp", "/v1/images/tiny-cgan/x/4.webp", 422),
        ("get", "/livez", "/livez", 200),
        ("get", "/readyz", "/readyz", 200),
        ("get", "/metrics", "/metrics", 200),
        ("get", "/openapi.json", "/openapi.json", 200),
        ("get", "/schema.json", "/schema.json", 200),
        ("get", "/docs", "/docs", 200),
        ("get", "/docs/{file}", "/docs/docs.css", 200),
        ("get", "/docs/{file}", "/docs/docs.js", 200),
        ("get", "/docs/{file}", "/docs/docs.html", 404),
        ("get", "/", "/", 200),
        ("get", "/playground/{file}", "/playground/main.js", 200),
        ("get", "/playground/{file}", "/playground/views.css", 200),
        ("get", "/playground/{file}", "/playground/icon.svg", 200),
        ("get", "/playground/{file}", "/playground/none.js", 404),
        ("post", "/v1/sample", "/v1/sample", 415),
        ("get", "/v2", "/v2", 200),
        ("get", "/v2/health/live", "/v2/health/live", 200),
        ("get", "/v2/health/ready", "/v2/health/ready", 200),
        ("get", "/v2/models/{model}", "/v2/models/tiny-style", 200),
        ("get", "/v2/models/{model}", "/v2/models/none", 404),
        ("get", "/v2/models/{model}/ready", "/v2/models/tiny-style/ready", 200),
        ("post", "/v2/models/{model}/infer", "/v2/models/tiny-style/infer", 422),
    ],
)
def test_a_reply_is_as_documented(http: httpx2.Client, method: str, path: str, url: str, status: int):
    response = http.request(method.upper(), url)
    assert response.status_code == status
    documented(path, method, response)


@pytest.mark.slow
def test_a_client_generated_from_it_gets_pictures(server: Server, tmp_path: Path):
    """By openapi-python-client. It takes images as they are once it is told that they are bytes."""
    kinds = {kind for path in POSTS for kind in DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"]}
    overrides = {kind: "application/octet-stream" for kind in kinds - {"application/json"}}
    config = tmp_path / "config.json"
    overrides["application/problem+json"] = "application/json"
    config.write_text(json.dumps({"content_type_overrides": overrides, "post_hooks": []}))
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--meta", "none"]
    command += ["--path", str(ROOT / "docs" / "openapi.json"), "--output-path", str(tmp_path / "generated")]
    done = subprocess.run([*command, "--config", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from generated import Client\n"
        "from generated.api.pictures import sample\n"
        "from generated.api.models import models\n"
        "from generated.models import Problem, SampleBody\n"
        "with Client(base_url=sys.argv[1]) as client:\n"
        "    found = models.sync(client=client)\n"
        "    assert [model.id for model in found.models] == ['tiny-cgan', 'tiny-dcgan', 'tiny-style']\n"
        "    picture = sample.sync(client=client, body=SampleBody(model='tiny-style', seed=2**64 - 1))\n"
        "    open('picture.png', 'wb').write(picture.payload.read())\n"
        "    problem = sample.sync(client=client, body=SampleBody(n=1000))\n"
        "    assert isinstance(problem, Problem) and problem.errors[0].pointer == '/n', problem\n"
    )
    done = subprocess.run(
        [sys.executable, str(program), server.url], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = pictures.decode((tmp_path / "picture.png").read_bytes())
    truth = httpx2.get(f"{server.url}/v1/images/tiny-style/{2**64 - 1}/0.png").content
    assert (found == pictures.decode(truth)).all()


# Language: the declaration of a field in generated code, and that of a 32-bit field or parameter.
DECLARATIONS = {
    "java": (
        r"private (?P<type>[\w<>]+) (?P<name>\w+)(?: = \w+)?;",
        r"\bInteger (seed|index|size|imagesSeen)\b",
    ),
    "go": (r"\t(?P<name>\w+) (?P<type>\S+) `json:", r"(?i)\b(seed|index|size|imagesSeen) \S*int32\b"),
    "rust": (r"pub (?P<name>\w+): (?P<type>[\w<>]+),", r"\b(seed|index|size|images_seen): \S*i32\b"),
}


@pytest.mark.slow
@pytest.mark.parametrize("language", DECLARATIONS)
def test_generated_clients_hold_64_bit_integers(language: str, tmp_path: Path):
    """By openapi-generator. No compiler is needed: the declared types say it."""
    command = [str(Path(sys.executable).with_name("openapi-generator-cli")), "generate", "--generator-name", language]
    command += ["--input-spec", str(ROOT / "docs" / "openapi.json"), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    suffix = {"rust": "rs"}.get(language, language)
    code = "\n".join(file.read_text() for file in sorted(tmp_path.rglob(f"*.{suffix}")))
    field, narrow = DECLARATIONS[language]
    types: dict[str, set[str]] = {}
    for found in re.finditer(field, code):
        types.setdefault(found["name"].replace("_", "").lower(), set()).add(found["type"])
    wide = re.compile(r"Long|[iI](nt)?64")
    for name in ("seed", "index", "size", "imagesseen"):
        assert types[name], name
        assert all(wide.search(type) for type in types[name]), (name, types[name])
    assert any(wide.search(type) for type in types["start"]), types["start"]  # that of an interpolation is a frame
    assert re.findall(narrow, code) == []


GO_VALIDATOR = """package validator
func Validate(v interface{}) error { return nil }
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go here")
def test_a_generated_go_client_compiles_and_gets_an_image(server: Server, tmp_path: Path):
    """By openapi-generator. Its one dependency, a validator of struct tags that it does not write, is stubbed."""
    client, stub = tmp_path / "client", tmp_path / "validator"
    command = [str(Path(sys.executable).with_name("openapi-generator-cli")), "generate", "--generator-name", "go"]
    command += ["--input-spec", str(ROOT / "docs" / "openapi.json"), "--output", str(client)]
    command += ["--git-user-id", "local", "--git-repo-id", "ganymede"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    stub.mkdir()
    (stub / "go.mod").write_text("module gopkg.in/validator.v2\n\ngo 1.19\n")
    (stub / "validator.go").write_text(GO_VALIDATOR)
    module = (client / "go.mod").read_text() + "\nreplace gopkg.in/validator.v2 => ../validator\n"
    (client / "go.mod").write_text(re.sub(r"(?m)^go 1\..*$", "go 1.19", module))
    shutil.rmtree(client / "test")  # they need another module
    (client / "cmd").mkdir()
    (client / "cmd" / "main.go").write_text(GO_PROGRAM)
    environment = os.environ | {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    environment |= {"GOCACHE": str(tmp_path / "cache"), "GOPATH": str(tmp_path / "path")}
    for words in (["vet", "."], ["run", "./cmd", server.url]):
        done = subprocess.run(
            ["go", *words], cwd=client, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "tiny-cgan tiny-dcgan tiny-style 8 9223372036854775807"


GO_PROGRAM = """package main

import (
	"context"
	"fmt"
	"os"

	client "github.com/local/ganymede"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	configuration := client.NewConfiguration()
	configuration.Servers = client.ServerConfigurations{{URL: os.Args[1]}}
	api := client.NewAPIClient(configuration)
	models, _, err := api.ModelsAPI.Models(context.Background()).Execute()
	check(err)
	for _, model := range models.Models {
		fmt.Print(model.GetId(), " ")
	}
	request := api.PicturesAPI.PicturePng(context.Background(), "tiny-dcgan", 9223372036854775807, 3)
	file, response, err := request.Execute()
	check(err)
	magic := make([]byte, 8)
	n, err := file.Read(magic)
	check(err)
	fmt.Println(n, response.Header.Get("X-Ganymede-Seed"))
}
"""
