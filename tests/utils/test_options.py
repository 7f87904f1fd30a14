"""The parser that scripts share."""

import subprocess
import sys

import pytest

from tests.support.repository import ROOT
from utils.options import ArgumentParser, add_local_rank_option

SCRIPTS = [path for path in (*ROOT.glob("*.py"), *ROOT.glob("scripts/*.py")) if path.stem != "__init__"]


def test_the_first_line_of_a_docstring_is_the_description():
    assert ArgumentParser(description="What it does.\n\nHow.").description == "What it does."


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_start_without_docstrings(script):
    """As with `python -OO`; the others' help is tested by their own tests."""
    code = "import runpy, sys; sys.argv = sys.argv[1:] + ['--help']; runpy.run_path(sys.argv[0], run_name='__main__')"
    ended = subprocess.run([sys.executable, "-OO", "-c", code, script], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["--local_rank=1", "--local-rank=1"])
def test_the_option_of_old_launchers(name):
    parser = ArgumentParser()
    add_local_rank_option(parser)
    assert parser.parse_args([name]).local_rank == 1
