"""Runtime: the same bytes for every batch size and number of threads; invalid graphs are rejected."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from serving.engine import runtime as runtime_module
from serving.engine.latents import address_range, latents
from serving.engine.repository import ModelError, load_model
from serving.engine.runtime import CPU, Runtime
from tiny_models import Graph, document, write_model

BATCHES = (1, 2, 3, 7, 16, 64)


def test_pictures_are_uint8_with_channels_last(repository_folder: Path):
    z = latents(address_range(1, 0, 5), 8)
    dcgan = Runtime(load_model(repository_folder / "tiny-dcgan"))
    assert dcgan.provider in onnxruntime.get_available_providers()
    grey = dcgan.generate(z)
    assert grey.shape == (5, 16, 16, 1) and grey.dtype == np.uint8 and grey.flags.c_contiguous and grey.std() > 30
    rgb = Runtime(load_model(repository_folder / "tiny-style")).generate(z)
    assert rgb.shape == (5, 16, 16, 3) and rgb.flags.c_contiguous and rgb.std() > 10


def test_pictures_are_what_onnx_runtime_makes_of_the_graphs(repository_folder: Path):
    z = latents(address_range(1, 0, 40), 8)
    labels = np.arange(40) % 10
    folder = repository_folder / "tiny-cgan"
    session = onnxruntime.InferenceSession(folder / "generator.onnx", providers=[CPU])
    expected = np.asarray(session.run(None, {"z": z, "label": labels})[0])
    np.testing.assert_array_equal(Runtime(load_model(folder)).generate(z, labels)[..., 0], expected[:, 0])


def test_truncation_0_is_one_picture_and_1_is_the_default(repository_folder: Path):
    runtime = Runtime(load_model(repository_folder / "tiny-style"))
    z = latents(address_range(1, 0, 4), 8)
    one = runtime.generate(z, psi=np.zeros(6, np.float32))
    assert (one == one[0]).all()
    np.testing.assert_array_equal(runtime.generate(z, psi=np.ones((4, 6), np.float32)), runtime.generate(z))
    assert (runtime.generate(z) != one).any(axis=(1, 2, 3)).all()


def test_labels_and_psi_go_to_the_models_that_take_them(repository_folder: Path):
    z = latents(address_range(1, 0, 2), 8)
    dcgan, cgan = (Runtime(load_model(repository_folder / id)) for id in ("tiny-dcgan", "tiny-cgan"))
    with pytest.raises(ValueError, match="`labels` must be given"):
        cgan.generate(z)
    with pytest.raises(ValueError, match="only for one"):
        dcgan.generate(z, [1, 2])
    with pytest.raises(ValueError, match="`psi`"):
        dcgan.generate(z, psi=np.ones(6, np.float32))


def low_bits(g: Graph, x: str) -> None:
    """The image as the lowest bits of its numbers, so that the least difference in rounding shows."""
    x = g.add("Floor", g.add("Mul", g.add("Abs", x), g.floats(2.0**20)))
    x = g.add("Mod", x, g.floats(256.0), fmod=1)
    g.nodes.append(helper.make_node("Cast", [x], ["image"], to=TensorProto.UINT8))


def dcgan_28(folder: Path) -> Path:
    """The DCGAN of the paper at 28 pixels with 64 base channels, untrained."""
    g = Graph(1)
    x = g.add("Reshape", "z", g.constant(np.array([-1, 100, 1, 1])))
    before = 100
    for channels, kernel, stride, pad in ((256, 4, 1, 0), (128, 3, 2, 1), (64, 4, 2, 1), (1, 4, 2, 1)):
        weight = g.normal(before, channels, kernel, kernel, scale=0.02)
        x = g.add("ConvTranspose", x, weight, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        x = g.add("Relu", x) if channels > 1 else x
        before = channels
    low_bits(g, x)
    image = {"image": (TensorProto.UINT8, ["N", 1, 28, 28])}
    data = g.model({"z": (TensorProto.FLOAT, ["N", 100])}, image)
    write_model(folder, document("big", "dcgan", channels=1, size=28, latent_size=100), {"generator.onnx": data})
    return folder


def mlp(folder: Path) -> Path:
    """The generator of the first GAN paper: dense layers alone."""
    g = Graph(2)
    x, before = "z", 100
    for features in (256, 512, 1024, 784):
        x = g.add("Gemm", x, g.normal(features, before, scale=0.05), g.normal(features, scale=0.05), transB=1)
        x = g.add("LeakyRelu", x, alpha=0.2)
        before = features
    low_bits(g, g.add("Reshape", x, g.constant(np.array([-1, 1, 28, 28]))))
    image = {"image": (TensorProto.UINT8, ["N", 1, 28, 28])}
    data = g.model({"z": (TensorProto.FLOAT, ["N", 100])}, image)
    write_model(folder, document("big", "mlp", channels=1, size=28, latent_size=100), {"generator.onnx": data})
    return folder


def style_32(folder: Path) -> Path:
    """An 8-layer mapping and a synthesis network with weight demodulation, written as scale, convolution, scale."""
    w_size, layers, channels = 128, 8, (64, 64, 32, 16)
    g = Graph(3)
    x = "z"
    for _ in range(8):
        x = g.add("LeakyRelu", g.add("MatMul", x, g.normal(w_size, w_size, scale=0.12)), alpha=0.2)
    x = g.add("Unsqueeze", x, g.constant(np.array([1])))
    g.nodes.append(helper.make_node("Mul", [x, g.add("Unsqueeze", "psi", g.constant(np.array([2])))], ["w"]))
    w = {"w": (TensorProto.FLOAT, ["N", layers, w_size])}
    inputs = {"z": (TensorProto.FLOAT, ["N", w_size]), "psi": (TensorProto.FLOAT, ["N", layers])}
    mapping = g.model(inputs, w)

    g = Graph(4)
    x = g.normal(1, channels[0], 4, 4)
    before = channels[0]
    for layer in range(layers):
        after = channels[layer // 2]
        if layer and layer % 2 == 0:
            x = g.add("Resize", x, "", g.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
        one_w = g.add("Gather", "w", g.constant(np.int64(layer)), axis=1)  # (N, W)
        style = g.add("Gemm", one_w, g.normal(before, w_size, scale=0.1), g.constant(np.ones(before, "f")), transB=1)
        demodulation = g.add("MatMul", g.add("Mul", style, style), g.constant(g.rng.random((before, after), "f")))
        scale_in = g.add("Reshape", style, g.constant(np.array([-1, before, 1, 1])))
        scale_out = g.add("Reshape", g.add("Sqrt", demodulation), g.constant(np.array([-1, after, 1, 1])))
        weight = g.normal(after, before, 3, 3, scale=0.4)
        x = g.add("Conv", g.add("Mul", x, scale_in), weight, kernel_shape=[3, 3], pads=[1] * 4)
        x = g.add("LeakyRelu", g.add("Div", x, scale_out), alpha=0.2)
        before = after
    low_bits(g, g.add("Conv", x, g.normal(3, before, 1, 1, scale=0.1), kernel_shape=[1, 1]))
    synthesis = g.model(w, {"image": (TensorProto.UINT8, ["N", 3, 32, 32])})
    style = {"layers": layers, "w_size": w_size, "coarse": [0, 1], "middle": [2, 3], "fine": [4, 5, 6, 7]}
    description = document("big", "stylegan", channels=3, size=32, latent_size=w_size, style=style)
    write_model(folder, description, {"mapping.onnx": mapping, "synthesis.onnx": synthesis})
    return folder


@pytest.mark.parametrize("build", [dcgan_28, mlp, style_32])
def test_the_lowest_bit_depends_on_neither_batch_nor_threads(build: Callable[[Path], Path], tmp_path: Path):
    model = load_model(build(tmp_path / "big"))
    z = latents(address_range(1, 0, 64), model.latent_size)
    expected = Runtime(model, threads=1).generate(z)
    if (provider := Runtime(model).provider) != CPU:
        pytest.skip(f"{provider} promises one 8-bit level, not the lowest bit")
    assert np.unique(expected).size == 256  # the low bits are noise, so a difference cannot hide
    for threads in (1, 2, 3):
        runtime = Runtime(model, threads=threads)
        for batch in BATCHES:
            rows = [runtime.generate(z[i : i + batch]) for i in range(0, 64, batch)]
            np.testing.assert_array_equal(np.concatenate(rows), expected, err_msg=f"batch {batch}, {threads} threads")


def test_w_depends_on_neither_batch_nor_threads(tmp_path: Path):
    model = load_model(style_32(tmp_path / "big"))
    z, psi = latents(address_range(1, 0, 64), 128), np.full((64, 8), 0.7, np.float32)
    expected = Runtime(model, threads=1).map(z, psi)
    for threads in (1, 3):
        runtime = Runtime(model, threads=threads)
        for batch in BATCHES:
            rows = [runtime.map(z[i : i + batch], psi[i : i + batch]) for i in range(0, 64, batch)]
            np.testing.assert_array_equal(np.concatenate(rows), expected, err_msg=f"batch {batch}, {threads} threads")


@pytest.mark.parametrize(("n", "workers", "most"), [(1, 4, 16), (3, 4, 16), (64, 2, 16), (65, 2, 16), (100, 3, 7)])
def test_rows_are_shared_out_evenly(n: int, workers: int, most: int):
    pieces = runtime_module._pieces(n, workers, most)
    assert [i for piece in pieces for i in range(n)[piece]] == list(range(n))
    sizes = [piece.stop - piece.start for piece in pieces]
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1
    assert len(pieces) % workers == 0 or len(pieces) == n


def test_a_padded_batch_is_a_power_of_two_and_starts_with_rows():
    for n in (1, 2, 3, 5, 64):
        padded = runtime_module._pad_to_power_of_two({"z": np.arange(n)})["z"]
        assert len(padded) == 1 << (n - 1).bit_length()
        np.testing.assert_array_equal(padded[:n], np.arange(n))


def rewritten(repository_folder: Path, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """tiny-dcgan with its graph changed and its hashes right."""
    model = onnx.load(repository_folder / "tiny-dcgan" / "generator.onnx")
    change(model)
    write_model(folder, document("tiny-dcgan", "dcgan", channels=1), {"generator.onnx": model.SerializeToString()})
    return folder


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "noise"
    for node in model.graph.node:
        node.input[:] = ["noise" if name == "z" else name for name in node.input]


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def float_image(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].i = TensorProto.FLOAT
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info(model.graph.node[0].output[0], TensorProto.FLOAT, None))


def computed(model: onnx.ModelProto, name: str, values: list[int]) -> None:
    """A constant that ONNX Runtime cannot know before it runs: the sum of 0 * z is added to it."""
    model.graph.initializer.append(helper.make_tensor(f"{name}_values", TensorProto.INT64, [len(values)], values))
    model.graph.initializer.append(helper.make_tensor(f"{name}_zero", TensorProto.FLOAT, [], [0.0]))
    nodes = [
        helper.make_node("Mul", ["z", f"{name}_zero"], [f"{name}_zeros"]),
        helper.make_node("ReduceSum", [f"{name}_zeros"], [f"{name}_sum"], keepdims=0),
        helper.make_node("Cast", [f"{name}_sum"], [f"{name}_integer"], to=TensorProto.INT64),
        helper.make_node("Add", [f"{name}_integer", f"{name}_values"], [name]),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def hidden_size(model: onnx.ModelProto) -> None:
    """Gives 15 rows, which only shows when it runs."""
    for name, value in (("first", 0), ("axis", 2)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    cast = model.graph.node[-1]
    cut = helper.make_node("Slice", [cast.input[0], "first", "last", "axis"], ["cut"])
    model.graph.node.insert(len(model.graph.node) - 1, cut)
    cast.input[0] = "cut"
    computed(model, "last", [15])


def one_at_a_time(model: onnx.ModelProto) -> None:
    """Says that it takes any batch, and fails at 3."""
    model.graph.node[0].input[1] = "shape"
    computed(model, "shape", [1, 8, 1, 1])


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Conjure"


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_input, r"has the inputs noise; model\.json requires z"),
        (fix_batch, r"has `z` as tensor\(float\) \[1, 8\]; model\.json requires float32 \(N, 8\)"),
        (float_image, r"has `image` as tensor\(float\) .* requires uint8 \(N, 1, 16, 16\)"),
        (two_outputs, r"has the outputs image, Reshape_0; model\.json requires image"),
        (hidden_size, r"gives `image` as \(1, 1, 15, 16\); it must be \(1, 1, 16, 16\)"),
        (one_at_a_time, "fails at batch 3"),
        (unknown_operator, "cannot be loaded: .*Conjure"),
        (outside, "has weights in an external file"),
    ],
)
def test_a_graph_other_than_its_model_json_says_is_rejected(
    repository_folder: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
):
    folder = rewritten(repository_folder, tmp_path / "tiny-dcgan", change)
    with pytest.raises(ModelError, match=f"tiny-dcgan: `generator.onnx` {message}"):
        Runtime(load_model(folder))


def test_a_weight_in_the_working_directory_is_not_read(
    repository_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """ONNX Runtime would load this one, from wherever the server was started."""
    folder = rewritten(repository_folder, tmp_path / "tiny-dcgan", outside)
    (tmp_path / "weights.bin").write_bytes(bytes(8 * 12 * 4 * 4 * 4))
    monkeypatch.chdir(tmp_path)
    onnxruntime.InferenceSession((folder / "generator.onnx").read_bytes(), providers=[CPU])
    with pytest.raises(ModelError, match="has weights in an external file"):
        Runtime(load_model(folder))


def test_what_is_no_onnx_file_is_rejected(tmp_path: Path):
    write_model(tmp_path / "m", document("m", "dcgan", channels=1), {"generator.onnx": b"\xff" * 100})
    with pytest.raises(ModelError, match="is not an ONNX model"):
        Runtime(load_model(tmp_path / "m"))


def test_a_file_that_changed_since_it_was_verified_is_rejected(repository_folder: Path, tmp_path: Path):
    folder = Path(shutil.copytree(repository_folder / "tiny-dcgan", tmp_path / "tiny-dcgan"))
    model = load_model(folder)
    shutil.copy(repository_folder / "tiny-cgan" / "generator.onnx", folder)
    with pytest.raises(ModelError, match=r"`generator\.onnx`"):
        Runtime(model)
