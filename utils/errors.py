"""Errors of the user, such as a wrong file or flag, reported in one line.

Raise `UserError` where the mistake is detected; each script's `run_main` catches it. Any other exception is a bug and
keeps its traceback. `run_main` also makes stdout and stderr usable however the script was started.
"""

import io
import os
import sys
from collections.abc import Callable
from typing import Any

LONGEST = 2000  # characters in a message


class UserError(Exception):
    """A mistake that the user can correct; its message names the file or flag, the value, the rule and a solution."""


def run_main(main: Callable[[], None]) -> None:
    """Run a script's main function; a UserError becomes one line on stderr and exit code 2."""
    _open_streams()
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"error: {_one_line(str(error))}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


class _Stream(io.FileIO):
    """stdout or stderr, of which the rest is dropped once it cannot be written: results in files are still computed."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            if not isinstance(error, BrokenPipeError):  # which is usual: `| head -1`
                warn(f"stdout: cannot be written ({error.strerror}); the rest of it is lost")
            return len(data)


def _open_streams() -> None:
    """Open stdout and stderr if they are closed (`2>&-`), and let them accept any text and lose their readers."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):  # replaced by a caller
            continue
        if stream is None:
            number, encoding, line_buffering = os.open(os.devnull, os.O_WRONLY), "utf-8", False
        else:
            stream.flush()
            number, encoding, line_buffering = stream.fileno(), stream.encoding, stream.line_buffering
        buffer = io.BufferedWriter(_Stream(number, "w", closefd=False))
        text = io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=line_buffering)
        setattr(sys, name, text)


def warn(message: str) -> None:
    """Print a warning in one line on stderr, for input that is allowed but probably not intended."""
    sys.stderr.write(f"warning: {_one_line(message)}\n")


def _one_line(text: str) -> str:
    """Convert a text to one line of limited length, with control characters escaped, since it may quote any file."""
    line = " ".join(text.split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)
