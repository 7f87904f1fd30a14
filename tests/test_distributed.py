"""Several processes: how tasks are dealt out to them, and that nothing of them is left at exit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.distributed import World

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
from utils.errors import run

def main():
    with join_world(torch.device("cpu")) as world:
        model = world.wrap(torch.nn.Linear(3, 2))
        model(torch.ones(4, 3)).sum().backward()
        if sys.argv[1] == "stopped":
            raise SystemExit(0)

try:
    run(main)
except SystemExit:
    pass
threads = [open(f"/proc/self/task/{thread}/comm").read().strip() for thread in os.listdir("/proc/self/task")]
sys.exit(any("gloo" in name for name in threads))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the threads")
@pytest.mark.parametrize("how", ["to its end", "stopped"])
def test_no_thread_outlives_the_world(how, tmp_path):
    """A thread of gloo that meets Python's exit aborts the process, after all work is done."""
    script = tmp_path / "leaves.py"
    script.write_text(LEAVES)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    root = Path(__file__).resolve().parent.parent
    left = subprocess.run(
        [sys.executable, *launcher, script, how], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True
    )
    assert left.returncode == 0, left.stderr.decode()
    assert b"FutureWarning" not in left.stderr
