"""The commands that make a model again, as its card has them."""

import json
import re
import shlex
import tomllib
from typing import Any

from training import recipe
from training.datasets.loaders import SOURCES
from training.errors import RecipeError
from training.recipe import Recipe


def commands(document: dict[str, Any], *, run: str, compared: int | None) -> list[str]:
    """Those of a model.json. run: what `export` took; compared: how many images FID was measured with."""
    training, id = document["training"], document["id"]
    name = training["recipe"].get("data", {}).get("name")
    data = "" if name is None or name in SOURCES else " --data PICTURES"
    processes = re.search(r"(\d+) processes$", training["device"])
    devices = f" --devices {processes[1]}" if processes else ""
    sizes = f" --samples {compared} --reference {compared}" if compared else ""
    return [
        f"python -m training train {_named(id, _whole_recipe(training))}{data}{devices}",
        f"python -m training export {run}  # the folder that `train` has named",
        f"python -m training evaluate models/{id}{sizes}{data}",
    ]


def _whole_recipe(training: dict[str, Any]) -> dict[str, Any]:
    """The recipe that has the run's schedule, which a time budget may have moved, from its start."""
    table = training["recipe"]
    if "schedule" not in training:
        return table
    total, decay = training["schedule"]["total_kimg"], training["schedule"]["decay_kimg"]
    return table | {"total_kimg": total, "optimizer": table["optimizer"] | {"decay_kimg": decay}}


def _named(id: str, table: dict[str, Any]) -> str:
    """A recipe as `train` takes it: its id, where it ships, or the shipped one that is nearest and what differs."""
    try:
        wanted = recipe.from_dict(table)
    except RecipeError:  # of another version
        return id
    shipped = [its for its in map(recipe.load, recipe.available()) if its.family == wanted.family]
    ways = [(its.id, _differences(its, wanted)) for its in shipped]
    base, overrides = min((way for way in ways if None not in way[1].values()), key=lambda way: len(way[1]))
    return shlex.join([base, *(f"{name}={_as_toml(value)}" for name, value in overrides.items())])


def _as_toml(value: Any) -> str:
    """A string stands as it is, where nothing else could be meant."""
    if isinstance(value, str):
        try:
            tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            return value
    return json.dumps(value)


def _differences(base: Recipe, wanted: Recipe) -> dict[str, Any]:
    """By its dotted name each field that differs, as `wanted` has it."""
    a, b = _fields(base.as_dict()), _fields(wanted.as_dict())
    return {name: b.get(name) for name in a | b if a.get(name) != b.get(name)}


def _fields(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in table.items():
        fields |= _fields(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return fields
