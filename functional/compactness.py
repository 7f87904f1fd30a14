"""The compactness prior: a query's weights should gather around at most two points (docs/method.md §3)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

PEAK_AT_TEST = 0.1  # a window whose largest weight exceeds this is replaced
PEAK_IN_TRAINING = 0.5  # a window whose largest weight exceeds this is pulled towards its Gaussians
LOSS_SCALE = 20.0  # of both sides of the smooth L1 loss
SIGMA = 1.0  # width of the Gaussians, in cells


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


def compactness_prior(weights: Tensor) -> Tensor:
    """At test: every window whose largest weight exceeds `PEAK_AT_TEST` becomes its two Gaussians; others stay.

    weights: [..., P*P], one window per row, after the joint softmax; nothing is renormalised.
    """
    peaked = weights.amax(-1) > PEAK_AT_TEST
    rows = weights[peaked]
    if not len(rows):
        return weights
    return weights.index_put((peaked,), two_gaussians(rows))


def compactness_loss(weights: Tensor) -> Tensor:
    """In training: smooth L1 between peaked windows and their two Gaussians, mean over all windows' cells.

    weights: [B, P*P, H, W], after the softmax. The gradient goes through the weights alone.
    """
    windows = weights.movedim(1, -1)
    rows = windows[windows.detach().amax(-1) > PEAK_IN_TRAINING]  # [N, P*P]
    loss = F.smooth_l1_loss(LOSS_SCALE * rows, LOSS_SCALE * two_gaussians(rows), reduction="sum")
    return loss / weights.numel()
