"""Trainings killed at random moments, while saving too, and continued by the same command: equal bits."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training_runs import (
    STAGE_1,
    STAGE_2,
    TORCHRUN,
    assert_equal_bits,
    finish,
    read_log,
    read_state,
    start,
    write_videos,
)

pytestmark = pytest.mark.soak

RECIPES = {"stage 1": STAGE_1, "stage 2": (*STAGE_2, "--pe_shuffle")}
LAUNCHERS = {"one process": (), "two processes": TORCHRUN}
STEPS = 7  # of an epoch that has 5 or more
SAVING = "last.pt.part"  # is there while last.pt is written


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"))


def members(savepath: Path) -> list[int]:
    """The processes of a training, its launcher first."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has just ended
                continue
            if str(savepath).encode() in command:
                found.append(int(folder.name))
    return sorted(found)


def kill(processes: list[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_when(process: subprocess.Popen, savepath: Path, moment: Callable[[], bool], victims: slice) -> None:
    """Kill members of a training once the moment has come, and wait until all have ended."""
    while not moment():
        assert process.poll() is None, finish(process)
        time.sleep(0.005)
    kill(members(savepath)[victims])
    finish(process)
    kill(members(savepath))


def after_steps(savepath: Path, chance: random.Random) -> Callable[[], bool]:
    """A moment within the step after the next one or two."""
    logged = len(read_log(savepath)) + chance.randint(1, 2)
    delay = chance.uniform(0, 3)
    reached = []

    def moment() -> bool:
        if not reached and len(read_log(savepath)) >= logged:
            reached.append(time.monotonic())
        return bool(reached) and time.monotonic() >= reached[0] + delay

    return moment


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_killed_training_continues_as_if_nothing_had_happened(recipe, launcher, videos, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    how = {"launcher": launcher, "threads": 1 if launcher else 2}
    result = finish(start(videos, whole, *recipe, "--steps", STEPS, **how))
    assert result.code == 0, result.stderr

    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    assert finish(start(videos, killed, *recipe, "--steps", 1, **how)).code == 0
    everyone, one = slice(None), slice(-1, None)
    moments = [(lambda: (killed / SAVING).exists(), everyone)]
    moments += [(after_steps(killed, chance), one if launcher else everyone)]
    for moment, victims in moments:
        process = start(videos, killed, *recipe, "--steps", STEPS, "--save_every", 1, **how)
        kill_when(process, killed, moment, victims)
    result = finish(start(videos, killed, *recipe, "--steps", STEPS, **how))
    assert result.code == 0, result.stderr
    assert_equal_bits(whole, killed)


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves(number, launcher, videos, tmp_path):
    """By the cluster, or by Ctrl-C, which reaches every process of the terminal."""
    process = start(videos, tmp_path, *STAGE_1, "--steps", 50, launcher=launcher, threads=1)
    while not read_log(tmp_path):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, number)
    result = finish(process)
    assert result.code
    if not launcher:
        assert result.code == 128 + number
    assert len([line for line in result.stderr.splitlines() if "the same command continues" in line]) == 1
    assert read_state(tmp_path)["/position/steps"] == len(read_log(tmp_path))
