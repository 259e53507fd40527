"""Settings of the study. Each one is a few overrides of the recipe of its task, as on the command line."""

from typing import NamedTuple


class Setting(NamedTuple):
    name: str  # on the command line and in the results
    title: str  # in the table and the plots
    overrides: tuple[str, ...] = ()  # of the recipe of the task


CRITIC = ("optimizer.discriminator_steps=5", "optimizer.beta1=0.0", "optimizer.beta2=0.9")  # Gulrajani et al. 2017
# A critic takes 5 batches for each step of the generator. In the same kimg the generator would have 1/5 of the steps of
# the other settings. With these kimg it has 3/5 of them on the ring and 1/2 on stacked MNIST.
LONGER_RING = ("total_kimg=1152",)
LONGER_STACKED = ("total_kimg=120",)
PENALIZED = ("optimizer.beta1=0.0", "optimizer.beta2=0.99")  # Huang et al. 2024
# Metz et al. 2017 also use a 10 times higher learning rate for the generator. They train for more steps.
SLOW_DISCRIMINATOR = ("optimizer.discriminator_lr=3e-4", "total_kimg=192")

RING = (
    Setting("minimax", "minimax", ("loss=minimax",)),
    Setting("non-saturating", "non-saturating"),
    Setting("least-squares", "least squares", ("loss=least_squares",)),
    Setting("hinge", "hinge", ("loss=hinge",)),
    Setting("wgan-clip", "WGAN, clipping", ("loss=wasserstein", "penalty.weight_clip=0.1", *CRITIC, *LONGER_RING)),
    Setting("wgan-gp", "WGAN-GP", ("loss=wasserstein", "penalty.wgan_gp=0.1", *CRITIC, *LONGER_RING)),
    Setting("relativistic", "relativistic", ("loss=relativistic",)),
    Setting("no-momentum", "+ no momentum (beta1 0)", PENALIZED),
    Setting("r1", "+ R1", ("penalty.r1_gamma=0.01", *PENALIZED)),
    Setting("relativistic-r1", "relativistic + R1", ("loss=relativistic", "penalty.r1_gamma=0.01", *PENALIZED)),
    Setting(
        "r3gan",
        "relativistic + R1 + R2 (R3GAN)",
        ("loss=relativistic", "penalty.r1_gamma=0.01", "penalty.r2_gamma=0.01", *PENALIZED),
    ),
    Setting("spectral-norm", "+ spectral norm", ("network.discriminator_norm=spectral",)),
    Setting(
        "sngan",
        "hinge + SN, 5 steps of D",
        ("loss=hinge", "network.discriminator_norm=spectral", *CRITIC, *LONGER_RING),
    ),
    Setting("minibatch-discrimination", "+ minibatch discrimination", ("network.minibatch_discrimination=8",)),
    Setting("minibatch-stddev", "+ minibatch stddev", ("network.minibatch_stddev=true",)),
    Setting("label-smoothing", "+ one-sided labels 0.9", ("stabilizer.real_target=[0.9, 0.9]",)),
    Setting("noisy-labels", "+ noisy labels 0.7 to 1.2", ("stabilizer.real_target=[0.7, 1.2]",)),
    Setting("feature-matching", "+ feature matching", ("stabilizer.feature_matching=1.0",)),
    Setting("mode-seeking", "+ mode seeking", ("stabilizer.mode_seeking=0.1",)),
    Setting("discriminators", "+ 3 discriminators", ("stabilizer.discriminators=3",)),
    Setting("input-noise", "+ input noise", ("stabilizer.input_noise=0.2", "stabilizer.input_noise_kimg=288")),
    Setting("dropout", "+ dropout 0.3", ("network.dropout=0.3",)),
    Setting("ttur", "+ TTUR, D twice as fast", ("optimizer.discriminator_lr=6e-3",)),
    Setting("unrolled-0", "slow D, 0 steps unrolled", SLOW_DISCRIMINATOR),
    Setting("unrolled-1", "slow D, 1 step unrolled", ("stabilizer.unrolled_steps=1", *SLOW_DISCRIMINATOR)),
    Setting("unrolled-5", "slow D, 5 steps unrolled", ("stabilizer.unrolled_steps=5", *SLOW_DISCRIMINATOR)),
    Setting("unrolled-10", "slow D, 10 steps unrolled", ("stabilizer.unrolled_steps=10", *SLOW_DISCRIMINATOR)),
)
UNROLLED = tuple(setting.name for setting in RING if setting.name.startswith("unrolled"))

STACKED = (
    Setting("minimax", "minimax", ("loss=minimax",)),
    Setting("non-saturating", "non-saturating"),
    Setting("least-squares", "least squares", ("loss=least_squares",)),
    Setting("hinge", "hinge", ("loss=hinge",)),
    Setting("wgan-clip", "WGAN, clipping", ("loss=wasserstein", "penalty.weight_clip=0.01", *CRITIC, *LONGER_STACKED)),
    Setting("wgan-gp", "WGAN-GP", ("loss=wasserstein", "penalty.wgan_gp=10", *CRITIC, *LONGER_STACKED)),
    Setting("relativistic-r1", "relativistic + R1", ("loss=relativistic", "penalty.r1_gamma=1", *PENALIZED)),
    Setting(
        "r3gan",
        "relativistic + R1 + R2 (R3GAN)",
        ("loss=relativistic", "penalty.r1_gamma=1", "penalty.r2_gamma=1", *PENALIZED),
    ),
    Setting("spectral-norm", "+ spectral norm", ("network.discriminator_norm=spectral",)),
    Setting("minibatch-discrimination", "+ minibatch discrimination", ("network.minibatch_discrimination=16",)),
    Setting("unrolled-2", "+ 2 steps unrolled", ("stabilizer.unrolled_steps=2",)),
)
