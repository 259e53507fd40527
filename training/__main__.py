"""Command line: train | series | report | export | import | evaluate | directions | card | data."""

import argparse
import os
import shlex
import signal
import sys
from contextlib import ExitStack
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):  # what a terminal's encoding has not is shown as \\udce4
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = _parse(arguments)
    from serving.engine.repository import ModelError
    from training.errors import TrainingError, refused_by_disk

    try:
        return args.command(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (TrainingError, ModelError) as error:
        said = str(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        said = refused_by_disk(error)
    print(f"error: {said}", file=sys.stderr)
    return 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Lets overrides stand anywhere: argparse alone takes none after an option."""
    parser = _parser()
    args, rest = parser.parse_known_args(arguments)
    if rest and ("overrides" not in args or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args


DATA_HELP = (
    "data folder, torchvision's layout (data, or where the run that is resumed had it); for data.name=folder and npz, "
    "the images' folder or the file"
)
INCEPTION = "inception-2015-12-05.pth"
INCEPTION_HELP = f"Inception weights (DATA/{INCEPTION}, or download)"
KEPT: dict[str, Any] = {  # the options of `train` that say how a run is trained, with their defaults
    "data": None,
    "device": None,
    "devices": None,
    "threads": None,
    "tick_kimg": 5.0,
    "checkpoint_seconds": 180.0,
    "inception": None,
    "minutes": None,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train GANs and export them to ONNX.")
    commands = parser.add_subparsers(
        required=True,
        metavar="train | series | report | export | import | evaluate | directions | card | data",
    )

    trains = argparse.ArgumentParser(add_help=False)
    trains.add_argument("--data", type=Path, help=DATA_HELP)
    trains.add_argument("--device", help="cuda, cuda:1, cpu (default: cuda if there is one)")
    trains.add_argument("--threads", type=int, help="CPU threads of training (default: all cores)")
    trains.add_argument("--inception", type=Path, help=INCEPTION_HELP)

    train = commands.add_parser("train", parents=[trains], help="train a recipe, or go on with a run")
    train.add_argument("recipe", nargs="?", help="id of a recipe, or the path of a .toml file")
    train.add_argument("overrides", nargs="*", metavar="field=value", help="such as optimizer.batch=128")
    train.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are made (%(default)s)")
    train.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with this run folder; total_kimg and optimizer.decay_kimg may change until its rates fall",
    )
    train.add_argument("--changed-data", action="store_true", help="resume although the images are not the same")
    train.add_argument("--devices", type=int, metavar="N", help="train in N processes of this machine, a GPU each")
    train.add_argument("--tick-kimg", type=float, help="between two lines of statistics (%(default)s)")
    train.add_argument("--checkpoint-seconds", type=float, help="between two checkpoints (%(default)s)")
    train.add_argument(
        "--minutes",
        type=float,
        help="of training in all, in the place of total_kimg; rates fall over the same share of the run",
    )
    train.add_argument("--dry-run", action="store_true", help="print networks, work and memory; train nothing")
    train.set_defaults(command=_train, **KEPT)

    series = commands.add_parser(
        "series", parents=[trains], help="train, export and measure several recipes, one after the other"
    )
    series.add_argument("recipes", nargs="+", metavar="RECIPE[=MINUTES]", help="as train has it, and its --minutes")
    series.add_argument("--out", type=Path, default=Path("runs/series"), help="its runs/ and models/ (%(default)s)")
    series.add_argument("--metrics", help="those that `evaluate` measures, such as fid,kid (default: none)")
    series.set_defaults(command=_series)

    report = commands.add_parser("report", help="write a run's page: curves, grids, figures, alarms, settings")
    report.add_argument("run", type=Path, help="run folder")
    report.set_defaults(command=_report)

    export = commands.add_parser("export", help="write a run's generator as ONNX, checked, into a model repository")
    export.add_argument(
        "run", type=Path, help="run folder (its best snapshot, if FID was measured), or the file of one"
    )
    export.add_argument("--models", type=Path, default=Path("models"), help="model repository (%(default)s)")
    export.add_argument("--replace", action="store_true", help="over a model with metrics, or with files of others")
    export.set_defaults(command=_export)

    imports = commands.add_parser(
        "import", help="write the generator of a checkpoint of elsewhere as ONNX, checked, into a model repository"
    )
    imports.add_argument("source", type=Path, help="StyleGAN2-ADA pickle, DCGAN netG.pth, or this project's")
    imports.add_argument("--id", required=True, help="of the model, and its folder's name")
    imports.add_argument("--models", type=Path, default=Path("models"), help="model repository (%(default)s)")
    imports.add_argument("--format", default="auto", help="auto, stylegan2, dcgan or ganymede (%(default)s)")
    imports.add_argument("--name", help="for people (default: the id)")
    imports.add_argument("--licence", help="of the weights (default: unknown)")
    imports.add_argument("--dataset", help="name of the images that it was trained on")
    imports.add_argument("--dataset-licence", help="their licence")
    imports.add_argument("--classes", help="names of the classes of a conditional model, separated by commas")
    imports.add_argument("--noise", choices=["const", "none"], default="const", help="of StyleGAN2 (%(default)s)")
    imports.add_argument("--replace", action="store_true", help="also replace a model that would lose something")
    imports.add_argument("--dry-run", action="store_true", help="print what was found; write nothing")
    imports.set_defaults(command=_import)

    evaluate = commands.add_parser("evaluate", help="measure an exported model and write the figures into it")
    evaluate.add_argument("model", type=Path, help="model folder, such as models/dcgan-mnist")
    evaluate.add_argument("--data", type=Path, default=Path("data"), help="data folder (%(default)s)")
    evaluate.add_argument("--samples", type=int, default=10_000, help="pictures generated for FID (%(default)s)")
    evaluate.add_argument("--reference", type=int, default=10_000, help="test pictures for FID (%(default)s)")
    evaluate.add_argument(
        "--metrics", help="those to measure, such as fid,kid (default: all that the data allow but fid_train)"
    )
    evaluate.add_argument("--inception", type=Path, help=INCEPTION_HELP)
    evaluate.add_argument(
        "--digit-classifier",
        "--judge",
        dest="classifier",
        type=Path,
        help="ONNX digit classifier (DATA/mnist-judge.onnx where it is)",
    )
    evaluate.add_argument("--device", help="of Inception: cuda, cpu (default: cuda if there is one)")
    evaluate.set_defaults(command=_evaluate)

    directions = commands.add_parser(
        "directions", help="find semantic directions of a style model and write them and its card into its folder"
    )
    directions.add_argument("model", type=Path, help="model folder, such as models/stylegan-lite-critters")
    directions.add_argument(
        "--data",
        type=Path,
        help="data folder, for directions named after attributes: of critters, by a classifier that is kept there or "
        "trained (minutes); without it, SeFa and GANSpace",
    )
    directions.set_defaults(command=_directions)

    card = commands.add_parser("card", help="draw the pictures of a model's card and write it anew; measures nothing")
    card.add_argument("model", type=Path, help="model folder, such as models/dcgan-mnist")
    card.add_argument("--run", type=Path, help="run folder that it came from, where its record was not exported")
    card.set_defaults(command=_card)

    prepare = commands.add_parser("data", help="download, render or check a data set ahead of training")
    prepare.add_argument("name", help="mnist, fashion-mnist, cifar10, stacked-mnist, critters, folder or npz")
    prepare.add_argument("--data", type=Path, default=Path("data"), help=DATA_HELP)
    prepare.add_argument("--resolution", type=int, help="pixels (default: the set's own; 64 for folder and npz)")
    prepare.add_argument("--split", choices=["train", "test"], default="train")
    prepare.add_argument("--count", type=int, help="the first so many pictures")
    prepare.set_defaults(command=_data)

    return parser


def _train(args: argparse.Namespace) -> int:
    with ExitStack() as held:
        return _train_holding(held, args)


def _train_holding(held: ExitStack, args: argparse.Namespace) -> int:
    """Trains with the run's lock held."""
    import torch

    from serving.engine.cpus import available_cpus
    from training import recipe
    from training.datasets import loaders
    from training.errors import TrainingError, refused_by_disk
    from training.loop import checkpoint, distributed, loop, schedule
    from training.loop.device import load_advice
    from training.loop.time_budget import TimeBudget
    from training.loop.trainer import Trainer
    from training.monitoring import statistics
    from training.publish.export import check_document

    name, overrides = args.recipe, args.overrides
    if args.resume and name and "=" in name:  # it is the first of the overrides
        name, overrides = None, [name, *overrides]
    if (name is None) == (args.resume is None):
        raise recipe.RecipeError(f"give a recipe ({', '.join(recipe.available())}) or --resume RUN, one of the two.")
    if args.threads is not None:
        if args.threads < 1:
            raise TrainingError(f"`--threads` (={args.threads}) must be at least 1.")
        torch.set_num_threads(args.threads)
    state = None
    if args.resume:
        path = args.resume / "checkpoint.pt"
        if not path.is_file():
            raise recipe.RecipeError(f"{args.resume} holds no checkpoint.pt: nothing was saved there yet.")
        chosen, state = checkpoint.read_run(path)
    else:
        assert name is not None  # one of the two is given
        chosen = recipe.load(name, overrides)
    budget = None if args.minutes is None else TimeBudget(chosen, args.minutes)
    data = _data_of_run(args, state)
    source = (chosen.data.name, data, chosen.data.resolution)
    if args.dry_run:
        from training.loop.dry_run import describe

        print(describe(chosen, loaders.extent(*source, count=chosen.data.count), _device(args.device)))
        return 0
    processes, device = distributed.launch(_device(args.device), args.devices)
    # before the data are read, which may take long
    if args.resume:
        processes.first_does(lambda: held.enter_context(statistics.claim(args.resume)))
    else:
        processes.first_does(lambda: statistics.check_writable(args.runs))
    with processes.in_turn():  # what the first downloads or renders, the others find
        dataset = replace(loaders.load(*source, count=chosen.data.count), folder=data.resolve())
    if processes.first:
        for note in dataset.notes:
            print(note, flush=True)
    if chosen.family == "cgan":
        dataset = dataset.handling_unused(chosen.data.unused_classes)
    fid = None  # before the trainer, whose random numbers Inception, too, would draw
    if chosen.monitoring.fid_kimg and processes.first:
        from training.evaluation.fid_kid import RunFid

        fid = RunFid(chosen, data, args.inception or _found(data, INCEPTION), device)
    job = Trainer(chosen, dataset, device, processes)
    check_document(job)
    exact = True
    if state:
        exact = checkpoint.restore(job, state, changed_data=args.changed_data)
        job.move_end(schedule.moved(chosen, job.schedule, overrides, job.kimg))
    elif budget:
        job.move_end(budget.begin())
    if not args.resume:
        args.resume = processes.first_does(lambda: statistics.new_run(args.runs, chosen))
        processes.first_does(lambda: held.enter_context(statistics.claim(args.resume)))
    elif processes.first:
        statistics.write_options(args.resume, chosen, job.schedule._asdict())
    folder = Path(processes.same(args.resume))
    if processes.first:
        print(f"{folder}: {chosen.name}, {len(dataset)} images, {job.where}", flush=True)
        if advice := load_advice(device, torch.get_num_threads(), os.getloadavg()[0], available_cpus()):
            print(advice, flush=True)
        if job.precision != chosen.precision:
            print(f"in {job.precision}: in the recipe's {chosen.precision} this device is far slower", flush=True)
        if not exact:
            print("on other devices than it was saved on: latents and noise are drawn anew from here", flush=True)
    resuming = _resuming(args, folder)
    try:
        ticks = {"tick_kimg": args.tick_kimg, "checkpoint_seconds": args.checkpoint_seconds}
        loop.run(job, folder, **ticks, fid=fid, time_budget=budget)
    except loop.Interrupted as stop:
        if processes.first:
            print(f"{stop}: saved at {job.kimg:.1f} kimg; resume with: {resuming}")
        return 128 + stop.signum
    except OSError as error:
        kept = f"Then resume from the last checkpoint with: {resuming}"
        kept = kept if (folder / "checkpoint.pt").is_file() else "Nothing was saved yet."
        raise TrainingError(f"stopped at {job.kimg:.1f} kimg: {refused_by_disk(error, folder)} {kept}") from error
    if processes.first:
        print(f"finished at {job.kimg:.1f} kimg; export with: {_python()} -m training export {folder}")
    return 0


def _data_of_run(args: argparse.Namespace, state: dict[str, Any] | None) -> Path:
    """Where the images are: where it is said, or where the run that is resumed had them."""
    from training.errors import DataError

    remembered = (state or {}).get("data")
    if args.data is None and remembered and not Path(remembered).exists():
        raise DataError(f"the run's data were in {remembered}, and are no longer there: give `--data`.")
    return args.data or Path(remembered or "data")


def _resuming(args: argparse.Namespace, folder: Path) -> str:
    """The command that goes on with a run as it was begun."""
    command = [_python(), "-m", "training", "train", "--resume", str(folder)]
    for name, default in KEPT.items():
        if getattr(args, name) not in (None, default):
            command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return shlex.join(command)


def _python() -> str:
    """The interpreter that runs, as one would type it here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else "python"


def _series(args: argparse.Namespace) -> int:
    from training.series import run

    return run(args)


def _report(args: argparse.Namespace) -> int:
    from training.monitoring.report import report

    print(f"written: {report(args.run)}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from training.publish.export import export

    folder = export(args.run, args.models, replace=args.replace)
    _add_directions(folder, None)
    print(f"written: {folder}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from training.publish import import_

    about = import_.About(
        id=args.id,
        name=args.name,
        licence=args.licence,
        dataset=args.dataset,
        dataset_licence=args.dataset_licence,
        classes=args.classes.split(",") if args.classes else None,
        noise=args.noise,
    )
    if args.dry_run:
        print(import_.describe(args.source, about, args.format))
    else:
        folder = import_.import_checkpoint(args.source, args.models, about, args.format, replace=args.replace)
        _add_directions(folder, None)
        print(f"written: {folder}")
    return 0


def _add_directions(folder: Path, data: Path | None) -> int:
    """Write the directions of a style model, and its card anew; return their number, 0 for other models."""
    from serving.engine.repository import load_model
    from training.evaluation import directions
    from training.publish import model_card

    if load_model(folder).style is None:
        return 0
    found = directions.write(folder, data)
    model_card.write(folder)
    return len(found)


def _directions(args: argparse.Namespace) -> int:
    from training.errors import TrainingError

    count = _add_directions(args.model, args.data)
    if not count:
        raise TrainingError(f"{args.model}: only style models have directions.")
    print(f"written: {args.model / 'directions.npz'}, {count} directions")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from training.evaluation.evaluate import evaluate

    figures = evaluate(
        args.model,
        args.data,
        samples=args.samples,
        reference=args.reference,
        inception=args.inception or _found(args.data, INCEPTION),
        metrics=args.metrics.split(",") if args.metrics else None,
        classifier=args.classifier or _found(args.data, "mnist-judge.onnx"),
        device=_device(args.device),
    )
    for figure in figures:
        print(f"{figure['name']} {figure['value']:.4f}  ({figure['protocol']})")
    return 0


def _card(args: argparse.Namespace) -> int:
    from training.monitoring.report import record
    from training.publish import card_images, model_card

    if args.run:
        record.read(args.run)  # or says what is wrong with it
        card_images.keep_record(args.run, args.model)
    model_card.write(args.model)
    print(f"written: {args.model / 'README.md'}")
    return 0


def _data(args: argparse.Namespace) -> int:
    from training.datasets import loaders

    size = args.resolution or {"cifar10": 32, "critters": 64, "folder": 64, "npz": 64}.get(args.name, 28)
    dataset = loaders.load(args.name, args.data, size, args.split, args.count)
    channels, height, width = dataset.images.shape[1:]
    shape = f"{len(dataset):,} pictures, {channels} x {height} x {width}"
    print(f"{dataset.source.name}, {dataset.split}: {shape}, in {args.data}; {dataset.source.licence}")
    for note in dataset.notes:
        print(note)
    if dataset.labels is None or dataset.classes is None:
        print("no labels")
    else:
        counts = dataset.labels.bincount(minlength=len(dataset.classes)).tolist()
        shown = ", ".join(f"{name} ({count:,})" for name, count in zip(dataset.classes, counts, strict=True))
        few = len(counts) <= 20
        print(f"{len(counts)} classes" + (f": {shown}" if few else f", {min(counts)} to {max(counts)} pictures each"))
    return 0


def _found(folder: Path, name: str) -> Path | None:
    """A file of the data folder; `--data` may also be a folder of images, so the usual place is looked at too."""
    return next((path for path in (folder / name, Path("data") / name) if path.is_file()), None)


def _device(name: str | None) -> "torch.device":
    import torch

    from training.errors import TrainingError

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(f"`--device` (={name}) cannot be used here: {str(error).splitlines()[0]}") from error
    return device


if __name__ == "__main__":
    # A reader that goes away (`| head`) ends the program quietly.
    try:
        sys.exit(main())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
