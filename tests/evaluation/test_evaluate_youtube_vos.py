"""YouTube-VOS: late objects, the frames to be predicted, the submission, and scores by hand."""

import json
import re
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

import evaluate_youtube_vos
from functional.metrics import boundary_f, jaccard
from tests.support.commands import require_refusal, require_same_when_sharded, require_success, require_warning
from tests.support.features import KINDS_OPTIONS, middles
from tests.support.files import touch
from tests.support.images import read_pixels
from tests.support.youtube_vos import OBJECTS, SIZE, STEP, evaluate, ids, write_set
from utils.visualize import write_mask


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path)


@pytest.mark.parametrize("options", [[], ["--all_frames"]])
def test_objects_join_and_leave_and_only_wanted_frames_are_packed(root, options):
    require_success(evaluate(root, *options))
    with zipfile.ZipFile(root / "results" / "submission.zip") as archive:
        names = sorted(archive.namelist())
    wanted = [f"Annotations/early/{i:05d}.png" for i in (0, 5, 10, 15, 20)]
    assert names == wanted + [f"Annotations/late/{i:05d}.png" for i in (5, 10, 15)]
    for name in names:
        _, video, frame = name.removesuffix(".png").split("/")
        mask = read_pixels(root / "results" / name)
        assert np.array_equal(middles(mask), middles(ids(video, int(frame)))), name
        assert Image.open(root / "results" / name).mode == "P"


def test_scores_are_the_means_by_hand(root):
    out = require_success(evaluate(root, "--report"))
    expected = {}
    for name, objects in OBJECTS.items():
        for number, (category, first, last) in objects.items():
            kind = "seen" if category == "dog" else "unseen"
            for measure, function in (("J", jaccard), ("F", boundary_f)):
                values = []
                for i in range(first + 1, last + 1):  # its first mask was given
                    mask = read_pixels(root / "results" / "Annotations" / name / f"{STEP * i:05d}.png")
                    values.append(function(mask == number, ids(name, STEP * i) == number))
                expected.setdefault(f"{measure} {kind}", []).append(np.mean(values))
    expected = {name: np.mean(values) for name, values in expected.items()}
    scores = json.loads((root / "results" / "results.json").read_text())["scores"]
    assert scores == pytest.approx({"G": np.mean(list(expected.values())), **expected})
    assert f"G         {100 * scores['G']:.1f}" in out
    page = (root / "results" / "report.html").read_text()
    captions = re.findall(r"<figcaption>frame (\d+)(?:: ([\d.]+))?</figcaption>", page)
    assert len(captions) == 4 + 2  # the wanted frames but the first, which has no score
    of_early = [float(score) for _, score in captions[:4]]
    assert of_early == sorted(of_early)
    curves = [[f"{measure} of {number}" for number in objects for measure in "JF"] for objects in OBJECTS.values()]
    assert re.findall(r'svg\+xml[^>]* alt="([^"]*)"', page) == [", ".join(names) for names in curves]


def test_without_truth_there_is_a_zip_and_no_score(root):
    """As in the validation set, only the masks of objects' first frames exist."""
    for name, index in (("early", 5), ("early", 15), ("early", 20), ("late", 10), ("late", 15)):
        (root / "valid" / "Annotations" / name / f"{index:05d}.png").unlink()
    out = require_success(evaluate(root, "--report"))
    assert "upload" in out
    assert "G " not in out
    assert (root / "results" / "report.html").read_text().count("<figure>") == 5 + 3


def test_a_run_continues_and_may_then_be_scored_otherwise(root):
    require_success(evaluate(root))
    record = root / "results" / "sequences" / "late.json"
    before = record.stat().st_mtime_ns
    shutil.rmtree(root / "train")
    outcome = evaluate(root, "--report")
    assert outcome.code == 0
    assert len(outcome.starting("warning: ")) == 1
    require_refusal(evaluate(root, "--seen", root / "none.json"), root / "none.json")
    assert record.stat().st_mtime_ns == before
    assert set(json.loads((root / "results" / "results.json").read_text())["scores"]) == {"J", "F"}


def test_small_frames_are_propagated_and_full_ones_written(root):
    """Masks are written at full size, and the option is part of the run's record; values are in test_objects.py."""
    require_success(evaluate(root, "--max_side", 24))
    assert read_pixels(root / "results" / "Annotations" / "early" / "00020.png").shape == SIZE
    require_refusal(evaluate(root), "max_side")


def test_masks_that_came_or_went_after_a_run(root):
    kept = root / "results" / "Annotations" / "early" / "00010.png"
    require_success(evaluate(root))
    kept.unlink()
    require_refusal(evaluate(root), kept, "--overwrite")
    true = root / "valid" / "Annotations" / "early" / "00015.png"
    whole = true.read_bytes()
    true.unlink()
    require_warning(evaluate(root, "--overwrite"), "early: without a true mask of each frame")
    true.write_bytes(whole)
    require_refusal(evaluate(root), "early is finished", "was added")
    write_mask(true, np.zeros((5, 5), np.uint8))
    require_refusal(evaluate(root, "--overwrite"), true, "5x5")


def test_video_without_truth_beside_one_with(root):
    """It is left out of the scores."""
    require_success(evaluate(root))
    of_late = json.loads((root / "results/sequences/late.json").read_text())["objects"]["3"]
    (root / "valid/Annotations/early/00015.png").unlink()
    require_warning(evaluate(root, "--overwrite", "--report"), "early: without a true mask", "left out of the mean")
    scores = json.loads((root / "results/results.json").read_text())["scores"]
    assert scores == {f"{measure} seen": pytest.approx(np.mean(of_late[measure])) for measure in "JF"}


def test_objects_that_vanish_are_told(root):
    """Object 3 is not painted into the last frame."""
    assert "objects that vanished: late 3 in 00020\n" in require_success(evaluate(root))
    records = json.loads((root / "results/results.json").read_text())["sequences"]
    assert {name: record["vanished"] for name, record in records.items()} == {"early": {}, "late": {"3": "00020"}}


def test_object_that_is_listed_in_one_frame(root):
    meta = root / "valid/meta.json"
    content = json.loads(meta.read_text())
    content["videos"]["early"]["objects"]["7"]["frames"] = ["00010"]
    meta.write_text(json.dumps(content))
    require_warning(evaluate(root, "--report"), "early_7: listed in the frame of the given mask only")
    scores = json.loads((root / "results/results.json").read_text())["scores"]
    assert set(scores) == {"J seen", "F seen"}


def test_an_object_that_is_never_followed_is_told(root):
    """Also by a run that continues and propagates nothing."""
    write_mask(root / "valid" / "Annotations" / "early" / "00010.png", ids("early", 0))  # lacks object 7
    for propagates in (True, False):
        outcome = evaluate(root)
        assert outcome.code == 0
        assert ("00010.png: lacks objects [7]" in outcome.stderr) == propagates
        assert "1 of 3 objects are not followed, as their first masks lack them: early 7;" in outcome.stdout
        assert "complete" not in outcome.stdout


def test_finished_videos_of_other_files_are_refused(root):
    require_success(evaluate(root))
    touch(root / "valid" / "meta.json")
    require_refusal(evaluate(root), "meta.json was modified")
    require_success(evaluate(root, "--overwrite"))
    touch(root / "valid" / "Annotations" / "early" / "00010.png")
    require_refusal(evaluate(root), "early is finished", "00010.png was modified")


@pytest.mark.soak
def test_two_processes_write_what_one_writes(root):
    require_same_when_sharded(evaluate_youtube_vos.__file__, root, "--datapath", root, "--report", *KINDS_OPTIONS)


def test_bad_data(root):
    meta = root / "valid" / "meta.json"
    whole = meta.read_text()
    for content, told in (
        ("{", "meta.json"),
        ('{"videos": []}', "meta.json"),
        ('{"videos": {}}', "no videos"),
        ('{"videos": {"early": {"objects": {}}}}', "early"),
        ('{"videos": {"../x": {"objects": {"1": {"frames": ["00000"]}}}}}', "../x"),
        ('{"videos": {"..": {"objects": {"1": {"frames": ["00000"]}}}}}', "'..'"),
        ('{"videos": {"early": {"objects": {"1": {"frames": "00000"}}}}}', "not a list"),
        ('{"videos": {"early": {"objects": {"1": {"frames": ["a"]}, "01": {"frames": ["a"]}}}}}', "once"),
        ('{"videos": {"early": {"objects": {"300": {"frames": ["00000"]}}}}}', "early"),
        (whole.replace("00020", "00099"), "00099"),
        (whole.replace('"00005", "00010", "00015"', '"00006", "00010"'), "00006"),
    ):
        meta.write_text(content)
        require_refusal(evaluate(root), told)
    meta.write_text(whole)
    require_refusal(evaluate(root, "--videos", "none"), "--videos none")
    (root / "valid" / "Annotations" / "early" / "00010.png").unlink()
    require_refusal(evaluate(root), "00010.png", "[7]")
    shutil.rmtree(root / "valid_all_frames")
    require_refusal(evaluate(root, "--all_frames"), "valid_all_frames")
