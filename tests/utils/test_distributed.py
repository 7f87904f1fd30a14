"""Several processes: tasks are shared evenly, no thread is left at exit, and failures to connect are explained."""

import os
import subprocess
import sys
from contextlib import nullcontext
from datetime import timedelta

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.commands import TORCHRUN
from tests.support.repository import ROOT
from utils import distributed
from utils.distributed import World, join_world, local_rank, works_alone
from utils.errors import UserError

CPU = torch.device("cpu")


@given(costs=st.lists(st.integers(1, 100), max_size=30), size=st.integers(1, 8))
def test_every_task_is_dealt_once_and_evenly(costs, size):
    shares = [World(rank, size, CPU).share(costs) for rank in range(size)]
    assert sorted(task for share in shares for task in share) == list(range(len(costs)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(costs[task] for task in share) for share in shares]
    assert max(loads) - min(loads) <= max(costs, default=0)


LEAVES = """
import os, sys
import torch
from utils.distributed import join_world
from utils.errors import run_main

def main():
    with join_world(torch.device("cpu")) as world:
        model = world.wrap(torch.nn.Linear(3, 2))
        model(torch.ones(4, 3)).sum().backward()
        if sys.argv[1] == "stopped":
            raise SystemExit(0)

try:
    run_main(main)
except SystemExit:
    pass
threads = [open(f"/proc/self/task/{thread}/comm").read().strip() for thread in os.listdir("/proc/self/task")]
sys.exit(any("gloo" in name for name in threads))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the threads")
@pytest.mark.parametrize("how", ["to its end", "stopped"])
def test_no_thread_outlives_the_world(how, tmp_path):
    """A thread of gloo that is alive at Python's exit aborts the process."""
    script = tmp_path / "leaves.py"
    script.write_text(LEAVES)
    left = subprocess.run(
        [sys.executable, *TORCHRUN, script, how], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert left.returncode == 0, left.stderr.decode()
    assert b"FutureWarning" not in left.stderr


class FakeGroup:
    """A process group on a GPU, which notes whether it is destroyed."""

    def __init__(self, monkeypatch):
        self.destroyed = False
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr(distributed, "_init_process_group", lambda _: None)
        monkeypatch.setattr("torch.cuda.set_device", lambda _: None)
        monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
        monkeypatch.setattr("torch.distributed.destroy_process_group", self.destroy)

    def destroy(self):
        self.destroyed = True


@pytest.mark.parametrize(
    ("error", "destroyed"),
    [(None, True), (UserError, True), (SystemExit, True), (ZeroDivisionError, False), (KeyboardInterrupt, False)],
)
def test_after_a_bug_the_other_processes_are_not_waited_for(error, destroyed, monkeypatch):
    """UserErrors and exits are those of all processes."""
    group = FakeGroup(monkeypatch)
    with nullcontext() if error is None else pytest.raises(error), join_world(torch.device("cuda", 0)):
        if error is not None:
            raise error
    assert group.destroyed == destroyed


@pytest.mark.parametrize(("size", "rank", "works"), [("1", "0", True), ("3", "0", True), ("3", "2", False)])
def test_a_task_for_one_process(size, rank, works, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("RANK", rank)
    assert works_alone("propagate.py") == works
    assert ("the others have nothing to do" in capsys.readouterr().err) == (size == "3" and works)


@pytest.mark.parametrize("value", ["", "abc", "1.5", "-1", "²", "9" * 30])
@pytest.mark.parametrize("variable", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"])
def test_variables_that_are_no_numbers(variable, value, monkeypatch):
    for name, usual in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", **PLACE, variable: value}.items():
        monkeypatch.setenv(name, usual)
    with pytest.raises(UserError, match=f"{variable}: is '{value}', but must be a number"):
        local_rank()
        with join_world(CPU):
            pass


PLACE = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # nobody listens there
LAUNCHED = {"TORCHELASTIC_RUN_ID": "run", "TORCHELASTIC_USE_AGENT_STORE": "True"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ("WORLD_SIZE", "RANK", "torchrun")),
        ({**PLACE, "RANK": "one"}, ("RANK", "'one'", "torchrun")),
        ({**PLACE, "RANK": "2"}, ("RANK", "'2'", "from 0 to 1", "torchrun")),
        ({**PLACE, "RANK": "1"}, ("MASTER_ADDR localhost", "MASTER_PORT 1", "timed out", "start all processes again")),
        ({**PLACE, **LAUNCHED, "RANK": "1"}, ("MASTER_PORT 1", "timed out", "start all processes again")),
    ],
    ids=[
        "no rank",
        "the rank is no number",
        "the rank is too high",
        "the first process is missing",
        "the launcher has died",
    ],
)
def test_processes_that_cannot_meet_say_so(settings, words, monkeypatch):
    monkeypatch.setattr(distributed, "FIRST_PROCESS_ANSWERS", timedelta(seconds=1))
    monkeypatch.setattr(distributed, "LAUNCHER_ANSWERS", timedelta(seconds=1))
    for name in ("RANK", *PLACE, *LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"WORLD_SIZE": "2", **settings}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as refusal, join_world(CPU):
        pass
    assert all(word in str(refusal.value) for word in words), refusal.value
