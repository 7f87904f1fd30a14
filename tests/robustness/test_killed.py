"""Trainings and evaluations killed at random moments and continued by the same command give the same bits."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import evaluate_davis
import evaluate_youtube_vos
from tests.support import youtube_vos
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import TORCHRUN
from tests.support.davis import write_davis
from tests.support.features import KINDS_OPTIONS
from tests.support.files import timeless
from tests.support.repository import ROOT
from tests.support.training_runs import STAGE_1, STAGE_2, assert_equal_bits, finish, read_log, read_state, start

pytestmark = pytest.mark.soak

RECIPES = {"stage 1": STAGE_1, "stage 2": (*STAGE_2, "--pe_shuffle")}
LAUNCHERS = {"one process": (), "two processes": TORCHRUN}
STEPS = 9  # of epochs that have 5 or more
KILLS = 3  # of each training and each evaluation
STARTING = 8  # seconds, about, until a run starts to work


@pytest.fixture(scope="module")
def chance():
    """The random generator of all kills; its seed is printed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    return random.Random(seed)


@dataclass(frozen=True)
class Kill:
    """When a run is killed, which of its processes, and by which signal."""

    moment: Callable[[], bool]
    victims: slice
    number: signal.Signals


def members(savepath: Path) -> list[int]:
    """The processes of a run, its launcher first."""
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


def send(processes: list[int], number: signal.Signals = signal.SIGKILL) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def killed(process: subprocess.Popen, savepath: Path, kill: Kill) -> bool:
    """Kill members of a run once the moment has come, and wait until all have ended; False if it ended before."""
    while not kill.moment():
        if process.poll() is not None:
            result = finish(process)
            assert result.code == 0, result.stderr
            return False
        time.sleep(0.002)
    send(members(savepath)[kill.victims], kill.number)
    finish(process)
    send(members(savepath))
    return True


def draw_kill(chance: random.Random, done: Callable[[], int], saving: Path) -> Kill:
    """During start, work or saving; by SIGKILL or SIGTERM; all processes, the first or the last."""

    def reached(wanted: int, delay: float) -> Callable[[], bool]:
        times = []

        def moment() -> bool:
            if not times and done() >= wanted:
                times.append(time.monotonic())
            return bool(times) and time.monotonic() >= times[0] + delay

        return moment

    moments = {
        "starting": reached(0, chance.uniform(0, STARTING)),
        "working": reached(done() + chance.randint(1, 3), chance.uniform(0, 1)),
        "saving": saving.exists,
    }
    victims = chance.choice((slice(None), slice(1), slice(-1, None)))
    when = chance.choice(["starting", "working", "working", "saving"])
    return Kill(moments[when], victims, chance.choice((signal.SIGKILL, signal.SIGTERM)))


def kill_often(
    run: Callable[[], subprocess.Popen], savepath: Path, done: Callable[[], int], saving: Path, chance: random.Random
) -> None:
    """Start a run and kill it, again and again, and then let it end."""
    kills = 0
    while kills < KILLS:
        kill = draw_kill(chance, done, saving)
        if killed(run(), savepath, kill):
            kills += 1
        else:
            shutil.rmtree(savepath)  # it finished first: start anew
    result = finish(run())
    assert result.code == 0, result.stderr


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory):
    """The folder of an uninterrupted training."""
    folders = {}

    def train(recipe: str, launcher: str) -> Path:
        if (recipe, launcher) not in folders:
            folder = folders[recipe, launcher] = tmp_path_factory.mktemp("undisturbed")
            result = finish(start_training(videos, folder, recipe, launcher))
            assert result.code == 0, result.stderr
        return folders[recipe, launcher]

    return train


def start_training(videos: Path, savepath: Path, recipe: str, launcher: str, *more: object) -> subprocess.Popen:
    return start(videos, savepath, *RECIPES[recipe], "--steps", STEPS, *more, launcher=LAUNCHERS[launcher])


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_killed_training_continues_as_if_nothing_had_happened(
    recipe, launcher, videos, undisturbed, chance, tmp_path
):
    savepath = tmp_path / "killed"

    def run() -> subprocess.Popen:
        return start_training(videos, savepath, recipe, launcher, "--save_every", 1)

    kill_often(run, savepath, lambda: len(read_log(savepath)), savepath / "last.pt.part", chance)
    assert_equal_bits(undisturbed(recipe, launcher), savepath)


def test_torchrun_restarts_a_process_that_dies(videos, undisturbed, tmp_path):
    """The launcher starts all processes anew, and they continue."""
    savepath = tmp_path / "killed"
    launcher = (*TORCHRUN, "--max_restarts=1")
    steps = "--steps", STEPS, "--save_every", 1
    process = start(videos, savepath, *STAGE_1, *steps, launcher=launcher)
    while len(read_log(savepath)) < 3:
        assert process.poll() is None, finish(process)
        time.sleep(0.01)
    send(members(savepath)[-1:])
    result = finish(process)
    assert result.code == 0, result.stderr
    assert_equal_bits(undisturbed("stage 1", "two processes"), savepath)


def test_processes_whose_launcher_dies_before_they_meet_end(videos, tmp_path):
    """They would wait for the launcher's store; a launcher that is killed cannot stop them."""
    process = start(videos, tmp_path, *STAGE_1, "--steps", STEPS, launcher=TORCHRUN)
    while len(members(tmp_path)) < 3:
        assert process.poll() is None, finish(process)
        time.sleep(0.01)
    send([process.pid])
    result = finish(process)
    assert result.stderr.count("start all processes again") == 2, result.stderr
    assert not read_log(tmp_path)


def on_davis(folder: Path) -> list[object]:
    data = write_davis(folder / "davis", tuple("abcdef"), frames=10)
    arguments = "--datapath", data, "--resume", write_checkpoint(folder / "liir.pt"), "--overlay", "--report"
    return [evaluate_davis.__file__, *arguments]


def on_youtube_vos(folder: Path) -> list[object]:
    return [evaluate_youtube_vos.__file__, "--datapath", youtube_vos.write_set(folder), *KINDS_OPTIONS, "--all_frames"]


@pytest.mark.parametrize(("evaluation", "launcher"), [(on_davis, ()), (on_davis, TORCHRUN), (on_youtube_vos, ())])
def test_a_killed_evaluation_continues_as_if_nothing_had_happened(evaluation, launcher, chance, tmp_path):
    command = [sys.executable, *launcher, *evaluation(tmp_path), "--savepath"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(savepath: Path) -> subprocess.Popen:
        pipe, everything = subprocess.PIPE, list(map(str, [*command, savepath]))
        return subprocess.Popen(everything, cwd=ROOT, env=settings, stdout=pipe, stderr=pipe, text=True)

    result = finish(run(tmp_path / "whole"))
    assert result.code == 0, result.stderr
    savepath = tmp_path / "killed"

    def written() -> int:
        return sum(1 for _ in savepath.glob("*/*/*.png"))

    kill_often(lambda: run(savepath), savepath, written, savepath / "results.json", chance)
    assert timeless(savepath) == timeless(tmp_path / "whole")


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves(number, launcher, videos, tmp_path):
    """By SIGTERM, or by Ctrl-C, which reaches all processes."""
    process = start(videos, tmp_path, *STAGE_1, "--steps", 50, launcher=launcher)
    while not read_log(tmp_path):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, number)
    result = finish(process)
    assert result.code
    if not launcher:
        assert result.code == 128 + number
    (line,) = (line for line in result.stderr.splitlines() if "the same command continues" in line)
    assert line.startswith("warning: stopped at step ")  # not behind the progress bar
    assert f"saved in {tmp_path / 'last.pt'}" in line
    assert launcher or line == result.stderr.splitlines()[-1]
    assert read_state(tmp_path)["/position/steps"] == len(read_log(tmp_path))
