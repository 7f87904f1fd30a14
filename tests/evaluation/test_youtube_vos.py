"""The report's curves, and which categories are seen, by hand."""

import json
from unittest.mock import patch

import numpy as np
import pytest

from dataloaders.frames import read_frame
from dataloaders.youtube_vos import load_videos
from evaluation.report_pictures import error_map
from evaluation.youtube_vos import mask_path, seen_categories, write_youtube_vos_report
from tests.support.youtube_vos import STEP, ids, write_set
from utils.visualize import write_mask


def test_curves_of_objects_over_the_wanted_frames(tmp_path):
    """Object 1 is given in the first of five frames, object 7 in the third: they have no score there."""
    (video,) = load_videos(write_set(tmp_path), "valid", ["early"], all_frames=False)
    for index in range(5):
        path = mask_path(tmp_path, video, f"{STEP * index:05d}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, ids("early", STEP * index))
    scores = {
        number: dict.fromkeys("JF", values) for number, values in (("1", [0.1, 0.4, 0.2, 0.3]), ("7", [0.6, 0.9]))
    }
    with patch("evaluation.youtube_vos.write_report") as write_report:
        write_youtube_vos_report(tmp_path, {"predictions": "masks"}, [video], {"early": {"objects": scores}}, {})
    *_, (section,), _ = write_report.call_args.args
    curves = {"1": [None, 0.1, 0.4, 0.2, 0.3], "7": [None, None, None, 0.6, 0.9]}
    assert section.curves == {f"{measure} of {number}": values for number, values in curves.items() for measure in "JF"}
    captions = [picture.caption for picture in section.pictures]
    assert captions == ["frame 1: 10.0", "frame 2: 40.0", "frame 3: 40.0", "frame 4: 60.0"]
    assert section.scores == pytest.approx({"J&F": 0.5, "J": 0.5, "F": 0.5})  # of 0.25 and 0.75


def test_errors_are_those_of_the_listed_objects(tmp_path):
    """Object 9 is in a true mask but not in the list."""
    (video,) = load_videos(write_set(tmp_path), "valid", ["late"], all_frames=False)
    truth, mask = ids("late", 2 * STEP), ids("late", 3 * STEP)
    for index in range(1, 4):
        write_mask(mask_path(tmp_path, video, f"{STEP * index:05d}"), mask)
    write_mask(video.masks / f"{2 * STEP:05d}.png", np.where(truth > 0, truth, 9).astype(np.uint8))
    scores = {"3": {"J": [0.5, 0.9], "F": [0.5, 0.9]}}
    with patch("evaluation.youtube_vos.write_report") as write_report:
        write_youtube_vos_report(tmp_path, {"predictions": "masks"}, [video], {"late": {"objects": scores}}, {})
    *_, (section,), _ = write_report.call_args.args
    picture = section.pictures[0]
    frame = read_frame(video.frames[1])
    assert picture.caption == "frame 1: 50.0"
    assert np.array_equal(picture.errors, error_map(frame, mask, truth))


def test_categories_of_all_objects_are_seen(tmp_path):
    objects = {number: {"category": name, "frames": ["0"]} for number, name in (("1", "dog"), ("2", "cat"))}
    (tmp_path / "meta.json").write_text(json.dumps({"videos": {"x": {"objects": objects}}}))
    assert seen_categories(tmp_path / "meta.json", named=False) == {"dog", "cat"}
