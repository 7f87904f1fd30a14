"""Videos that are longer, larger or shorter, or have more objects, than those of the benchmarks."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import propagate
from models.propagation import PROTOCOLS, LocalProtocol, Propagator, released_protocol
from scripts import make_sample
from tests.support.commands import require_success, run_script
from tests.support.davis import evaluate, write_davis
from tests.support.features import Pixels, middles, paint
from tests.support.images import read_pixels
from tests.support.threads import one_thread
from utils.savepath import read_json
from utils.video_writer import VideoWriter
from utils.visualize import write_mask

GIBIBYTE = 2**30
HELD_BACK = ("OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")  # set by tests/conftest.py
PAGE = resource.getpagesize()


def held_memory() -> int:
    """The resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


BOTH, CRW = released_protocol(momentum=True, compact=True), PROTOCOLS["crw"][1]


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("propagation", "frames"), [(LocalProtocol(), 10_000), (BOTH, 2_000), (CRW, 2_000)])
def test_thousands_of_frames_in_constant_memory(propagation, frames):
    random = torch.Generator().manual_seed(0)
    labels = torch.zeros(24, 32, dtype=torch.int64)
    labels[8:16, 8:16] = 1
    propagator = Propagator(Pixels(), propagation)
    with one_thread():
        propagator.step(torch.randn(3, 24, 32, generator=random), labels)
        for frame in range(1, frames):
            propagator.step(torch.randn(3, 24, 32, generator=random))
            if frame == 1000:
                before = held_memory()
    assert held_memory() - before < 8 * 2**20
    assert len(propagator.memory) <= 22  # crw's 20, the first, the sixth


@pytest.mark.soak
def test_frames_of_4k(tmp_path):
    """With the default checkpoint; memory stays below 8 GiB."""
    (tmp_path / "frames").mkdir()
    mask = np.zeros((2160, 3840), np.uint8)
    mask[800:1400, 1200:2000] = 1
    texture = np.random.default_rng(0).integers(0, 256, (54, 96, 3), np.uint8)
    frame = cv2.resize(texture, (3840, 2160), interpolation=cv2.INTER_CUBIC)
    for index in range(2):
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), np.roll(frame, 16 * index, 1))
    write_mask(tmp_path / "first.png", mask)
    where = tmp_path / "frames", "--mask", tmp_path / "first.png", "--savepath", tmp_path / "results"
    command = [sys.executable, propagate.__file__, *where, "--device", "cpu"]
    settings = {name: value for name, value in os.environ.items() if name not in HELD_BACK}
    with subprocess.Popen(list(map(str, command)), env=settings, stderr=subprocess.PIPE) as process:
        errors = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, errors
    found = read_pixels(tmp_path / "results" / "masks" / "00001.png") == 1
    moved = np.roll(mask, 16, 1) == 1
    assert (found & moved).sum() / (found | moved).sum() > 0.9
    assert used.ru_maxrss * 1024 < 8 * GIBIBYTE


def still(folder: Path, frames: int, frame: np.ndarray) -> None:
    """Write a video in which nothing moves, FOLDER/frames."""
    (folder / "frames").mkdir()
    for index in range(frames):
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), frame)


def run(folder: Path, video: str, *options: object) -> list[np.ndarray]:
    """The masks that propagate.py makes of a video."""
    where = folder / video, "--mask", folder / "first.png", "--savepath", folder / "results", "--device", "cpu"
    require_success(run_script(propagate, *where, *options))
    return [read_pixels(path) for path in sorted((folder / "results" / "masks").iterdir())]


def test_two_hundred_objects(tmp_path):
    """Squares of three cells, in a video in which nothing moves."""
    size, side = (160, 320), 12
    mask = np.zeros(size, np.uint8)
    for number in range(200):
        top, left = 16 * (number // 20), 16 * (number % 20)
        mask[top : top + side, left : left + side] = number + 1
    still(tmp_path, 4, np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    write_mask(tmp_path / "first.png", mask)
    masks = run(tmp_path, "frames", "--encoder", "tests.support.features:pixels", "--protocol", "liir")
    assert len(masks) == 4
    assert set(np.unique(masks[-1])) == set(range(201))
    assert np.array_equal(middles(masks[-1]), middles(mask))


FEATURES = "--encoder", "tests.support.features:kinds", "--protocol"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_videos_shorter_than_the_memory(frames, protocol, tmp_path):
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 8:24] = 5
    still(tmp_path, frames, paint(mask))
    write_mask(tmp_path / "first.png", mask)
    found = run(tmp_path, "frames", *FEATURES, protocol)
    assert len(found) == frames
    assert np.array_equal(found[0], mask)
    assert np.array_equal(middles(found[-1]), middles(mask))


def test_a_video_file_of_one_frame(tmp_path):
    with VideoWriter(tmp_path / "video.mp4") as video:
        video.write(np.full((32, 48, 3), 100, np.uint8))
    write_mask(tmp_path / "first.png", np.ones((32, 48), np.uint8))
    (found,) = run(tmp_path, "video.mp4", *FEATURES, "liir")
    assert found.all()


@pytest.mark.parametrize("frames", [1, 2])
def test_a_benchmark_of_too_few_frames_to_score(frames, checkpoint, tmp_path):
    """DAVIS does not count the first frame and the last one: there are masks, and no scores."""
    data = write_davis(tmp_path / "davis", ("bear",), frames=frames)
    where = "--datapath", data, "--resume", checkpoint, "--savepath", tmp_path / "results"
    out = require_success(evaluate(*where, "--report", "--overlay"))
    assert "no ground truth" in out
    assert len([*(tmp_path / "results" / "benchmark" / "bear").iterdir()]) == frames


@pytest.mark.soak
def test_the_default_checkpoint_s_score_on_the_sample(tmp_path):
    """As `make demo` computes it, with a tolerance for other processors' rounding."""
    make_sample.write_sample(make_sample.load_all(), tmp_path / "data")
    where = "--datapath", tmp_path / "data", "--savepath", tmp_path / "results"
    require_success(evaluate(*where, "--usemomen", "--compact"))
    official = read_json(tmp_path / "results" / "results.json")["official"]
    assert official["J&F-Mean"] == pytest.approx(0.852, abs=0.005)
