"""The command line: a parser that reports mistakes in one line, and the options scripts share."""

import argparse
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import UserError

DEFAULT_CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "liir.pt"
REFERENCE_HELP = "references: 0 the first, sixth and recent frames; 1 the first and recent ones; 2 the last one"


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not those that say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with defaults in its help and every mistake raised as a `UserError`."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", _Help)
        super().__init__(**settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def comma_separated(text: str) -> list[str]:
    """The type of an option that takes several names: `a,b`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("names nothing")
    return names


def add_savepath_options(parser: ArgumentParser, default: str) -> None:
    """Where results go (utils/savepath.py)."""
    parser.add_argument("--savepath", type=Path, default=Path(default), help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="delete the results of an earlier run in --savepath")


def add_model_options(
    parser: ArgumentParser, backends: Iterable[str], policies: Iterable[int], protocols: Iterable[str]
) -> None:
    """Which released configuration to evaluate, or which other features, and on what."""
    parser.add_argument("--resume", type=Path, default=DEFAULT_CHECKPOINT, help="checkpoint to evaluate")
    parser.add_argument("--compact", action="store_true", help="use the compactness prior")
    parser.add_argument("--usemomen", action="store_true", help="the checkpoint was trained with inter-video negatives")
    parser.add_argument("--ref", type=int, choices=tuple(policies), default=0, help=REFERENCE_HELP)
    parser.add_argument("--encoder", metavar="MODULE:FUNCTION", help="other features: what FUNCTION(device) returns")
    parser.add_argument("--protocol", choices=tuple(protocols), help="how to propagate: else liir, crw with --encoder")
    parser.add_argument("--device", help="where to run, such as cpu or cuda:1; CUDA where there is one")
    parser.add_argument("--backend", choices=tuple(backends), default="native", help="how windows are correlated")
    add_precision_options(parser)


def add_precision_options(parser: ArgumentParser) -> None:
    """What trades digits for speed."""
    parser.add_argument("--amp", action="store_true", help="run the encoder in bfloat16")
    parser.add_argument("--tf32", action="store_true", help="on CUDA, products of 10 bits of mantissa")


def at_least(lowest: float, kind: type = int) -> Callable[[str], Any]:
    """The type of an option that takes a number no smaller than `lowest`."""

    def number(text: str) -> Any:
        value = kind(text)
        if not value >= lowest:
            raise argparse.ArgumentTypeError(f"{text} is less than {lowest}")
        return value

    number.__name__ = kind.__name__  # what argparse calls it in its message
    return number


def json_values(arguments: dict[str, Any], *, without: Container[str]) -> dict[str, Any]:
    """Parsed arguments as JSON holds them, paths in full; two runs with equal ones are the same run."""
    values = {name: value for name, value in arguments.items() if name not in without}
    return {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in values.items()}
