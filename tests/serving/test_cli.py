"""The command line gives the same images as the server, and reports errors in one line."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving import __version__
from serving.__main__ import main
from serving.engine import generation
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime


@pytest.fixture
def generate(repository_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs `generate MODEL ... -o NAME`; gives the path of the file and what was printed."""

    def run(*arguments: str, output: str) -> tuple[Path, str]:
        path = tmp_path / output
        assert main(["generate", *arguments, "--models", str(repository_folder), "-o", str(path)]) == 0
        return path, capsys.readouterr().out

    return run


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def expected(repository_folder: Path, id: str, **request) -> np.ndarray:
    runtime = Runtime(load_model(repository_folder / id))
    return runtime.synthesize(generation.sample(runtime, **request).inputs)


def test_generate_writes_the_pictures_of_the_addresses(generate, repository_folder: Path):
    path, said = generate("tiny-dcgan", "-n", "5", "--seed", "7", "--start", "2", output="images.npy")
    np.testing.assert_array_equal(np.load(path), expected(repository_folder, "tiny-dcgan", n=5, seed=7, start=2))
    assert said == f"{path}: tiny-dcgan, seed 7, index 2 to 6\n"


def test_a_grid_has_its_columns_and_scale(generate, repository_folder: Path):
    path, _ = generate("tiny-style", "-n", "6", "--seed", "7", "--columns", "3", "--scale", "2", output="grid.png")
    image = opened(path)
    assert image.format == "PNG" and image.mode == "RGB" and image.size == (3 * 32, 2 * 32)
    images = expected(repository_folder, "tiny-style", n=6, seed=7)
    np.testing.assert_array_equal(np.asarray(image)[32::2, 64::2], images[5])


def test_without_columns_a_grid_is_square(generate):
    path, _ = generate("tiny-dcgan", "-n", "64", "--seed", "7", output="grid.png")
    assert opened(path).size == (128, 128)


@pytest.mark.parametrize(
    ("output", "kind"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP"), ("a.png", "PNG")]
)
def test_the_extension_says_the_format(generate, output: str, kind: str):
    path, _ = generate("tiny-dcgan", "--seed", "7", output=output)
    assert opened(path).format == kind


def test_a_zip_has_a_picture_each_and_its_manifest(generate, repository_folder: Path):
    path, _ = generate("tiny-cgan", "-n", "3", "--seed", "7", "--labels", "4", output="images.zip")
    images = expected(repository_folder, "tiny-cgan", n=3, seed=7, labels=4)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert manifest["model"] == "tiny-cgan" and len(manifest["images"]) == 3
        for entry, image in zip(manifest["images"], images, strict=True):
            assert entry["seed"] == 7 and entry["label"] == 4
            np.testing.assert_array_equal(
                np.asarray(Image.open(io.BytesIO(archive.read(entry["file"])))), image[..., 0]
            )


def test_labels_are_one_for_all_or_one_an_image(generate, repository_folder: Path):
    path, _ = generate("tiny-cgan", "-n", "3", "--seed", "7", "--labels", "0,5,9", output="images.npy")
    np.testing.assert_array_equal(
        np.load(path), expected(repository_folder, "tiny-cgan", n=3, seed=7, labels=[0, 5, 9])
    )


def test_truncation_0_gives_one_picture(generate):
    path, _ = generate("tiny-style", "-n", "3", "--seed", "7", "--truncation", "0", output="images.npy")
    images = np.load(path)
    assert (images == images[0]).all()


def test_a_drawn_seed_is_printed_and_repeats_the_images(generate):
    path, said = generate("tiny-dcgan", "-n", "2", output="first.npy")
    seed = re.search(r"seed (\d+)", said)
    assert seed is not None and int(seed[1]) < 2**53
    again, _ = generate("tiny-dcgan", "-n", "2", "--seed", seed[1], output="second.npy")
    assert path.read_bytes() == again.read_bytes()
    other, _ = generate("tiny-dcgan", "-n", "2", output="third.npy")
    assert path.read_bytes() != other.read_bytes()


def test_models_lists_the_repository(repository_folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["models", "--models", str(repository_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["tiny-cgan", "tiny-dcgan", "tiny-style"]
    assert "16x16 grey, 10 classes" in lines[0] and "16x16 RGB, 6 style layers" in lines[2]
    assert load_model(repository_folder / "tiny-dcgan").sha256[:12] in lines[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("generate tiny-dcgan -o grid.bmp", "`--output` (=grid.bmp) must end in one of .png, .jpg"),
        ("generate tiny-dcgan -o grid", "`--output` (=grid) must end in"),
        ("generate other -o a.png", "there is no model `other`; there are tiny-cgan, tiny-dcgan, tiny-style."),
        ("generate tiny-dcgan", "give either `-o FILE`, for one file, or `--out DIR`, for a dataset."),
        ("generate tiny-dcgan -o a.png --out d", "give either `-o FILE`, for one file, or `--out DIR`"),
        ("generate tiny-dcgan -o a.png --shard-size 9", "`--shard-size` is for `--out DIR`."),
        ("generate tiny-dcgan -o a.png --verify", "`--verify` is for `--out DIR`."),
        ("generate tiny-dcgan --out d --scale 2", "`--scale` is for `-o FILE`."),
        (
            "generate tiny-dcgan -n 65537 -o a.png",
            "`-n` (=65537) must be at most 65536 for one file; `--out DIR` takes",
        ),
        ("generate tiny-dcgan --labels 1 -o a.png", "tiny-dcgan has no classes"),
        ("generate tiny-cgan --labels seven -o a.png", "`labels` (='seven') must be an index between 0 and 9"),
        ("generate tiny-cgan -n 3 --labels 1,2 -o a.png", "has 2 entries; it must be one label for all, or 3"),
        ("generate tiny-cgan --truncation 0.5 -o a.png", "is for style models"),
        (f"generate tiny-dcgan -n 2 --start {2**64 - 1} -o a.png", "`start` (=18446744073709551615) must be between"),
        ("generate tiny-dcgan -o missing/a.png", "missing/a.png cannot be written: No such file or directory."),
        (
            "generate tiny-dcgan -n 65536 --columns 65536 -o a.webp",
            "`columns` (=65536) make 1048576 x 16 pixels; a side in webp must be at most 16383.",
        ),
        ("models --models missing", "missing: cannot be read as a model repository"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(
    repository_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANYMEDE_MODELS", str(repository_folder))
    assert main(arguments.split()) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("ganymede: ") and said.err.count("\n") == 1
    assert message in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required: COMMAND"),
        ("paint", "invalid choice: 'paint'"),
        ("generate", "required: MODEL"),
        ("generate m -o a.png -n 0", "argument -n: 0 is not between 1 and 18446744073709551616"),
        ("generate m --out d --part 3", "argument --part: '3' is not I/N, such as 0/16"),
        ("generate m --out d --part 16/16", "argument --part: 16/16: the first number must be between 0 and 15"),
        ("generate m --out d --format zip", "argument --format: invalid choice: 'zip'"),
        ("generate m -o a.png --seed -1", "argument --seed"),
        (f"generate m -o a.png --seed {2**64}", "argument --seed: 18446744073709551616 is not between 0 and"),
        ("generate m -o a.png --scale 17", "argument --scale: 17 is not between 1 and 16"),
        ("generate m -o a.png --truncation nan", "argument --truncation: nan is not between 0 and 1"),
        ("serve --port http", "argument --port: 'http' is not an integer"),
        ("serve --ssl-key", "argument --ssl-key: expected one argument"),
        ("serve --workers 0", "argument --workers: 0 is not between 1 and 256"),
    ],
)
def test_arguments_that_are_wrong_are_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], arguments: str, message: str
):
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    said = capsys.readouterr()
    assert caught.value.code == 1 and said.out == "" and said.err.count("\n") == 1
    assert message in said.err


def test_a_data_set_without_its_extra_is_told_what_to_install(repository_folder: Path, tmp_path: Path):
    code = "import sys\nsys.modules['tqdm'] = None\nfrom serving.__main__ import main\nsys.exit(main())"
    words = ["generate", "tiny-dcgan", "--models", str(repository_folder), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "a dataset needs the `bulk` extra, `pip install 'ganymede[bulk]'`" in done.stderr


def test_help_needs_nothing_but_the_standard_library():
    """And so it is instant."""
    code = (
        "import sys, serving.__main__\n"
        "try: serving.__main__.main(['generate', '--help'])\n"
        "finally: print({'numpy', 'onnxruntime', 'granian', 'PIL', 'starlette'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--truncation" in done.stdout and done.stderr == "set()\n"


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "serving", "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == f"ganymede {__version__}\n"
