"""Which of the formats on offer an `Accept` header asks for (RFC 9110, section 12.5.1)."""

from functools import lru_cache
from typing import NamedTuple

from serving.api.http.problems import not_acceptable


class MediaRange(NamedTuple):
    kind: str  # "image" or "*"
    subtype: str  # "png" or "*"
    quality: float  # 0 (never) to 1

    @property
    def specificity(self) -> int:
        return (self.kind != "*") + (self.subtype != "*")

    def matches(self, media_type: str) -> bool:
        kind, subtype = media_type.split("/")
        return self.kind in ("*", kind) and self.subtype in ("*", subtype)


@lru_cache(128)  # clients say the same each time
def negotiate(accept: str | None, offered: tuple[str, ...]) -> str:
    """The media type to answer with. `offered` stands in the server's order; the first is the default.

    The highest quality wins; among equals a type that is named goes before a range, and then the sender's order holds.
    Raises Problem 406 where nothing on offer is allowed.
    """
    if not (accept or "").strip():
        return offered[0]
    ranges = _parse(accept or "")
    best, best_rank = None, (0.0, 0, 0)
    for media_type in offered:
        matching = [
            (range.specificity, -position) for position, range in enumerate(ranges) if range.matches(media_type)
        ]
        if not matching:
            continue
        specificity, position = max(matching)  # the most specific range speaks for a type, even where it says no
        rank = (ranges[-position].quality, specificity, position)
        if rank[0] > 0 and (best is None or rank > best_rank):
            best, best_rank = media_type, rank
    if best is None:
        raise not_acceptable(accept or "", offered)
    return best


def _parse(accept: str) -> list[MediaRange]:
    """The media ranges of a header; elements that are none are passed over."""
    ranges = []
    for element in accept.lower().split(","):
        name, *parameters = [part.strip() for part in element.split(";")]
        kind, slash, subtype = name.partition("/")
        quality = _quality(parameters)
        if slash and kind and subtype and quality is not None:
            ranges.append(MediaRange(kind, subtype, quality))
    return ranges


def _quality(parameters: list[str]) -> float | None:
    """The `q` among parameters: 1 without one, None where it is not a number from 0 to 1."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
            return quality if 0 <= quality <= 1 else None
    return 1.0
