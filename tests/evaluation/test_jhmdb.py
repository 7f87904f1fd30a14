"""Which joints count, PCK by hand, and the report's pictures."""

import csv
import json
from unittest.mock import patch

import numpy as np
import pytest

from dataloaders.jhmdb import Video
from evaluation.jhmdb import Counted, distances_of, draw_joints, write_joints_report, write_results
from tests.support.images import frame_pixels, write_frame
from utils.visualize import davis_palette

DESCRIPTION = {"predictions": "joints"}
LATER = Counted(with_first=False, all_joints=False, box="annotated")


def test_which_joints_count():
    """The unit is 30 pixels. Joint 2 is not in the first frame; joint 3 is lost."""
    joints = np.array([[[0, 0], [30, 40], [10, 10], [20, 20]]] * 2, float)
    joints[0, 2] = np.nan
    found = joints.copy()
    found[1, 0, 0], found[1, 3] = 3, np.nan
    video = Video("wave", (), joints, ())
    later = [0.1, 0, np.nan, np.nan]
    np.testing.assert_allclose(distances_of(video, found, LATER), [later])
    np.testing.assert_allclose(
        distances_of(video, found, Counted(True, False, "annotated")), [[0, 0, np.nan, 0], later]
    )
    np.testing.assert_allclose(
        distances_of(video, found, Counted(False, True, "annotated")), [[0.1, 0, np.nan, np.inf]]
    )


@pytest.fixture
def video(tmp_path) -> Video:
    """Three frames with two joints; the unit is 24 pixels."""
    frames = tuple(tmp_path / f"{index}.png" for index in range(3))
    for index, path in enumerate(frames):
        write_frame(path, frame_pixels(index, (40, 48)))
    return Video("wave", frames, np.array([[[8, 4], [32, 36]]] * 3, float), ("neck", "belly"))


@pytest.fixture
def found(video) -> np.ndarray:
    """In the later frames the neck is found 0.15 and 0.3 units away, in the last one the belly is lost."""
    found = video.joints.copy()
    found[1, 0, 0] += 3.6
    found[2, 0, 1] += 7.2
    found[2, 1] = np.nan
    return found


def records_of(video: Video, found: np.ndarray) -> dict:
    joints = found.astype(object)
    joints[np.isnan(found)] = None
    return {video.name: {"joints": joints.tolist()}}


def test_scores_by_hand(video, found, tmp_path, capsys):
    write_results(tmp_path, {}, [video], records_of(video, found), LATER)
    assert json.loads((tmp_path / "results.json").read_text())["scores"] == {"PCK@0.1": 0.5, "PCK@0.2": 0.75}
    with (tmp_path / "joints.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["Joint", "PCK@0.1", "PCK@0.2"]
    assert [(name, *map(float, values)) for name, *values in rows[1:]] == [("neck", 0, 0.5), ("belly", 1, 1)]
    assert "mean            PCK@0.1  50.0  PCK@0.2  75.0" in capsys.readouterr().out


def test_the_report_shows_the_worst_frames(video, found, tmp_path):
    with patch("evaluation.jhmdb.write_report") as write_report:
        write_joints_report(tmp_path, DESCRIPTION, [video], records_of(video, found), LATER, [])
    path, _, _, (section,), _ = write_report.call_args.args
    assert path == tmp_path / "report.html"
    assert (section.title, section.first, section.curves) == ("wave", 1, {"PCK@0.2": [1, 0]})
    assert [picture.caption for picture in section.pictures] == ["frame 2: 0.0", "frame 1: 100.0"]
    for index, picture in zip((2, 1), section.pictures, strict=True):
        drawn = draw_joints(frame_pixels(index, (40, 48)), found[index], video.joints[index])
        assert np.array_equal(picture.pixels, drawn)


def test_joints_are_drawn_where_they_are():
    """A circle of radius 5 where the first is found, a cross where the second is; nothing for NaN."""
    blue = np.zeros((60, 90, 3), np.uint8)
    blue[..., 0] = 200
    nowhere = [np.nan, np.nan]
    picture = draw_joints(blue, np.array([[20, 40], nowhere]), np.array([nowhere, [70, 10]]))
    for number, middle, corner in ((1, (40, 25), (40, 20)), (2, (10, 70), (6, 66))):
        assert picture[middle].tolist() == davis_palette()[number].tolist()
        assert picture[corner].tolist() == [0, 0, 200]  # red, green, blue
    assert (picture == [0, 0, 200]).all(2).mean() > 0.95
