"""Session on a CUDA machine with a time budget: CUDA tests, the serving benchmark, then recipes by priority.

    python -m benchmarks.gpu OUT --minutes 15

Results are written into OUT during the session, so that an abort loses little: the log of the tests, the values of the
benchmark, the runs, and every two minutes the model of the current run with sample images. `summary.json` holds the
exit code of each part. Models are not evaluated here. `python -m training evaluate OUT/models/ID` evaluates one later,
on a CPU.
"""

import argparse
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.processes import ROOT
from training import recipe
from training.errors import RecipeError

TESTS = "tests/training/loop/test_cuda_graphs.py"
TESTS_SHARE, SERVING_SHARE = 0.15, 0.15  # at most, of the time left
EXPORT_SECONDS = 120.0  # between two exports of the current run
END_SECONDS = 30.0  # of a run's time budget, for start, checkpoint and export
WIDE = "optimizer.batch=64 monitoring.snapshot_kimg=200"
RECIPES = {  # recipe with overrides, by priority -> its share of the remaining time
    f"stylegan-lite-critters data.resolution=64 network.patch=2 network.modulation=demodulation {WIDE} "
    "precision=bfloat16 total_kimg=4000 optimizer.decay_kimg=1500": 0.5,
    f"dcgan-critters network.upsampling=resize precision=bfloat16 {WIDE}": 0.25,
    "dcgan-cifar10 precision=bfloat16 optimizer.discriminator_lr=2e-3 monitoring.fid_kimg=0": 0.25,
}


class Session:
    """Session with a time budget, and the results of its parts."""

    def __init__(self, out: Path, seconds: float) -> None:
        self.out, self.ends, self.parts = out, time.monotonic() + seconds, list[dict[str, object]]()

    @property
    def left(self) -> float:
        return self.ends - time.monotonic()

    def part(self, name: str, command: Sequence[str], seconds: float) -> bool:
        """Run a command for at most `seconds`, then send SIGTERM. Return True if its exit code is 0."""
        began = time.monotonic()
        with self.started(name, command) as process:
            while process.poll() is None and time.monotonic() - began < seconds:
                time.sleep(0.05)
        self.ended(name, process.returncode, time.monotonic() - began)
        return process.returncode == 0

    @contextmanager
    def started(self, name: str, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Start `python -m COMMAND` with its log in OUT/NAME.log. At the end of the block, stop it if it still runs."""
        with (self.out / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=log, stderr=log)
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def ended(self, name: str, code: int, seconds: float) -> None:
        self.parts.append({"part": name, "exit_code": code, "seconds": round(seconds, 1)})
        (self.out / "summary.json").write_text(json.dumps(self.parts, indent=1) + "\n")
        print(f"{name}: exit {code} after {seconds:.0f} s, {max(0, self.left):.0f} s left", flush=True)


def train(session: Session, words: Sequence[str], seconds: float, data: Path, options: Sequence[str]) -> None:
    """Train a recipe for at most `seconds`. Export the model every EXPORT_SECONDS and at the end."""
    name = next((word[3:] for word in words if word.startswith("id=")), Path(words[0]).stem)
    runs, minutes, began = session.out / "runs" / name, max(0.01, (seconds - END_SECONDS) / 60), time.monotonic()
    command = ["training", "train", *words, "--runs", str(runs), "--data", str(data), "--minutes", f"{minutes:.2f}"]
    with session.started(name, [*command, "--checkpoint-seconds", f"{EXPORT_SECONDS / 2:g}", *options]) as process:
        exported = began
        while process.poll() is None and time.monotonic() - began < seconds:
            if time.monotonic() - exported > EXPORT_SECONDS:
                export(session, name, runs)
                exported = time.monotonic()
            time.sleep(0.05)
    session.ended(name, process.returncode, time.monotonic() - began)
    export(session, name, runs)


def export(session: Session, name: str, runs: Path) -> None:
    for checkpoint in runs.glob("*/checkpoint.pt"):
        command = ["training", "export", str(checkpoint), "--models", str(session.out / "models")]
        session.part(f"export-{name}", command, 120)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="output folder")
    parser.add_argument("--minutes", type=float, default=15.0, help="time budget of the session (%(default)s)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="data folder (%(default)s)")
    parser.add_argument(
        "--recipe",
        action="append",
        help="recipe with overrides, in quotes, instead of the built-in list; may be repeated",
    )
    parser.add_argument("--only-train", action="store_true", help="skip the tests and the benchmark")
    parser.add_argument("--options", default="", help="further options for `training train`, in quotes")
    args = parser.parse_args(arguments)
    out, data = args.out.resolve(), args.data.resolve()  # parts run in the checkout
    out.mkdir(parents=True, exist_ok=True)
    session = Session(out, 60 * args.minutes)
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))  # stops the current part
    recipes = dict.fromkeys(args.recipe, 1 / len(args.recipe)) if args.recipe else RECIPES
    try:
        sets = {recipe.load(words.split()[0], words.split()[1:]).data for words in recipes}
    except RecipeError as error:
        parser.error(str(error))
    if not args.only_train:
        with ExitStack() as preparing:
            commands = {f"data-{one.name}": ["training", "data", one.name, "--data", str(data)] for one in sets}
            processes = [preparing.enter_context(session.started(*item)) for item in commands.items()]
            session.part("cuda-tests", ["pytest", "-q", TESTS], TESTS_SHARE * session.left)
            peers = ["FastAPI, batcher"] if shutil.which("uv") else []  # uv installs the peer
            serving = ["benchmarks.serving", "--rounds", "1", "--json", str(out / "serving.json")]
            session.part("serving", [*serving, "--servers", "Ganymede", *peers], SERVING_SHARE * session.left)
            for process in processes:  # otherwise a training run would render the same images again
                process.wait()
    for done, (words, share) in enumerate(recipes.items()):
        shares = list(recipes.values())[done:]
        train(session, words.split(), session.left * share / sum(shares), data, shlex.split(args.options))
    stopped = (0, 128 + signal.SIGTERM)  # SIGTERM: the time budget of a run ended; it is saved and exported
    return int(any(part["exit_code"] not in stopped for part in session.parts))


if __name__ == "__main__":
    sys.exit(main())
