"""Videos: decoded again, they have each frame, the rate and even sides; long walks come in pages."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.client.animation import Animation
from serving.client.video import Video, save

av = pytest.importorskip("av", reason="PyAV is not installed")
SUFFIXES = (".mp4", ".webm")


def decoded(path: Path) -> tuple[np.ndarray, Any]:
    """The frames (N, H, W, 3) of a video, and its stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]), stream


def blocks(n: int, *, side: int = 8, channels: int = 3) -> np.ndarray:
    """Frames (n, side, side, C) of one colour each, which no codec mistakes."""
    colours = np.linspace(20, 230, n).astype(np.uint8)[:, None] * np.ones(channels, np.uint8)
    return np.broadcast_to(colours[:, None, None], (n, side, side, channels))


def near(found: np.ndarray, truth: np.ndarray, levels: int = 6) -> bool:
    return bool(np.abs(found.astype(int) - truth.astype(int)).max() <= levels)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("n", "fps"), [(1, 25), (60, 30), (61, 24)])
def test_a_video_has_each_frame_and_the_rate(tmp_path: Path, suffix: str, n: int, fps: int):
    path = tmp_path / f"walk{suffix}"
    images = blocks(n)
    save(path, images, fps=fps, scale=4)
    frames, stream = decoded(path)
    assert len(frames) == n and frames.shape[1:] == (32, 32, 3)
    assert stream.average_rate == fps and stream.codec_context.name in ("h264", "vp9", "libvpx-vp9")
    assert near(frames[0], images[0, 0, 0]) and near(frames[-1], images[-1, 0, 0])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("side", "scale", "pixels"), [(7, 1, 14), (7, 3, 42), (7, 2, 14), (8, 1, 8)])
def test_odd_sides_are_doubled(tmp_path: Path, suffix: str, side: int, scale: int, pixels: int):
    path = tmp_path / f"odd{suffix}"
    save(path, blocks(3, side=side, channels=1), fps=10, scale=scale)
    frames, _ = decoded(path)
    assert frames.shape == (3, pixels, pixels, 3)
    assert near(frames[2], blocks(3)[2, 0, 0])


def test_a_broken_video_leaves_no_file(tmp_path: Path):
    with pytest.raises(RuntimeError, match="stop"), Video(tmp_path / "walk.mp4", fps=25) as video:
        video.write(blocks(1)[0])
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "fps"), [("walk.avi", 25), ("walk", 25), ("walk.mp4", 0), ("walk.mp4", 241)])
def test_what_is_no_video_is_an_error(tmp_path: Path, name: str, fps: int):
    with pytest.raises(ValueError, match="must"):
        Video(tmp_path / name, fps=fps)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("model", ["tiny-style", "tiny-dcgan"])
def test_an_animation_is_saved_with_its_poster(client: Any, tmp_path: Path, suffix: str, model: str):
    images = client.interpolate(model, keyframes=[7, 8], frames=12)
    path, poster = tmp_path / f"walk{suffix}", tmp_path / "poster.png"
    images.animation(fps=12, scale=8).save(path, poster=poster)
    frames, stream = decoded(path)
    assert (len(frames), stream.average_rate) == (12, 12)
    first = np.asarray(Image.open(poster).convert("RGB"))
    assert (first == images.array[0].repeat(8, axis=0).repeat(8, axis=1)).all()
    assert np.abs(frames[0].astype(int) - first).mean() < 4
    last = images.array[-1].repeat(8, axis=0).repeat(8, axis=1)
    assert np.abs(frames[-1].astype(int) - last).mean() < 4


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"ganymede\[video\]"):
        Animation((Image.new("RGB", (4, 4)),), 25, False).save(tmp_path / "walk.mp4")


@pytest.mark.parametrize("model", ["tiny-style", "tiny-cgan"])
@pytest.mark.parametrize("loop", [False, True])
def test_a_long_walk_comes_in_pages(client: Any, model: str, loop: bool):
    """The frames of a page are those of the whole: each third one is a frame of a walk a third as long."""
    long = client.interpolate(model, keyframes=[7, 8, (9, 3)], frames=600 if loop else 598, loop=loop)
    short = client.interpolate(model, keyframes=[7, 8, (9, 3)], frames=200, loop=loop)
    assert len(long) == len(long.addresses) == (600 if loop else 598)
    near_equal = np.abs(long.array[::3].astype(int) - short.array).max()
    assert near_equal <= 1
    assert long.addresses[::3] == list(short.addresses)
    assert model == "tiny-style" or long.labels[::3] == short.labels
