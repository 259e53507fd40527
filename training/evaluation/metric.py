"""A measured figure, as model.json holds it."""

from typing import Any, NamedTuple

Figure = dict[str, Any]


class Floor(NamedTuple):
    """What a measure reads where there is nothing to find: on real pictures in place of the model's."""

    value: float
    protocol: str  # which pictures those are


def figure(
    name: str, value: float, protocol: str, samples: int, reference: str, floor: Floor | None = None, **details: Any
) -> Figure:
    """What was measured, how, on how many generated pictures, against what, and the floor where there is one."""
    at_best = {} if floor is None else {"floor": floor.value, "floor_protocol": floor.protocol}
    return {
        "name": name,
        "value": value,
        "protocol": protocol,
        "samples": samples,
        "reference": reference,
        **at_best,
        **details,
    }
