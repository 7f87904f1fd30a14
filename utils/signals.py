"""Being asked to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """Whether the user, or the cluster, has asked to stop: the signal's number, or 0."""

    signal: int = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGTERM and Ctrl-C set a flag, so that the step under way ends and can be saved."""
    stop = Stop()

    def note(number: int, _: object) -> None:
        stop.signal = number

    earlier = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
