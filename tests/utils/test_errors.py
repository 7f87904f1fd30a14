"""Errors and warnings are told in one line; bugs keep their traceback."""

import pytest

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
