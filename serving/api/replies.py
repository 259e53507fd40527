"""What the picture routes give back: the pictures of a plan in the format that was asked for, and their headers."""

import asyncio

import numpy as np

from serving import __version__
from serving.engine import encoding
from serving.engine.encoding import Layout
from serving.engine.generation import Plan

PNG, JPEG, WEBP, GIF = "image/png", "image/jpeg", "image/webp", "image/gif"
ZIP, NPY, JSON = "application/zip", "application/x-npy", "application/json"
FORMATS = {PNG: "png", JPEG: "jpeg", WEBP: "webp", ZIP: "zip", NPY: "npy", JSON: "json", GIF: "gif"}
STILLS = (PNG, JPEG, WEBP, ZIP, NPY, JSON)  # the first is the default
ANIMATIONS = (*STILLS, GIF)
ONE_PICTURE = {media_type for media_type, format in FORMATS.items() if format in encoding.ONE_PICTURE}

MAX_PIXEL_BYTES = 2**26
"""Of all pictures of a reply, enlarged and before they are packed: 256 digits at scale 16 pass."""

INLINE_BYTES = 2**16
"""Packing runs at about 70 MB/s: up to here it is done within a millisecond, and a thread would cost more."""


def check_size(plan: Plan, layout: Layout, media_type: str) -> None:
    """Raises RequestError where the reply would be larger than the server makes, or its format can hold."""
    encoding.check_size(plan, layout, FORMATS[media_type], max_bytes=MAX_PIXEL_BYTES)


async def encode(
    plan: Plan, pictures: np.ndarray, sources: np.ndarray | None, layout: Layout, media_type: str
) -> bytes:
    """`encoding.encode`, off the event loop where it takes long."""
    arguments = plan, pictures, sources, layout, FORMATS[media_type]
    if media_type == NPY or pictures.nbytes * layout.scale**2 <= INLINE_BYTES:
        return encoding.encode(*arguments)
    return await asyncio.to_thread(encoding.encode, *arguments)


def headers(plan: Plan) -> dict[str, str]:
    """What made the pictures, and where they lie: a range, or one by one with nothing for those between addresses."""
    fields = {
        "X-Ganymede-Model": plan.model.id,
        "X-Ganymede-Model-SHA256": plan.model.sha256,
        "X-Ganymede-Version": __version__,
    }
    first = plan.addresses[0]
    if first is not None and all(a == (first.seed, first.index + i) for i, a in enumerate(plan.addresses)):
        fields["X-Ganymede-Seed"] = str(first.seed)
        fields["X-Ganymede-Start"] = str(first.index)
    else:
        fields["X-Ganymede-Addresses"] = ",".join(f"{a.seed}:{a.index}" if a else "" for a in plan.addresses)
    if plan.labels is not None:
        fields["X-Ganymede-Labels"] = ",".join(map(str, plan.labels))
    return fields
