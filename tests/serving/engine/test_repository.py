"""A model whose files are not what its model.json says is never served, and the message says which and why."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from serving.engine.repository import ModelError, load_model, load_repository


@pytest.fixture
def repository(repository_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(repository_folder, tmp_path / "models"))


def edit(folder: Path, path: str, value: Any) -> None:
    """Sets a field of model.json, such as `image/width`; `...` removes it."""
    document = json.loads((folder / "model.json").read_text())
    *parents, name = path.split("/")
    target = document
    for parent in parents:
        target = target[parent]
    if value is ...:
        del target[name]
    else:
        target[name] = value
    (folder / "model.json").write_text(json.dumps(document))


def test_a_repository_is_its_models_by_id(repository_folder: Path):
    models = load_repository(repository_folder)
    assert list(models) == ["tiny-cgan", "tiny-dcgan", "tiny-style"]
    cgan, dcgan, style = models.values()
    assert cgan.classes == tuple("0123456789") and dcgan.classes is None
    assert (dcgan.image.height, dcgan.image.width, dcgan.image.channels, dcgan.latent_size) == (16, 16, 1, 8)
    assert style.style is not None and (style.style.layers, style.style.w_size, style.style.fine) == (6, 12, (4, 5))
    assert dcgan.document == json.loads((repository_folder / "tiny-dcgan" / "model.json").read_text())


def test_the_sha256_of_a_model_is_of_all_its_files(repository_folder: Path):
    folder = repository_folder / "tiny-style"
    hashes = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("mapping.onnx", "synthesis.onnx")
    }
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in hashes.items())
    assert load_model(folder).sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_no_repository_and_an_empty_one_are_rejected(tmp_path: Path):
    with pytest.raises(ModelError, match="cannot be read as a model repository: No such file"):
        load_repository(tmp_path / "missing")
    with pytest.raises(ModelError, match="contains no model"):
        load_repository(tmp_path)


def test_files_and_hidden_folders_beside_models_are_ignored(repository: Path):
    (repository / "README.md").write_text("Models.")
    (repository / ".cache").mkdir()
    assert len(load_repository(repository)) == 3


def test_a_flipped_bit_is_rejected(repository: Path):
    path = repository / "tiny-dcgan" / "generator.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"tiny-dcgan: `generator.onnx` has sha256 \w+; `model.json` requires"):
        load_repository(repository)


@pytest.mark.parametrize(("change", "message"), [(-1, "bytes; `model.json` requires"), (1, "has more than")])
def test_a_file_of_another_size_is_rejected(repository: Path, change: int, message: str):
    path = repository / "tiny-dcgan" / "generator.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-1] if change < 0 else data + b"\0")
    with pytest.raises(ModelError, match=message):
        load_model(path.parent)


def test_a_file_that_changes_after_it_was_checked_is_not_read(repository: Path):
    model = load_model(repository / "tiny-dcgan")
    path = model.folder / "generator.onnx"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(ModelError, match="has sha256"):
        model.read("generator.onnx")


def test_a_missing_file_is_rejected(repository: Path):
    (repository / "tiny-style" / "mapping.onnx").unlink()
    with pytest.raises(ModelError, match=r"tiny-style: has no file `mapping\.onnx`"):
        load_repository(repository)
    (repository / "tiny-style" / "model.json").unlink()
    with pytest.raises(ModelError, match=r"tiny-style: has no file `model\.json`"):
        load_repository(repository)


@pytest.mark.parametrize("name", ["generator.onnx", "model.json"])
def test_a_link_out_of_the_folder_is_rejected(repository: Path, tmp_path: Path, name: str):
    path = repository / "tiny-dcgan" / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    with pytest.raises(ModelError, match=f"`{name}` is a link to a file outside"):
        load_model(path.parent)


def test_a_model_that_links_out_of_the_repository_is_rejected(repository: Path, tmp_path: Path):
    (repository / "tiny-dcgan").rename(tmp_path / "elsewhere")
    (repository / "tiny-dcgan").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="outside the repository"):
        load_repository(repository)


def test_a_link_in_a_circle_is_rejected(repository: Path):
    path = repository / "tiny-dcgan" / "generator.onnx"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ModelError, match=r"`generator\.onnx`"):
        load_repository(repository)


def test_links_within_the_folder_are_followed(repository: Path):
    """As a Kubernetes volume lays files out."""
    path = repository / "tiny-dcgan" / "generator.onnx"
    path.rename(path.with_name("data"))
    path.symlink_to("data")
    assert load_model(path.parent).id == "tiny-dcgan"


def test_a_folder_must_be_named_as_its_model(repository: Path):
    (repository / "tiny-dcgan").rename(repository / "other")
    with pytest.raises(ModelError, match=r"`id` \(=tiny-dcgan\) in `model.json` must be the folder's name"):
        load_repository(repository)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"latent_size": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "not valid JSON"),
        (" " * (1 << 20) + "{}", "has more than 1048576 bytes"),
        ("\udcff", "not valid JSON"),
    ],
)
def test_a_model_json_that_is_no_object_is_rejected(repository: Path, text: str, message: str):
    path = repository / "tiny-dcgan" / "model.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=message):
        load_model(path.parent)


@pytest.mark.parametrize(
    ("model", "path", "value", "message"),
    [
        ("tiny-dcgan", "schema_version", 2, r"`schema_version` \(=2\) must be 1"),
        ("tiny-dcgan", "id", "../up", r'`id` \(="../up"\) must be'),
        ("tiny-dcgan", "name", ..., "`name` is missing"),
        ("tiny-dcgan", "licence", "", "`licence`"),
        ("tiny-dcgan", "family", "vae", r'`family` \(="vae"\) must be one of mlp, dcgan, cgan, stylegan'),
        ("tiny-dcgan", "family", ["dcgan"], "`family`"),
        ("tiny-dcgan", "image", [16, 16], "`image`.* must be an object"),
        ("tiny-dcgan", "image/width", 0, r"`image\.width` \(=0\) must be an integer between 1 and 4096"),
        ("tiny-dcgan", "image/height", 16.0, r"`image\.height` \(=16.0\)"),
        ("tiny-dcgan", "image/channels", 4, r"`image\.channels` \(=4\) must be 1 \(grey\) or 3 \(RGB\)"),
        ("tiny-dcgan", "latent_size", True, "`latent_size`"),
        ("tiny-dcgan", "latent_size", "8", "`latent_size`"),
        ("tiny-dcgan", "classes", ["0"], "`classes` .* must be null"),
        ("tiny-cgan", "classes", None, "`classes` .* must be a list of class names"),
        ("tiny-cgan", "classes", ["a", "a"], "`classes`"),
        ("tiny-cgan", "classes", [1, 2], "`classes`"),
        ("tiny-cgan", "classes", [], "`classes`"),
        ("tiny-dcgan", "style", {}, "`style` .* must be null"),
        ("tiny-style", "style", None, "`style` .* must be an object"),
        ("tiny-style", "style/fine", [4], "must together be layers 0 to 5"),
        ("tiny-style", "style/coarse", ["0"], r"`style\.coarse`.* must be a list of integers"),
        ("tiny-dcgan", "files", {}, r"`files` \(=\) must be exactly generator\.onnx"),
        ("tiny-dcgan", "files", {"../x": {}}, "must be exactly"),
        ("tiny-style", "files", {"generator.onnx": {}}, r"must be exactly mapping\.onnx, synthesis\.onnx"),
        ("tiny-dcgan", "files/generator.onnx/sha256", "ABC", r'`files\.generator\.onnx\.sha256` \(="ABC"\)'),
        ("tiny-dcgan", "files/generator.onnx/size", -1, r"`files\.generator\.onnx\.size` \(=-1\)"),
        ("tiny-dcgan", "training", None, "`training`"),
        ("tiny-dcgan", "metrics", [{"name": "fid"}], r"`metrics\[0\]\.value` is missing"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_value(
    repository: Path, model: str, path: str, value: Any, message: str
):
    edit(repository / model, path, value)
    with pytest.raises(ModelError, match=f"{model}: `model.json`: .*{message}"):
        load_model(repository / model)
