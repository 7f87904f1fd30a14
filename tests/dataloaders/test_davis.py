"""Reading DAVIS folders: lists, years, ids, and which frames have masks."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataloaders.davis import list_predictions, load_sequences, read_ids
from tests.support.davis import frame_path, write_davis, write_list, write_predictions
from tests.support.images import mask_pixels
from utils.errors import UserError
from utils.visualize import write_mask


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "davis"


def test_ids_of_2017_leave_out_what_is_ignored(tmp_path):
    write_mask(tmp_path / "mask.png", np.array([[0, 1, 3, 200, 254, 255]], np.uint8))
    assert read_ids(tmp_path / "mask.png", binary=False).tolist() == [[0, 1, 3, 200, 254, 0]]


def test_ids_of_2016_are_one_object(tmp_path):
    write_mask(tmp_path / "mask.png", np.array([[0, 1, 3, 200, 254, 255]], np.uint8))
    ids = read_ids(tmp_path / "mask.png", binary=True)
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[0, 1, 1, 1, 1, 1]]


def test_colours_are_numbered_over_a_sequence(root):
    """The first mask lacks an object that a later one has; ids are the same in both."""
    write_davis(root, ("bear",), objects=(1, 2))
    (sequence,) = load_sequences(root, 2017, "val")
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
    for index, (path, objects) in enumerate(zip(sequence.masks, ((1,), (1, 2), (1, 2)), strict=True)):
        Image.fromarray(colours[mask_pixels(index, objects)]).save(path)
    assert np.unique(sequence.first_mask()).tolist() == [0, 2]
    np.testing.assert_array_equal(sequence.read_mask(1), np.array([0, 2, 1])[mask_pixels(1, (1, 2))])
    write_list(root, b"bear\n", year=2016)
    (binary,) = load_sequences(root, 2016, "val")
    np.testing.assert_array_equal(binary.read_mask(1), mask_pixels(1, (1, 2)) > 0)


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
    write_davis(root, ("bear", "cow"), objects=(3, 200))
    write_list(root, b"cow\n", year=2016)
    (of_2016,), (of_2017, _) = (load_sequences(root, year, "val") for year in (2016, 2017))
    assert (of_2016.name, of_2017.name) == ("cow", "bear")
    assert np.unique(of_2016.first_mask()).tolist() == [0, 1]
    assert np.unique(of_2017.first_mask()).tolist() == [0, 3, 200]


def test_frames_are_read_in_order(root):
    write_davis(root, ("bear",))
    (sequence,) = load_sequences(root, 2017, "val")
    expected = [cv2.imread(str(frame_path(root, "bear", index))) for index in range(3)]
    np.testing.assert_array_equal(list(sequence.read_frames()), expected)


@pytest.mark.parametrize(
    ("frames", "masks", "scored"), [(1, 1, False), (2, 1, False), (2, 2, False), (3, 3, True), (3, 1, False)]
)
def test_scored_where_truth_lies_between_first_and_last(root, frames, masks, scored):
    write_davis(root, ("bear",), frames, masks=masks)
    (sequence,) = load_sequences(root, 2017, "val")
    assert (len(sequence.frames), len(sequence.masks), sequence.scored) == (frames, masks, scored)


def test_masks_are_found_by_their_frames_names(root):
    """Where a frame is missing from the numbering, its mask is not used."""
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
    for given_or_not_scored in ("00000.png", "00003.png"):
        (folder / given_or_not_scored).unlink()
    assert [path.name for path in list_predictions(folder, sequence)] == ["00000.png", "00001.png"]
    (folder / "00001.png").unlink()
    with pytest.raises(UserError, match=r"00001\.png"):
        list_predictions(folder, sequence)
