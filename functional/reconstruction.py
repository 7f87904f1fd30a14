"""Reconstruction of a frame's colours from another frame, LIIR's training task (docs/method.md §6)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.correlation import correlate
from functional.scratch import Scratch, limit
from functional.tiles import pad_frame

LOGITS_AT_ONCE = {"cpu": 0, "cuda": 2**26}  # of negatives; on a CPU one row of positions, on a device 256 MiB
COLOUR_SCALE = 20.0  # factor of both arguments of the smooth L1 loss


@dataclass(frozen=True)
class Negatives:
    """Region keys of other videos, and the selection of them that each sample of the batch uses."""

    keys: Tensor  # [H, W, N, C], no gradient
    used: Tensor  # [B, N] bool, the same number in each row


def reconstruct(weights: Tensor, colours: Tensor) -> Tensor:
    """Compute Σ weight · colour over each window, 0 outside: [B, P*P, H, W], [B, K, H, W] -> [B, K, H, W]."""
    size = round(weights.shape[1] ** 0.5)
    windows = F.unfold(colours, size, padding=size // 2).unflatten(1, (colours.shape[1], -1))  # [B, K, P*P, H*W]
    return (weights.flatten(2)[:, None] * windows).sum(2).unflatten(2, weights.shape[-2:])


def reconstruct_inter(
    query: Tensor,
    key: Tensor,
    colours: Tensor,
    negatives: Negatives,
    radius: int,
    *,
    shifted_query: Tensor | None = None,
    backend: str = "native",
) -> Tensor:
    """Reconstruct colours with a softmax that also includes the windows of other videos, which contribute no colour.

    query, key: [B, C, H, W]; colours: [B, K, H, W] -> [B, K, H, W]. The negatives receive no gradient.
    shifted_query: query for the negatives [B, C, H, W], if not `query`.
    """
    logits = correlate(query, key, radius, backend=backend)
    negative = negatives_log_sum_exp(query if shifted_query is None else shifted_query, negatives, radius, backend)
    total = torch.logaddexp(logits.logsumexp(1), negative)
    return reconstruct((logits - total[:, None]).exp(), colours)


def reconstruction_loss(reconstruction: Tensor, colours: Tensor) -> Tensor:
    """Compute the smooth L1 loss between reconstructed and true colours, both scaled, mean over all entries."""
    return F.smooth_l1_loss(COLOUR_SCALE * reconstruction, COLOUR_SCALE * colours)


def negatives_log_sum_exp(query: Tensor, negatives: Negatives, radius: int, backend: str = "native") -> Tensor:
    """Compute log Σ exp(<query, key>) over the windows of all negatives of a sample, [B, C, H, W] -> [B, H, W].

    Cells outside the frame have logit 0 and are included. Each row of `used` must select the same number, not 0.
    """
    return _NegativesLogSumExp.apply(query, negatives.keys, negatives.used, radius, backend)


class _NegativesLogSumExp(torch.autograd.Function):
    """Processes a few rows of key positions at a time; the correlations with all negatives are never in memory at once.

    All queries around a key position are multiplied with the N keys at it, in one matrix product. The gradient of
    log Σ exp(<query, key>) is the mean key, weighted by the softmax; the forward pass computes it as well.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, used: Tensor, radius: int, backend: str) -> Tensor:
        (batch, channels, height, width), size, scratch = query.shape, 2 * radius + 1, Scratch(query, keys)
        # Per key position and query around it; the positions outside the frame are left out.
        log_sums = query.new_full((height + 2 * radius, width + 2 * radius, batch, size, size), -math.inf)
        means = query.new_zeros(*log_sums.shape, channels if ctx.needs_input_grad[0] else 0)
        inside = slice(radius, radius + height), slice(radius, radius + width)
        neighbours = _neighbours(pad_frame(query, radius), size)  # [H, W, B, P, P, C], a view
        at_once = max(1, limit(LOGITS_AT_ONCE, query.device) // (width * batch * size**2 * keys.shape[2]))
        for first in range(0, height, at_once):
            part = slice(first, min(first + at_once, height))
            queries = neighbours[part].flatten(0, 1).flatten(1, 3)  # [positions, B*P*P, C]
            log_sum, mean = _read(queries, keys[part].flatten(0, 1), used, means.shape[-1], scratch, backend)
            log_sums[inside][part] = log_sum.view(-1, width, batch, size, size)
            means[inside][part] = mean.view(*log_sums[inside][part].shape, means.shape[-1])
        in_frame = pad_frame(torch.ones_like(query[:1, 0]), radius)  # keys outside the frame have logit 0
        outside = size**2 - F.avg_pool2d(in_frame[None], size, stride=1, divisor_override=1)[0, 0]  # [H, W]
        log_sum = _around(log_sums, size)  # of each query, at the positions around it: [H, W, B, P, P]
        beyond = (used.sum(1) * outside[..., None]).log()
        total = torch.logaddexp(log_sum.flatten(3).logsumexp(3), beyond)  # [H, W, B]
        weights, around = (log_sum - total[..., None, None]).exp(), _around(means, size)
        mean = query.new_zeros(*total.shape, means.shape[-1])
        for i in range(size):
            for j in range(size):  # not as a matrix product, which would copy the overlapping views
                mean.addcmul_(weights[..., i, j, None], around[..., i, j, :])
        ctx.save_for_backward(mean)  # [H, W, B, C]
        return total.permute(2, 0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (mean,) = ctx.saved_tensors
        return gradient[:, None] * mean.permute(2, 3, 0, 1), None, None, None, None


def _neighbours(padded: Tensor, size: int) -> Tensor:
    """Return the queries around each key position, the last one first: [B, C, H + 2R, W + 2R] -> [H, W, B, P, P, C].

    In this order a query's place around a position grows with the position (`_around`).
    """
    windows = padded.flip(2, 3).unfold(2, size, 1).unfold(3, size, 1)  # [B, C, H, W, P, P]
    return windows.flip(2, 3).permute(2, 3, 0, 4, 5, 1)


def _around(maps: Tensor, size: int) -> Tensor:
    """Return what the positions around each query hold for it, [H + 2R, W + 2R, B, P, P, ...] -> [H, W, B, P, P, ...].

    maps: for each key position, padded by R, and each query around it (`_neighbours`). The result is a view: position
    (y + i, x + j) of the padded map holds query (y, x) at place (i, j).
    """
    strides = maps.stride()
    shape = maps.shape[0] - size + 1, maps.shape[1] - size + 1, *maps.shape[2:]
    return maps.as_strided(shape, (*strides[:3], strides[3] + strides[0], strides[4] + strides[1], *strides[5:]))


def _read(
    neighbours: Tensor, keys: Tensor, used: Tensor, channels: int, scratch: Scratch, backend: str
) -> tuple[Tensor, Tensor]:
    """Compute log Σ exp(logit) and the mean key for the queries around each key position.

    neighbours: [n, B*P*P, C]; keys: [n, N, C] -> [n, B*P*P], [n, B*P*P, channels], the first channels of the mean.
    """
    if backend == "triton":
        from functional.triton_kernels import read_negatives

        log_sum, mean_key = read_negatives(neighbours, keys, used)
        return log_sum, mean_key[..., :channels]
    logits = scratch.matmul("logits", neighbours, keys.mT)
    logits.unflatten(1, (len(used), -1)).masked_fill_(~used[:, None], -math.inf)
    weights = torch.softmax(logits, -1, out=scratch("weights", logits, *logits.shape))
    return logits.amax(-1) - weights.amax(-1).log(), weights @ keys[..., :channels]
