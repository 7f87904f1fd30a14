"""Command lines: a parser that reports errors in one line, option types, and options that scripts share."""

import argparse
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import UserError


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of options, except None, False and 0."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with defaults in the help, and every error raised as a `UserError`."""

    def __init__(self, description: str | None = None, **settings: Any) -> None:
        """description: a script's docstring, whose first line is shown; None with `python -OO`."""
        settings.setdefault("formatter_class", _Help)
        super().__init__(description=description and description.splitlines()[0], **settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def comma_separated(text: str) -> list[str]:
    """Parse several names, `a,b`; for argparse's `type`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("must be names separated by commas")
    return names


def add_savepath_options(parser: ArgumentParser, default: str) -> None:
    """Add the options of the results folder (utils/savepath.py)."""
    parser.add_argument("--savepath", type=Path, default=Path(default), help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="delete the results of an earlier run in --savepath")


def add_local_rank_option(parser: ArgumentParser) -> None:
    """Add the option that torch.distributed.launch passes; it sets LOCAL_RANK as well, which is what counts."""
    help_text = "ignored; set by torch.distributed.launch"
    parser.add_argument("--local_rank", "--local-rank", type=int, help=help_text)


def add_precision_options(parser: ArgumentParser) -> None:
    """Add the options that trade precision for speed."""
    parser.add_argument("--amp", action="store_true", help="run the encoder in bfloat16")
    parser.add_argument("--tf32", action="store_true", help="enable TF32 on CUDA: faster, less precise")


def at_least(lowest: float, kind: type = int) -> Callable[[str], Any]:
    """Return a parser of numbers that are at least `lowest`; for argparse's `type`."""

    def number(text: str) -> Any:
        value = kind(text)
        if not value >= lowest:
            raise argparse.ArgumentTypeError(f"{text} is less than {lowest}")
        return value

    number.__name__ = kind.__name__  # used in argparse's messages
    return number


def json_values(options: dict[str, Any]) -> dict[str, Any]:
    """Convert options to JSON values, with absolute paths."""
    absolute = {name: value.resolve() if isinstance(value, Path) else value for name, value in options.items()}
    return {name: str(value) if isinstance(value, Path | Fraction) else value for name, value in absolute.items()}
