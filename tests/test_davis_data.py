"""Frames, masks and lists as they are read, and whole evaluations of miniature DAVIS folders."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataloaders.davis import list_predictions, load_sequences, read_ids
from dataloaders.video import list_frames, read_frame, read_mask, require_size
from tests.builders import (
    SIZE,
    Outcome,
    evaluate,
    evaluate_process,
    files,
    frame_path,
    frame_pixels,
    mask_path,
    mask_pixels,
    read_pixels,
    require_success,
    write_davis,
    write_frame,
    write_list,
    write_predictions,
    write_sequence,
)
from utils.errors import UserError
from utils.visualize import davis_palette, write_mask

pytestmark = pytest.mark.usefixtures("one_model")

Command = Callable[..., Outcome]
RGB = frame_pixels(0)[..., ::-1]
SUMMARY = ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "davis"


@pytest.fixture
def command(checkpoint, root, savepath) -> Command:
    """The evaluation of the folder `root`, with more arguments."""
    return lambda *more: evaluate("--resume", checkpoint, "--datapath", root, "--savepath", savepath, *more)


def save_sideways(path: Path) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6  # EXIF: to be turned by a quarter
    Image.fromarray(RGB).save(path, exif=orientation)


FRAMES: dict[str, Callable[[Path], object]] = {
    "colour.jpg": lambda path: write_frame(path, frame_pixels(0)),
    "grey.jpg": lambda path: Image.fromarray(RGB).convert("L").save(path),
    "progressive.jpg": lambda path: Image.fromarray(RGB).save(path, progressive=True),
    "full_colour.jpg": lambda path: Image.fromarray(RGB).save(path, quality=95, subsampling=0),
    "cmyk.jpg": lambda path: Image.fromarray(RGB).convert("CMYK").save(path),
    "sideways.jpg": save_sideways,
    "colour.png": lambda path: write_frame(path, frame_pixels(0)),
    "grey.png": lambda path: Image.fromarray(RGB).convert("L").save(path),
    "indexed.png": lambda path: Image.fromarray(RGB).quantize(16).save(path),
    "transparent.png": lambda path: Image.fromarray(RGB).convert("RGBA").save(path),
    "deep.png": lambda path: write_frame(path, frame_pixels(0).astype(np.uint16) * 257),
    "really_a_png.jpg": lambda path: Image.fromarray(RGB).save(path, format="PNG"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frame_is_what_opencv_reads(tmp_path, name):
    path = tmp_path / name
    FRAMES[name](path)
    frame = read_frame(path)
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.shape[2] == 3
    np.testing.assert_array_equal(frame, cv2.imread(str(path)))


def test_grey_frame_has_three_equal_channels(tmp_path):
    FRAMES["grey.jpg"](tmp_path / "grey.jpg")
    frame = read_frame(tmp_path / "grey.jpg")
    assert frame.shape == (*SIZE, 3)
    assert (frame == frame[..., :1]).all()


@pytest.mark.parametrize("name", ["colour.jpg", "progressive.jpg", "colour.png"])
@pytest.mark.parametrize("tail", [b"\0", b"\n", b"\0" * 64, b"a camera's notes", b"\xff\xd8\xff"])
def test_bytes_after_the_image_do_no_harm(tmp_path, name, tail):
    path = tmp_path / name
    FRAMES[name](path)
    whole = read_frame(path)
    path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(read_frame(path), whole)


@pytest.mark.parametrize("name", ["colour.jpg", "grey.jpg", "progressive.jpg", "colour.png", "indexed.png"])
def test_frame_cut_anywhere_is_whole_or_refused(tmp_path, name):
    """OpenCV alone would fill up what is missing. Whether it misses the last bytes, after the pixels, is its affair."""
    path = tmp_path / name
    FRAMES[name](path)
    whole, data = read_frame(path), path.read_bytes()
    refused = 0
    lengths = [*range(0, len(data) - 16, 5), *range(len(data) - 16, len(data))]
    for length in lengths:
        path.write_bytes(data[:length])
        try:
            np.testing.assert_array_equal(read_frame(path), whole)
        except UserError as error:
            assert name in str(error)
            refused += 1
    assert refused > 0.85 * len(lengths)


@pytest.mark.parametrize("name", ["colour.jpg", "colour.png"])
def test_frame_with_a_wrong_byte_is_a_frame_or_refused(tmp_path, name):
    path = tmp_path / name
    FRAMES[name](path)
    data, random = path.read_bytes(), np.random.default_rng(0)
    for place in range(48, len(data) - 16, 3):  # not in a PNG's chunk sizes: OpenCV takes the memory they claim
        path.write_bytes(data[:place] + random.bytes(1) + data[place + 1 :])
        try:
            assert read_frame(path).shape[2] == 3
        except UserError as error:
            assert name in str(error)


IDS = mask_pixels(0, (1, 2))


def save_indexed(path: Path, **settings: object) -> None:
    image = Image.fromarray(IDS)
    image.putpalette(davis_palette().tobytes())
    image.save(path, **settings)


MASKS: dict[str, tuple[Callable[[Path], object], np.ndarray]] = {
    "indexed": (lambda path: write_mask(path, IDS), IDS),
    "indexed with 2 bits": (lambda path: save_indexed(path, bits=2), IDS),
    "indexed with a transparent background": (lambda path: save_indexed(path, transparency=0), IDS),
    "indexed with all ids": (
        lambda path: write_mask(path, np.arange(256, dtype=np.uint8).reshape(8, 32)),
        np.arange(256).reshape(8, 32),
    ),
    "grey": (lambda path: Image.fromarray(IDS).save(path), IDS),
    "grey with 255": (lambda path: Image.fromarray((IDS > 0) * np.uint8(255)).save(path), (IDS > 0) * 255),
    "black and white": (lambda path: Image.fromarray(IDS > 0).save(path), IDS > 0),
}


@pytest.mark.parametrize("label", MASKS)
def test_mask_is_its_ids(tmp_path, label):
    save, ids = MASKS[label]
    save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_mask_of_another_kind_is_refused(tmp_path, mode):
    path = tmp_path / "mask.png"
    image = Image.fromarray(IDS.astype(np.uint16)) if mode == "I;16" else Image.fromarray(IDS).convert(mode)
    image.save(path)
    with pytest.raises(UserError, match=mode) as error:
        read_mask(path)
    assert str(path) in str(error.value)


def test_mask_cut_anywhere_is_whole_or_refused(tmp_path):
    """What follows the pixels may be missing, the pixels may not."""
    path = tmp_path / "mask.png"
    write_mask(path, IDS)
    data = path.read_bytes()
    refused = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            np.testing.assert_array_equal(read_mask(path), IDS)
        except UserError:
            refused += 1
    assert refused > 0.9 * len(data)


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    names = ["0.jpg", "1.jpg", "2.jpg", "9.jpg", "10.jpg", "11.png", "100.JPG", "1000.jpeg"]
    for name in reversed(names):
        (tmp_path / name).touch()
    for name in ("notes.txt", "Thumbs.db", "3.mp4"):
        (tmp_path / name).touch()
    assert [path.name for path in list_frames(tmp_path)] == names


def test_padded_frames_are_in_the_order_of_their_numbers(tmp_path):
    names = [f"{number:05d}.jpg" for number in (0, 2, 10, 99, 100)]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in list_frames(tmp_path)] == names


@pytest.mark.parametrize("content", [[], ["notes.txt"]])
def test_folder_without_frames(tmp_path, content):
    for name in content:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=str(tmp_path)):
        list_frames(tmp_path)


def test_ids_of_2017_leave_out_what_is_ignored(tmp_path):
    write_mask(tmp_path / "mask.png", np.array([[0, 1, 3, 200, 254, 255]], np.uint8))
    assert read_ids(tmp_path / "mask.png", binary=False).tolist() == [[0, 1, 3, 200, 254, 0]]


def test_ids_of_2016_are_one_object(tmp_path):
    write_mask(tmp_path / "mask.png", np.array([[0, 1, 3, 200, 254, 255]], np.uint8))
    ids = read_ids(tmp_path / "mask.png", binary=True)
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[0, 1, 1, 1, 1, 1]]


def test_require_size_tells_width_by_height():
    require_size(Path("a.png"), np.zeros((24, 32, 3)), (24, 32))
    with pytest.raises(UserError, match=r"a\.png.*33x24.*32x24"):
        require_size(Path("a.png"), np.zeros((24, 33)), (24, 32))


LISTS = {
    "plain": b"bear\ncow\n",
    "no newline at the end": b"bear\ncow",
    "CRLF": b"bear\r\ncow\r\n",
    "byte order mark": b"\xef\xbb\xbfbear\ncow\n",
    "blank lines and spaces": b"\n  bear  \n\n\t\ncow\n\n",
    "duplicates": b"bear\ncow\nbear\ncow\n",
    "all of it": b"\xef\xbb\xbf\r\nbear \r\n\r\nbear\r\ncow",
}


@pytest.mark.parametrize("label", LISTS)
def test_list_as_editors_leave_it(root, label):
    write_davis(root, ("bear", "cow"))
    write_list(root, LISTS[label])
    assert [sequence.name for sequence in load_sequences(root, 2017, "val")] == ["bear", "cow"]


def test_sequences_are_in_the_order_of_the_list(root):
    write_davis(root, ("cow", "ant", "bear"))
    assert [sequence.name for sequence in load_sequences(root, 2017, "val", ["bear", "cow"])] == ["cow", "bear"]


def test_name_with_spaces_and_accents(root):
    write_davis(root, ("vélo 2",))
    write_list(root, "vélo 2\n".encode())
    (sequence,) = load_sequences(root, 2017, "val")
    assert (sequence.name, len(sequence.frames), len(sequence.masks)) == ("vélo 2", 3, 3)


def test_year_decides_the_list_and_the_ids(root):
    write_davis(root, ("bear",), objects=(3, 200))
    write_list(root, b"bear\n", year=2016)
    (of_2016,), (of_2017,) = (load_sequences(root, year, "val") for year in (2016, 2017))
    assert np.unique(of_2016.first_mask()).tolist() == [0, 1]
    assert np.unique(of_2017.first_mask()).tolist() == [0, 3, 200]


@pytest.mark.parametrize(
    ("frames", "masks", "scored"), [(1, 1, False), (2, 1, False), (2, 2, False), (3, 3, True), (3, 1, False)]
)
def test_scored_where_truth_lies_between_first_and_last(root, frames, masks, scored):
    write_davis(root, ("bear",), frames, masks=masks)
    (sequence,) = load_sequences(root, 2017, "val")
    assert (len(sequence.frames), len(sequence.masks), sequence.scored) == (frames, masks, scored)


def test_masks_are_found_by_their_frames_names(root):
    """A number that is missing among the frames is no frame: its mask, if there is one, is not used."""
    write_davis(root, ("bear",), 5)
    frame_path(root, "bear", 2).unlink()
    (sequence,) = load_sequences(root, 2017, "val")
    names = [f"{number:05d}" for number in (0, 1, 3, 4)]
    assert [path.stem for path in sequence.frames] == names
    assert [path.stem for path in sequence.masks] == names


def test_predictions_are_found_by_their_frames_names(root, tmp_path):
    write_davis(root, ("bear",), 4)
    frame_path(root, "bear", 2).unlink()
    (sequence,) = load_sequences(root, 2017, "val")
    folder = write_predictions(tmp_path / "predictions", frames=4) / "bear"
    assert [path.name for path in list_predictions(folder, sequence)] == ["00000.png", "00001.png", "00003.png"]


def written_masks(savepath: Path, name: str = "bear") -> np.ndarray:
    """The masks [T, H, W] that a run wrote, in order; each must be indexed, in the DAVIS colours."""
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
    assert list(row) == SUMMARY
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
    """First masks alone: there is nothing to score against, and the user is told where the masks are."""
    write_davis(root, ("bear", "cow"), 4, masks=1)
    stdout = require_success(command())
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
    require_success(command())
    assert [row["Sequence"] for row in rows(savepath / "per-sequence_results-val.csv")] == ["bear_1"]
    assert len(written_masks(savepath, "cow")) == 3


def test_gap_in_the_numbers(command, root, savepath, tmp_path, checkpoint):
    """Frames 0, 1, 3 are three frames; only their names differ from 0, 1, 2."""
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
    """Odd sizes are padded for the network and for the video, and come back as they were."""
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
        name: 0.0 if name.endswith("Decay") else 1.0 for name in SUMMARY
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
    """Two objects of two sequences, through the real script, and once more: the second time nothing is left to do."""
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
