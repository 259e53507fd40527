"""Images one after another as MP4 (H.264) or WebM (VP9), through PyAV, which is the extra `video`.

Frames are encoded as they come, so memory does not grow with their number. The quality is constant; the number of
frames and their rate are exact. Sides must be even in both formats: odd ones are doubled, by whole pixels.
"""

import math
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

ENCODERS: dict[str, tuple[str, dict[str, str]]] = {  # by extension: encoder, and its options for constant quality
    ".mp4": ("libx264", {"crf": "16", "preset": "medium"}),
    ".webm": ("libvpx-vp9", {"crf": "20", "b": "0", "cpu-used": "4", "row-mt": "1"}),
}
FRAMES_PER_KEYFRAME = 50  # a player seeks to one of them


class Video:
    """A video file under way, a context manager: `write` frames into it, in order.

    The file appears under its name when it is complete, and not at all where an exception ends the block.
    """

    def __init__(self, path: str | os.PathLike[str], *, fps: int, scale: int = 1):
        """fps: 1 to 240 frames per second. scale: every pixel becomes scale x scale pixels, twice that for odd sides.

        Raises ValueError where the extension of `path` is no format, ImportError without PyAV.
        """
        self._path = Path(path)
        suffix = self._path.suffix.lower()
        if suffix not in ENCODERS:
            raise ValueError(f"`path` (={path}) must end in {' or '.join(ENCODERS)}: it says the format.")
        if not 1 <= fps <= 240:
            raise ValueError(f"`fps` (={fps}) must be between 1 and 240.")
        self._av = _import()
        self._encoder, self._options = ENCODERS[suffix]
        self._fps, self._scale, self._count = fps, scale, 0
        self._partial = self._path.with_name(f".{self._path.name}.partial{suffix}")
        self._stream: Any = None

    def __enter__(self) -> Self:
        self._container: Any = self._av.open(str(self._partial), "w")
        return self

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a frame (H, W, C) uint8, C 1 (grey) or 3 (RGB), of the same shape as those before."""
        if self._stream is None:
            height, width = image.shape[:2]
            self._scale *= 2 if math.gcd(height * self._scale, width * self._scale) % 2 else 1
            self._stream = self._container.add_stream(self._encoder, rate=self._fps, options=self._options)
            self._stream.width, self._stream.height = width * self._scale, height * self._scale
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.gop_size = FRAMES_PER_KEYFRAME
            self._stream.codec_context.time_base = Fraction(1, self._fps)
        image = np.broadcast_to(image, (*image.shape[:2], 3)).repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self._count, Fraction(1, self._fps)
        self._container.mux(self._stream.encode(frame))
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if kind is None:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)


def save(path: str | os.PathLike[str], images: Iterable[NDArray[np.uint8]], *, fps: int, scale: int = 1) -> None:
    """Write a video of `images` (H, W, C); see `Video`."""
    with Video(path, fps=fps, scale=scale) as video:
        for image in images:
            video.write(image)


def _import() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(f"a video needs PyAV, `pip install 'ganymede[video]'`: {error}") from error
    return av
