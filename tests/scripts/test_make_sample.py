"""The sample clip: reproducible, in the DAVIS-2017 layout, with objects that move and occlude each other."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.files import files
from tests.support.repository import ROOT

SCRIPT = ROOT / "scripts" / "make_sample.py"
FRAMES, SIZE = 24, (240, 432)
OBJECTS = (1, 2)


def make_sample(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the real script inside a folder."""
    return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """The clip, written to the default place below an empty folder."""
    folder = tmp_path_factory.mktemp("default")
    result = make_sample(folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    assert str(Path("data/sample")) in result.stdout
    return folder / "data" / "sample"


@pytest.fixture(scope="module")
def masks(sample) -> np.ndarray:
    """The masks [T, H, W] of the clip."""
    paths = sorted((sample / "Annotations/480p/sample").iterdir())
    return np.stack([np.array(Image.open(path)) for path in paths])


def test_files_are_those_of_davis(sample):
    frames = {f"JPEGImages/480p/sample/{index:05d}.jpg" for index in range(FRAMES)}
    annotations = {f"Annotations/480p/sample/{index:05d}.png" for index in range(FRAMES)}
    assert files(sample).keys() == frames | annotations | {"ImageSets/2017/val.txt"}
    assert (sample / "ImageSets/2017/val.txt").read_text() == "sample\n"


def test_same_command_writes_same_bytes_over_an_earlier_sample(sample, tmp_path):
    stale = tmp_path / "clip/JPEGImages/480p/sample/00000.jpg"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"an earlier run's frame")
    assert make_sample(tmp_path, "--output", "clip").returncode == 0
    assert files(tmp_path / "clip") == files(sample)


def test_frames_and_masks_share_size_mode_and_palette(sample):
    for file in (sample / "JPEGImages/480p/sample").iterdir():
        image = Image.open(file)
        assert (image.mode, image.size) == ("RGB", SIZE[::-1])
    for file in (sample / "Annotations/480p/sample").iterdir():
        mask = Image.open(file)
        assert (mask.mode, mask.size) == ("P", SIZE[::-1])
        palette = mask.getpalette()
        assert palette[:15] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128]
        assert palette[-3:] == [224, 224, 192]


def test_both_objects_are_visible_in_every_frame(masks):
    assert masks.shape == (FRAMES, *SIZE)
    assert set(np.unique(masks[0])) == {0, *OBJECTS}
    assert masks.max() == max(OBJECTS)
    for identity in OBJECTS:
        assert (masks == identity).mean(axis=(1, 2)).min() > 0.01


def test_objects_move_a_few_pixels_a_frame(masks):
    for identity in OBJECTS:
        centres = np.array([np.argwhere(mask == identity).mean(axis=0) for mask in masks])
        steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
        assert 1 < steps.mean() < 10
        assert steps.max() < 16
        assert np.linalg.norm(centres[-1] - centres[0]) > 40


def test_front_object_hides_part_of_the_other_midway(masks):
    areas = (masks == 2).sum(axis=(1, 2))
    lowest = areas.argmin()
    assert FRAMES // 4 < lowest < 3 * FRAMES // 4
    assert areas[lowest] < 0.8 * min(areas[0], areas[-1])


def test_masks_follow_the_picture(sample, masks):
    """Masks lie on the objects, which are bright on a dark background."""
    for index in (0, FRAMES // 2, FRAMES - 1):
        frame = np.array(Image.open(sample / f"JPEGImages/480p/sample/{index:05d}.jpg")).max(axis=2)
        assert np.median(frame[masks[index] == 0]) < 40
        assert all(np.median(frame[masks[index] == identity]) > 120 for identity in OBJECTS)


@pytest.mark.parametrize("output", ["taken", "taken/below"])
def test_file_in_the_way_is_the_users_error(tmp_path, output):
    (tmp_path / "taken").write_text("mine")
    result = make_sample(tmp_path, "--output", output)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: --output {Path(output)}: ")
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_read_only_folder_is_the_users_error(tmp_path):
    tmp_path.chmod(0o555)
    result = make_sample(tmp_path, "--output", "clip")
    tmp_path.chmod(0o755)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
