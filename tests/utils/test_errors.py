"""Errors and warnings are told in one line; bugs keep their traceback."""

import os
import subprocess
import sys

import pytest

from tests.support.repository import ROOT
from utils.errors import UserError, run_main, warn


def test_run_makes_one_line_of_an_error(capsys):
    def main() -> None:
        raise UserError("a.png: damaged\n  (decoder: line 1\r\nline 2)\t; replace it")

    with pytest.raises(SystemExit) as end:
        run_main(main)
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "error: a.png: damaged (decoder: line 1 line 2) ; replace it\n")


def test_run_passes_bugs_on(capsys):
    with pytest.raises(ValueError, match="a bug"):
        run_main(lambda: int("a bug"))
    assert capsys.readouterr() == ("", "")


def test_warning_is_one_line(capsys):
    warn("--usemomen is\nodd here")
    assert capsys.readouterr().err.count("\n") == 1


PRINTS = """
import sys
from pathlib import Path
from tqdm import tqdm
from utils.errors import run_main, warn

def main():
    for _ in tqdm(range(3)):
        print("a\\udcffé" * 100_000)
    warn("a\\udcffé")
    Path(sys.argv[1]).write_text("computed")

run_main(main)
"""


@pytest.mark.parametrize(
    ("redirection", "told"),
    [
        ("2>&-", ""),
        (">&-", r"warning: a\udcffé"),
        (">&- 2>&- <&-", ""),
        ("| head -c 1 >&2", r"warning: a\udcffé"),
        ("2>&1 | head -c 1", ""),
        (">/dev/full", "warning: stdout: cannot be written (No space left on device); the rest of it is lost"),
        ("2>/dev/full", ""),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_results_do_not_depend_on_the_streams(redirection, told, encoding, tmp_path):
    """Whether they are closed, nobody reads them, their disk is full, or they cannot encode a file's name."""
    script, result = tmp_path / "script.py", tmp_path / "result"
    script.write_text(PRINTS)
    command = f"set -o pipefail; {sys.executable} {script} {result} {redirection}"
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    ended = subprocess.run(["bash", "-c", command], env=settings, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert result.read_text() == "computed"
    assert told.encode(encoding.partition(":")[0], "backslashreplace") in ended.stderr
    assert b"Error" not in ended.stderr
