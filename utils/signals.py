"""Handling of SIGTERM and Ctrl-C."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """The number of the signal with which the user or the cluster asked to stop, or 0."""

    signal: int = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Let SIGTERM and Ctrl-C only set a flag in this context, so that the current step can finish and be saved.

    A second Ctrl-C ends the process at once.
    """
    stop = Stop()

    def note(number: int, _: object) -> None:
        stop.signal = number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # not KeyboardInterrupt, which waits for PyTorch

    earlier = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
