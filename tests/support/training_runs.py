"""Running train.py on short videos, and reading what it writes."""

import json
import operator
import os
import subprocess
import sys
from pathlib import Path

import torch

import train
from tests.support.commands import Outcome, run_script

SCRIPT = Path(train.__file__).resolve()
SHORT = ("--bsize", "2", "--worker", "1", "--log_every", "1", "--device", "cpu")
STAGE_1 = ("--semantic", "--compact", "--lr", "1e-3")
STAGE_2 = ("--usemomen", "--compact", "--factor", "1", "--lr", "1e-4")


def options(videos: Path, savepath: Path, *more: object) -> list[str]:
    """The arguments of a short training."""
    paths = ["--datapath", videos, "--csvpath", videos / "videos.csv", "--savepath", savepath]
    return list(map(str, [*paths, *SHORT, *more]))


def train_here(*arguments: object) -> Outcome:
    """A training in this process."""
    return run_script(train, *options(*arguments))


def start(*arguments: object, launcher: tuple[str, ...] = (), threads: int = 1) -> subprocess.Popen:
    """Start a training in processes of its own, by Python or by one of PyTorch's launchers."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment.pop("ONEDNN_MAX_CPU_ISA", None)  # which tests/conftest.py sets
    command = [sys.executable, *launcher, str(SCRIPT), *options(*arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def finish(process: subprocess.Popen) -> Outcome:
    """Wait for the end of a training."""
    output, errors = process.communicate(timeout=900)
    return Outcome(process.returncode, output, errors)


def read_state(savepath: Path) -> dict:
    """The content of last.pt, flattened: path -> tensor or value."""
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
    """The logged values of each step, without times."""
    path = savepath / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    times = "seconds_waiting", "pairs_per_second"
    return [{name: value for name, value in row.items() if name not in times} for row in rows]


def assert_equal_bits(first: Path, second: Path) -> None:
    """Assert that two trainings have the same state and log."""
    ours, theirs = read_state(first), read_state(second)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        same = torch.equal if isinstance(value, torch.Tensor) else operator.eq
        assert same(value, theirs[name]), name
    assert read_log(first) == read_log(second)


def assert_close(first: Path, second: Path) -> None:
    """Assert that two trainings have the same state and log up to the rounding of float32."""
    ours, theirs = read_state(first), read_state(second)
    for name, value in ours.items():
        if name.startswith(("/state_dict", "/queue/keys")) and value.is_floating_point():
            torch.testing.assert_close(theirs[name], value, atol=1e-5, rtol=1e-4)
    if "/queue/videos" in ours:
        assert ours["/queue/videos"].tolist() == theirs["/queue/videos"].tolist()
    for one, other in zip(read_log(first), read_log(second), strict=True):
        for name, value in one.items():
            assert abs(value - other[name]) <= 1e-4 * abs(value), (name, value, other[name])
