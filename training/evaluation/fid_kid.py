"""How like real pictures those of an exported model are: the measures on Inception features and on pixels."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from serving.engine import images
from training.datasets import loaders
from training.evaluation import inception, metrics, samples
from training.evaluation.evaluation import Subject
from training.evaluation.metric import Figure, Floor, figure

KID_SUBSETS = 100  # of a thousand pictures each, as torch-fidelity has it
KID_SUBSET_SIZE = 1000
NEIGHBOURS = 3  # Kynkaanniemi et al. 2019, section 3.1
NEAREST = 1000  # generated pictures whose nearest training pictures are sought
PAIRS = 10  # of them that are shown
PAIRS_FILE = "nearest.png"
WORST = 20  # of the samples that are shown
WORST_FILE = "worst.png"
PATHS = 500

# Karras et al. 2019 step by 1e-4 between pictures of floating point numbers. Ours have 256 levels: a step too short
# shows little but their rounding, and one too long cuts the path's corners. Path lengths measured on 6 paths, as shares
# of what unrounded pictures give at a step of 0.001; in brackets those of unrounded pictures:
#   step                       0.001      0.003        0.01         0.02         0.05
#   dcgan-mnist, z             2.6 (1)    1.39 (1.05)  0.92 (0.94)  0.70 (0.71)  0.37 (0.37)
#   stylegan-lite-critters, w  14.5 (1)   3.68 (0.99)  1.24 (0.97)  0.94 (0.89)  0.60 (0.58)
# 0.02 is the shortest of these at which rounding moves both by less than a tenth.
EPSILON = 0.02


def fid(subject: Subject) -> list[Figure]:
    """Frechet inception distance."""
    return compared(subject, ["fid"], lambda a, b: [metrics.fid(a, b)])


def fid_train(subject: Subject) -> list[Figure]:
    """Frechet inception distance of as many pictures as the training set has to all of it: what papers report."""
    known, n = subject.all_train_features, len(subject.train)
    how = f"{_extractor(subject)}, {n:,} pictures against all {n:,} of the training set, {subject.resolution} px"
    floor = None
    if subject.held_out:
        floor = Floor(metrics.fid(subject.test_features, known), f"{len(subject.test):,} test pictures")
    made = subject.features_of(subject.sampled, n)
    return [figure("fid_train", metrics.fid(made, known), how, n, f"{subject.train.source.name} train, all", floor)]


def kid(subject: Subject) -> list[Figure]:
    """Kernel inception distance."""
    size = min(KID_SUBSET_SIZE, subject.count, len(subject.test))
    how = f"kernel (x.y / D + 1)^3, {KID_SUBSETS} subsets of {size:,}, "
    return compared(subject, ["kid"], lambda a, b: [metrics.kid(a, b, subsets=KID_SUBSETS, subset_size=size)], how)


def precision_recall(subject: Subject) -> list[Figure]:
    """How much of what is generated could be real, and how much of what is real could be generated."""
    return compared(
        subject,
        ["precision", "recall"],
        lambda a, b: metrics.precision_recall(a, b, NEIGHBOURS),
        f"k = {NEIGHBOURS}, ",
    )


def realism(subject: Subject) -> list[Figure]:
    """How near each sample is to real pictures, and which are farthest from them, for the card to show."""
    (found,) = compared(
        subject,
        ["realism"],
        lambda a, b: [float(np.median(metrics.realism(a, b, NEIGHBOURS)))],
        f"median, k = {NEIGHBOURS}, 1 and above lies within the real pictures' manifold, ",
    )
    scores = metrics.realism(subject.sample_features, subject.test_features, NEIGHBOURS)
    worst = np.argsort(scores, kind="stable")[:WORST]
    return [found | {"picture": WORST_FILE, "shown": [samples.described(subject.model, int(i)) for i in worst]}]


def one_nearest_neighbour(subject: Subject) -> list[Figure]:
    """How well generated and real pictures are told apart by their nearest neighbours."""
    n = min(subject.count, len(subject.test))
    how = f"leave-one-out among {n:,} of each, 50 % is chance, "
    return compared(subject, ["one_nearest_neighbour"], lambda a, b: [metrics.one_nearest_neighbour(a[:n], b[:n])], how)


def path_length(subject: Subject) -> list[Figure]:
    """Perceptual path length in z, and in w where there is one."""
    ways: dict[Literal["z", "w"], str] = {"z": "great circles in z"}
    if subject.model.style:
        ways["w"] = "straight lines in w"
    found = []
    for space, way in ways.items():
        ends = subject.path_features(space, EPSILON, PATHS)
        protocol = (
            f"{_extractor(subject)}, squared distance in place of LPIPS, over steps of {EPSILON:g} on {PATHS:,} {way} "
            f"and divided by the step squared, least and greatest 1 % left out, {subject.resolution} px"
        )
        value = metrics.perceptual_path_length(ends[0::2], ends[1::2], EPSILON)
        found.append(figure(f"ppl_{space}", value, protocol, 2 * PATHS, "none"))
    return found


def nearest(subject: Subject) -> list[Figure]:
    """Whether training pictures were learnt by heart; writes the closest pairs beside the model, as nearest.png.

    Test pictures look for their nearest training pictures too: samples are to be no nearer than those.
    """
    n = min(NEAREST, subject.count, len(subject.test) // 2)
    train = subject.train.images
    if subject.mirrored:
        train = torch.cat([train, train.flip(-1)])
    train = train.permute(0, 2, 3, 1).numpy()  # (M, H, W, C)
    test = subject.test.images[: 2 * n].permute(0, 2, 3, 1).numpy()
    made, _ = samples.generate(subject.runtime, 0, n)
    distances, indices = metrics.nearest_neighbours(_rows(made), _rows(train))
    closest = np.argsort(distances, kind="stable")[:PAIRS]
    pairs = images.grid(np.concatenate([made[closest], train[indices[closest]]]), len(closest))
    images.as_pillow(images.enlarge(pairs[None], 2)[0]).save(subject.model.folder / PAIRS_FILE)

    mirrors = " and their mirror images" if subject.mirrored else ""
    where = f"in pixels, among all {len(subject.train):,} training pictures{mirrors}"
    by_pixels = _data_copying(subject, "data_copying_pixels", distances, _rows(test), _rows(train), where)
    known = subject.train_features
    distances, _ = metrics.nearest_neighbours(subject.sample_features[:n], known)
    where = f"in {_extractor(subject)}, among {len(known):,} training pictures"
    unknown = subject.test_features[: 2 * n]
    by_features = _data_copying(subject, "data_copying_features", distances, unknown, known, where)
    return [by_pixels | {"picture": PAIRS_FILE}, by_features]


def _data_copying(
    subject: Subject, name: str, distances: np.ndarray, test: np.ndarray, train: np.ndarray, where: str
) -> Figure:
    """distances (N,): the samples' to `train` (M, D); test (2 N, D): one half to compare with, one for the floor."""
    n = len(distances)
    held_out, _ = metrics.nearest_neighbours(test, train)
    protocol = (
        f"how often one of {n:,} samples is nearer to its nearest training picture than one of {n:,} test pictures to "
        f"its own, {where}; 50 % is no copying, 100 % copies alone"
    )
    return figure(
        name,
        metrics.data_copying(distances, held_out[:n]),
        protocol,
        n,
        f"{subject.test.source.name} test, {n} pictures",
        Floor(metrics.data_copying(held_out[n:], held_out[:n]), f"{n:,} other test pictures"),
        median_distance={"samples": float(np.median(distances)), "test": float(np.median(held_out[:n]))},
    )


def compared(
    subject: Subject,
    names: list[str],
    measure: Callable[[np.ndarray, np.ndarray], Sequence[float]],
    how: str = "",
    made: np.ndarray | None = None,
) -> list[Figure]:
    """Measures of two sets of features: of the samples (or of what else was `made`), and for the floor of training
    pictures, against the test's."""
    values = measure(subject.sample_features if made is None else made, subject.test_features)
    floors: list[Floor | None] = [None] * len(names)
    if subject.held_out:
        in_place = f"{len(subject.train_features):,} training pictures"
        floors = [Floor(x, in_place) for x in measure(subject.train_features, subject.test_features)]
    return [
        figure(name, value, protocol(subject, how), subject.count, reference(subject), floor)
        for name, value, floor in zip(names, values, floors, strict=True)
    ]


def protocol(subject: Subject, how: str = "") -> str:
    """What a comparison of samples with the test's pictures says of itself."""
    whose = f"the {subject.test.split} set" if subject.held_out else "the pictures it was trained on"
    sizes = f"{subject.count:,} pictures against {len(subject.test):,} of {whose}, {subject.resolution} px"
    return f"{_extractor(subject)}, {how}{sizes}"


def reference(subject: Subject) -> str:
    """The pictures that samples are compared with."""
    which = "first" if subject.name in loaders.SOURCES else "evenly spaced"
    return f"{subject.test.source.name} {subject.test.split}, {which} {len(subject.test)}"


def _extractor(subject: Subject) -> str:
    return inception.protocol(subject.model.image.channels)


def _rows(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), -1)  # (N, D)
