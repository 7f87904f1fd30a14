"""Reading ahead and working in background threads."""

import threading
import time

import pytest

from utils.background import in_background, read_ahead


def test_read_ahead_yields_the_same_in_order():
    assert list(read_ahead(range(20))) == list(range(20))
    assert list(read_ahead([])) == []


def test_read_ahead_makes_the_next_while_one_is_in_use():
    made = threading.Event()

    def items():
        yield 1
        made.set()
        yield 2

    ahead = read_ahead(items())
    assert next(ahead) == 1
    assert made.wait(10)


def test_read_ahead_raises_where_the_items_do():
    def items():
        yield 1
        raise ValueError("no second")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no second"):
        next(ahead)


def test_in_background_keeps_the_order():
    seen = []
    with in_background(limit=2) as call:
        for i in range(10):
            call(lambda i=i: (time.sleep(0.001 * (10 - i)), seen.append(i)))
    assert seen == list(range(10))


def test_in_background_raises_at_the_end():
    with pytest.raises(ZeroDivisionError), in_background() as call:
        call(lambda: 1 / 0)
