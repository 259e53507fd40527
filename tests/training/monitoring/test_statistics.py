"""What a run shows of itself can be read by people, by programs and by TensorBoard, and is right after a stop."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from small import small_recipe
from training.monitoring.collapse import Alarm
from training.monitoring.statistics import Monitor, new_run, read_lines
from training.monitoring.timelapse import FRAMES, HOLD, spread, timelapse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_run(tmp_path, small_recipe("dcgan-mnist"))


def values(kimg: float, loss: float) -> dict[str, float]:
    return {"kimg": kimg, "seconds": kimg, "kimg_per_second": 1.0, "discriminator_loss": loss}


def pictures(level: int, size: int = 4, channels: int = 1) -> np.ndarray:
    return np.full((6, size, size, channels), level, np.uint8)


def live(monitor: Monitor, kimgs: list[float], loss: float) -> None:
    for kimg in kimgs:
        monitor.tick(values(kimg, loss))
        monitor.grid(pictures(round(kimg * 10)), kimg, columns=3)
        monitor.alarm(kimg, Alarm("samples_alike", f"alike at {kimg}"))
    monitor.close()


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of the scalars, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    scalars = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    return scalars | {tag: [(e.step, 0.0) for e in found.Images(tag)] for tag in found.Tags()["images"]}


def test_a_resumed_run_shows_every_time_once(folder: Path):
    live(Monitor(folder, 5, 0), [1.0, 2.0, 3.0], loss=0.5)
    time.sleep(1 - time.time() % 1)  # TensorBoard reads files by their names, which begin with a whole second
    live(Monitor(folder, 5, 2.0), [3.0, 4.0], loss=0.25)

    assert [(line["kimg"], line["discriminator_loss"]) for line in read_lines(folder / "stats.jsonl")] == [
        (1.0, 0.5), (2.0, 0.5), (3.0, 0.25), (4.0, 0.25),
    ]  # fmt: skip
    assert [line["kimg"] for line in read_lines(folder / "alarms.jsonl")] == [1.0, 2.0, 3.0, 4.0]
    found = events(folder)
    assert found["discriminator_loss"] == [(1000, 0.5), (2000, 0.5), (3000, 0.25), (4000, 0.25)]
    assert [step for step, _ in found["samples"]] == [1000, 2000, 3000, 4000]
    assert set(found) == {"seconds", "kimg_per_second", "discriminator_loss", "samples"}


def test_a_resumed_run_drops_the_grids_it_will_redraw(folder: Path):
    live(Monitor(folder, 5, 0), [1.0, 2.04, 3.0], loss=0.5)
    Monitor(folder, 5, 2.04).close()
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["000001.0.png", "000002.0.png"]


def test_a_line_that_a_kill_cut_off_is_dropped(folder: Path):
    whole = json.dumps(values(1.0, 0.5)) + "\n"
    (folder / "stats.jsonl").write_text(whole + '{"kimg": 2.0, "secon')
    monitor = Monitor(folder, 5, 3.0)
    assert (folder / "stats.jsonl").read_text() == whole
    live(monitor, [4.0], loss=0.1)
    assert [line["kimg"] for line in read_lines(folder / "stats.jsonl")] == [1.0, 4.0]


def test_an_alarm_is_recorded_and_said_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    monitor = Monitor(folder, 5, 0)
    monitor.alarm(2.5, Alarm("fid_rising", "FID is 22.0: worse than its best."))
    monitor.close()
    assert read_lines(folder / "alarms.jsonl") == [
        {"kimg": 2.5, "name": "fid_rising", "reason": "FID is 22.0: worse than its best."}
    ]
    assert capsys.readouterr().out == "ALARM at 2.5 kimg (fid rising): FID is 22.0: worse than its best.\n"


def test_a_tick_is_a_line_where_there_is_no_terminal(folder: Path, capsys: pytest.CaptureFixture[str]):
    monitor = Monitor(folder, 61, 0)
    monitor.tick(values(1.0, 0.5) | {"kimg_per_second": 0.5})
    monitor.close()
    assert capsys.readouterr().out == "1.0/61 kimg, 2 min left, kimg/s 0.5, D loss 0.5\n"


def test_without_tensorboard_a_run_says_so_once_and_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    live(Monitor(folder, 5, 0), [1.0, 2.0], loss=0.5)
    assert capsys.readouterr().out.count("the package `tensorboard` is not installed") == 1
    assert len(read_lines(folder / "stats.jsonl")) == 2
    assert not (folder / "tensorboard").exists()


def test_the_time_lapse_shows_every_grid_at_the_last_ones_size(folder: Path):
    monitor = Monitor(folder, 5, 0)
    early = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    monitor.grid(early, 1.0, columns=3)
    monitor.grid(pictures(90, size=8), 2.0, columns=3)
    monitor.close()
    with Image.open(folder / "samples.gif") as gif:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(gif)]
        assert gif.info["loop"] == 0  # for ever
    assert len(frames) == 2 and {frame.shape for frame in frames} == {(16, 24)}
    with Image.open(folder / "samples" / "000001.0.png") as grid:
        np.testing.assert_array_equal(frames[0], np.asarray(grid).repeat(2, axis=0).repeat(2, axis=1))
    assert (frames[1] == 90).all()


def test_the_time_lapse_is_in_colour_and_rests_on_the_last(folder: Path):
    monitor = Monitor(folder, 5, 0)
    for kimg, colour in ((1.0, (250, 0, 0)), (2.0, (0, 0, 250))):
        monitor.grid(np.full((6, 4, 4, 3), colour, np.uint8), kimg, columns=3)
    monitor.close()
    with Image.open(folder / "samples.gif") as gif:
        frames = [
            (np.asarray(f.convert("RGB"))[0, 0].tolist(), f.info["duration"]) for f in ImageSequence.Iterator(gif)
        ]
    assert frames == [([250, 0, 0], 250), ([0, 0, 250], 250 * (1 + HOLD))]


def test_a_long_run_has_a_time_lapse_of_bounded_length(tmp_path: Path):
    paths = []
    for k in range(FRAMES * 2):
        paths.append(tmp_path / f"{k:03}.png")
        Image.fromarray(np.full((2, 2), k, np.uint8)).save(paths[-1])
    (tmp_path / "all.gif").write_bytes(timelapse(paths))
    with Image.open(tmp_path / "all.gif") as gif:
        levels = [np.asarray(frame.convert("L"))[0, 0] for frame in ImageSequence.Iterator(gif)]
    assert len(levels) == FRAMES and levels[0] == 0 and levels[-1] == FRAMES * 2 - 1


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (3, [0, 4, 9]), (10, list(range(10))), (20, list(range(10)))]
)
def test_a_selection_keeps_its_ends(count: int, expected: list[int]):
    assert spread(range(10), count) == expected


def test_a_run_without_grids_ends_without_a_time_lapse(folder: Path):
    Monitor(folder, 5, 0).close()
    assert not (folder / "samples.gif").exists()
