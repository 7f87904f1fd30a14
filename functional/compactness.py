"""The compactness prior: a query's weights should gather around at most two points (docs/method.md §3)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

PEAK_AT_TEST = 0.1  # a window whose largest weight exceeds this is replaced
PEAK_IN_TRAINING = 0.5  # a window whose largest weight exceeds this is pulled towards its Gaussians
LOSS_SCALE = 20.0  # of both sides of the smooth L1 loss
SIGMA = 1.0  # width of the Gaussians, in cells
REACH = 3  # cells from a Gaussian's centre: beyond, it is below 1e-19 and only slows arithmetic down


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


def bells(size: int, starts: int, *, like: Tensor) -> Tensor:
    """Gaussians along one axis of a block, 0 outside the window and beyond `REACH`: [start of window, centre, cell].

    The window has `size` cells and starts at 0 … starts - 1.
    """
    cells = torch.arange(starts + size - 1)
    start, centre, cell = torch.meshgrid(torch.arange(starts), cells, cells, indexing="ij")
    seen = (cell >= start) & (cell < start + size) & ((cell - centre).abs() <= REACH)
    return (torch.exp(-4 * math.log(2) / SIGMA**2 * (cell - centre).double().square()) * seen).to(like)


def compactness_loss(weights: Tensor) -> Tensor:
    """In training: smooth L1 between peaked windows and their two Gaussians, mean over all windows' cells.

    weights: [B, P*P, H, W], after the softmax. The gradient goes through the weights alone.
    """
    windows = weights.movedim(1, -1)
    rows = windows[windows.detach().amax(-1) > PEAK_IN_TRAINING]  # [N, P*P]
    loss = F.smooth_l1_loss(LOSS_SCALE * rows, LOSS_SCALE * two_gaussians(rows), reduction="sum")
    return loss / weights.numel()
