"""train.py on small videos that the tests make: in this process, in one of its own, in several; and what it leaves."""

import json
import operator
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import train
from tests.builders import Outcome, run_here

SCRIPT = Path(train.__file__).resolve()
SHORT = ("--bsize", "2", "--worker", "1", "--log_every", "1", "--device", "cpu")
STAGE_1 = ("--semantic", "--compact", "--lr", "1e-3")
STAGE_2 = ("--usemomen", "--compact", "--factor", "1", "--lr", "1e-4")


def write_videos(root: Path) -> Path:
    """Five videos of a bright square that moves over noise, and their index."""
    random = np.random.default_rng(0)
    rows = []
    for v in range(5):
        (root / f"v{v}").mkdir(parents=True)
        background = cv2.resize(random.integers(0, 255, (8, 10, 3), np.uint8), (100, 80))
        for i in range(12):
            frame = background.copy()
            frame[20:40, 5 * i : 5 * i + 20] = random.integers(0, 255, 3)
            cv2.imwrite(str(root / f"v{v}" / f"{i:05d}.jpg"), frame)
        rows.append(f"v{v},0,12\n")
    (root / "videos.csv").write_text("".join(rows))
    return root


def options(videos: Path, savepath: Path, *more: object) -> list[str]:
    """The arguments of a short training."""
    paths = ["--datapath", videos, "--csvpath", videos / "videos.csv", "--savepath", savepath]
    return list(map(str, [*paths, *SHORT, *more]))


def train_here(*arguments: object) -> Outcome:
    """A training in this process."""
    return run_here(train.main, SCRIPT, *options(*arguments))


def start(*arguments: object, launcher: tuple[str, ...] = (), threads: int = 1) -> subprocess.Popen:
    """A training as users start it: by Python, or by one of PyTorch's launchers; one thread, as tests share cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment.pop("ONEDNN_MAX_CPU_ISA", None)  # which tests/conftest.py sets
    command = [sys.executable, *launcher, str(SCRIPT), *options(*arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def finish(process: subprocess.Popen) -> Outcome:
    """How a training ended, once it has."""
    output, errors = process.communicate(timeout=900)
    return Outcome(process.returncode, output, errors)


def read_state(savepath: Path) -> dict:
    """Everything in last.pt, flat: name -> tensor or value."""
    flat = {}

    def visit(name: str, value: object) -> None:
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                visit(f"{name}/{key}", inner)
        else:
            flat[name] = value

    visit("", torch.load(savepath / "last.pt", weights_only=True))
    return flat


def read_log(savepath: Path) -> list[dict]:
    """The logged values of each step, without those of the clock."""
    path = savepath / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{name: value for name, value in row.items() if name != "pairs_per_second"} for row in rows]


def assert_equal_bits(first: Path, second: Path) -> None:
    """Two trainings are in the same state, by the same way."""
    ours, theirs = read_state(first), read_state(second)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        same = torch.equal if isinstance(value, torch.Tensor) else operator.eq
        assert same(value, theirs[name]), name
    assert read_log(first) == read_log(second)


def assert_close(first: Path, second: Path) -> None:
    """Two trainings are in the same state but for the rounding of float32."""
    ours, theirs = read_state(first), read_state(second)
    for name, value in ours.items():
        if name.startswith(("/state_dict", "/queue/keys")) and value.is_floating_point():
            torch.testing.assert_close(theirs[name], value, atol=1e-5, rtol=1e-4)
    if "/queue/videos" in ours:
        assert ours["/queue/videos"].tolist() == theirs["/queue/videos"].tolist()
    for one, other in zip(read_log(first), read_log(second), strict=True):
        for name, value in one.items():
            assert abs(value - other[name]) <= 1e-4 * abs(value), (name, value, other[name])
