"""Writing the index of a folder of videos."""

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from dataloaders.training_pairs import read_index
from scripts import index_videos
from tests.support.commands import require_refusal, run_script
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
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    result = subprocess.run([*command[:2], str(videos / "a")], capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
