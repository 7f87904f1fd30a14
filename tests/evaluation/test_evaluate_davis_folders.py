"""evaluate_davis.py on miniature DAVIS folders of every kind."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.commands import Outcome, require_success, require_warning
from tests.support.davis import (
    evaluate,
    evaluate_process,
    frame_path,
    mask_path,
    write_davis,
    write_list,
    write_predictions,
    write_sequence,
)
from tests.support.davis_scores import GLOBAL_COLUMNS
from tests.support.files import files
from tests.support.images import SIZE, frame_pixels, mask_pixels, read_pixels, write_frame
from utils.visualize import davis_palette, write_mask

pytestmark = pytest.mark.usefixtures("one_model")
Command = Callable[..., Outcome]


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "davis"


@pytest.fixture
def command(checkpoint, root, savepath) -> Command:
    """The evaluation of the folder `root`, with more arguments."""
    return lambda *more: evaluate("--resume", checkpoint, "--datapath", root, "--savepath", savepath, *more)


def written_masks(savepath: Path, name: str = "bear") -> np.ndarray:
    """The masks [T, H, W] that a run wrote, in order; each must be an indexed image with the DAVIS palette."""
    paths = sorted((savepath / "benchmark" / name).iterdir())
    for path in paths:
        with Image.open(path) as image:
            assert image.mode == "P"
            assert image.getpalette() == davis_palette().ravel().tolist()
    return np.stack([read_pixels(path) for path in paths])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_results(savepath: Path) -> dict:
    return json.loads((savepath / "results.json").read_text())


@pytest.mark.parametrize("objects", [(1,), (1, 2), (3, 200), (254, 7)])
def test_objects_keep_their_ids(command, root, savepath, objects):
    write_davis(root, ("bear",), 4, objects=objects)
    stdout = require_success(command())
    masks = written_masks(savepath)
    assert masks.shape == (4, *SIZE)
    np.testing.assert_array_equal(masks[0], mask_pixels(0, objects))
    assert np.unique(masks).tolist() == [0, *sorted(objects)]
    assert set(objects) <= set(np.unique(masks[1]))
    names = [f"bear_{number}" for number in sorted(objects)]
    assert [row["Sequence"] for row in rows(savepath / "per-sequence_results-val.csv")] == names
    assert [line.split()[0] for line in stdout.splitlines()[: len(names)]] == names
    (row,) = rows(savepath / "global_results-val.csv")
    assert list(row) == GLOBAL_COLUMNS
    assert all(np.isfinite(float(value)) for value in row.values())
    assert float(row["J&F-Mean"]) > 0.1  # the random network follows its squares


def test_ignored_pixels_are_no_object(command, root, savepath):
    write_davis(root, ("bear",))
    for index in range(3):
        write_mask(mask_path(root, "bear", index), np.where(mask_pixels(index), 1, 255).astype(np.uint8))
    require_success(command())
    assert np.unique(written_masks(savepath)).tolist() == [0, 1]
    assert list(read_results(savepath)["sequences"]["bear"]["objects"]) == ["1"]


@pytest.mark.parametrize("value", [1, 255])
def test_2016(command, root, savepath, value):
    write_davis(root, ("bear",), year=2016, objects=(value,))
    require_success(command("--year", "2016"))
    masks = written_masks(savepath)
    np.testing.assert_array_equal(masks[0] > 0, mask_pixels(0) > 0)
    assert len(np.unique(masks)) == 2
    assert list(read_results(savepath)["sequences"]["bear"]["objects"]) == ["1"]


@pytest.mark.parametrize("frames", [1, 2])
def test_sequence_too_short_to_score(command, root, savepath, frames):
    write_davis(root, ("bear",), frames)
    assert str(savepath / "benchmark") in require_success(command())
    masks = written_masks(savepath)
    assert len(masks) == frames
    np.testing.assert_array_equal(masks[0], mask_pixels(0))
    assert not list(savepath.glob("*.csv"))
    assert read_results(savepath)["sequences"]["bear"]["objects"] == {}


def test_set_without_truth(command, root, savepath):
    """Only first masks: nothing can be scored, and the user is told where the masks are."""
    write_davis(root, ("bear", "cow"), 4, masks=1)
    stdout = require_success(command("--report"))
    assert "no ground truth" in stdout
    assert str(savepath / "benchmark") in stdout
    assert [len(written_masks(savepath, name)) for name in ("bear", "cow")] == [4, 4]
    assert not list(savepath.glob("*.csv"))


def test_truth_changes_no_mask(command, root, savepath, tmp_path):
    write_davis(root, ("bear",), 4, objects=(1, 2))
    require_success(command())
    for index in (1, 2, 3):
        mask_path(root, "bear", index).unlink()
    require_success(command("--savepath", tmp_path / "untrue"))
    assert files(tmp_path / "untrue/benchmark") == files(savepath / "benchmark")


def test_sequence_without_truth_beside_one_with(command, root, savepath):
    write_davis(root, ("bear",))
    write_sequence(root, "cow", masks=1)
    write_list(root, b"bear\ncow\n")
    require_warning(command(), "cow: has no true mask but the first one; it is left out of the mean")
    assert [row["Sequence"] for row in rows(savepath / "per-sequence_results-val.csv")] == ["bear_1"]
    assert len(written_masks(savepath, "cow")) == 3


@pytest.mark.parametrize("frames", [1, 2])
def test_sequence_too_short_to_score_beside_one_that_is_not(command, root, savepath, frames, tmp_path):
    """It is left out of the mean, of propagated masks as of existing ones."""
    write_davis(root, ("bear",))
    write_sequence(root, "cow", frames)
    write_list(root, b"bear\ncow\n")
    told = "cow: has fewer than three frames", "left out of the mean"
    require_warning(command("--report"), *told)
    predictions = ("--predictions", savepath / "benchmark", "--datapath", root, "--savepath", tmp_path / "again")
    require_warning(evaluate(*predictions, "--report"), *told)
    for folder in (savepath, tmp_path / "again"):
        assert [row["Sequence"] for row in rows(folder / "per-sequence_results-val.csv")] == ["bear_1"]
    assert read_results(savepath)["official"] == read_results(tmp_path / "again")["official"]


def test_object_of_the_truth_that_is_not_in_the_first_mask(command, root, savepath):
    """It is not scored: the score is that of the truth without it; two later masks give one warning."""
    write_davis(root, ("bear",), 4)
    require_success(command())
    alone = read_results(savepath)
    for index in (1, 2):
        write_mask(mask_path(root, "bear", index), mask_pixels(index, (1, 5)))
    require_warning(command("--overwrite"), "bear: object 5 is not in its first mask and not scored")
    assert read_results(savepath)["official"] == alone["official"]
    assert read_results(savepath)["sequences"]["bear"]["unknown"] == [5]


def test_gap_in_the_numbers(command, root, savepath, tmp_path, checkpoint):
    """Frames 0, 1, 3 give the masks of frames 0, 1, 2 under other names."""
    write_davis(root, ("bear",), 4)
    frame_path(root, "bear", 2).unlink()
    require_success(command())
    names = [path.name for path in sorted((savepath / "benchmark/bear").iterdir())]
    assert names == ["00000.png", "00001.png", "00003.png"]
    other = write_davis(tmp_path / "renumbered", ("bear",), 4)
    for find in (frame_path, mask_path):
        find(other, "bear", 3).replace(find(other, "bear", 2))
    require_success(evaluate("--resume", checkpoint, "--datapath", other, "--savepath", tmp_path / "other"))
    np.testing.assert_array_equal(written_masks(savepath), written_masks(tmp_path / "other"))
    assert read_results(savepath)["official"] == read_results(tmp_path / "other")["official"]


def test_unpadded_names(command, root, savepath):
    """2.jpg comes before 10.jpg: renamed frames yield the same masks under their new names."""
    write_davis(root, ("bear",), 4)
    require_success(command("--savepath", savepath / "padded"))
    for index, name in enumerate(("1", "2", "10", "11")):
        for find in (frame_path, mask_path):
            path = find(root, "bear", index)
            path.rename(path.with_stem(name))
    require_success(command("--savepath", savepath / "plain"))
    for index, name in enumerate(("1", "2", "10", "11")):
        plain = read_pixels(savepath / f"plain/benchmark/bear/{name}.png")
        np.testing.assert_array_equal(plain, read_pixels(savepath / f"padded/benchmark/bear/{index:05d}.png"))
    scores = [read_results(savepath / name)["official"] for name in ("padded", "plain")]
    assert scores[0] == scores[1]


def test_png_frames_with_capitals(command, root, savepath):
    write_davis(root, ("bear",), suffix=".png")
    for path in (root / "JPEGImages/480p/bear").iterdir():
        path.rename(path.with_suffix(".PNG"))
    require_success(command())
    assert len(written_masks(savepath)) == 3


def test_size_that_is_no_multiple_of_anything(command, root, savepath):
    """Odd sizes are padded for the network and the video; masks have the frames' size."""
    size = (23, 31)
    write_davis(root, ("bear",))
    for index in range(3):
        write_frame(frame_path(root, "bear", index), frame_pixels(index, size))
        write_mask(mask_path(root, "bear", index), mask_pixels(index, size=size))
    require_success(command("--overlay"))
    assert written_masks(savepath).shape == (3, *size)
    video = cv2.VideoCapture(str(savepath / "overlay/bear.mp4"))
    pictures = 0
    while video.read()[0]:
        pictures += 1
    video.release()
    assert pictures == 3


def test_other_files_beside_the_frames_are_left_alone(command, root):
    write_davis(root, ("bear",))
    (root / "JPEGImages/480p/bear/notes.txt").write_text("mine")
    (root / "Annotations/480p/bear/.DS_Store").write_text("not mine")
    before = files(root)
    require_success(command())
    assert files(root) == before


def test_scores_of_perfect_predictions(root, savepath, tmp_path):
    write_davis(root, ("bear", "cow"), 4, objects=(3, 200))
    for name in ("bear", "cow"):
        write_predictions(tmp_path / "masks", name, 4, (3, 200))
    stdout = require_success(evaluate("--predictions", tmp_path / "masks", "--datapath", root, "--savepath", savepath))
    assert "J&F 100.0" in stdout
    (row,) = rows(savepath / "global_results-val.csv")
    assert {name: float(value) for name, value in row.items()} == {
        name: 0.0 if name.endswith("Decay") else 1.0 for name in GLOBAL_COLUMNS
    }
    assert not (savepath / "benchmark").exists()


def test_masks_that_were_written_score_as_they_did(command, root, savepath, tmp_path):
    write_davis(root, ("bear", "cow"), 4, objects=(1, 2))
    require_success(command())
    again = tmp_path / "again"
    require_success(evaluate("--predictions", savepath / "benchmark", "--datapath", root, "--savepath", again))
    for name in ("global_results-val.csv", "per-sequence_results-val.csv"):
        assert (again / name).read_bytes() == (savepath / name).read_bytes()


def test_script_from_end_to_end(checkpoint, root, savepath):
    """Two sequences with two objects each; the same command again has nothing left to do."""
    write_davis(root, ("bear", "cow"), objects=(3, 200))
    arguments = ("--resume", checkpoint, "--datapath", root, "--savepath", savepath, "--overlay")
    stdout = require_success(evaluate_process(*arguments))
    assert [line.split()[0] for line in stdout.splitlines()] == [
        *("bear_3", "bear_200", "cow_3", "cow_200", "DAVIS", "legacy")
    ]
    assert {path.name for path in savepath.iterdir()} - {".lock"} == {
        *("run.json", "results.json", "benchmark", "sequences", "overlay"),
        *("global_results-val.csv", "per-sequence_results-val.csv"),
    }
    written = {path: path.stat().st_mtime_ns for path in (savepath / "benchmark").rglob("*.png")}
    assert len(written) == 6
    assert require_success(evaluate(*arguments)) == stdout
    assert {path: path.stat().st_mtime_ns for path in written} == written
