"""Local attention to all reference frames at once, which propagates labels from frame to frame (docs/method.md §3).

Reference frames are processed one after the other. Each window yields the log of its softmax's denominator and its mean
value; a softmax of the former over the reference frames weights the latter, which equals one softmax over all windows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from functional.buckets import first_cells
from functional.compactness import PEAK_AT_TEST, read_gaussians, two_largest
from functional.scratch import Scratch
from functional.tiles import Tiles
from functional.windows import CentredWindows, Reading, ShiftedWindows, Windows, merge


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
    scratch, groups = Scratch(query, *keys, *values), []
    for shifted in (False, True):  # frames with the same kind of windows together: fewer, larger operations
        chosen = [i for i, offset in enumerate(offsets) if (offset is not None) is shifted]
        if chosen:
            some_values = torch.stack([values[i] for i in chosen])  # [T, B, K, H, W]
            shifts = torch.stack([offset for offset in offsets if offset is not None]) if shifted else None
            frames = [keys[i] for i in chosen], some_values, shifts, radius
            readings = []
            if backend == "triton":
                from functional.triton_kernels import read_references

                readings = read_references(query, *frames, prior=prior)
            else:
                for windows in windows_in(query, *frames, backend):
                    readings.append(read_windows(windows, scratch, prior=prior))
            groups.append((merge(readings, torch.cat).unflatten(len(chosen)), some_values, shifts))
    log_total = torch.cat([reading.log_sum for reading, _, _ in groups]).logsumexp(0)  # [B, 1, H, W]
    return torch.stack([sum_of_means(*group, log_total, radius, prior=prior) for group in groups]).sum(0)


def windows_in(
    query: Tensor, keys: Sequence[Tensor], values: Tensor, offsets: Tensor | None, radius: int, backend: str
) -> list[Windows]:
    """Return the windows of T reference frames: of each frame if they are centred, of all as one batch if shifted.

    query: [B, C, H, W]; keys: T of the same shape; values: [T, B, K, H, W]; offsets: None or [T, B, 2, H, W].
    """
    if offsets is None:
        tiles = Tiles(query, radius)
        return [CentredWindows(query, key, value, tiles, backend) for key, value in zip(keys, values, strict=True)]
    batch = query.repeat(len(keys), 1, 1, 1), torch.cat(list(keys)), values.flatten(0, 1), offsets.flatten(0, 1)
    return [ShiftedWindows(*batch, radius)]


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
            cells = row - block.rows[..., None], column - block.columns[..., None]
            readings.append(Reading(log_sum[:, None], mean, peaks.mT, *(cell.mT for cell in cells)))
        else:
            log_sum = logits.amax(-1) - weights.amax(-1).log()
            readings.append(Reading(log_sum[:, None], mean))
    return windows.assemble(readings)


def sum_of_means(
    reading: Reading, values: Tensor, offsets: Tensor | None, log_total: Tensor, radius: int, *, prior: bool
) -> Tensor:
    """Compute Σ weight · value over the windows of T reference frames -> [B, K, H, W].

    reading: [T, B, channels, H, W]; values, offsets: as in `windows_in`; log_total: log of the joint softmax's
    denominator, [B, 1, H, W].
    """
    parts = (reading.log_sum - log_total).exp() * reading.mean  # [T, B, K, H, W]
    if prior:
        replace_peaked_(parts, reading, values, offsets, log_total, radius)
    return parts.sum(0)


def replace_peaked_(
    parts: Tensor,
    reading: Reading,
    values: Tensor,
    offsets: Tensor | None,
    log_total: Tensor,
    radius: int,
) -> None:
    """Apply the compactness prior in place: where a window's largest weight exceeds the threshold, use Gaussians.

    parts, values: the windows' contributions to the result and the values, [T, B, K, H, W], of T reference frames;
    reading: [T, B, channels, H, W]; offsets: [T, B, 2, H, W], or None for centred windows; log_total: [B, 1, H, W].
    """
    assert reading.peaks is not None and reading.peak_rows is not None and reading.peak_columns is not None
    weights = (reading.peaks - log_total).exp().detach().movedim(2, -1)  # [T, B, H, W, 2]
    peaked = (weights[..., 0] > PEAK_AT_TEST).nonzero(as_tuple=True)  # a device waits here; frame, sample, row, column
    frame, sample, row, column = peaked
    queries = torch.stack((row, column), 1)
    if offsets is None:
        starts, fractions = queries - radius, None
    else:
        shifts = offsets.movedim(2, -1)[peaked].flip(1)  # (y, x), [N, 2]
        starts = first_cells(queries, shifts, (parts.shape[3], parts.shape[4]), radius)
        fractions = shifts - shifts.detach().floor()
    parts.movedim(2, -1)[peaked] = read_gaussians(
        values.flatten(0, 1),
        samples=frame * parts.shape[1] + sample,
        starts=starts,
        cells=torch.stack((reading.peak_rows, reading.peak_columns), -1).movedim(2, -2)[peaked].long(),
        weights=weights[peaked],
        fractions=fractions,
        size=2 * radius + 1,
    )
