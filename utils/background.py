"""Background threads that read the next items ahead and write results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
END: Any = object()


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the same items, each computed in a thread while the caller uses the previous one."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, iterator, END)
        while (item := upcoming.result()) is not END:
            upcoming = pool.submit(next, iterator, END)
            yield item


@contextmanager
def in_background(limit: int = 16) -> Iterator[Callable[..., None]]:
    """Return a function that submits calls to one background thread, which runs them in order; at most `limit` wait.

    An exception in a call is raised by a later submission or at the end of the context.
    """
    pending: deque[Future[object]] = deque()

    def submit(function: Callable[..., object], *arguments: object) -> None:
        pending.append(pool.submit(function, *arguments))
        if len(pending) > limit:
            pending.popleft().result()

    with ThreadPoolExecutor(1) as pool:
        yield submit
        for future in pending:
            future.result()
