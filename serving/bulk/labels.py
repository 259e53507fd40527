"""Rules for the class of each image of a conditional model. The class depends on the address alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from serving.bulk.errors import BulkError
from serving.engine.generation import class_index

# Labels use the upper half of the counter range of the Philox stream, so they do not overlap with the latent.
LABEL_COUNTER = np.array([0, 0, 0, 1 << 63], np.uint64)


@dataclass(frozen=True)
class LabelRule:
    """fixed: `labels` in turn, by index; balanced: all classes in turn, by index; drawn: one at random by address."""

    kind: Literal["fixed", "balanced", "drawn"]
    classes: int
    labels: tuple[int, ...] = ()

    def of(self, seed: int, start: int, n: int) -> list[int]:
        """Return the classes of the images at (seed, start) to (seed, start + n - 1)."""
        if self.kind == "drawn":
            return _drawn(seed, start, n, self.classes)
        turn = self.labels if self.kind == "fixed" else range(self.classes)
        return [turn[index % len(turn)] for index in range(start, start + n)]

    def settings(self) -> Any:
        return list(self.labels) if self.kind == "fixed" else self.kind


def label_rule(text: str | None, model: str, classes: Sequence[str] | None) -> LabelRule | None:
    """Parse `balanced` (the default), `drawn`, or a list such as "3,5,seven". Return None for an unconditional model.

    Names have priority over indices. Raises BulkError.
    """
    if classes is None:
        if text is not None:
            raise BulkError(f"`labels` (={text}) is for conditional models; {model} has no classes.")
        return None
    if text is None or text == "balanced":
        return LabelRule("balanced", len(classes))
    if text == "drawn":
        return LabelRule("drawn", len(classes))
    labels = [text] if text in classes else text.split(",")
    return LabelRule("fixed", len(classes), tuple(_class(label, classes) for label in labels))


def _class(label: str, classes: Sequence[str]) -> int:
    if (index := class_index(classes, label)) is not None:
        return index
    allowed = f"an index between 0 and {len(classes) - 1}, one of {', '.join(classes)}"
    raise BulkError(f"`labels` (={label}) must be {allowed}, `balanced` or `drawn`.")


def _drawn(seed: int, start: int, n: int, classes: int) -> list[int]:
    philox = np.random.Philox(key=np.array([seed, 0], np.uint64), counter=LABEL_COUNTER)
    generator, state = np.random.Generator(philox), philox.state
    labels: list[int] = []
    for index in range(start, start + n):
        state["state"]["key"][1] = index
        philox.state = state
        labels.append(int(generator.integers(classes)))
    return labels
