"""YouTube-VOS as evaluated: late objects, wanted frames, the server's zip, and scores by hand."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import evaluate_youtube_vos
import submission
from dataloaders.youtube_vos_val import load_videos
from functional.metrics import boundary_f, jaccard
from submission import validate
from tests.builders import Outcome, read_pixels, require_refusal, require_same_when_sharded, require_success, run_here
from tests.features import KINDS_OPTIONS, middles, paint
from utils.errors import UserError
from utils.visualize import write_mask

SIZE = (32, 48)
OBJECTS = {  # of each video: id -> category, first and last index of its wanted frames
    "early": {1: ("dog", 0, 4), 7: ("zebra", 2, 4)},
    "late": {3: ("dog", 1, 3)},
}
STEP = 5  # frames between the wanted ones


def ids(name: str, index: int) -> np.ndarray:
    """The objects in a frame: they move down by a cell of 4 pixels in two of the wanted frames."""
    mask = np.zeros(SIZE, np.uint8)
    for place, (number, (_, first, last)) in enumerate(OBJECTS[name].items()):
        if first <= index / STEP <= last:
            top, left = 4 + 4 * (index // (2 * STEP)), 8 + 20 * place
            mask[top : top + 8, left : left + 12] = number
    return mask


def write_set(folder: Path) -> Path:
    """Annotations hold all objects of the wanted frames, as in the training set."""
    meta = {"videos": {}}
    for name, objects in OBJECTS.items():
        wanted = {}
        for number, (category, first, last) in objects.items():
            frames = [f"{STEP * i:05d}" for i in range(first, last + 1)]
            wanted[str(number)] = {"category": category, "frames": frames}
        meta["videos"][name] = {"objects": wanted}
        for index in range(4 * STEP + 1):
            mask, frame = ids(name, index), f"{index:05d}"
            for subset in ("valid", "valid_all_frames")[index % STEP != 0 :]:
                path = folder / subset / "JPEGImages" / name / f"{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), paint(mask))
            if any(frame in one["frames"] for one in wanted.values()):
                path = folder / "valid" / "Annotations" / name / f"{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mask(path, mask)
    (folder / "valid" / "meta.json").write_text(json.dumps(meta))
    train = {"videos": {"x": {"objects": {"1": {"category": "dog", "frames": ["00000"]}}}}}
    (folder / "train").mkdir()
    (folder / "train" / "meta.json").write_text(json.dumps(train))
    return folder


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path)


def evaluate(root, *arguments: object) -> Outcome:
    where = "--datapath", root, "--savepath", root / "results"
    return run_here(evaluate_youtube_vos.main, evaluate_youtube_vos.__file__, *KINDS_OPTIONS, *where, *arguments)


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
                for i in range(first + 1, last + 1):  # its first frame was given
                    mask = read_pixels(root / "results" / "Annotations" / name / f"{STEP * i:05d}.png")
                    values.append(function(mask == number, ids(name, STEP * i) == number))
                expected.setdefault(f"{measure} {kind}", []).append(np.mean(values))
    expected = {name: np.mean(values) for name, values in expected.items()}
    scores = json.loads((root / "results" / "results.json").read_text())["scores"]
    assert scores == pytest.approx({"G": np.mean(list(expected.values())), **expected})
    assert f"G         {100 * scores['G']:.1f}" in out
    page = (root / "results" / "report.html").read_text()
    captions = re.findall(r"<figcaption>frame (\d+)(?:: ([\d.]+))?</figcaption>", page)
    assert len(captions) == 4 + 2  # of the wanted frames, those that have a score: not the first
    of_early = [float(score) for _, score in captions[:4]]
    assert of_early == sorted(of_early)
    assert len(re.findall(r'points="([^"]*)"', page)) == 2 * 3


def test_without_truth_there_is_a_zip_and_no_score(root):
    """As in the validation set: only the masks of the frames in which objects first appear are there."""
    for name, index in (("early", 5), ("early", 15), ("early", 20), ("late", 10), ("late", 15)):
        (root / "valid" / "Annotations" / name / f"{index:05d}.png").unlink()
    out = require_success(evaluate(root, "--report"))
    assert "upload" in out
    assert "G " not in out
    assert (root / "results" / "report.html").read_text().count("<img") == 5 + 3


def test_a_run_continues_and_may_then_be_scored_otherwise(root):
    require_success(evaluate(root))
    record = root / "results" / "sequences" / "late.json"
    before = record.stat().st_mtime_ns
    shutil.rmtree(root / "train")
    outcome = evaluate(root, "--report")
    assert outcome.code == 0
    assert len(outcome.starting("warning: ")) == 1
    assert record.stat().st_mtime_ns == before
    assert set(json.loads((root / "results" / "results.json").read_text())["scores"]) == {"J", "F"}


def test_small_frames_are_propagated_and_full_ones_written(root):
    """What is written in full size is in test_objects.py; here, that it is, and that it is another run."""
    require_success(evaluate(root, "--max_side", 24))
    assert read_pixels(root / "results" / "Annotations" / "early" / "00020.png").shape == SIZE
    require_refusal(evaluate(root), "max_side")


def replace_member(path, name, data):
    """The same zip with other content of one member; None drops it."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()} | {name: data}
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            if content is not None:
                archive.writestr(member, content)


def png(mask: np.ndarray, tmp_path, *modes: str) -> bytes:
    """A mask's file, converted to those kinds of image one after the other."""
    write_mask(tmp_path / "x.png", mask)
    for mode in modes:
        image = Image.open(tmp_path / "x.png").convert(mode)
        if mode == "P":
            image.putpalette([9] * 768)  # grey
        image.save(tmp_path / "x.png")
    return (tmp_path / "x.png").read_bytes()


def test_what_the_server_would_refuse(root, tmp_path):
    require_success(evaluate(root))
    videos = load_videos(root, "valid", None, all_frames=False)
    path, member = root / "results" / "submission.zip", "Annotations/early/00010.png"
    validate(path, videos)
    empty = np.zeros(SIZE, np.uint8)
    for name, data, told in (
        (member, None, "lacks"),
        ("Annotations/early/00011.png", b"", "not wanted"),
        (member, b"junk", "decoded"),
        (member, png(empty, tmp_path, "L"), "palette"),
        (member, png(empty[1:], tmp_path), "48x31"),
        (member, png(empty + 2, tmp_path), "object 2"),
        (member, png(empty, tmp_path, "L", "P"), "palette"),
    ):
        shutil.copy(path, tmp_path / "damaged.zip")
        replace_member(tmp_path / "damaged.zip", name, data)
        with pytest.raises(UserError, match=told):
            validate(tmp_path / "damaged.zip", videos)
    (tmp_path / "damaged.zip").write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="read again"):
        validate(tmp_path / "damaged.zip", videos)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(member, png(empty, tmp_path))
    with pytest.raises(UserError, match="twice"):
        validate(path, videos)


def test_masks_that_came_or_went_after_a_run(root):
    kept = root / "results" / "Annotations" / "early" / "00010.png"
    require_success(evaluate(root))
    kept.unlink()
    require_refusal(evaluate(root), kept, "--overwrite")
    true = root / "valid" / "Annotations" / "early" / "00015.png"
    whole = true.read_bytes()
    true.unlink()
    require_success(evaluate(root, "--overwrite"))
    true.write_bytes(whole)
    require_refusal(evaluate(root), "without these true masks")
    write_mask(true, np.zeros((5, 5), np.uint8))
    require_refusal(evaluate(root, "--overwrite"), true, "5x5")


def test_what_is_packed_is_checked(root, monkeypatch):
    def pack(savepath, videos):
        replace_member(path := submission.pack(savepath, videos), "Annotations/late/00005.png", None)
        return path

    monkeypatch.setattr(evaluate_youtube_vos, "pack", pack)
    require_refusal(evaluate(root), "lacks Annotations/late/00005.png")


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
