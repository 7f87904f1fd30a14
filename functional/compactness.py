"""The compactness prior: a query's weights should gather around at most two points (docs/method.md §3)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

PEAK_AT_TEST = 0.1  # a window whose largest weight exceeds this is replaced
PEAK_IN_TRAINING = 0.5  # a window whose largest weight exceeds this is pulled towards its Gaussians
LOSS_SCALE = 20.0  # of both sides of the smooth L1 loss
SIGMA = 1.0  # width of the Gaussians, in cells
REACH = 3  # cells from a Gaussian's centre: beyond, it is below 1e-19
WINDOWS_AT_ONCE = 4096  # whose values are gathered


def two_gaussians(weights: Tensor) -> Tensor:
    """The mixture of two Gaussians at a window's two largest weights, [N, P*P] -> [N, P*P]; no gradient.

    Mixed by the softmax of the two weights; cut off at the window's edge and not normalised.
    """
    count = weights.shape[-1]
    size = math.isqrt(count)
    largest, cells = weights.detach().topk(min(2, count), dim=-1)  # [N, 2]
    share = largest.softmax(-1)
    steps = torch.arange(size, device=weights.device)

    def bell(centre: Tensor) -> Tensor:  # [N, 2] -> [N, 2, P]
        squares = (steps - centre[..., None]).to(weights.dtype).square()
        return torch.exp(-4 * math.log(2) / SIGMA**2 * squares)

    rows, columns = bell(cells // size), bell(cells % size)
    return ((share[..., None] * rows).transpose(1, 2) @ columns).flatten(1)


def two_largest(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two largest entries of each block [..., h, w] of more than one cell, and their rows and columns, [..., 2].

    Of equal ones the first, row by row. Reference: finds them among weights, where all but the largest may be 0.
    """
    lines = logits.flatten(0, -3)  # [N, h, w]
    every = torch.arange(len(lines), device=logits.device)
    of_rows = lines.amax(-1)
    first, row = of_rows.max(-1)
    line = lines[every, row]  # [N, w]
    column = line.max(-1)[1]  # faster than argmax
    line = line.scatter(-1, column[:, None], -math.inf)
    second, second_row = of_rows.scatter(-1, row[:, None], line.amax(-1, keepdim=True)).max(-1)
    other = torch.where((second_row == row)[:, None], line, lines[every, second_row])
    pairs = (first, second), (row, second_row), (column, other.max(-1)[1])
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
    """Σ G · value of N windows of size×size cells, G the mixture of two Gaussians around two of their cells.

    values: [B, K, H, W]; samples: [N]; starts: row and column of each window's first cell, [N, 2]; cells: the centres'
    row and column in the window, [N, 2, 2]; weights: their softmax mixes the two, [N, 2]; fractions: how much further
    down and to the right values are read, bilinearly, [N, 2], or None -> [N, K].
    A Gaussian is the product of one along a row and one along a column; the former are summed everywhere at once.
    """
    bells = _bells(size).to(values)
    kernels, kernel_of = bells.unique(dim=0, return_inverse=True)  # most cells of a row see a whole Gaussian
    margin = size + REACH + 1  # zeros for every window that `first_cells` yields
    padded = F.pad(values, (margin + REACH, margin + REACH, margin, margin)).flatten(0, 1)[:, None]
    summed = F.conv2d(padded, kernels[:, None, None]).unflatten(0, values.shape[:2])  # [B, K, kernels, H', W']
    _, _, count, height, width = summed.shape
    table = summed.permute(0, 2, 3, 4, 1).flatten(0, 3)  # [B*kernels*H'*W', K]
    steps = torch.arange(2 * REACH + 2, device=values.device)
    parts = [values.new_empty(0, values.shape[1])]
    for chosen in torch.arange(len(samples), device=values.device).split(WINDOWS_AT_ONCE):
        row, column = cells[chosen].unbind(2)  # [n, 2]
        rows, columns = (starts[chosen, None] + cells[chosen] + margin).unbind(2)
        planes = samples[chosen, None] * count + kernel_of[column]
        at = ((planes * height + rows - REACH)[..., None] + steps) * width + columns[..., None]  # [n, 2, steps]
        found, down = table[at], F.pad(bells[row], (0, 1))
        if fractions is not None:
            y, x = (fraction[:, None, None] for fraction in fractions[chosen].unbind(1))
            found = torch.lerp(found, table[at + 1], x[..., None])
            down = torch.lerp(down, F.pad(bells[row], (1, 0)), y)
        parts.append(torch.einsum("ncik,nc,nci->nk", found, weights[chosen].softmax(1), down))
    return torch.cat(parts)


def _bells(size: int) -> Tensor:
    """A Gaussian around each cell of a row of `size` cells, seen up to `REACH` away: 0 outside, [size, 2·REACH + 1]."""
    steps = torch.arange(-REACH, REACH + 1)
    around = torch.arange(size)[:, None] + steps
    return torch.exp(-4 * math.log(2) / SIGMA**2 * steps.double().square()) * ((around >= 0) & (around < size))


def compactness_loss(weights: Tensor) -> Tensor:
    """In training: smooth L1 between peaked windows and their two Gaussians, mean over all windows' cells.

    weights: [B, P*P, H, W], after the softmax. The gradient goes through the weights alone.
    """
    windows = weights.movedim(1, -1)
    rows = windows[windows.detach().amax(-1) > PEAK_IN_TRAINING]  # [N, P*P]
    loss = F.smooth_l1_loss(LOSS_SCALE * rows, LOSS_SCALE * two_gaussians(rows), reduction="sum")
    return loss / weights.numel()
