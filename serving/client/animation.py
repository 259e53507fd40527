"""Images one after another, as a GIF, an animated WebP, or a video."""

import base64
import io
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.client import video

SUFFIXES = (".gif", ".webp", *video.ENCODERS)


@dataclass(frozen=True, eq=False)
class Animation:
    frames: tuple[Image.Image, ...] = field(repr=False)  # of one size and mode, L or RGB
    fps: int  # a GIF counts hundredths of a second: 24 become 25
    loop: bool  # for ever, or once

    def gif(self) -> bytes:
        """As a GIF: frames in colour have a palette of their 256 commonest colours each, without dithering."""
        frames = [
            frame if frame.mode == "L" else frame.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            for frame in self.frames
        ]
        count = {"loop": 0} if self.loop else {}  # 0 is for ever; a GIF without a count plays once
        buffer, milliseconds = io.BytesIO(), 10 * max(1, round(100 / self.fps))
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=milliseconds, **count)
        return buffer.getvalue()

    def webp(self) -> bytes:
        """As an animated WebP, without loss."""
        buffer, first = io.BytesIO(), self.frames[0]
        options = {"duration": round(1000 / self.fps), "loop": 0 if self.loop else 1, "lossless": True}
        first.save(buffer, "WEBP", save_all=True, append_images=self.frames[1:], **options)
        return buffer.getvalue()

    def save(self, path: str | PathLike[str], *, poster: str | PathLike[str] | None = None) -> None:
        """Write a GIF, WebP, MP4 or WebM, as the extension of `path` says, and the first frame as `poster`.

        A video needs PyAV, the extra `video`; see `serving.client.video`. Raises ValueError for any other extension.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"`path` (={path}) must end in {' or '.join(SUFFIXES)}: it says the format.")
        if poster is not None:
            self.frames[0].save(poster)
        if suffix in video.ENCODERS:
            video.save(path, (_array(frame) for frame in self.frames), fps=self.fps)
            return
        Path(path).write_bytes(self.gif() if suffix == ".gif" else self.webp())

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """What a notebook shows."""
        return {"image/gif": base64.b64encode(self.gif()).decode()}


def _array(frame: Image.Image) -> NDArray[np.uint8]:
    """A frame -> (H, W, C)."""
    array = np.asarray(frame, np.uint8)
    return array[..., None] if array.ndim == 2 else array
