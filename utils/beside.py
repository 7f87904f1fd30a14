"""Work beside the main thread's: what it needs next is fetched, what it has made is put away."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
END: Any = object()


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made by a thread while the one before is in use."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, iterator, END)
        while (item := upcoming.result()) is not END:
            upcoming = pool.submit(next, iterator, END)
            yield item


@contextmanager
def in_background(limit: int = 8) -> Iterator[Callable[..., None]]:
    """Calls that a thread makes, in order, at most `limit` behind; what one raises, a later one raises, or the end."""
    pending: deque[Future[object]] = deque()

    def call(function: Callable[..., object], *arguments: object) -> None:
        pending.append(pool.submit(function, *arguments))
        if len(pending) > limit:
            pending.popleft().result()

    with ThreadPoolExecutor(1) as pool:
        yield call
        for future in pending:
            future.result()
