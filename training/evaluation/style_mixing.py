"""Style mixing of a style model: which image each attribute of a mix follows, and the FID of mixes."""

import numpy as np

from training.datasets import critters
from training.evaluation import attribute_classifier, samples
from training.evaluation.evaluation import Evaluation
from training.evaluation.fid_kid import fid
from training.evaluation.metric import Baseline, Metric, Value, compared, value
from training.evaluation.samples import Styles

PAIRS = 5000  # whose mixes are read
LEVEL: dict[str, Styles] = {  # of each attribute: the styles it should come with
    "body": "coarse",
    "top": "coarse",
    "eyes": "middle",
    "mouth": "middle",
    "pattern": "middle",
    "background colour": "fine",
    "body colour": "fine",
}


def measure(evaluation: Evaluation) -> list[Value]:
    """Which of two critters a mix takes each attribute from, as the attribute classifier reads it. Critters only.

    Each value is the mean share of mixes whose attributes follow the image they should: with coarse styles of the
    column the body and the top the column's, everything else the row's. The baseline is the classifier's accuracy.
    """
    runtime = evaluation.runtime
    read = attribute_classifier.load(evaluation.data_folder, evaluation.resolution)
    images, others = (samples.generate(runtime, 0, PAIRS, seed)[0] for seed in (samples.SEED, samples.COLUMN_SEED))
    rows, columns = read(images), read(others)
    known = {
        "reader_accuracy": read.accuracy,
        "reader_confidence": read.confidence,
        "confidence": read.mean_confidence(images),
    }
    right = float(np.mean(list(read.accuracy.values())))
    levels = "; ".join(f"{styles}: {', '.join(k for k in LEVEL if LEVEL[k] == styles)}" for styles in samples.STYLES)
    protocol = (
        f"mean share, over {len(LEVEL)} attributes of critters, of mixes in which the attribute follows the picture it "
        f"should: the column's if it belongs to the styles that are mixed ({levels}), else the row's; of {PAIRS:,} "
        f"pairs those in which the two differ; read by a network that is right in {right:.1%} on held-out critters, "
        f"{evaluation.resolution} px"
    )
    found = []
    for styles in samples.STYLES:
        table = follows(rows, columns, read(samples.mixed(runtime, 0, PAIRS, styles)))
        should = {name: "column" if LEVEL[name] == styles else "row" for name in table}
        share = float(np.mean([shares[should[name]] for name, shares in table.items()]))
        baseline = Baseline(right, f"{attribute_classifier.HELD_OUT:,} held-out critters, read")
        details = {"by_attribute": table, "follows": should, **known}
        found.append(value(f"mixing_{styles}_share", share, protocol, PAIRS, "none", baseline, **details))
    return found


def follows(rows: np.ndarray, columns: np.ndarray, mixes: np.ndarray) -> dict[str, dict[str, float]]:
    """For each attribute, the shares of mixes that have the row's value and the column's where those two differ.

    Values (N, 7) of the images of rows, of columns and of their mixes, as critters.ATTRIBUTES orders them.
    """
    table = {}
    for k, name in enumerate(critters.ATTRIBUTES):
        differ = rows[:, k] != columns[:, k]
        row, column = rows[differ, k], columns[differ, k]
        mix = mixes[differ, k]
        table[name] = {"row": _share(mix == row), "column": _share(mix == column), "pairs": int(differ.sum())}
    return table


def _share(which: np.ndarray) -> float:
    """0 where there is nothing to count."""
    return float(which.mean()) if len(which) else 0.0


def measure_fid(evaluation: Evaluation) -> list[Value]:
    how = "mixes of two, by coarse, middle and fine styles in turn, "
    return compared(evaluation, ["fid_mixed"], lambda a, b: [fid(a, b)], how, evaluation.mixed_features)


def _reads_attributes(evaluation: Evaluation) -> bool:
    large_enough = evaluation.resolution >= attribute_classifier.GRID
    return bool(evaluation.model.style) and evaluation.name == "critters" and large_enough


FID = Metric("mixed_fid", measure_fid, needs=lambda evaluation: bool(evaluation.model.style))
METRIC = Metric("mixing", measure, needs=_reads_attributes)
