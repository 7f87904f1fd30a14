"""Whether --amp pays: by planted encoders on a planted clock."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from utils import bfloat16


@pytest.fixture
def encoder(monkeypatch) -> Callable[..., Callable]:
    """Makes encoders whose runs take the given seconds, the last ones on and on, and note that they ran."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(bfloat16, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def make(*seconds: float, runs: list | None = None) -> Callable:
        left = list(seconds)

        def encode(frame: torch.Tensor) -> None:
            assert frame.shape[:2] == (1, 3)
            clock.now += left.pop(0) if len(left) > 1 else left[0]
            if runs is not None:
                runs.append(seconds)

        return encode

    return make


@pytest.mark.parametrize(
    ("slow", "fast", "warned"),
    [
        ((0.023,), (0.012,), True),
        ((0.012,), (0.023,), False),
        ((0.5, 0.01), (0.001, 0.02), False),  # the first run of each, which prepares it, does not count
        ((0.03, 0.03, 0.04, 0.01), (0.02,), False),  # the best does
        ((30.0,), (0.1,), True),
    ],
)
def test_a_slower_bfloat16_is_warned_of(encoder, slow, fast, warned, capsys):
    bfloat16.warn_if_slower(encoder(*slow), encoder(*fast))
    told = capsys.readouterr().err
    assert told.count("\n") == told.count("warning: --amp: ") == warned
    if warned:
        assert f"in bfloat16 the encoder takes {1000 * slow[0]:.0f} ms, in float32 {1000 * fast[0]:.0f} ms" in told
        assert "leave it out" in told


def test_the_precisions_take_turns_and_slow_ones_are_not_repeated(encoder, capsys):
    for seconds, expected in ((0.01, 8), (2.0, 4)):
        runs = []
        bfloat16.warn_if_slower(encoder(seconds, runs=runs), encoder(seconds / 2, runs=runs))
        assert runs == [(seconds,), (seconds / 2,)] * (expected // 2)
    capsys.readouterr()
