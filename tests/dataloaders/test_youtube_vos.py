"""Reading YouTube-VOS: which objects start and are wanted in which frame, and the masks that are given."""

import json
from pathlib import Path

import numpy as np
import pytest

from dataloaders.youtube_vos import TrackedObject, Video, list_of_names, list_videos, load_videos, read_meta
from utils.errors import UserError
from utils.visualize import write_mask


@pytest.fixture
def video(tmp_path) -> Video:
    """Objects 1 and 3 start in frame 0, object 2 in frame 5, whose mask has all of them and one more."""
    write_mask(tmp_path / "00000.png", np.array([[0, 1, 3, 9]], np.uint8))
    write_mask(tmp_path / "00005.png", np.array([[1, 2, 3, 9]], np.uint8))
    objects = (1, ("00000", "00005")), (2, ("00005", "00010")), (3, ("00000",))
    tracked = tuple(TrackedObject(number, "", frames) for number, frames in objects)
    return Video("a", tuple(Path(f"{index:05d}.jpg") for index in range(0, 15, 5)), tmp_path, tracked)


def test_frames_of_all_objects_are_wanted(video):
    assert video.wanted == {"00000", "00005", "00010"}
    assert video.starts == {"00000": [1, 3], "00005": [2]}


def test_only_objects_that_start_are_given(video):
    frame = np.zeros((1, 4, 3), np.uint8)
    assert video.given(0, frame).tolist() == [[0, 1, 3, 0]]
    assert video.given(1, frame).tolist() == [[0, 2, 0, 0]]
    assert video.given(2, frame) is None
    with pytest.raises(UserError, match=r"4x1.*2x3"):
        video.given(1, np.zeros((3, 2, 3), np.uint8))


def write_meta(path: Path, *numbers: int) -> Path:
    """Videos c, a and b with these objects."""
    objects = {str(number): {"category": "dog", "frames": ["00000"]} for number in numbers}
    path.write_text(json.dumps({"videos": {name: {"objects": objects} for name in "cab"}}))
    return path


def test_objects_are_numbered_from_1_to_255(tmp_path):
    meta = read_meta(write_meta(tmp_path / "meta.json", 1, 255))
    assert meta["a"] == (TrackedObject(1, "dog", ("00000",)), TrackedObject(255, "dog", ("00000",)))
    for number in (0, 256):
        with pytest.raises(UserError, match="1 … 255"):
            read_meta(write_meta(tmp_path / "meta.json", number))


def test_videos_are_sorted(tmp_path):
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / "valid" / name).mkdir(parents=True)
    write_meta(tmp_path / "valid" / "meta.json", 1)
    assert list_videos(tmp_path, "valid") == ["a", "b", "c"]


def test_frames_without_zero_padding(tmp_path):
    """Objects start in the first of their frames by number, and earlier frames are left out."""
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / "valid" / name / "a").mkdir(parents=True)
    for number in range(0, 25, 5):
        (tmp_path / "valid" / "JPEGImages" / "a" / f"{number}.jpg").touch()
        write_mask(tmp_path / "valid" / "Annotations" / "a" / f"{number}.png", np.ones((1, 4), np.uint8))
    objects = {"1": {"frames": ["10", "5", "15"]}, "2": {"frames": ["20", "10"]}}
    (tmp_path / "valid" / "meta.json").write_text(json.dumps({"videos": {"a": {"objects": objects}}}))
    (video,) = load_videos(tmp_path, "valid", None, all_frames=False)
    assert [frame.stem for frame in video.frames] == ["5", "10", "15", "20"]
    assert [obj.frames for obj in video.objects] == [("5", "10", "15"), ("10", "20")]
    assert video.starts == {"5": [1], "10": [2]}


def test_an_object_that_its_first_mask_lacks_is_told(video, capsys):
    assert video.absent() == {}
    write_mask(video.masks / "00000.png", np.array([[0, 1, 1, 9]], np.uint8))
    assert video.given(0, np.zeros((1, 4, 3), np.uint8)).tolist() == [[0, 1, 1, 0]]
    assert "00000.png: lacks objects [3]" in capsys.readouterr().err
    assert video.absent() == {"00000": [3]}


@pytest.mark.parametrize("values", ["a", ["a", 1], None])
def test_what_is_no_list_of_names(values):
    assert list_of_names(["a", "b"]) == ["a", "b"]
    with pytest.raises(TypeError, match="is not a list of names"):
        list_of_names(values)
