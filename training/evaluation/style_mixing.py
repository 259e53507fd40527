"""What the styles of a style model do: mixing read attribute by attribute, how real mixes look, and truncation."""

import numpy as np

from training.datasets import critters
from training.evaluation import attribute_classifier, fid_kid, metrics, samples
from training.evaluation.evaluation import Subject
from training.evaluation.metric import Figure, Floor, figure
from training.evaluation.samples import Styles

PAIRS = 5000  # whose mixes are read
PSIS = (0.4, 0.6, 0.8, 1.0)
LEVEL: dict[str, Styles] = {  # of each attribute: the styles it should come with
    "body": "coarse",
    "top": "coarse",
    "eyes": "middle",
    "mouth": "middle",
    "pattern": "middle",
    "background colour": "fine",
    "body colour": "fine",
}


def mixing(subject: Subject) -> list[Figure]:
    """Which of two critters a mix takes each attribute from, as a reader sees it. The critters set alone.

    Each figure is the mean share of mixes whose attributes follow the picture they should: with coarse styles of the
    column the body and the top the column's, everything else the row's. The floor is how well the reader reads.
    """
    runtime = subject.runtime
    read = attribute_classifier.load(subject.data_folder, subject.resolution)
    pictures, others = (samples.generate(runtime, 0, PAIRS, seed)[0] for seed in (samples.SEED, samples.COLUMN_SEED))
    rows, columns = read(pictures), read(others)
    known = {"reader_accuracy": read.accuracy, "reader_confidence": read.confidence, "confidence": read.sure(pictures)}
    right = float(np.mean(list(read.accuracy.values())))
    levels = "; ".join(f"{styles}: {', '.join(k for k in LEVEL if LEVEL[k] == styles)}" for styles in samples.STYLES)
    protocol = (
        f"mean share, over {len(LEVEL)} attributes of critters, of mixes in which the attribute follows the picture it "
        f"should: the column's if it belongs to the styles that are mixed ({levels}), else the row's; of {PAIRS:,} "
        f"pairs those in which the two differ; read by a network that is right in {right:.1%} on held-out critters, "
        f"{subject.resolution} px"
    )
    found = []
    for styles in samples.STYLES:
        table = follows(rows, columns, read(samples.mixed(runtime, 0, PAIRS, styles)))
        should = {name: "column" if LEVEL[name] == styles else "row" for name in table}
        value = float(np.mean([shares[should[name]] for name, shares in table.items()]))
        floor = Floor(right, f"{attribute_classifier.HELD_OUT:,} held-out critters, read")
        details = {"by_attribute": table, "follows": should, **known}
        found.append(figure(f"mixing_{styles}_share", value, protocol, PAIRS, "none", floor, **details))
    return found


def follows(rows: np.ndarray, columns: np.ndarray, mixes: np.ndarray) -> dict[str, dict[str, float]]:
    """For each attribute, the shares of mixes that have the row's value and the column's where those two differ.

    Values (N, 7) of the pictures of rows, of columns and of their mixes, as critters.ATTRIBUTES orders them.
    """
    table = {}
    for k, name in enumerate(critters.ATTRIBUTES):
        differ = rows[:, k] != columns[:, k]
        row, column = rows[differ, k], columns[differ, k]
        mix = mixes[differ, k]
        table[name] = {"row": _share(mix == row), "column": _share(mix == column), "pairs": int(differ.sum())}
    return table


def mixed_fid(subject: Subject) -> list[Figure]:
    """FID of mixes of two pictures, the coarse, middle and fine styles mixed in turn."""
    how = "mixes of two, by coarse, middle and fine styles in turn, "
    return fid_kid.compared(subject, ["fid_mixed"], lambda a, b: [metrics.fid(a, b)], how, subject.mixed_features)


def truncation(subject: Subject) -> list[Figure]:
    """FID, precision and recall at several strengths of truncation; the figure is the psi of the lowest FID."""
    test = subject.test_features
    by_psi = []
    for psi in PSIS:
        made = subject.truncated_features(psi)
        precision, recall = metrics.precision_recall(made, test, fid_kid.NEIGHBOURS)
        by_psi.append({"psi": psi, "fid": metrics.fid(made, test), "precision": precision, "recall": recall})
    best = min(by_psi, key=lambda row: row["fid"])
    protocol = (
        f"psi of the lowest FID among {', '.join(f'{psi:g}' for psi in PSIS)}, on every layer; "
        f"{fid_kid.protocol(subject)}; precision and recall with k = {fid_kid.NEIGHBOURS}"
    )
    reference = fid_kid.reference(subject)
    return [figure("truncation_psi", best["psi"], protocol, subject.count, reference, by_psi=by_psi)]


def _share(which: np.ndarray) -> float:
    """0 where there is nothing to count."""
    return float(which.mean()) if len(which) else 0.0
