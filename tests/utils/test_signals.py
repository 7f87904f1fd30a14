"""SIGTERM and Ctrl-C let a step finish; a second Ctrl-C does not."""

import signal
import subprocess
import sys

import pytest

from tests.support.repository import ROOT

WAITS = """
import os, signal, sys, time
from utils.signals import stop_signals
with stop_signals() as stop:
    for name in sys.argv[1:]:
        os.kill(os.getpid(), getattr(signal, name))
        assert stop.signal == getattr(signal, name)
    sys.exit(stop.signal)
"""


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        (["SIGINT"], signal.SIGINT),
        (["SIGTERM", "SIGTERM"], signal.SIGTERM),
        (["SIGTERM", "SIGINT"], signal.SIGINT),
        (["SIGINT", "SIGINT"], -signal.SIGINT),
    ],
)
def test_the_first_waits_and_a_second_ctrl_c_ends(signals, code):
    ended = subprocess.run([sys.executable, "-c", WAITS, *signals], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
