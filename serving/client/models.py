"""What a server says of its models."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Model:
    """The parts of a `model.json` that a caller needs, typed; `document` holds the whole."""

    id: str
    name: str
    family: str  # mlp, dcgan, cgan, stylegan or stylegan2
    licence: str
    height: int
    width: int
    channels: int  # 1 grey, 3 RGB
    latent_size: int
    latents: Literal["philox", "numpy-randomstate"]  # the latter: seed + index is at most 2**32 - 1
    classes: tuple[str, ...] | None  # of a conditional model; a label is an index into it, or a name
    style_layers: int | None  # of a style model
    directions: tuple[str, ...]  # of a style model: what `edits` name
    sha256: str  # of its files: where it is the same, an address means the same image
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Model":
        """Raises KeyError or TypeError where `document` is no model's."""
        image, classes, style = document["image"], document.get("classes"), document.get("style")
        return cls(
            id=document["id"],
            name=document["name"],
            family=document["family"],
            licence=document["licence"],
            height=image["height"],
            width=image["width"],
            channels=image["channels"],
            latent_size=document["latent_size"],
            latents=document.get("latents", "philox"),
            classes=None if classes is None else tuple(classes),
            style_layers=None if style is None else style["layers"],
            directions=tuple(each["name"] for each in document.get("directions", [])),
            sha256=document["sha256"],
            document=document,
        )
