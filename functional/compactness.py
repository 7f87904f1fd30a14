"""The compactness prior: a query's weights should concentrate around at most two cells (docs/method.md §3)."""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.scratch import limit

PEAK_AT_TEST = 0.1  # windows whose largest weight exceeds this are replaced
PEAK_IN_TRAINING = 0.5  # only windows whose largest weight exceeds this contribute to the loss
LOSS_SCALE = 20.0  # factor of both arguments of the smooth L1 loss
SIGMA = 1.0  # full width at half maximum of the Gaussians, in cells
REACH = 3  # radius of the Gaussians, in cells; beyond it they are below 1e-19
WINDOWS_AT_ONCE = {"cpu": 4096, "cuda": 65536}  # bounds the memory for gathered values


def two_gaussians(weights: Tensor) -> Tensor:
    """Compute a mixture of two Gaussians centred on each window's two largest weights, [N, P*P] -> [N, P*P].

    The coefficients are the softmax of the two weights; the Gaussians are truncated and not normalised. No gradient.
    """
    count = weights.shape[-1]
    size = math.isqrt(count)
    largest, cells = weights.detach().topk(min(2, count), dim=-1)  # [N, 2]
    mixture = largest.softmax(-1)
    steps = torch.arange(size, device=weights.device)

    def gaussian(centre: Tensor) -> Tensor:  # [N, 2] -> [N, 2, P]
        squares = (steps - centre[..., None]).to(weights.dtype).square()
        return torch.exp(-4 * math.log(2) / SIGMA**2 * squares)

    rows, columns = gaussian(cells // size), gaussian(cells % size)
    return ((mixture[..., None] * rows).transpose(1, 2) @ columns).flatten(1)


def two_largest(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two largest entries of each block [..., h, w], and their rows and columns, [..., 2] each; h·w > 1.

    Ties are resolved in row-major order. The reference implementation uses the weights, which may tie by underflow.
    """
    blocks = logits.flatten(0, -3)  # [N, h, w]
    indices = torch.arange(len(blocks), device=logits.device)
    row_maxima = blocks.amax(-1)
    first, row = row_maxima.max(-1)
    rest = blocks[indices, row]  # the row of the largest entry, [N, w]
    column = rest.max(-1)[1]  # faster than argmax
    rest = rest.scatter(-1, column[:, None], -math.inf)
    second, second_row = row_maxima.scatter(-1, row[:, None], rest.amax(-1, keepdim=True)).max(-1)
    candidates = torch.where((second_row == row)[:, None], rest, blocks[indices, second_row])
    pairs = (first, second), (row, second_row), (column, candidates.max(-1)[1])
    return tuple(torch.stack(pair, -1).unflatten(0, logits.shape[:-2]) for pair in pairs)


def read_gaussians(
    values: Tensor,
    samples: Tensor,
    starts: Tensor,
    cells: Tensor,
    weights: Tensor,
    fractions: Tensor | None,
    size: int,
) -> Tensor:
    """Compute Σ G · value for N windows of size×size cells, G a mixture of two Gaussians centred on two of the cells.

    values: [B, K, H, W]; samples: batch index of each window [N]; starts: row and column of its first cell [N, 2];
    cells: rows and columns of the two centres in the window [N, 2, 2]; weights: their softmax mixes the Gaussians
    [N, 2]; fractions: None, or offsets (y, x) in 0 … 1 at which values are read bilinearly [N, 2] -> [N, K].
    Gaussians are separable: the values are filtered along rows once, then along columns for each window.
    """
    gaussians, kernels, kernel_index = (table.to(values.device) for table in _truncated_gaussians(size))
    gaussians, kernels = gaussians.to(values.dtype), kernels.to(values.dtype)
    margin = size + REACH + 1  # of zeros, enough for all windows of `first_cells`
    padded = F.pad(values, (margin + REACH, margin + REACH, margin, margin)).flatten(0, 1)[:, None]
    filtered = F.conv2d(padded, kernels[:, None, None]).unflatten(0, values.shape[:2])  # [B, K, kernels, H', W']
    _, _, count, height, width = filtered.shape
    table = filtered.permute(0, 2, 3, 4, 1).flatten(0, 3)  # [B*kernels*H'*W', K]
    steps = torch.arange(2 * REACH + 2, device=values.device)
    parts = [values.new_empty(0, values.shape[1])]
    at_once = limit(WINDOWS_AT_ONCE, values.device)
    for first in range(0, len(samples), at_once):
        chosen = slice(first, first + at_once)
        row, column = cells[chosen].unbind(2)  # [n, 2]
        rows, columns = (starts[chosen, None] + cells[chosen] + margin).unbind(2)
        planes = samples[chosen, None] * count + kernel_index[column]
        indices = ((planes * height + rows - REACH)[..., None] + steps) * width + columns[..., None]  # [n, 2, steps]
        sums, row_weights = table[indices], F.pad(gaussians[row], (0, 1))
        if fractions is not None:
            y, x = (fraction[:, None, None] for fraction in fractions[chosen].unbind(1))
            sums = torch.lerp(sums, table[indices + 1], x[..., None])
            row_weights = torch.lerp(row_weights, F.pad(gaussians[row], (1, 0)), y)
        parts.append(torch.einsum("ncik,nc,nci->nk", sums, weights[chosen].softmax(1), row_weights))
    return torch.cat(parts)


@cache
def _truncated_gaussians(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The Gaussian around each cell of a row, at offsets -REACH … REACH, 0 outside the row: [size, 2·REACH + 1].

    Also the different ones among them (they differ only near the ends of the row), and which of these each one is.
    """
    steps = torch.arange(-REACH, REACH + 1)
    cells = torch.arange(size)[:, None] + steps
    gaussians = torch.exp(-4 * math.log(2) / SIGMA**2 * steps.double().square()) * ((cells >= 0) & (cells < size))
    return gaussians, *gaussians.unique(dim=0, return_inverse=True)


def compactness_loss(weights: Tensor) -> Tensor:
    """Smooth L1 loss between the weights of peaked windows and their two Gaussians, mean over the cells of all windows.

    weights: [B, P*P, H, W], after the softmax. The gradient flows through the weights only.
    """
    windows = weights.movedim(1, -1)
    rows = windows[windows.detach().amax(-1) > PEAK_IN_TRAINING]  # [N, P*P]
    loss = F.smooth_l1_loss(LOSS_SCALE * rows, LOSS_SCALE * two_gaussians(rows), reduction="sum")
    return loss / weights.numel()
