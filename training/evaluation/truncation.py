"""Truncation of a style model (Karras et al. 2019, section B): FID, precision and recall at several psi."""

from training.evaluation.evaluation import Evaluation
from training.evaluation.fid_kid import fid
from training.evaluation.metric import Metric, Value, value
from training.evaluation.precision_recall import NEIGHBOURS, precision_recall

PSIS = (0.4, 0.6, 0.8, 1.0)


def measure(evaluation: Evaluation) -> list[Value]:
    """Return the psi of the lowest FID, and the metrics at each psi."""
    test = evaluation.test_features
    by_psi = []
    for psi in PSIS:
        made = evaluation.truncated_features(psi)
        precision, recall = precision_recall(made, test, NEIGHBOURS)
        by_psi.append({"psi": psi, "fid": fid(made, test), "precision": precision, "recall": recall})
    best = min(by_psi, key=lambda row: row["fid"])
    protocol = (
        f"psi of the lowest FID among {', '.join(f'{psi:g}' for psi in PSIS)}, on every layer; "
        f"{evaluation.protocol()}; precision and recall with k = {NEIGHBOURS}"
    )
    reference = evaluation.reference_images
    return [value("truncation_psi", best["psi"], protocol, evaluation.count, reference, by_psi=by_psi)]


METRIC = Metric("truncation", measure, needs=lambda evaluation: bool(evaluation.model.style))
