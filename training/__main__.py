"""Command line: train | evaluate | export | data."""

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    from training.data import DataError
    from training.recipe import RecipeError

    try:
        return args.run(args)
    except (DataError, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train GANs and export them to ONNX.")
    commands = parser.add_subparsers(required=True, metavar="train | evaluate | export | data")

    train = commands.add_parser("train", help="train a recipe, or go on with a run")
    train.add_argument("recipe", nargs="?", help="id of a recipe, or the path of a .toml file")
    train.add_argument("overrides", nargs="*", metavar="field=value", help="such as optimizer.batch=128")
    train.add_argument(
        "--data", type=Path, default=Path("data"), help="data folder, torchvision's layout (%(default)s)"
    )
    train.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are made (%(default)s)")
    train.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run folder")
    train.add_argument("--device", help="cuda, cuda:1, cpu (default: cuda if there is one)")
    train.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    train.set_defaults(run=_train)
    return parser


def _train(args: argparse.Namespace) -> int:
    import torch

    from training import data, monitor, recipe, trainer

    if (args.recipe is None) == (args.resume is None):
        raise recipe.RecipeError(f"give a recipe ({', '.join(recipe.available())}) or --resume RUN, one of the two.")
    if args.resume and args.overrides:
        raise recipe.RecipeError("a resumed run keeps its recipe: overrides are for new runs.")
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    state = None
    if args.resume:
        path = args.resume / "checkpoint.pt"
        if not path.is_file():
            raise recipe.RecipeError(f"{args.resume} holds no checkpoint.pt: nothing was saved there yet.")
        chosen, state = trainer.from_checkpoint(path)
    else:
        chosen = recipe.load(args.recipe, args.overrides)
    dataset = data.load(chosen.data.name, args.data, chosen.data.resolution, count=chosen.data.count)
    job = trainer.Trainer(chosen, dataset, device)
    if state:
        job.restore(state)
    folder = args.resume or monitor.new_run(args.runs, chosen)
    print(f"{folder}: {chosen.name}, {len(dataset)} pictures, {trainer.describe_device(device)}", flush=True)
    try:
        trainer.run(job, folder)
    except trainer.Interrupted as stop:
        print(f"{stop}: saved at {job.kimg:.1f} kimg; go on with: python -m training train --resume {folder}")
        return 128 + stop.signum
    except trainer.TrainingDiverged as error:
        print(f"error: {error} The last good checkpoint in {folder} is kept.", file=sys.stderr)
        return 1
    print(f"finished at {job.kimg:.1f} kimg; export with: python -m training export {folder}")
    return 0


if __name__ == "__main__":
    # A reader that goes away (`| head`) ends the program quietly.
    try:
        sys.exit(main())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
