"""What changes over a run, as pure functions of the images seen, and where the run ends."""

import dataclasses
from typing import NamedTuple

from training.errors import RecipeError
from training.networks.layers import Phase
from training.recipe import Recipe, Stabilizer, overridden


class Schedule(NamedTuple):
    """Where a run ends. The recipe says where at first; a time budget and `--resume` may move it."""

    total_kimg: float
    decay_kimg: float  # both learning rates decay linearly to 0 over the last so many kimg

    @classmethod
    def of(cls, recipe: Recipe) -> "Schedule":
        return cls(recipe.total_kimg, recipe.optimizer.decay_kimg)

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Return the recipe that has this schedule from its start: it gives the same model. Raises RecipeError."""
        optimizer = dataclasses.replace(recipe.optimizer, decay_kimg=self.decay_kimg)
        return dataclasses.replace(recipe, total_kimg=self.total_kimg, optimizer=optimizer)


def learning_rate_factor(schedule: Schedule, images_seen: int) -> float:
    """Return 1, then linearly to 0 over the last `decay_kimg`."""
    left = schedule.total_kimg - images_seen / 1000
    return min(1.0, max(0.0, left) / schedule.decay_kimg) if schedule.decay_kimg else 1.0


def moved(recipe: Recipe, schedule: Schedule, overrides: list[str], kimg: float) -> Schedule:
    """Return the schedule of a run at `kimg` with another `total_kimg` or `optimizer.decay_kimg`.

    Possible only while the run is the one that has the new schedule from its start: before the learning rates decay, by
    the old schedule and by the new one. Raises RecipeError.
    """
    present = schedule.applied_to(recipe)
    changed = overridden(present, overrides)
    if changed == present:
        return schedule
    if schedule.applied_to(changed) != present:
        raise RecipeError("of a resumed run only `total_kimg` and `optimizer.decay_kimg` can change.")
    end = Schedule.of(changed)
    if kimg > end.total_kimg:
        raise RecipeError(f"`total_kimg` (={end.total_kimg:g}) must be at least {kimg:g}, where the run is.")
    for total, decay in (schedule, end):
        if decay and kimg > total - decay:
            raise RecipeError(
                f"the run is at {kimg:.1f} kimg, which with `total_kimg` (={total:g}) and `optimizer.decay_kimg` "
                f"(={decay:g}) is after {total - decay:g}, where its rates begin to decay: its end can no longer move."
            )
    return end


def input_noise_std(stabilizer: Stabilizer, images_seen: int) -> float:
    """Return `input_noise`, decaying linearly to 0 in `input_noise_kimg`, or constant where that is 0."""
    if not stabilizer.input_noise_kimg:
        return stabilizer.input_noise
    return stabilizer.input_noise * max(0.0, 1 - images_seen / 1000 / stabilizer.input_noise_kimg)


def phase_at(recipe: Recipe, images_seen: int) -> Phase | None:
    """Return the phase of progressive growing; None where the recipe does not grow (Karras et al. 2018, section 2)."""
    growing = recipe.growing
    if growing is None:
        return None
    stage = growing.start.bit_length() - 3  # 4 px is stage 0
    last = recipe.data.resolution.bit_length() - 3
    kimg = images_seen / 1000
    fade = 0.0
    for stable in growing.stable_kimg:
        if kimg < fade + stable or stage == last:
            break
        kimg -= fade + stable
        stage, fade = stage + 1, growing.fade_kimg
    return Phase(stage, 1.0 if kimg >= fade else kimg / fade)
