"""A folder of images arrives whole and as its owner sees it, or the file at fault is named."""

import shutil
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.datasets import image_folder, loaders
from training.errors import DataError

RED, WHITE = (255, 0, 0), (255, 255, 255)


def save(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_class_folders_become_labels_in_order_of_name(tmp_path: Path):
    for level, name in enumerate(("dog/b.png", "cat/young/z.png", "dog/a.PNG", "cat/a.png"), start=1):
        save(tmp_path / "pets" / name, np.full((4, 4), level, np.uint8))
    dataset = loaders.load("folder", tmp_path, 4)  # the folder that holds the class folders need not be the one given
    assert dataset.images[:, 0, 0, 0].tolist() == [4, 2, 3, 1]  # cat/a, cat/young/z, dog/a, dog/b
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.classes == ("cat", "dog")
    assert dataset.source.name == tmp_path.name  # of the path no more: it goes into the model card


@pytest.mark.parametrize("names", [("a/1.png", "b/2.png", "3.png"), ("a/1.png", "a/2.png"), ("1.png", "2.png")])
def test_pictures_outside_of_class_folders_have_no_labels(names: tuple[str, ...], tmp_path: Path):
    for name in names:
        save(tmp_path / name, noise(4, 4))
    dataset = loaders.load("folder", tmp_path, 4)
    assert len(dataset) == len(names) and dataset.labels is None and dataset.classes is None


def test_what_is_no_picture_and_what_is_hidden_is_passed_over(tmp_path: Path):
    for name in ("a.png", "b.png", ".thumbnails/a.png", "._a.png"):
        save(tmp_path / name, noise(4, 4))
    (tmp_path / "list.txt").write_text("a.png b.png")
    (tmp_path / "c.png").mkdir()
    assert [path.name for path in image_folder.find(tmp_path).files] == ["a.png", "b.png"]


def test_a_count_takes_pictures_from_every_class(tmp_path: Path):
    for i in range(30):
        save(tmp_path / f"{i // 10}" / f"{i % 10}.png", np.full((4, 4), i, np.uint8))
    dataset = loaders.load("folder", tmp_path, 4, count=6)
    assert dataset.images[:, 0, 0, 0].tolist() == [0, 5, 10, 15, 20, 25]
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(loaders.load("folder", tmp_path, 4, count=31)) == 30


def test_train_and_test_are_splits_where_there_are_both(tmp_path: Path):
    for i, name in enumerate(("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")):
        save(tmp_path / name, np.full((4, 4), i, np.uint8))
    train, test = loaders.load("folder", tmp_path, 4), loaders.load("folder", tmp_path, 4, "test")
    assert (train.split, test.split) == ("train", "test")
    assert train.images[:, 0, 0, 0].tolist() == [0, 1] and test.images[:, 0, 0, 0].tolist() == [2, 3]
    assert train.classes == test.classes == ("a", "b")
    (tmp_path / "test" / "b").rename(tmp_path / "test" / "c")
    with pytest.raises(DataError, match="train has the classes a, b and test has the classes a, c; splits must"):
        loaders.load("folder", tmp_path, 4)
    shutil.rmtree(tmp_path / "test")
    assert loaders.load("folder", tmp_path, 4, "test").split == "all"


def test_an_image_is_cropped_to_its_centre_and_resized(tmp_path: Path):
    pixels = noise(20, 31, 3)  # the square begins at column 5
    path = save(tmp_path / "wide.png", pixels)
    expected = Image.fromarray(pixels[:, 5:25]).resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(image_folder.read(path, 8), np.asarray(expected))
    np.testing.assert_array_equal(
        image_folder.read(path, 20), pixels[:, 5:25]
    )  # a crop of the right size stays as it is
    tall = save(tmp_path / "tall.png", pixels.transpose(1, 0, 2))
    np.testing.assert_array_equal(image_folder.read(tall, 20), pixels[:, 5:25].transpose(1, 0, 2))


def test_exif_orientation_is_obeyed(tmp_path: Path):
    pixels = noise(6, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown a quarter to the right
    path = save(tmp_path / "turned.png", pixels, exif=exif)
    np.testing.assert_array_equal(image_folder.read(path, 6), np.rot90(pixels, -1))


def half_transparent(mode: str) -> Image.Image:
    image = Image.new("RGBA", (4, 4), (*RED, 255))
    image.paste((0, 0, 255, 0), (0, 0, 4, 2))  # a blue that nobody sees
    image.putpixel((3, 3), (0, 0, 0, 51))  # black, a fifth of it
    return image.convert(mode)


def test_transparent_pictures_lie_on_white(tmp_path: Path):
    rgba = image_folder.read(save(tmp_path / "rgba.png", half_transparent("RGBA")), 4)
    assert tuple(rgba[0, 0]) == WHITE and tuple(rgba[2, 0]) == RED and tuple(rgba[3, 3]) == (204, 204, 204)
    grey = image_folder.read(save(tmp_path / "la.png", half_transparent("LA")), 4)
    assert tuple(grey[0, 0]) == WHITE and tuple(grey[2, 0]) == (76, 76, 76)  # red's luma by ITU-R 601
    keyed = Image.new("P", (4, 4), 1)
    keyed.putpalette([0, 0, 255, *RED])
    keyed.paste(0, (0, 0, 4, 2))
    read = image_folder.read(save(tmp_path / "keyed.gif", keyed, transparency=0), 4)
    assert tuple(read[0, 0]) == WHITE and tuple(read[2, 0]) == RED


@pytest.mark.parametrize("name", ["p.png", "p.webp", "p.bmp", "p.tiff", "p.ppm", "p.tga", "p.gif"])
def test_lossless_formats_give_the_pixels_that_were_saved(name: str, tmp_path: Path):
    pixels = noise(4, 4, 3)
    np.testing.assert_array_equal(image_folder.read(save(tmp_path / name, pixels, lossless=True), 4), pixels)


@pytest.mark.parametrize("name", ["deep.png", "deep.pgm", "deep.tif"])
def test_16_bits_are_scaled_to_8_and_not_cut_off(name: str, tmp_path: Path):
    values = np.array([[0, 257], [30000, 65535]], np.uint16)
    read = image_folder.read(save(tmp_path / name, values), 2)
    assert read[:, :, 0].tolist() == [[0, 1], [117, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path):
    path = save(tmp_path / ("p.jpg" if mode == "YCbCr" else "p.tif"), Image.new("RGB", (4, 4), WHITE).convert(mode))
    assert (image_folder.read(path, 4) == 255).all()


def test_a_grey_set_has_one_channel_unless_one_image_is_rgb(tmp_path: Path):
    grey = noise(4, 4)
    save(tmp_path / "a.png", grey)
    save(tmp_path / "b.png", grey[:, :, None].repeat(3, 2))  # grey as well, for all that it is stored as RGB
    dataset = loaders.load("folder", tmp_path, 4)
    assert dataset.channels == 1 and (dataset.images.numpy() == grey).all()
    save(tmp_path / "c.png", Image.new("RGB", (4, 4), RED))
    dataset = loaders.load("folder", tmp_path, 4)
    assert dataset.channels == 3 and (dataset.images[0].numpy() == grey).all()


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says that it holds 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def truncated(path: Path) -> None:
    whole = save(path, noise(64, 64, 3)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("text.png", lambda path: path.write_text("not a picture"), "is named like a picture and is none"),
        ("nothing.jpg", lambda path: path.touch(), "is named like a picture and is none"),
        ("half.png", truncated, "cannot be read as a picture (image file is truncated"),
        ("half.jpg", truncated, "cannot be read as a picture (image file is truncated"),
        ("bomb.png", bomb, "has more than 89,478,485 pixels"),
        ("small.png", lambda path: save(path, noise(7, 40)), "has 40 x 7 pixels; `data.resolution` (=8) must not"),
        ("float.tif", lambda path: save(path, np.ones((8, 8), np.float32)), "floating point numbers, whose range"),
        ("signed.tif", lambda path: save(path, np.full((8, 8), -1, np.int32)), "values outside of 0 to 65535"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(name: str, spoil, message: str, tmp_path: Path):
    for other in ("a.png", "z.png"):
        save(tmp_path / other, noise(8, 8))
    spoil(tmp_path / name)
    with pytest.raises(DataError) as error:
        loaders.load("folder", tmp_path, 8)
    assert str(error.value).startswith(str(tmp_path / name)) and message in str(error.value)


def test_of_several_broken_images_the_first_is_named(tmp_path: Path):
    for i in range(40):
        save(tmp_path / f"{i:02}.png", noise(8, 8))
    for i in (7, 8, 30):
        (tmp_path / f"{i:02}.png").write_bytes(b"broken")
    for _ in range(5):
        with pytest.raises(DataError, match=r"07\.png is named like a picture and is none"):
            loaders.load("folder", tmp_path, 8)


def test_a_picture_that_pillow_only_warns_of_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.png", "b.png"):
        save(tmp_path / name, noise(10, 15))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a user may have it
        with pytest.raises(DataError, match=r"a\.png has more than 100 pixels: make it smaller or take it away"):
            loaders.load("folder", tmp_path, 8)


def test_a_folder_that_holds_no_set_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere is not a folder"):
        loaders.load("folder", tmp_path / "nowhere", 8)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=rf"{tmp_path} holds no pictures; at least 2 are needed, named .* \.png"):
        loaders.load("folder", tmp_path, 8)
    save(tmp_path / "deep" / "only.png", noise(8, 8))
    with pytest.raises(DataError, match=r"holds one picture, deep/only\.png; at least 2 are needed"):
        loaders.load("folder", tmp_path, 8)
    with pytest.raises(DataError, match=r"only\.png is not a folder"):
        loaders.load("folder", tmp_path / "deep" / "only.png", 8)
