"""Full or read-only disks and files that disappear: one line says so, and finished results are kept."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import evaluate_davis
from tests.support import training_runs
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import require_refusal, require_success
from tests.support.davis import SCRIPT, evaluate, frame_path, write_predictions
from tests.support.files import timeless
from tests.support.training_runs import assert_equal_bits, options, read_state, train_here
from tests.support.videos import write_videos
from utils.errors import UserError
from utils.savepath import write_text, writing
from utils.video_writer import VideoWriter
from utils.visualize import write_mask

pytestmark = pytest.mark.usefixtures("one_model")
OVERLAY_AND_REPORT = ("--overlay", "--report")
MOUNT = ("unshare", "--mount", "bash", "-euc")  # mounts end with the process


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files cannot grow beyond this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def can_mount() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*MOUNT, "true"], capture_output=True).returncode == 0


def test_writing_names_the_file(tmp_path):
    with pytest.raises(UserError, match=r"deep/text: cannot be written \(File too large\)"), room_for(10):
        write_text(tmp_path / "deep" / "text", "x" * 11)
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "text"):
        raise ZeroDivisionError  # other errors pass


@pytest.mark.parametrize("size", [0, 600, 1_000, 1_300, 2_000, 3_000, 6_000, 20_000])
def test_an_evaluation_on_a_full_disk(size, command, savepath, tmp_path):
    """Whether the record, masks, videos, tables or the report cannot be written, the same command continues."""
    with room_for(size):
        outcome = command(*OVERLAY_AND_REPORT)
    require_refusal(outcome, savepath, "cannot be written", "File too large")
    finished = [*(savepath / "sequences").glob("*.json")]
    times = [path.stat().st_mtime_ns for path in finished]
    require_success(command(*OVERLAY_AND_REPORT))
    assert [path.stat().st_mtime_ns for path in finished] == times
    require_success(command(*OVERLAY_AND_REPORT, "--savepath", tmp_path / "undisturbed"))
    assert timeless(savepath) == timeless(tmp_path / "undisturbed")


@pytest.mark.soak
def test_a_training_on_a_full_disk(videos, tmp_path):
    """The last checkpoint is kept, and the training continues from it to the same bits."""
    savepath, undisturbed = tmp_path / "results", tmp_path / "undisturbed"
    for size in (0, 100, 10_000):
        with room_for(size):
            require_refusal(train_here(videos, savepath, "--steps", 1), savepath, "cannot be written")
        assert not (savepath / "last.pt").exists()
    assert train_here(videos, savepath, "--steps", 1).code == 0
    kept = (savepath / "last.pt").read_bytes()
    with room_for(len(kept) // 2):
        outcome = train_here(videos, savepath, "--steps", 2, "--save_every", 1)
    require_refusal(outcome, savepath / "last.pt", "cannot be written", "what was finished before is kept")
    assert (savepath / "last.pt").read_bytes() == kept
    assert not [*savepath.glob("*.part")]
    for folder in (savepath, undisturbed):
        assert train_here(videos, folder, "--steps", 2).code == 0
    assert_equal_bits(savepath, undisturbed)


@pytest.mark.skipif(not can_mount(), reason="disks cannot be mounted here")
class TestRealDisk:
    def on(self, mount: str, disk: Path, *command: object) -> subprocess.CompletedProcess:
        """Run a command in a mount namespace with this disk."""
        script = f"{mount}\nset +e\n" + " ".join(map(str, command)) + f"\ncode=$?; ls -A {disk} >&3; exit $code"
        settings = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run([*MOUNT, f"exec 3>&1 >/dev/null; {script}"], env=settings, capture_output=True, text=True)

    @pytest.mark.soak
    def test_a_training_fills_it(self, videos, tmp_path):
        """The disk has room for one checkpoint only."""
        size = write_checkpoint(tmp_path / "size.pt").stat().st_size * 4
        command = options(videos, tmp_path / "disk", "--steps", 2, "--save_every", 1)
        (tmp_path / "disk").mkdir()
        mount = f"mount -t tmpfs -o size={size} tmpfs {tmp_path / 'disk'}"
        result = self.on(mount, tmp_path / "disk", sys.executable, training_runs.SCRIPT, *command)
        assert result.returncode == 2, result.stderr
        assert "No space left on device" in result.stderr.splitlines()[-1]
        assert "what was finished before is kept" in result.stderr.splitlines()[-1]
        assert "last.pt" in result.stdout.split()
        assert "last.pt.part" not in result.stdout.split()

    def test_a_disk_that_is_read_only(self, command, checkpoint, data, savepath):
        require_success(command("--sequences", "bear"))
        mount = f"mount --bind -o ro {savepath} {savepath}"
        arguments = "--resume", checkpoint, "--datapath", data, "--savepath", savepath, "--sequences", "bear"
        result = self.on(mount, savepath, sys.executable, SCRIPT, *arguments)
        assert result.returncode == 2, result.stderr
        line = result.stderr.splitlines()[-1]
        assert line.startswith(f"error: --savepath {savepath}: cannot be written to (Read-only")
        require_success(command("--sequences", "bear"))


@pytest.mark.soak
def test_a_frame_that_vanishes_while_training(tmp_path):
    """The error names the frame; last.pt is kept."""
    videos = write_videos(tmp_path / "videos")
    assert train_here(videos, tmp_path / "results", "--steps", 1).code == 0
    for frame in videos.glob("v*/*.jpg"):
        frame.unlink()
    require_refusal(train_here(videos, tmp_path / "results", "--steps", 3), f"{videos}/v", "no such file")
    assert read_state(tmp_path / "results")["/position/steps"] == 1


def after_mask(of: str, action) -> object:
    """A context in which something happens once a mask has been written."""

    def write(path: Path, mask) -> None:
        write_mask(path, mask)
        if path.match(of):
            action()

    return patch.object(evaluate_davis, "write_mask", write)


def test_a_frame_that_vanishes_while_evaluating(command, data, savepath):
    frame = frame_path(data, "cow", 2)
    kept = frame.read_bytes()
    with after_mask("bear/00002.png", frame.unlink):
        require_refusal(command(), frame, "no such file")
    frame.write_bytes(kept)
    before = (savepath / "sequences" / "bear.json").stat().st_mtime_ns
    require_success(command())
    assert (savepath / "sequences" / "bear.json").stat().st_mtime_ns == before


def test_a_savepath_that_vanishes_while_evaluating(command, savepath):
    """The error names the folder; no results are written."""
    with after_mask("cow/00001.png", lambda: shutil.rmtree(savepath)):
        require_refusal(command(), savepath)
    assert not (savepath / "results.json").exists()


def test_a_video_on_a_full_disk(tmp_path):
    def write() -> None:
        with VideoWriter(tmp_path / "video.mp4") as video:
            video.write(np.zeros((64, 64, 3), np.uint8))

    with pytest.raises(UserError, match=r"video.mp4: cannot be written \(File too large\)"), room_for(100):
        write()


def test_scoring_whose_process_is_killed(data, savepath, tmp_path):
    """As by the kernel when memory runs out."""
    for name in ("bear", "cow"):
        write_predictions(tmp_path / "predictions", name)
    with patch("evaluation.davis.score_one", _die):
        outcome = evaluate("--predictions", tmp_path / "predictions", "--datapath", data, "--savepath", savepath)
    require_refusal(outcome, "--predictions", "killed")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "x"), ImportError("x")]
)
def test_scoring_without_shared_memory(error, data, savepath, tmp_path):
    """As where /dev/shm is missing or read-only: the scores are those of several processes."""
    for name in ("bear", "cow"):
        write_predictions(tmp_path / "predictions", name)
    command = "--predictions", tmp_path / "predictions", "--datapath", data, "--savepath"
    whole = require_success(evaluate(*command, tmp_path / "several"))
    with patch("multiprocessing.synchronize.SemLock.__init__", side_effect=error):
        outcome = evaluate(*command, savepath)
    assert (outcome.code, outcome.stdout) == (0, whole)
    (warning,) = outcome.starting("warning: ")
    assert "in one process" in warning


def _die(*_: object) -> None:
    os.kill(os.getpid(), 9)
