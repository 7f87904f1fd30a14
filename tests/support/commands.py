"""Running scripts, and what is asserted of how they ended."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from tests.support.files import timeless
from tests.support.repository import ROOT
from tests.support.threads import one_thread
from utils.errors import run_main

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    stdout: str
    stderr: str

    def starting(self, word: str) -> list[str]:
        """The lines of stderr that begin with a word."""
        return [line for line in self.stderr.splitlines() if line.startswith(word)]


def run_here(main: Callable[[], None], script: Path, *arguments: object) -> Outcome:
    """Run a script's main function in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    command = [str(script), *map(str, arguments)]
    with one_thread(), patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err):
        try:
            run_main(main)
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.getvalue(), err.getvalue())


def run_script(script: ModuleType, *arguments: object) -> Outcome:
    """Run a script's main function, given its module, in this process; a bug raises what it raises."""
    return run_here(script.main, Path(script.__file__), *arguments)


def require_same_when_sharded(script: str | Path, folder: Path, *options: object) -> None:
    """Assert that two processes write the files that one writes, but for times and memory."""
    settings, found = {**os.environ, "OMP_NUM_THREADS": "1"}, []
    for name, launch in (("one", ()), ("two", TORCHRUN)):
        command = map(str, [sys.executable, *launch, script, *options, "--savepath", folder / name])
        result = subprocess.run(list(command), cwd=ROOT, env=settings, capture_output=True, text=True, timeout=900)
        assert result.returncode == 0, result.stderr
        found.append(timeless(folder / name))
    assert found[0] == found[1]


def require_refusal(outcome: Outcome, *offending: object) -> str:
    """Assert that a command ended with exit code 2 and one error line that names what is wrong; returns the line."""
    errors = outcome.starting("error: ")
    assert outcome.code == 2, outcome
    assert len(errors) == 1, outcome.stderr
    assert outcome.stderr.endswith(errors[0] + "\n"), outcome.stderr
    assert "Traceback" not in outcome.stderr
    for part in offending:
        assert str(part) in errors[0]
    return errors[0]


def require_success(outcome: Outcome) -> str:
    """Assert that a command succeeded without errors or warnings; returns its stdout."""
    assert outcome.code == 0, outcome.stderr
    assert "error" not in outcome.stderr
    assert "warning" not in outcome.stderr
    return outcome.stdout


def require_warning(outcome: Outcome, *parts: object) -> str:
    """Assert that a command succeeded with one warning, which contains these parts; returns its stdout."""
    assert outcome.code == 0, outcome.stderr
    (line,) = outcome.starting("warning: ")
    for part in parts:
        assert str(part) in line
    return outcome.stdout
