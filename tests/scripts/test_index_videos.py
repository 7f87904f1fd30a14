"""Writing the index of a folder of videos."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloaders.training_pairs import read_index
from scripts import index_videos
from tests.support.commands import require_refusal, require_success, run_script
from tests.support.repository import ROOT
from tests.support.videos import write_odd_videos

FOLDERS = st.dictionaries(
    st.text(st.sampled_from('aé ",'), min_size=1, max_size=3).map(lambda name: f"v{name}v"),
    st.sets(st.integers(0, 12), min_size=1),
    max_size=3,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(FOLDERS)
def test_indexes_that_the_script_writes_come_back(tmp_path_factory, folders):
    """Every frame that an index names exists, and no run of consecutive frames is cut short."""
    root = tmp_path_factory.mktemp("videos")
    for name, numbers in folders.items():
        (root / name).mkdir()
        for number in numbers:
            (root / name / f"{number:05d}.jpg").touch()
    outcome = run_script(index_videos, root)
    if not folders:
        require_refusal(outcome, root)
        return
    (root / "videos.csv").write_text(outcome.stdout)
    found = read_index(root / "videos.csv")
    assert {video.name for video in found} == folders.keys()
    for video in found:
        numbers = folders[video.name]
        assert set(range(video.first, video.first + video.count)) <= numbers
        assert not any(set(range(first, first + video.count + 1)) <= numbers for first in numbers)


def test_index_videos(tmp_path):
    videos = write_odd_videos(tmp_path / "frames")
    command = [sys.executable, str(ROOT / "scripts" / "index_videos.py"), str(videos)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "a,0,8\nb,3,4\n")
    for option, rows in (("--without_every", "a,0,8\n"), ("--only_every", "b,3,4\n")):
        result = subprocess.run([*command, option, "2"], capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (0, rows)
    for options in (["--only_every", "3"], ["--only_every", "1"], ["--only_every", "2", "--without_every", "2"]):
        result = subprocess.run([*command, *options], capture_output=True, text=True)
        assert (result.returncode, result.stderr.count("error: ")) == (2, 1)
    result = subprocess.run([*command[:2], str(videos / "a")], capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


def write_folder(root, name, *images):
    (root / name).mkdir(parents=True)
    for image in images:
        (root / name / image).touch()


@pytest.mark.parametrize(
    ("name", "images", "told"),
    [
        ("v", ["00000.JPG", "00001.JPG"], "frames are .JPG"),
        ("v", ["00000.jpeg"], "frames are .jpeg"),
        ("v", ["00000.png", "00001.webp"], "frames are .png, .webp"),
        ("v", ["0000.jpg", "0001.jpg"], "4 digits"),
        ("v", ["000000.jpg"], "6 digits"),
        ("v", ["frame_00000.jpg"], "not plain numbers"),
        ("v", ["notes.txt"], "no images"),
        ("v/480p", ["00000.jpg"], "run this on each of them"),
        (" v", ["00000.jpg"], "an index cannot hold"),
        (os.fsdecode(b"v\xe9lo"), ["00000.jpg"], "an index cannot hold"),
    ],
)
def test_folders_that_are_left_out_are_told(tmp_path, name, images, told):
    write_folder(tmp_path, "good", "00000.jpg", "00001.jpg")
    write_folder(tmp_path, name, *images)
    outcome = run_script(index_videos, tmp_path)
    assert outcome.stdout == "good,0,2\n"
    (line,) = outcome.starting("warning: ")
    assert "1 of 2 folders are left out" in line and told in line


def test_what_is_left_out_is_told_by_its_reason(tmp_path):
    for index in range(5):
        write_folder(tmp_path, f"p{index}", "00000.png")
    write_folder(tmp_path, "q", "0000.jpg")
    outcome = run_script(index_videos, tmp_path)
    require_refusal(outcome, tmp_path)
    first, second = outcome.starting("warning: ")
    assert "5 of 6 folders are left out (p0, p1, p2, …)" in first and "(q)" in second


def test_images_outside_the_longest_run_are_told(tmp_path):
    write_folder(tmp_path, "a", "00000.jpg", "00002.jpg", "00003.jpg", "00003 (1).jpg", "notes.txt")
    write_folder(tmp_path, "b", "00000.jpg", "00001.png")
    outcome = run_script(index_videos, tmp_path)
    assert outcome.stdout == "a,2,2\nb,0,1\n"
    (line,) = outcome.starting("warning: ")
    assert "3 images are left out" in line


def test_leftovers_of_other_systems_are_no_videos_and_no_frames(tmp_path):
    write_folder(tmp_path, "a", "00000.jpg", "._00000.jpg", ".DS_Store", "Thumbs.db")
    for name in ("__MACOSX", ".cache"):
        write_folder(tmp_path, name, "00000.jpg")
    assert require_success(run_script(index_videos, tmp_path)) == "a,0,1\n"


def test_frames_beyond_99999_have_six_digits(tmp_path):
    """As %05d writes them."""
    write_folder(tmp_path, "a", "99999.jpg", "100000.jpg")
    assert require_success(run_script(index_videos, tmp_path)) == "a,99999,2\n"


def test_holding_out_of_many_videos_takes_no_time(monkeypatch, tmp_path):
    rows = [(f"v{index}", 0, 2) for index in range(100_000)]
    monkeypatch.setattr(index_videos, "list_videos", lambda _: rows)
    began = time.perf_counter()
    out = require_success(run_script(index_videos, tmp_path, "--without_every", 10))
    assert time.perf_counter() - began < 5
    assert out.count("\n") == 90_000
    assert "v9,0,2\n" not in out
