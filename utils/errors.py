"""The user's error: a mistake in a file or a flag, told in one line.

Raise `UserError` where the mistake is found; `run` catches it once per script. Anything else is a bug
and keeps its traceback.
"""

import sys
from collections.abc import Callable

LONGEST = 2000  # characters of a line


class UserError(Exception):
    """A mistake the user can mend; its text names the file or flag, the value, the rule and the way out."""


def run(main: Callable[[], None]) -> None:
    """Run a script's main function; a user's mistake ends in one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"error: {_one_line(str(error))}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def warn(message: str) -> None:
    """Tell the user, in one line on stderr, of something that is allowed but probably not meant."""
    sys.stderr.write(f"warning: {_one_line(message)}\n")


def _one_line(text: str) -> str:
    """A text that may quote any file: on one line, of a length to be read, without commands to the terminal."""
    line = " ".join(text.split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)
