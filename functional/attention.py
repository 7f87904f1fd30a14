"""Local attention to all reference frames at once, which propagates labels from frame to frame (docs/method.md §3).

Reference frames are processed one after the other. Each window yields the log of its softmax's denominator and its mean
value; a softmax of the former over the reference frames weights the latter, which equals one softmax over all windows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from functional.compactness import PEAK_AT_TEST, read_gaussians, two_largest
from functional.scratch import Scratch
from functional.tiles import Tiles, first_cells
from functional.windows import CentredWindows, Reading, ShiftedWindows, Windows


def attend(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    radius: int,
    *,
    offsets: Sequence[Tensor | None] | None = None,
    prior: bool = False,
    backend: str = "native",
) -> Tensor:
    """Compute Σ weight · value, the weights from a joint softmax over the windows of all T reference frames.

    query: [B, C, H, W]; keys: T of [B, C, H, W]; values: T of [B, K, H, W] -> [B, K, H, W].
    A cell outside the frame has logit 0, keeps its share of the softmax, and has value 0.
    offsets: for each reference frame None (windows centred on their queries) or their shifts (dx, dy) [B, 2, H, W].
    prior: apply the compactness prior to the weights of each window; the radius must not be 0.
    """
    offsets = [None] * len(keys) if offsets is None else offsets
    if not len(keys) == len(values) == len(offsets):
        raise ValueError(f"{len(keys)} keys, {len(values)} values and {len(offsets)} offsets must be as many")
    tiles, scratch, readings = Tiles(query, radius), Scratch(query, *keys, *values), []
    for key, value, offset in zip(keys, values, offsets, strict=True):
        if backend == "triton":
            from functional.triton_kernels import read_reference

            readings.append(read_reference(query, key, value, offset, radius, prior=prior))
        elif offset is None:
            readings.append(read_windows(CentredWindows(query, key, value, tiles, backend), scratch, prior=prior))
        else:
            readings.append(read_windows(ShiftedWindows(query, key, value, offset, radius), scratch, prior=prior))
    log_total = torch.stack([reading.log_sum for reading in readings]).logsumexp(0)  # [B, 1, H, W]
    result = torch.zeros_like(values[0])
    for reading, value, offset in zip(readings, values, offsets, strict=True):
        part = (reading.log_sum - log_total).exp() * reading.mean
        if prior:
            replace_peaked_(part, reading, log_total, value, offset, radius)
        result += part
    return result


def read_windows(windows: Windows, scratch: Scratch, *, prior: bool) -> Reading:
    """Compute the softmax of each window: log of the denominator and mean value; with the prior, two largest logits."""
    readings = []
    for block in windows.blocks(scratch):
        logits = block.logits
        weights = torch.softmax(logits, -1, out=scratch("weights", logits, *logits.shape))
        mean = block.values.flatten(2) @ weights.mT
        if prior:
            peaks, row, column = two_largest(logits.unflatten(2, block.values.shape[2:]))  # [n, queries, 2] each
            log_sum = peaks[..., 0] - weights.amax(-1).log()
            cells = row - block.rows[:, None], column - block.columns[:, None]
            readings.append(Reading(log_sum[:, None], mean, peaks.mT, *(cell.mT for cell in cells)))
        else:
            log_sum = logits.amax(-1) - weights.amax(-1).log()
            readings.append(Reading(log_sum[:, None], mean))
    return windows.assemble(readings)


def replace_peaked_(
    part: Tensor, reading: Reading, log_total: Tensor, value: Tensor, offset: Tensor | None, radius: int
) -> None:
    """Apply the compactness prior in place: where a window's largest weight exceeds the threshold, use Gaussians.

    part: the windows' contribution to the result, [B, K, H, W], for one reference frame; log_total: log of the joint
    softmax's denominator, [B, 1, H, W].
    """
    assert reading.peaks is not None and reading.peak_rows is not None and reading.peak_columns is not None
    weights = (reading.peaks - log_total).exp().detach()  # [B, 2, H, W]
    peaked = weights[:, 0] > PEAK_AT_TEST  # [B, H, W]
    fractions = None if offset is None else (offset - offset.detach().floor()).flip(1).movedim(1, -1)[peaked]
    offset = part.new_zeros(len(part), 2, *part.shape[2:]) if offset is None else offset
    part.movedim(1, -1)[peaked] = read_gaussians(
        value,
        samples=peaked.nonzero()[:, 0],
        starts=torch.stack(first_cells(offset, radius), -1)[peaked],
        cells=torch.stack((reading.peak_rows, reading.peak_columns), -1).movedim(1, -2)[peaked].long(),
        weights=weights.movedim(1, -1)[peaked],
        fractions=fractions,
        size=2 * radius + 1,
    )
