"""The command line: `python -m serving` or `ganymede`. Each command imports what it needs when it runs."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from serving import __version__

MAX_IMAGES = 65_536  # of one file; all are held in memory
MAX_SCALE = 16
MAX_FRAMES = 10_000_000  # of a walk
PART = 64  # frames of a walk that are in memory at a time
ADDRESS_LIMIT = 2**64  # copy of the engine's limit, whose import would load NumPy
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".zip": "zip", ".npy": "npy"}
FILE_OPTIONS = ("scale", "columns")
DATASET_OPTIONS = ("format", "image", "shard_size", "engine", "workers", "part", "verify", "dry_run")


class CommandError(Exception):
    """Error with a one-line message; the exit code is 1."""


class Parser(argparse.ArgumentParser):
    """Argument parser that prints errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message} (try --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    if isinstance(sys.stdout, TextIOWrapper):  # characters outside the terminal's encoding are escaped as \\xfc
        sys.stdout.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    try:
        return args.command(args)
    except CommandError as error:
        print(f"ganymede: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        return 128 + (error.args[0] if error.args else signal.SIGINT)  # the convention of shells


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="ganymede", description="Generate images with generative adversarial networks.")
    parser.add_argument("--version", action="version", version=f"ganymede {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    repository = Parser(add_help=False)
    repository.add_argument(
        "--models", type=Path, metavar="DIR", help="the model repository (default: GANYMEDE_MODELS, or `models`)"
    )

    serve = commands.add_parser("serve", parents=[repository], help="serve the models over HTTP")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=_integer(0, 65535), default=3000, help="0 selects a free port (default: 3000)")
    serve.add_argument("--workers", type=_integer(1, 256), help="processes (default: GANYMEDE_WORKERS, or 1)")
    serve.add_argument("--ssl-certificate", type=Path, metavar="FILE", help="serve HTTPS with this PEM certificate ...")
    serve.add_argument("--ssl-key", type=Path, metavar="FILE", help="... and its private key")
    serve.set_defaults(command=_serve)

    generate = commands.add_parser(
        "generate",
        parents=[repository],
        help="write images to a file, or a dataset of any size to a directory",
        description="Write images to one file (-o), or a dataset of any size to a directory (--out). The same "
        "command resumes an interrupted dataset and gives the same files.",
    )
    generate.add_argument("model", metavar="MODEL", help="model id, see `ganymede models`")
    generate.add_argument("-n", type=_integer(1, ADDRESS_LIMIT), default=1, help="number of images (default: 1)")
    generate.add_argument("--seed", type=_integer(0, ADDRESS_LIMIT - 1), help="seed (default: random, and printed)")
    generate.add_argument(
        "--start", type=_integer(0, ADDRESS_LIMIT - 1), default=0, help="the first index (default: 0)"
    )
    generate.add_argument(
        "--labels",
        metavar="A,B,...",
        help="classes, by index or name. -o: one for all images, or one for each. --out: used in turn; or `balanced`, "
        "all classes in turn (the default), or `drawn`, a random class for each address",
    )
    generate.add_argument("--truncation", type=_fraction, metavar="PSI", help="0 to 1, for style models")

    generate.add_argument(
        "--edit",
        type=_edit,
        action="append",
        default=[],
        metavar="NAME:STRENGTH",
        help="a step along a direction of a style model, such as sefa-0:2.5, or sefa-0:2.5:0,1 for layers 0 and 1; "
        "may be repeated",
    )

    file = generate.add_argument_group("one file", f"a grid, a zip or an array of at most {MAX_IMAGES:,} images")
    file.add_argument("-o", "--output", type=Path, metavar="FILE", help=" ".join(FORMATS))
    file.add_argument("--scale", type=_integer(1, MAX_SCALE), help="enlarge by whole pixels (default: 1)")
    file.add_argument("--columns", type=_integer(1, MAX_IMAGES), help="columns of the grid (default: nearly square)")

    bulk = generate.add_argument_group("a dataset", "shards of images in a directory; see docs/bulk-generation.md")
    bulk.add_argument("--out", metavar="DIR", help="a folder or a URL that fsspec supports, such as s3://bucket/folder")
    bulk.add_argument("--format", choices=("webdataset", "parquet", "npy", "files"), help="(default: webdataset)")
    bulk.add_argument("--image", choices=("png", "webp"), help="image format (default: png)")
    bulk.add_argument("--shard-size", type=_integer(1, 10**9), metavar="N", help="images per shard (default: 10000)")
    bulk.add_argument(
        "--engine",
        nargs="+",
        metavar=("KIND", "URL"),
        help="`local`: processes on this machine (the default). `server URL [URL ...]`: servers, with the API key in "
        "GANYMEDE_API_KEY. `ray`: the Ray cluster of RAY_ADDRESS, or a temporary one on this machine",
    )
    bulk.add_argument(
        "--workers", type=_integer(1, 4096), help="processes or actors (default: one per CPU core or GPU)"
    )
    bulk.add_argument("--part", type=_part, metavar="I/N", help="only every N-th shard, from the I-th, 0 to N - 1")
    bulk.add_argument("--verify", action="store_true", help="verify existing shards and repair damaged ones")
    bulk.add_argument("--dry-run", action="store_true", help="estimate size and duration, write nothing")
    generate.set_defaults(command=_generate)

    walk = commands.add_parser(
        "walk",
        parents=[repository],
        help="write a walk through the latent space as a video",
        description="Write a video that interpolates between images. Frames are encoded as they are generated.",
    )
    walk.add_argument("model", metavar="MODEL", help="model id, see `ganymede models`")
    walk.add_argument(
        "--keyframes", required=True, type=_keyframes, metavar="SEED[:INDEX],...", help="at least 2, such as 7,8,9:3"
    )
    walk.add_argument("--frames", type=_integer(2, MAX_FRAMES), default=250, help="number of frames (default: 250)")
    walk.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".mp4 or .webm")
    walk.add_argument("--fps", type=_integer(1, 240), default=25, help="frames per second (default: 25)")
    walk.add_argument("--scale", type=_integer(1, 64), default=4, help="enlarge by whole pixels (default: 4)")
    walk.add_argument("--space", choices=("z", "w"), default="z", help="w is for style models (default: z)")
    walk.add_argument("--method", choices=("slerp", "lerp"), help="(default: slerp in z, lerp in w)")
    walk.add_argument("--loop", action="store_true", help="return to the first keyframe")
    walk.add_argument("--labels", metavar="A,B,...", help="classes: one for all keyframes, or one for each")
    walk.add_argument("--truncation", type=_fraction, metavar="PSI", help="0 to 1, for style models")
    walk.add_argument(
        "--edit", type=_edit, action="append", default=[], metavar="NAME:STRENGTH", help="may be repeated"
    )
    walk.add_argument("--poster", type=Path, metavar="FILE", help="also write the first frame, as an image")
    walk.set_defaults(command=_walk)

    openapi = commands.add_parser("openapi", help="print the OpenAPI document of the HTTP API")
    openapi.set_defaults(command=_openapi)

    models = commands.add_parser("models", parents=[repository], help="list the model repository")
    models.set_defaults(command=_models)
    return parser


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return parse


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 1")
    return value


def _keyframes(text: str) -> list[tuple[int, int]]:
    parse, places = _integer(0, ADDRESS_LIMIT - 1), []
    for entry in text.split(","):
        seed, _, index = entry.partition(":")
        places.append((parse(seed), parse(index or "0")))
    if len(places) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is one keyframe; at least 2 are needed, such as 7,8")
    return places


def _edit(text: str):
    from serving.engine.directions import parse_edit

    try:
        return parse_edit(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _part(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N, such as 0/16")
    if not int(number) < int(count):
        raise argparse.ArgumentTypeError(f"{text}: the first number must be between 0 and {int(count) - 1}")
    return int(number), int(count)


def _serve(args: argparse.Namespace) -> int:
    # PID 1 of a container ignores SIGTERM until a handler is set. An exception instead could be lost during an import.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    from serving.api.server import serve
    from serving.api.settings import Settings

    try:
        settings = Settings.from_environment()
    except ValueError as error:
        raise CommandError(error) from None
    chosen = {"models": args.models or settings.models, "workers": args.workers or settings.workers}
    settings = settings.model_copy(update=chosen)
    return serve(args.host, args.port, settings, certificate=args.ssl_certificate, key=args.ssl_key)


def _generate(args: argparse.Namespace) -> int:
    """Write one file (`-o`) or a dataset (`--out`). Options of the other mode are rejected."""
    signal.signal(signal.SIGTERM, _interrupt)  # PID 1 of a container ignores it by default
    if (args.output is None) == (args.out is None):
        raise CommandError("give either `-o FILE`, for one file, or `--out DIR`, for a dataset.")
    other = DATASET_OPTIONS if args.out is None else FILE_OPTIONS
    for name in other:
        if getattr(args, name) not in (None, False):
            option = name.replace("_", "-")
            raise CommandError(f"`--{option}` is for {'`--out DIR`' if args.out is None else '`-o FILE`'}.")
    return _generate_file(args) if args.out is None else _generate_dataset(args)


def _interrupt(number: int, frame: object) -> NoReturn:
    """Raise KeyboardInterrupt, so that workers end and staging folders are removed."""
    raise KeyboardInterrupt(number)


def _generate_dataset(args: argparse.Namespace) -> int:
    from serving.api.settings import Settings
    from serving.bulk.errors import BulkError

    try:
        from serving.bulk import command

        return command.generate(args, args.models or Settings.from_environment().models)
    except (BulkError, ValueError) as error:
        raise CommandError(error) from None
    except ModuleNotFoundError as error:
        raise CommandError(f"a dataset needs the `bulk` extra, `pip install 'ganymede[bulk]'`: {error}.") from None
    except ImportError as error:  # raised by a library, with the missing package
        raise CommandError(error) from None
    except KeyboardInterrupt:
        print("ganymede: interrupted; run the same command to resume", file=sys.stderr)
        raise


def _generate_file(args: argparse.Namespace) -> int:
    from serving.engine import encoding, generation, images
    from serving.engine.latents import draw_seed
    from serving.engine.repository import ModelError
    from serving.engine.runtime import Runtime

    format = FORMATS.get(args.output.suffix.lower())
    if format is None:
        raise CommandError(f"`--output` (={args.output}) must end in one of {', '.join(FORMATS)}.")
    if args.n > MAX_IMAGES:
        raise CommandError(f"`-n` (={args.n}) must be at most {MAX_IMAGES} for one file; `--out DIR` takes any number.")
    models = _load(args)
    if args.model not in models:
        raise CommandError(f"there is no model `{args.model}`; there are {', '.join(models)}.")
    model = models[args.model]
    seed = draw_seed(model.latent_source, args.start + args.n - 1) if args.seed is None else args.seed
    layout = encoding.Layout(args.columns or images.square_columns(args.n), args.scale or 1)
    try:
        runtime = Runtime(model)
        plan = generation.sample(
            runtime,
            n=args.n,
            seed=seed,
            start=args.start,
            labels=None if args.labels is None else _labels(args.labels, model.classes or ()),
            truncation=args.truncation,
            edits=args.edit,
        )
        encoding.check_size(plan, layout, format)
        pixels = runtime.synthesize(plan.inputs)
        args.output.write_bytes(encoding.encode(plan, pixels, None, layout, format))
    except (ModelError, generation.RequestError) as error:
        raise CommandError(error) from None
    except OSError as error:
        raise CommandError(f"{args.output} cannot be written: {error.strerror}.") from None
    last = args.start + args.n - 1
    print(f"{args.output}: {model.id}, seed {seed}, index {args.start}" + (f" to {last}" if args.n > 1 else ""))
    return 0


def _walk(args: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from tqdm import tqdm

        from serving.client.video import Video
        from serving.engine import generation, images
        from serving.engine.latents import Address
        from serving.engine.repository import ModelError
        from serving.engine.runtime import Runtime

        video = Video(args.output, fps=args.fps, scale=args.scale)
    except ImportError as error:
        raise CommandError(f"a video needs the `video` extra, `pip install 'ganymede[video]'`: {error}") from None
    except ValueError as error:
        raise CommandError(error) from None
    models = _load(args)
    if args.model not in models:
        raise CommandError(f"there is no model `{args.model}`; there are {', '.join(models)}.")
    model = models[args.model]
    options = {
        "keyframes": [Address(*place) for place in args.keyframes],
        "frames": args.frames,
        "method": args.method,
        "space": args.space,
        "loop": args.loop,
        "labels": None if args.labels is None else _labels(args.labels, model.classes or ()),
        "truncation": args.truncation,
        "edits": args.edit,
    }
    try:
        runtime = Runtime(model)
        with video, tqdm(total=args.frames, desc=str(args.output), unit="frame", disable=None) as bar:
            for start in range(0, args.frames, PART):
                part = range(start, min(start + PART, args.frames))
                frames = runtime.synthesize(generation.interpolate(runtime, **options, part=part).inputs)
                if start == 0 and args.poster is not None:
                    images.as_pillow(images.enlarge(frames[:1], args.scale)[0]).save(args.poster)
                for frame in frames:
                    video.write(frame)
                bar.update(len(part))
    except (ModelError, generation.RequestError) as error:
        raise CommandError(error) from None
    except OSError as error:
        raise CommandError(f"{args.output} cannot be written: {error.strerror or error}.") from None
    except ValueError as error:  # from Pillow, for an unknown format of the poster
        raise CommandError(f"{args.poster} cannot be written: {error}.") from None
    print(f"{args.output}: {model.id}, {args.frames} frames, {args.frames / args.fps:.1f} s")
    return 0


def _openapi(args: argparse.Namespace) -> int:
    from serving.api import openapi

    print(openapi.text(), end="")
    return 0


def _labels(text: str, classes: tuple[str, ...]) -> str | list[str]:
    """Return one class for all images, or one for each. A class name may contain commas."""
    return text if text in classes or "," not in text else text.split(",")


def _models(args: argparse.Namespace) -> int:
    for model in _load(args).values():
        kind = {1: "grey", 3: "RGB"}[model.image.channels]
        classes = "" if model.classes is None else f", {len(model.classes)} classes"
        styles = "" if model.style is None else f", {model.style.layers} style layers"
        size = f"{model.image.width}x{model.image.height} {kind}{classes}{styles}"
        print(f"{model.id:<24} {size:<32} {model.sha256[:12]}  {model.name}")
    return 0


def _load(args: argparse.Namespace):
    from serving.api.settings import Settings
    from serving.engine.repository import ModelError, load_repository

    try:
        return load_repository(args.models or Settings.from_environment().models)
    except (ModelError, ValueError) as error:
        raise CommandError(error) from None


if __name__ == "__main__":
    sys.exit(main())
