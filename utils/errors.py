"""Errors of the user, such as a wrong file or flag, reported in one line.

Raise `UserError` where the mistake is detected; each script's `run_main` catches it. Any other exception is a bug and
keeps its traceback.
"""

import sys
from collections.abc import Callable

LONGEST = 2000  # characters in a message


class UserError(Exception):
    """A mistake that the user can correct; its message names the file or flag, the value, the rule and a solution."""


def run_main(main: Callable[[], None]) -> None:
    """Run a script's main function; a UserError becomes one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"error: {_one_line(str(error))}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def warn(message: str) -> None:
    """Print a warning in one line on stderr, for input that is allowed but probably not intended."""
    sys.stderr.write(f"warning: {_one_line(message)}\n")


def _one_line(text: str) -> str:
    """Convert a text to one line of limited length, with control characters escaped, since it may quote any file."""
    line = " ".join(text.split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)
