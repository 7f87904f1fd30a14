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
    of_rows = logits.amax(-1)
    first, row = of_rows.max(-1, keepdim=True)
    line = logits.gather(-2, row[..., None].expand(*row.shape, logits.shape[-1])).squeeze(-2)  # [..., w]
    column = line.argmax(-1, keepdim=True)
    line = line.scatter(-1, column, -math.inf)
    second, second_row = of_rows.scatter(-1, row, line.amax(-1, keepdim=True)).max(-1, keepdim=True)
    other = logits.gather(-2, second_row[..., None].expand(*row.shape, logits.shape[-1])).squeeze(-2)
    second_column = torch.where(second_row == row, line, other).argmax(-1, keepdim=True)
    return torch.cat((first, second), -1), torch.cat((row, second_row), -1), torch.cat((column, second_column), -1)


def read_gaussians(
    values: Tensor, samples: Tensor, starts: Tensor, cells: Tensor, weights: Tensor, fractions: Tensor, size: int
) -> Tensor:
    """Σ G · value of N windows of size×size cells, G the mixture of two Gaussians around two of their cells.

    values: [B, K, H, W]; samples: [N]; starts: row and column of each window's first cell, [N, 2]; cells: the centres'
    row and column in the window, [N, 2, 2]; weights: their softmax mixes the two, [N, 2]; fractions: how much further
    down and to the right values are read, bilinearly, [N, 2] -> [N, K].
    """
    margin, extent = size + REACH + 1, 2 * REACH + 2  # zeros for every window that `first_cells` yields
    patches = F.pad(values, (margin,) * 4).unfold(2, extent, 1).unfold(3, extent, 1)  # [B, K, …, …, extent, extent]
    parts = [values.new_empty(0, values.shape[1])]
    for chosen in torch.arange(len(samples), device=values.device).split(WINDOWS_AT_ONCE):
        rows, columns = (starts[chosen, None] + cells[chosen] + margin - REACH).unbind(2)  # [n, 2]
        of_windows = patches[samples[chosen, None], :, rows, columns]  # [n, 2, K, extent, extent]
        down, along = (_taps(cells[chosen, :, axis], fractions[chosen, axis], size) for axis in (0, 1))
        share = weights[chosen].softmax(1)
        parts.append(torch.einsum("nckij,nc,nci,ncj->nk", of_windows, share, down, along))
    return torch.cat(parts)


def _taps(cells: Tensor, fractions: Tensor, size: int) -> Tensor:
    """Gaussians along one axis, 0 outside the window, read `fractions` of a cell further on.

    cells: their centres in windows of `size` cells, [n, 2]; fractions: [n] -> [n, 2, 2·REACH + 2].
    """
    steps = torch.arange(-REACH, REACH + 1, device=cells.device)
    around = cells[..., None] + steps
    bell = torch.exp(-4 * math.log(2) / SIGMA**2 * steps.to(fractions).square()) * ((around >= 0) & (around < size))
    return torch.lerp(F.pad(bell, (0, 1)), F.pad(bell, (1, 0)), fractions[:, None, None])


def compactness_loss(weights: Tensor) -> Tensor:
    """In training: smooth L1 between peaked windows and their two Gaussians, mean over all windows' cells.

    weights: [B, P*P, H, W], after the softmax. The gradient goes through the weights alone.
    """
    windows = weights.movedim(1, -1)
    rows = windows[windows.detach().amax(-1) > PEAK_IN_TRAINING]  # [N, P*P]
    loss = F.smooth_l1_loss(LOSS_SCALE * rows, LOSS_SCALE * two_gaussians(rows), reduction="sum")
    return loss / weights.numel()
