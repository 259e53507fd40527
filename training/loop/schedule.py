"""What changes over a run, as pure functions of the pictures seen."""

from training.networks.layers import Phase
from training.recipe import Recipe


def learning_rate_factor(recipe: Recipe, images_seen: int) -> float:
    """1, then linearly to 0 over the last `optimizer.decay_kimg`."""
    left = recipe.total_kimg - images_seen / 1000
    decay = recipe.optimizer.decay_kimg
    return min(1.0, max(0.0, left) / decay) if decay else 1.0


def phase_at(recipe: Recipe, images_seen: int) -> Phase | None:
    """The phase of progressive growing; None where the recipe does not grow (Karras et al. 2018, section 2)."""
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
