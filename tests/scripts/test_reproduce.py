"""scripts/reproduce.sh: training and evaluation by one command, which does not repeat finished steps."""

import os
import subprocess
import sys

import pytest

from tests.support.davis import write_davis
from tests.support.repository import ROOT


@pytest.mark.soak
def test_reproduce(videos, tmp_path):
    """From a folder of videos to the table of results; the second time nothing is trained."""
    davis = write_davis(tmp_path / "davis")
    settings = {
        "STEPS": "2",
        "MORE": "1",
        "TAIL": "2",
        "LONG": "1",
        "EVERY": "2",
        "YEAR": "2017",
        "FLAGS": "",
        "TRAINING": "--bsize 2",
    }
    command = ["bash", ROOT / "scripts" / "reproduce.sh", videos, davis, tmp_path / "results", sys.executable]
    first, second = (
        subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=1800)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    table = [line for line in first.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 9
    assert second.returncode == 0, second.stderr
    assert table == [line for line in second.stdout.splitlines() if line.startswith("|")]
    assert "step 1 " not in second.stdout
    assert (tmp_path / "results" / "curves.png").exists()
