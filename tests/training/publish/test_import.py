"""Checkpoints of elsewhere: the images are those of their own code, nothing in a file is run, the rest is refused."""

import io
import itertools
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from serving.engine.latents import Address
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training.__main__ import main
from training.errors import CheckpointError
from training.networks import cgan, dcgan, mlp, stylegan, stylegan2
from training.publish import checkpoints, import_, pickles
from training.publish.import_ import About

DATA = Path(__file__).parents[2] / "data" / "stylegan2"
SHARED = Path(__file__).parents[4] / "shared" / "stylegan2"
PICKLE = DATA / "sg2-16c.pkl"


@pytest.fixture(
    scope="module",
    params=[
        ("sg2-16c", "const"),
        pytest.param(("sg2-16c", "none"), marks=pytest.mark.slow),
        pytest.param(("sg2-32", "const"), marks=pytest.mark.slow),
        pytest.param(("sg2-32", "none"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Any]:
    """A model folder, its noise, and what the reference implementation made."""
    name, noise = request.param
    folder = DATA if (DATA / f"{name}.pkl").is_file() else SHARED
    if not (folder / f"{name}.pkl").is_file():
        pytest.skip(f"{name} is not here")
    about = About(id=name, noise=noise, classes=list("abcde") if name == "sg2-16c" else None)
    made = import_.import_checkpoint(folder / f"{name}.pkl", tmp_path_factory.mktemp("models"), about)
    return made, noise, np.load(folder / f"{name}.npz")


def floats(path: Path, w: np.ndarray) -> np.ndarray:
    """What the synthesis graph computes before it becomes uint8."""
    model = onnx.load(path)
    made = {output: node for node in model.graph.node for output in node.output}
    name = "image"
    for step in ("Cast", "Clip", "Round", "Add", "Mul"):
        assert made[name].op_type == step
        name = made[name].input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([name], {"w": w})[0])


@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_images_are_those_of_the_reference(imported: tuple[Path, str, Any], psi: float, batch: int):
    folder, noise, reference = imported
    runtime = Runtime(load_model(folder))
    z = runtime.model.latents([Address(int(seed), 0) for seed in reference["seeds"]])
    labels = np.arange(4) % len(runtime.model.classes) if runtime.model.classes else None
    strengths = np.full((4, reference["ws"].shape[1]), psi, np.float32)
    rows = [slice(start, start + batch) for start in range(0, 4, batch)]
    w = np.concatenate([runtime.map(z[r], strengths[r], None if labels is None else labels[r]) for r in rows])
    if psi == 1:
        np.testing.assert_allclose(w, reference["ws"], atol=1e-5)
    expected = reference[f"float_psi{psi}_{noise}"]
    assert expected.std() > 0.1
    found = np.concatenate([floats(folder / "synthesis.onnx", w[r]) for r in rows])
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=0)
    images = np.concatenate([runtime.synthesize({"w": w[r]}) for r in rows])
    assert np.abs(images.astype(int) - reference[f"image_psi{psi}_{noise}"]).max() <= 1


def test_the_model_document_says_where_it_came_from(imported: tuple[Path, str, Any]):
    folder, noise, reference = imported
    document, kwargs = json.loads((folder / "model.json").read_text()), json.loads(str(reference["kwargs"]))
    source = document["training"]["source"]
    assert source["file"] == f"{folder.name}.pkl" and len(source["sha256"]) == 64
    assert (source["format"], source["noise"]) == ("stylegan2 pickle", noise)
    assert document["latents"] == "numpy-randomstate" and document["metrics"] == []
    assert document["image"]["height"] == kwargs["img_resolution"]
    assert document["dataset"] == {} and document["licence"] == "unknown"
    assert {path.name for path in folder.iterdir()} == {
        *("mapping.onnx", "synthesis.onnx", "model.json", "README.md"),
        *("samples.png", "interpolation.png", "mixing.png", "truncation.png"),
    }
    assert source["sha256"] in (folder / "README.md").read_text()


def command(source: Path, models: Path, *options: str) -> int:
    return main(["import", str(source), "--id", "mine", "--models", str(models), *options])


def test_a_dry_run_tells_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert command(PICKLE, tmp_path / "models", "--dry-run") == 0
    told = capsys.readouterr().out
    for fact in ("stylegan2 pickle", "16 x 16 grey, 5 classes", "80,040", "numpy-randomstate", "6 of 48"):
        assert fact in told
    assert not (tmp_path / "models").exists()


class Hostile:
    """Its pickle makes a file, where it is loaded by a reader that runs what it names."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path):
    trap = tmp_path / "trap"
    data = pickle.dumps({"G_ema": Hostile(trap), "eval": [Hostile(trap)]})
    (tmp_path / "hostile.pkl").write_bytes(data)
    record = pickles.load(tmp_path / "hostile.pkl")["G_ema"]
    assert isinstance(record, pickles.Record) and record.name == "mkdir" and record.args == (str(trap),)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Hostile(trap)))
    assert trap.exists(), "the trap works"


def changed(change: Callable[[dict[str, torch.Tensor]], Any]) -> dict[str, torch.Tensor]:
    """The state dict of a small StyleGAN2, changed."""
    config = stylegan2.Config(latent_size=8, w_size=8, mapping_layers=2, channel_base=64, channel_max=8)
    state = dict(stylegan2.Generator(config, 16, 3).state_dict())
    change(state)
    return state


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class Network:
    """A pickle of this names `dnnlib.tflib.network.Network`."""

    def __reduce__(self) -> Any:
        return Network, ()


def tensorflow() -> bytes:
    return pickle.dumps((Network(),) * 3, protocol=2).replace(
        f"c{__name__}\nNetwork\n".encode(), b"cdnnlib.tflib.network\nNetwork\n"
    )


NAN = torch.full((8,), torch.nan)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated pickle": (lambda: PICKLE.read_bytes()[:200_000], "cut short"),
    "truncated zip": (lambda: saved(changed(len))[:5000], "cut short"),
    "TensorFlow pickle": (tensorflow, "TensorFlow"),
    "pickle of a list": (lambda: pickle.dumps([1, 2]), "a pickle of a list"),
    "pickle of a dict": (lambda: pickle.dumps({"weights": 1}), "a dict of weights"),
    "hostile pickle": (lambda: pickle.dumps({"G_ema": Hostile(Path("trap"))}), "holds|is a pickle of"),
    "hostile zip": (lambda: saved({"netG": Hostile(Path("trap"))}), "mkdir"),
    "memo bomb": (lambda: b"\x80\x04}r\xff\xff\xff\x7f.", "memo"),
    "text": (lambda: b"these are not weights\n", "no pickle"),
    "nothing": (lambda: b"", "no pickle"),
    "another network": (lambda: saved(nn.Linear(3, 3).state_dict()), "another network"),
    "FastGAN": (lambda: saved({"feat_8.1.weight": NAN}), "FastGAN"),
    "StyleGAN3": (lambda: saved({"synthesis.L0_36_1024.weight": NAN, "mapping.fc0.weight": NAN}), "StyleGAN3"),
    "optimiser": (lambda: saved({"state": {}, "param_groups": []}), "no weights"),
    "missing keys": (lambda: saved(changed(lambda s: s.pop("synthesis.b8.conv0.bias"))), "synthesis.b8.conv0.bias"),
    "unknown keys": (lambda: saved(changed(lambda s: s.update({"synthesis.extra": NAN}))), "synthesis.extra"),
    "another shape": (lambda: saved(changed(lambda s: s.update({"synthesis.b8.conv0.bias": NAN[:3]}))), "3, where"),
    "NaN": (lambda: saved(changed(lambda s: s.update({"synthesis.b8.conv0.bias": NAN}))), "NaN"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_one_line(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make, says = REFUSED[case]
    source = tmp_path / "source.bin"
    source.write_bytes(make())
    assert command(source, tmp_path / "models") == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and str(source) in told and re.search(says, told), told
    assert not (tmp_path / "models").exists() and not Path("trap").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--id", "Mine"], "--id"),
        (["--format", "keras"], "--format"),
        (["--format", "dcgan"], "--format"),
        (["--classes", "a,b"], "--classes"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert command(PICKLE, tmp_path / "models", *options) == 1
    assert says in capsys.readouterr().err and not (tmp_path / "models").exists()


def test_a_trained_model_is_not_replaced(tmp_path: Path):
    shutil.copytree(DATA, tmp_path / "mine")
    with pytest.raises(CheckpointError, match="was not imported"):
        import_.import_checkpoint(PICKLE, tmp_path, About(id="mine"))
    assert (tmp_path / "mine" / PICKLE.name).is_file()


def tutorial(doublings: int, channels: int) -> nn.Sequential:
    """The generator of PyTorch's DCGAN tutorial, at 4 << doublings pixels."""
    width, layers = 4 << doublings, []
    sizes = [6, *(width >> k for k in range(doublings))]
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += [
            nn.ConvTranspose2d(a, b, 4, 2 if k else 1, 1 if k else 0, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(True),
        ]
    layers += [nn.ConvTranspose2d(sizes[-1], channels, 4, 2, 1, bias=False), nn.Tanh()]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.01, 0.05)
    return network.eval()


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tutorial": lambda state: {f"main.{name}": value for name, value in state.items()},
    "data parallel": lambda state: {f"module.main.{name}": value for name, value in state.items()},
    "checkpoint": lambda state: {"epoch": 3, "netG": {f"main.{name}": v for name, v in state.items()}, "netD": {}},
    "nested": lambda state: {"state_dict": {f"generator.main.{name}": v for name, v in state.items()}},
    "bare": lambda state: state,
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize(("doublings", "channels"), [(3, 1), (4, 3), (6, 3)])
def test_a_tutorials_generator_is_read_off_its_shapes(wrapped: str, doublings: int, channels: int, tmp_path: Path):
    torch.manual_seed(0)
    network = tutorial(doublings, channels)
    torch.save(WRAPPED[wrapped](dict(network.state_dict())), tmp_path / "netG.pth")
    found = checkpoints.read(tmp_path / "netG.pth")
    assert (found.resolution, found.channels, found.network.latent_size) == (4 << doublings, channels, 6)
    assert found.latents == "philox"
    z = torch.randn(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(found.generator(z), network(z[:, :, None, None]))


def test_a_tutorials_generator_is_served_as_it_was(tmp_path: Path):
    torch.manual_seed(0)
    network = tutorial(3, 3)
    torch.save(WRAPPED["tutorial"](dict(network.state_dict())), tmp_path / "netG.pth")
    assert command(tmp_path / "netG.pth", tmp_path / "models", "--name", "Mine", "--licence", "MIT") == 0
    runtime = Runtime(load_model(tmp_path / "models" / "mine"))
    z = runtime.model.latents([Address(1, k) for k in range(3)])
    with torch.no_grad():
        expected = network(torch.from_numpy(z)[:, :, None, None]).permute(0, 2, 3, 1).numpy()
    assert np.abs(runtime.generate(z) - (expected * 127.5 + 127.5)).max() <= 1.01
    assert runtime.model.document["licence"] == "MIT" and runtime.model.name == "Mine"


OURS: dict[str, tuple[Any, Any, tuple[int, int, int | None]]] = {
    "dcgan": (dcgan, dcgan.Config(latent_size=8, base_channels=4), (32, 3, None)),
    "dcgan of patches": (dcgan, dcgan.Config(latent_size=8, base_channels=4, patch=2), (64, 3, None)),
    "mlp": (mlp, mlp.Config(latent_size=8, hidden_size=16), (28, 1, None)),
    "cgan": (cgan, cgan.Config(latent_size=8, base_channels=4, embedding_size=5), (28, 1, 10)),
    "cgan of norms": (
        cgan,
        cgan.Config(latent_size=8, base_channels=4, generator_conditioning="batch_norm"),
        (32, 3, 4),
    ),
    "stylegan": (stylegan, stylegan.Config(latent_size=8, w_size=8, channel_max=8), (32, 3, None)),
    "stylegan2": (stylegan2, stylegan2.Config(latent_size=8, w_size=8, channel_base=64, channel_max=8), (16, 4, 3)),
    "stylegan2 of residuals": (
        stylegan2,
        stylegan2.Config(latent_size=8, w_size=8, channel_base=64, channel_max=8, architecture="resnet"),
        (32, 1, None),
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_a_state_dict_of_our_networks_is_read_off_its_shapes(name: str, tmp_path: Path):
    torch.manual_seed(0)
    family, config, (resolution, channels, classes) = OURS[name]
    generator = family.Generator(config, resolution, channels, classes).eval()
    torch.save({"state_dict": {f"generator.{k}": v for k, v in generator.state_dict().items()}}, tmp_path / "a.ckpt")
    found = checkpoints.read(tmp_path / "a.ckpt")
    assert (found.resolution, found.channels, found.classes) == (resolution, channels, classes)
    inputs = [torch.randn(2, 8), *([torch.tensor([0, 2])] if classes else [])]
    with torch.no_grad():
        assert torch.equal(found.generator(*inputs), generator(*inputs))


@pytest.mark.slow
def test_an_image_with_alpha_is_composed_on_white(tmp_path: Path):
    torch.manual_seed(0)
    family, config, shape = OURS["stylegan2"]
    generator = family.Generator(config, *shape).eval()
    torch.save(generator.state_dict(), tmp_path / "rgba.pt")
    folder = import_.import_checkpoint(tmp_path / "rgba.pt", tmp_path / "models", About(id="rgba"))
    runtime = Runtime(load_model(folder))
    z = runtime.model.latents([Address(5, 0)])
    with torch.no_grad():
        r, g, b, alpha = generator(torch.from_numpy(z), torch.tensor([1]))[0].numpy()
    opacity = np.clip(alpha / 2 + 0.5, 0, 1)[..., None]
    expected = (np.clip(np.stack([r, g, b], -1), -1, 1) * opacity + 1 - opacity) * 127.5 + 127.5
    assert np.abs(runtime.generate(z, [1])[0] - expected).max() <= 1.01
