"""Several recipes one after the other, each trained, exported and measured; what is done is not done again."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from training import files, recipe
from training.errors import RecipeError, TrainingError
from training.loop import checkpoint
from training.loop.time_budget import TimeBudget
from training.recipe import Recipe

SHARED = ("data", "device", "threads", "inception")  # options of `train` that all runs have


class Part(NamedTuple):
    """A model of a series."""

    name: str  # of its recipe, as `train` takes it
    recipe: Recipe
    minutes: float | None  # of training; None: as long as the recipe says


class Stopped(Exception):
    """A signal ended the series; the run that it met has been saved."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def run(args: argparse.Namespace) -> int:
    """The exit code: 1 if a part failed, which leaves its run as it is, and the others go on; 128 + n at a signal n.

    Raises RecipeError for what cannot be a series.
    """
    planned, failed = [part(word) for word in args.recipes], []
    ids = [one.recipe.id for one in planned]
    if len(set(ids)) < len(ids):
        raise RecipeError(f"`id` (={max(ids, key=ids.count)}) is given twice: a series trains each once.")
    with _Commands() as commands:
        for one in planned:
            try:
                _finish(one, args, commands)
            except Stopped as stop:
                print(f"{stop}: the same command goes on with the series", flush=True)
                return 128 + stop.signum
            except TrainingError as error:
                print(f"error: {one.recipe.id}: {error}", file=sys.stderr, flush=True)
                failed.append(one.recipe.id)
    if failed:
        print(f"error: not done: {', '.join(failed)}; the same command tries again", file=sys.stderr)
    return 1 if failed else 0


def part(word: str) -> Part:
    """Of "recipe" or "recipe=minutes". Raises RecipeError."""
    name, equals, text = word.partition("=")
    chosen = recipe.load(name)
    if not equals:
        return Part(name, chosen, None)
    try:
        minutes = float(text)
    except ValueError:
        raise RecipeError(f"{word!r} must be recipe or recipe=minutes, such as {name}=2.5.") from None
    TimeBudget(chosen, minutes)  # or it says why that cannot be
    return Part(name, chosen, minutes)


def _finish(one: Part, args: argparse.Namespace, commands: "_Commands") -> None:
    """Does what is not done yet of training, export and evaluation."""
    given = {name: str(getattr(args, name)) for name in SHARED if getattr(args, name) is not None}
    runs, model = args.out / "runs" / one.recipe.id, args.out / "models" / one.recipe.id
    folder, finished = _last_run(runs, one.recipe)
    if not finished:
        which = [one.name, "--runs", str(runs)] if folder is None else ["--resume", str(folder)]
        minutes = {} if one.minutes is None else {"minutes": str(one.minutes)}
        commands.run("train", *which, **given, **minutes)
        folder, _ = _last_run(runs, one.recipe)
    if not (model / "model.json").is_file():
        commands.run("export", str(folder), models=str(model.parent))
    measured = runs / "measured.txt"  # what was, to the end
    if args.metrics and not (measured.is_file() and measured.read_text() == args.metrics):
        given.pop("threads", None)
        commands.run("evaluate", str(model), **given, metrics=args.metrics)
        files.write(measured, args.metrics)
    print(f"done: {model}", flush=True)


def _last_run(runs: Path, chosen: Recipe) -> tuple[Path | None, bool]:
    """The folder of the last run that saved something, and whether it is at its end.

    Raises RecipeError where it is a run of another recipe.
    """
    checkpoints = sorted(runs.glob("*/checkpoint.pt"))
    if not checkpoints:
        return None, False
    folder = checkpoints[-1].parent
    known, state = checkpoint.read_run(checkpoints[-1])
    if known != chosen:
        raise RecipeError(f"{folder} began with other values than the recipe's: give another `--out`.")
    return folder, state["images_seen"] >= 1000 * state["schedule"]["total_kimg"]


class _Commands:
    """Runs commands of `python -m training`, each in a process of its own; passes signals on to it."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Commands":
        self._handlers = {s: signal.signal(s, self._pass_on) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def run(self, *words: str, **options: str) -> None:
        """Raises Stopped, and TrainingError where the command fails, which has said why."""
        command = [*words, *(word for name, value in options.items() for word in (f"--{name}", value))]
        if not self._received:
            self._process = subprocess.Popen([sys.executable, "-m", "training", *command])
            code = self._process.wait()
            if code and not self._received:
                raise TrainingError(f"`{words[0]}` ended with {code}.")
        if self._received:
            raise Stopped(self._received[0])

    def _pass_on(self, signum: int, _: FrameType | None) -> None:
        self._received.append(signum)
        if self._process is not None:
            self._process.send_signal(signum)
