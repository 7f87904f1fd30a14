"""Time of the operators of one propagation step, relative to the matrix products of their windows.

Features of a 480×854 frame, [1, 64, 120, 214], five references, windows of radius 14. The baseline, "the products
alone", multiplies as many numbers as the windows hold, in matrix products of a convenient shape.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.measure import Work, medians, parser, show, write
from functional.attention import attend
from functional.correlation import correlate
from functional.long_range_search import expected_offset
from utils.errors import run_main

RADIUS, CHANNELS, HEIGHT, WIDTH = 14, 64, 120, 214
LIMIT = "the products alone"


def main() -> None:
    """Measure and print one table."""
    options = parser(__doc__)
    options.add_argument("--labels", type=int, default=2, help="label channels")
    arguments = options.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    query, *keys = (smooth(device) for _ in range(6))
    labels = torch.randint(arguments.labels, (5, 1, HEIGHT, WIDTH), device=device)
    values = F.one_hot(labels, arguments.labels).movedim(-1, 2).float().unbind()
    fast, slow = fast_operators(query, keys, values), slow_operators(query, keys, values)
    with torch.inference_mode():
        rows = medians(fast, arguments.runs, device) | medians(slow, 1, device)
        torch.testing.assert_close(attend(query, keys, values, RADIUS), cell_by_cell(query, keys, values))
    show(f"Five references, {arguments.labels} label channels", rows, "s", limit=LIMIT)
    write(arguments.json, {"labels": arguments.labels, "seconds": rows}, device)


def fast_operators(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Work:
    """The baseline and the operators that propagation uses."""
    offsets = [4 * smooth(query.device)[:, :2] if t < 2 else None for t in range(5)]
    return {
        LIMIT: lambda: products_alone(query.device),
        "attend": lambda: attend(query, keys, values, RADIUS),
        "attend, prior": lambda: attend(query, keys, values, RADIUS, prior=True),
        "attend, two of five searched": lambda: attend(query, keys, values, RADIUS, offsets=offsets),
        "attend, two of five searched, prior": lambda: attend(query, keys, values, RADIUS, offsets=offsets, prior=True),
        "search of one reference, dilation 2": lambda: expected_offset(query, keys[0], RADIUS, 2),
        "search of one reference, dilation 4": lambda: expected_offset(query, keys[0], RADIUS, 4),
    }


def slow_operators(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Work:
    """The operators that are timed only once: the definition, and the optional backend if it is installed."""
    slow: Work = {"attend, cell by cell": lambda: cell_by_cell(query, keys, values)}
    if sampler_installed():
        slow["attend, --backend sampler"] = lambda: attend(query, keys, values, RADIUS, backend="sampler")
    return slow


def smooth(device: torch.device) -> Tensor:
    """Spatially smooth features [1, 64, 120, 214], as those of real frames are."""
    coarse = torch.randn(1, CHANNELS, HEIGHT // 8, WIDTH // 8) / 4  # logits of a few units
    maps = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").to(device)
    return maps.contiguous(memory_format=torch.channels_last)


def products_alone(device: torch.device, queries: int = 240) -> None:
    """Dot products of every query with 5·P² keys."""
    left = torch.ones(queries, CHANNELS, device=device)
    right = torch.ones(CHANNELS, 5 * (2 * RADIUS + 1) ** 2, device=device)
    out = torch.empty(queries, right.shape[1], device=device)
    for _ in range(HEIGHT * WIDTH // queries):
        torch.matmul(left, right, out=out)


def cell_by_cell(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention by its definition: all logits in memory, one cell of the windows at a time, one softmax."""
    cells = [(i, j) for i in range(2 * RADIUS + 1) for j in range(2 * RADIUS + 1)]
    logits = query.new_empty(len(keys), len(cells), HEIGHT, WIDTH)
    for t, key in enumerate(keys):
        padded = F.pad(key, (RADIUS,) * 4)
        for n, (i, j) in enumerate(cells):
            logits[t, n] = (query * padded[..., i : i + HEIGHT, j : j + WIDTH]).sum(1)[0]
    weights = logits.flatten(0, 1).softmax(0).view_as(logits)
    result = torch.zeros_like(values[0])
    for t, value in enumerate(values):
        padded = F.pad(value, (RADIUS,) * 4)
        for n, (i, j) in enumerate(cells):
            result += weights[t, n] * padded[..., i : i + HEIGHT, j : j + WIDTH]
    return result


def sampler_installed() -> bool:
    """Whether the optional correlation backend is installed."""
    try:
        correlate(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), radius=0, backend="sampler")
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    run_main(main)
