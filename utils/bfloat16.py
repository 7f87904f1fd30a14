"""Whether bfloat16 is faster than float32 on this processor: those without instructions for it convert every value."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from utils.errors import warn

SIDE = 128  # pixels of the frame that is encoded
RUNS = 3  # of each precision, after one that prepares it
LONGEST = 1.0  # seconds after which none is repeated


def warn_if_slower(bfloat16: Callable[[Tensor], object], float32: Callable[[Tensor], object]) -> None:
    """Encode a black frame [1, 3, 128, 128] on the CPU by two encoders in turns; warn if bfloat16 takes longer.

    The encoders must not keep statistics of their input.
    """
    frame = torch.zeros(1, 3, SIDE, SIDE)
    began = time.perf_counter()
    _seconds(bfloat16, frame), _seconds(float32, frame)
    slow = fast = float("inf")
    for _ in range(RUNS):
        slow, fast = min(slow, _seconds(bfloat16, frame)), min(fast, _seconds(float32, frame))
        if time.perf_counter() - began > LONGEST:
            break
    if slow > fast:
        times = f"in bfloat16 the encoder takes {1000 * slow:.0f} ms, in float32 {1000 * fast:.0f} ms"
        warn(f"--amp: {times} for a small frame on this processor; leave it out")


def _seconds(encode: Callable[[Tensor], object], frame: Tensor) -> float:
    start = time.perf_counter()
    encode(frame)
    return time.perf_counter() - start
