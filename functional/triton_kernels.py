"""Triton kernels for CUDA, which process windows and negatives without writing their logits to memory.

They are equivalent to the native code in functional/attention.py and functional/reconstruction.py, and tested against
it. Imported only for `--backend triton`. With TRITON_INTERPRET=1 they run on a CPU, slowly.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from functional.windows import Reading

TILE = 8  # queries on a side of a tile
CELLS = 64  # cells of a block that are processed at a time
SMALLEST = 16  # smallest matrix side that tl.dot supports


def read_reference(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor | None, radius: int, *, prior: bool
) -> Reading:
    """Process the windows of one reference frame as `functional.attention.read_windows`.

    query, key: [B, C, H, W]; value: [B, K, H, W]; offset: None, or the windows' shifts (dx, dy) [B, 2, H, W].
    """
    (batch, channels, height, width), labels = query.shape, value.shape[1]
    planes = (1, labels, 2, 2, 2) if prior else (1, labels)
    out = query.new_empty(batch, sum(planes), height, width)
    query, key, value = (maps.contiguous(memory_format=torch.channels_last) for maps in (query, key, value))
    sizes = {"C": channels, "K": labels, "R": radius, "PRIOR": prior, "C2": _side(channels), "K2": _side(labels)}
    if offset is None:
        grid = triton.cdiv(height, TILE) * triton.cdiv(width, TILE), batch
        _centred[grid](query, key, value, out, height, width, TILE=TILE, CELLS=CELLS, **sizes)
    else:
        row = triton.next_power_of_2(2 * radius + 1)
        _searched[(height * width, batch)](query, key, value, offset.contiguous(), out, height, width, ROW=row, **sizes)
    return Reading(*out.split(planes, 1))


def read_references(
    query: Tensor, keys: Sequence[Tensor], values: Tensor, offsets: Tensor | None, radius: int, *, prior: bool
) -> list[Reading]:
    """Process the windows of T reference frames, one after the other; arguments as in `windows_in`."""
    shifts = [None] * len(keys) if offsets is None else offsets
    frames = zip(keys, values, shifts, strict=True)
    return [read_reference(query, key, value, shift, radius, prior=prior) for key, value, shift in frames]


def read_negatives(queries: Tensor, keys: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Compute log Σ exp(<query, key>) over the keys at each position, and the mean key weighted by the softmax.

    queries: [W, B·n, C]; keys: [W, N, C]; used: selection for each sample, [B, N] bool -> [W, B·n], [W, B·n, C].
    """
    width, count, channels = queries.shape
    log_sum, mean = queries.new_empty(width, count), torch.empty_like(queries)
    grid = width, triton.cdiv(count, CELLS)
    samples = {"per_sample": count // len(used), "C": channels, "C2": _side(channels), "ROWS": CELLS, "CELLS": CELLS}
    _negatives[grid](queries, keys, used.to(torch.int8), log_sum, mean, count, keys.shape[1], **samples)
    return log_sum, mean


def _side(count: int) -> int:
    return max(SMALLEST, triton.next_power_of_2(count))


@triton.jit
def _accumulate(total, largest, mean, logits, values):
    """Online softmax: add logits [M, N], -inf where masked, and values [N, K] to the running sums."""
    peak = tl.maximum(largest, tl.max(logits, 1))
    base = tl.where(peak == float("-inf"), 0.0, peak)
    weights = tl.exp(logits - base[:, None])
    shrink = tl.exp(largest - base)
    mean = mean * shrink[:, None] + tl.dot(weights, values, input_precision="ieee")
    return total * shrink + tl.sum(weights, 1), peak, mean


@triton.jit
def _top2(first, first_cell, second, second_cell, logits, cells):
    """Update the two largest logits and their cells by logits [M, N] of cells [M, N]; ties keep the first cell."""
    FAR: tl.constexpr = 1 << 30
    new = tl.max(logits, 1)
    new_cell = tl.min(tl.where(logits == new[:, None], cells, FAR), 1)
    others = tl.where(cells == new_cell[:, None], float("-inf"), logits)
    next_ = tl.max(others, 1)
    next_cell = tl.min(tl.where((others == next_[:, None]) & (cells != new_cell[:, None]), cells, FAR), 1)
    better = new > first
    rival, rival_cell = tl.where(better, first, new), tl.where(better, first_cell, new_cell)
    other, other_cell = tl.where(better, next_, second), tl.where(better, next_cell, second_cell)
    # In a tie between an old and a new cell, keep the old one, which comes first.
    old_wins = tl.where(better, rival >= other, other >= rival)
    runner = tl.where(better, tl.where(old_wins, rival, other), tl.where(old_wins, other, rival))
    old_cell, new_one = tl.where(better, rival_cell, other_cell), tl.where(better, other_cell, rival_cell)
    runner_cell = tl.where(old_wins, old_cell, new_one)
    return tl.where(better, new, first), tl.where(better, new_cell, first_cell), runner, runner_cell


@triton.jit
def _write(
    out, at, plane, valid, total, largest, mean, second, first_cell, second_cell,
    P: tl.constexpr, K: tl.constexpr, K2: tl.constexpr, PRIOR: tl.constexpr,
):  # fmt: skip
    """Store the results of M windows in the planes of `out` at positions [M]."""
    tl.store(out + at, largest + tl.log(total), mask=valid)
    labels = tl.arange(0, K2)
    where = out + (1 + labels)[None, :] * plane + at[:, None]
    tl.store(where, mean / total[:, None], mask=valid[:, None] & (labels < K)[None, :])
    if PRIOR:
        rest = out + (1 + K) * plane + at
        tl.store(rest, largest, mask=valid)
        tl.store(rest + plane, second, mask=valid)
        tl.store(rest + 2 * plane, (first_cell // P).to(tl.float32), mask=valid)
        tl.store(rest + 3 * plane, (second_cell // P).to(tl.float32), mask=valid)
        tl.store(rest + 4 * plane, (first_cell % P).to(tl.float32), mask=valid)
        tl.store(rest + 5 * plane, (second_cell % P).to(tl.float32), mask=valid)


@triton.jit
def _centred(
    query, key, value, out, height, width,
    C: tl.constexpr, K: tl.constexpr, R: tl.constexpr, PRIOR: tl.constexpr,
    TILE: tl.constexpr, CELLS: tl.constexpr, C2: tl.constexpr, K2: tl.constexpr,
):  # fmt: skip
    """Process one tile of queries and its block of keys, `CELLS` cells at a time."""
    P: tl.constexpr = 2 * R + 1
    SIDE: tl.constexpr = TILE + 2 * R
    columns = tl.cdiv(width, TILE)
    top, left = tl.program_id(0) // columns * TILE, tl.program_id(0) % columns * TILE
    start = tl.program_id(1).to(tl.int64) * height * width
    own = tl.arange(0, TILE * TILE)
    row, column = own // TILE, own % TILE  # first cell of a query's window in the block
    valid = (top + row < height) & (left + column < width)
    at = (top + row) * width + left + column
    channels, labels = tl.arange(0, C2), tl.arange(0, K2)
    q = tl.load(query + (start + at)[:, None] * C + channels, mask=valid[:, None] & (channels < C), other=0.0)
    total = tl.zeros([TILE * TILE], tl.float32)
    largest = tl.full([TILE * TILE], float("-inf"), tl.float32)
    mean = tl.zeros([TILE * TILE, K2], tl.float32)
    second = tl.full([TILE * TILE], float("-inf"), tl.float32)
    first, first_cell, second_cell = second, tl.zeros([TILE * TILE], tl.int32), tl.zeros([TILE * TILE], tl.int32)
    for begin in range(0, SIDE * SIDE, CELLS):
        cell = begin + tl.arange(0, CELLS)
        y, x = cell // SIDE, cell % SIDE
        frame_y, frame_x = top + y - R, left + x - R
        inside = (frame_y >= 0) & (frame_y < height) & (frame_x >= 0) & (frame_x < width) & (y < SIDE)
        place = (start + frame_y * width + frame_x)[:, None]
        k = tl.load(key + place * C + channels, mask=inside[:, None] & (channels < C), other=0.0)
        v = tl.load(value + place * K + labels, mask=inside[:, None] & (labels < K), other=0.0)
        i, j = y[None, :] - row[:, None], x[None, :] - column[:, None]  # the cell in the window
        logits = tl.dot(q, tl.trans(k), input_precision="ieee")
        logits = tl.where((i >= 0) & (i < P) & (j >= 0) & (j < P), logits, float("-inf"))
        total, largest, mean = _accumulate(total, largest, mean, logits, v)
        if PRIOR:
            first, first_cell, second, second_cell = _top2(first, first_cell, second, second_cell, logits, i * P + j)
    plane = height * width
    numbers = 1 + K + 6 * PRIOR
    _write(
        out + tl.program_id(1).to(tl.int64) * numbers * plane, at, plane, valid,
        total, largest, mean, second, first_cell, second_cell, P, K, K2, PRIOR,
    )  # fmt: skip


@triton.jit
def _load_row(maps, start, y, x, part, height, width, channels, C: tl.constexpr):
    """Load row y of a map, interpolated between columns x and x + 1, [cells, channels]; 0 outside the frame."""
    y = tl.zeros_like(x) + y
    row = (y >= 0) & (y < height)
    near = tl.load(
        maps + (start + y * width + x)[:, None] * C + channels,
        mask=(row & (x >= 0) & (x < width))[:, None] & (channels < C), other=0.0,
    )  # fmt: skip
    far = tl.load(
        maps + (start + y * width + x + 1)[:, None] * C + channels,
        mask=(row & (x >= -1) & (x < width - 1))[:, None] & (channels < C), other=0.0,
    )  # fmt: skip
    return near + part * (far - near)


@triton.jit
def _searched(
    query, key, value, offset, out, height, width,
    C: tl.constexpr, K: tl.constexpr, R: tl.constexpr, PRIOR: tl.constexpr,
    ROW: tl.constexpr, C2: tl.constexpr, K2: tl.constexpr,
):  # fmt: skip
    """Process one query and its shifted window, row by row."""
    P: tl.constexpr = 2 * R + 1
    plane = height * width
    start = tl.program_id(1).to(tl.int64) * plane
    at = tl.program_id(0)
    dx, dy = tl.load(offset + 2 * start + at), tl.load(offset + 2 * start + plane + at)
    part_x, part_y = dx - tl.floor(dx), dy - tl.floor(dy)
    # Windows completely outside the frame are clamped, as in `first_cells`.
    centre_x = tl.minimum(tl.maximum(at % width + tl.floor(dx), -R - 2.0), width + R + 0.0).to(tl.int32)
    centre_y = tl.minimum(tl.maximum(at // width + tl.floor(dy), -R - 2.0), height + R + 0.0).to(tl.int32)
    channels, labels, cell = tl.arange(0, C2), tl.arange(0, K2), tl.arange(0, ROW)
    q = tl.load(query + (start + at) * C + channels, mask=channels < C, other=0.0)
    x, y = centre_x - R + cell, centre_y - R
    above = tl.sum(_load_row(key, start, y, x, part_x, height, width, channels, C) * q[None, :], 1)
    above_value = _load_row(value, start, y, x, part_x, height, width, labels, K)
    one = tl.arange(0, 1)
    total, largest = tl.zeros([1], tl.float32), tl.full([1], float("-inf"), tl.float32)
    mean, second = tl.zeros([1, K2], tl.float32), tl.full([1], float("-inf"), tl.float32)
    first, first_cell, second_cell = second, tl.zeros([1], tl.int32), tl.zeros([1], tl.int32)
    for i in range(P):
        keys = _load_row(key, start, y + i + 1, x, part_x, height, width, channels, C)
        below = tl.sum(keys * q[None, :], 1)
        below_value = _load_row(value, start, y + i + 1, x, part_x, height, width, labels, K)
        logits = tl.where(cell < P, above + part_y * (below - above), float("-inf"))[None, :]
        values = above_value + part_y * (below_value - above_value)
        peak = tl.maximum(largest, tl.max(logits, 1))
        weights, shrink = tl.exp(logits - peak[:, None]), tl.exp(largest - peak)
        mean = mean * shrink[:, None] + tl.sum(tl.trans(weights) * values, 0)[None, :]
        total, largest = total * shrink + tl.sum(weights, 1), peak
        if PRIOR:
            cells = (i * P + cell)[None, :]
            first, first_cell, second, second_cell = _top2(first, first_cell, second, second_cell, logits, cells)
        above, above_value = below, below_value
    numbers = 1 + K + 6 * PRIOR
    _write(
        out + tl.program_id(1).to(tl.int64) * numbers * plane, at + one, plane, one == 0,
        total, largest, mean, second, first_cell, second_cell, P, K, K2, PRIOR,
    )  # fmt: skip


@triton.jit
def _negatives(
    queries, keys, used, log_sum, mean_key, count, negatives, per_sample,
    C: tl.constexpr, C2: tl.constexpr, ROWS: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """Process `ROWS` queries around one key position and the negatives' keys at it, `CELLS` at a time."""
    position = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channels, valid = tl.arange(0, C2), row < count
    place = (position * count + row)[:, None] * C + channels
    q = tl.load(queries + place, mask=valid[:, None] & (channels < C), other=0.0)
    total, largest = tl.zeros([ROWS], tl.float32), tl.full([ROWS], float("-inf"), tl.float32)
    mean = tl.zeros([ROWS, C2], tl.float32)
    for begin in range(0, negatives, CELLS):
        n = begin + tl.arange(0, CELLS)
        in_queue = n < negatives
        where = (position * negatives + n)[:, None] * C + channels
        k = tl.load(keys + where, mask=in_queue[:, None] & (channels < C), other=0.0)
        selected = tl.load(used + (row // per_sample)[:, None] * negatives + n, mask=valid[:, None] & in_queue, other=0)
        logits = tl.where(selected != 0, tl.dot(q, tl.trans(k), input_precision="ieee"), float("-inf"))
        total, largest, mean = _accumulate(total, largest, mean, logits, k)
    tl.store(log_sum + position * count + row, largest + tl.log(total), mask=valid)
    tl.store(mean_key + place, mean / total[:, None], mask=valid[:, None] & (channels < C))
