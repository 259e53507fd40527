"""How long a run is, where not pictures but minutes are given for it."""

import dataclasses

from training.errors import RecipeError
from training.recipe import Recipe

UNKNOWN_KIMG = 1e6  # the length of a run whose speed is not measured yet
SMOOTHING = 0.3  # the weight of the newest line of statistics in the measured speed


class Pace:
    """Moves the end of a run to where `minutes` of training will have brought it, until its rates fall.

    The share of the run over which they fall stays the recipe's. Until then a run is what it would be with its new end
    from its start, so the recipe that comes of it makes the same model again, in as many pictures. Raises RecipeError.
    """

    def __init__(self, recipe: Recipe, minutes: float):
        if not minutes > 0:
            raise RecipeError(f"`--minutes` (={minutes:g}) must be above 0.")
        if recipe.optimizer.decay_kimg >= recipe.total_kimg:
            raise RecipeError(
                "`--minutes` moves the end of a run until its rates fall, and with `optimizer.decay_kimg` "
                f"(={recipe.optimizer.decay_kimg:g}) they fall from the start: it must be less than `total_kimg` "
                f"(={recipe.total_kimg:g})."
            )
        self.seconds = 60 * minutes
        self.falling = recipe.optimizer.decay_kimg / recipe.total_kimg  # the share of the run over which rates fall
        self._speed: float | None = None  # kimg a second

    def begin(self, recipe: Recipe) -> Recipe:
        """The recipe of a run whose speed is still to be measured: its rates do not fall before."""
        return self._ends(recipe, UNKNOWN_KIMG)

    def end(self, recipe: Recipe, kimg: float, seconds: float, speed: float) -> Recipe:
        """The recipe of a run that is at `kimg` after `seconds` of training. `speed`: of late, in kimg a second."""
        self._speed = speed if self._speed is None else self._speed + SMOOTHING * (speed - self._speed)
        if kimg > recipe.total_kimg - recipe.optimizer.decay_kimg:
            return recipe
        end = kimg + self._speed * max(0.0, self.seconds - seconds)
        grown = recipe.growing.whole_kimg if recipe.growing else 0.0
        return self._ends(recipe, max(end, kimg / (1 - self.falling), grown))

    def _ends(self, recipe: Recipe, kimg: float) -> Recipe:
        optimizer = dataclasses.replace(recipe.optimizer, decay_kimg=round(kimg * self.falling, 3))
        return dataclasses.replace(recipe, total_kimg=round(kimg, 3), optimizer=optimizer)
