"""Command line of the loss study: train the missing runs, then write the table and the plots."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.loss_study import losses, plots, table
from benchmarks.loss_study.losses import Result, Run
from benchmarks.loss_study.settings import UNROLLED, Setting
from training.errors import TrainingError

TABLE = "table.md"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loss_study",
        description="Train every loss and stabiliser on small tasks, and compare them.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder of the results (%(default)s)")
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="data folder, with mnist-judge.onnx (%(default)s)"
    )
    parser.add_argument("--tasks", nargs="+", choices=["ring", "stacked"], default=["ring", "stacked"], help="(both)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="SETTING", help="train these settings only")
    parser.add_argument("--jobs", type=int, default=1, help="parallel processes, each with one thread (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="smoke test: train each run for a few seconds only")
    args = parser.parse_args(arguments)
    try:
        for name in ("seeds", "jobs"):
            if getattr(args, name) < 1:
                raise TrainingError(f"`--{name}` is {getattr(args, name)}; it must be at least 1.")
        planned = losses.runs(args.tasks, args.seeds, args.only, args.quick)
        results = losses.study(args.out, args.data, planned, args.jobs)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in write(args.out, planned, results):
        print(f"written: {path}")
    return 0


def write(out: Path, planned: Sequence[Run], results: Sequence[Result]) -> list[Path]:
    """Write `table.md` and the plots of the results into the folder `out`. Return the paths of the files."""
    written = [out / TABLE]
    tables = []
    for task in dict.fromkeys(run.task for run in planned):
        settings = list(dict.fromkeys(run.setting for run in planned if run.task == task))
        of_task = [result for result in results if result["task"] == task]
        tables.append(table.markdown(task, of_task, settings))
        samples = {run.setting.name: np.load(run.samples(out)) for run in planned if run.task == task and run.seed == 0}
        draw = _draw_ring if task == "ring" else _draw_stacked
        written += draw(out, of_task, settings, samples)
    written[0].write_text("\n".join(tables))
    return written


def _draw_ring(
    out: Path, results: Sequence[Result], settings: Sequence[Setting], samples: dict[str, np.ndarray]
) -> list[Path]:
    paths = [out / "ring.png", out / "ring-measures.png"]
    metrics = {"modes": "modes of 8", "quality": "share of high-quality samples", "kl": "KL from uniform, nats"}
    plots.ring_panels(samples, settings, paths[0])
    plots.bars(results, settings, metrics, paths[1])
    if unrolled := [setting for setting in settings if setting.name in UNROLLED]:
        paths.append(out / "unrolling.png")
        plots.ring_over_time(samples, unrolled, paths[-1])
    return paths


def _draw_stacked(
    out: Path, results: Sequence[Result], settings: Sequence[Setting], samples: dict[str, np.ndarray]
) -> list[Path]:
    paths = [out / "stacked.png", out / "stacked-pictures.png"]
    plots.bars(results, settings, {"modes": "modes of 1,000", "kl": "KL from uniform, nats"}, paths[0])
    plots.image_panels(samples, settings, paths[1])
    return paths


if __name__ == "__main__":
    sys.exit(main())
