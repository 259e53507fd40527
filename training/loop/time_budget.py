"""A time budget: a run that ends after so many minutes of training, whatever its speed."""

from training.errors import RecipeError
from training.loop.schedule import Schedule
from training.recipe import Recipe

UNKNOWN_KIMG = 1e6  # the length of a run whose speed is not measured yet
SMOOTHING = 0.3  # the weight of the newest line of statistics in the measured speed


class TimeBudget:
    """Moves the end of a run to where `minutes` of training will have brought it, until its rates decay.

    They decay over the same share of the run as in the recipe. Until then a run is the one that has the new end from
    its start, so the schedule that is found gives the same model again, in any time. Raises RecipeError.
    """

    def __init__(self, recipe: Recipe, minutes: float):
        if not minutes > 0:
            raise RecipeError(f"`--minutes` (={minutes:g}) must be above 0.")
        if recipe.optimizer.decay_kimg >= recipe.total_kimg:
            raise RecipeError(
                "`--minutes` moves the end of a run until its rates decay, and with `optimizer.decay_kimg` "
                f"(={recipe.optimizer.decay_kimg:g}) they decay from the start: it must be less than `total_kimg` "
                f"(={recipe.total_kimg:g})."
            )
        self.seconds = 60 * minutes
        self.decaying = recipe.optimizer.decay_kimg / recipe.total_kimg  # the share of the run over which rates decay
        self.whole_kimg = recipe.growing.whole_kimg if recipe.growing else 0.0
        self._speed: float | None = None  # kimg a second

    def begin(self) -> Schedule:
        """Return the schedule of a run whose speed is not measured yet: its rates do not decay before."""
        return self._end_at(UNKNOWN_KIMG)

    def end(self, schedule: Schedule, kimg: float, seconds: float, speed: float) -> Schedule:
        """Return the new schedule of a run at `kimg` after `seconds` of training; `speed` is the latest, in kimg/s."""
        self._speed = speed if self._speed is None else self._speed + SMOOTHING * (speed - self._speed)
        if kimg > schedule.total_kimg - schedule.decay_kimg:
            return schedule
        end = kimg + self._speed * max(0.0, self.seconds - seconds)
        return self._end_at(max(end, kimg / (1 - self.decaying), self.whole_kimg))

    def _end_at(self, kimg: float) -> Schedule:
        return Schedule(round(kimg, 3), round(kimg * self.decaying, 3))
