"""Several recipes one after the other, from the command line."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from small import DATA, small_recipe
from training.__main__ import main
from training.loop import checkpoint


def write(folder: Path, id_: str, *overrides: str) -> Path:
    """A recipe of seconds as a file."""
    lines = []
    for name, value in small_recipe("dcgan-mnist", f"id={id_}", *overrides).as_dict().items():
        given = {f"{name}.{key}": its for key, its in value.items()} if isinstance(value, dict) else {name: value}
        lines += [f"{key} = {json.dumps(its)}" for key, its in given.items() if its is not None]
    path = folder / f"{id_}.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
def test_a_series_is_stopped_goes_on_and_does_nothing_twice(tmp_path: Path):
    first = write(tmp_path, "first")
    second = write(tmp_path, "second", "monitoring.snapshot_kimg=100")
    out = tmp_path / "out"
    series = ["series", str(first), f"{second}=0.1", "--out", str(out), "--data", str(DATA), "--threads", "1"]
    command = [sys.executable, "-m", "training", *series]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "second: " in line or "00000-second" in line:
                break
        process.stdout.readline()  # a line of statistics: it trains
        process.send_signal(signal.SIGTERM)
        said += process.stdout
    assert process.returncode == 128 + signal.SIGTERM, "".join(said)
    assert f"done: {out / 'models' / 'first'}\n" in said
    assert said[-1] == "SIGTERM: the same command goes on with the series\n"
    assert not (out / "models" / "second").exists()
    trained = (out / "models" / "first" / "model.json").stat().st_mtime_ns
    stopped = checkpoint.load(out / "runs" / "second" / "00000-second" / "checkpoint.pt")["images_seen"]

    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"done: {out / 'models' / 'first'}\n")
    assert done.stdout.endswith(f"done: {out / 'models' / 'second'}\n")
    assert (out / "models" / "first" / "model.json").stat().st_mtime_ns == trained
    (run,) = (out / "runs" / "second").iterdir()
    state = checkpoint.load(run / "checkpoint.pt")
    assert state["images_seen"] > stopped and state["seconds"] < 30  # of six, on a machine that does other things
    document = json.loads((out / "models" / "second" / "model.json").read_text())
    end = document["training"]["schedule"]["total_kimg"]
    assert 1 < end < 900
    assert document["training"]["images_seen"] >= 1000 * end


@pytest.mark.slow
def test_a_part_that_fails_leaves_the_others_be(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    wrong, right = write(tmp_path, "wrong", 'data.name="npz"'), write(tmp_path, "right")
    series = ["series", str(wrong), str(right), "--out", str(tmp_path), "--data", str(DATA), "--threads", "1"]
    assert main(series) == 1
    said = capfd.readouterr()
    assert "error: wrong: `train` ended with 1." in said.err
    assert "error: not done: wrong; the same command tries again" in said.err
    assert said.out.endswith(f"done: {tmp_path / 'models' / 'right'}\n")


@pytest.mark.slow
def test_a_series_measures_what_is_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """And does not go on with a run of other values."""
    one = write(tmp_path, "one")
    series = ["series", str(one), "--out", str(tmp_path), "--data", str(DATA), "--metrics", "judge", "--threads", "1"]
    assert main(series) == 0
    (figure,) = json.loads((tmp_path / "models" / "one" / "model.json").read_text())["metrics"]
    assert figure["name"] == "smallest_class_share"
    capfd.readouterr()
    assert main(series) == 0
    assert capfd.readouterr().out == f"done: {tmp_path / 'models' / 'one'}\n"
    series[series.index("judge")] = "beauty"
    assert main(series) == 1
    assert "error: one: `evaluate` ended with 1." in capfd.readouterr().err
    write(tmp_path, "one", "optimizer.batch=32")
    assert main(series) == 1
    assert "00000-one began with other values than the recipe's: give another `--out`." in capfd.readouterr().err


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        (["dcgan-mnits=1"], "no recipe 'dcgan-mnits'"),
        (["dcgan-mnist=soon"], "'dcgan-mnist=soon' must be recipe or recipe=minutes, such as dcgan-mnist=2.5."),
        (["dcgan-mnist=-1"], "`--minutes` (=-1) must be above 0."),
        (["dcgan-mnist", "cgan-mnist", "dcgan-mnist=2"], "`id` (=dcgan-mnist) is given twice"),
    ],
)
def test_what_cannot_be_a_series(recipes: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["series", *recipes, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
