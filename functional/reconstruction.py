"""Reconstruction of a frame's colours from another frame, LIIR's training task (docs/method.md §6)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.correlation import correlate
from functional.scratch import Scratch
from functional.tiles import pad_frame

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
    """Processes one row of key positions at a time; the correlations with all negatives are never in memory at once.

    All queries around a key position are multiplied with the N keys at it, in one matrix product. The gradient of
    log Σ exp(<query, key>) is the mean key, weighted by the softmax; the forward pass computes it as well.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, used: Tensor, radius: int, backend: str) -> Tensor:
        (batch, channels, height, width), size = query.shape, 2 * radius + 1
        padded, scratch = pad_frame(query, radius), Scratch(query, keys)
        total = query.new_full((batch, height + 2 * radius, width + 2 * radius), -math.inf)
        mean = torch.zeros(*total.shape, channels if ctx.needs_input_grad[0] else 0).to(query)
        for y in range(height):
            log_sum, mean_key = _read_row(_neighbours(padded, y, size), keys[y], used, mean.shape[-1], scratch, backend)
            shape = width, batch, size, size
            log_sum = log_sum.view(shape).permute(1, 2, 3, 0)  # [B, P, P, W]
            mean_key = mean_key.view(*shape, -1).permute(1, 2, 3, 0, 4)  # [B, P, P, W, C]
            for j in range(size):  # the query (i, j) of a key's neighbourhood lies at key + (i, j) - radius
                window = slice(None), slice(y, y + size), slice(j, j + width)
                _merge(total[window], mean[window], log_sum[:, :, j], mean_key[:, :, j])
        inside = slice(None), slice(radius, radius + height), slice(radius, radius + width)
        total, mean = total[inside], mean[inside]
        in_frame = pad_frame(torch.ones_like(query[:1, 0]), radius)  # keys outside the frame have logit 0
        outside = size**2 - F.avg_pool2d(in_frame[None], size, stride=1, divisor_override=1)[0]
        log_sum = (used.sum(1).to(query.dtype)[:, None, None] * outside).log()
        _merge(total, mean, log_sum, torch.zeros_like(mean))
        ctx.save_for_backward(mean)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (mean,) = ctx.saved_tensors
        return (gradient[..., None] * mean).movedim(-1, 1), None, None, None, None


def _merge(total: Tensor, mean: Tensor, log_sum: Tensor, mean_key: Tensor) -> None:
    """Add exponentials to a sum: update its log, total [...], and the weighted mean key [..., C] in place."""
    joint = torch.logaddexp(total, log_sum)
    mean *= (total - joint).exp()[..., None]
    mean.addcmul_((log_sum - joint).exp()[..., None], mean_key)
    total.copy_(joint)


def _neighbours(padded: Tensor, y: int, size: int) -> Tensor:
    """Gather the queries around each key position of row y, [B, C, H+2R, W+2R] -> [W, B*P*P, C]."""
    windows = padded[:, :, y : y + size].unfold(3, size, 1)  # [B, C, P, W, P]
    return windows.permute(3, 0, 2, 4, 1).flatten(1, 3)


def _read_row(
    neighbours: Tensor, keys: Tensor, used: Tensor, channels: int, scratch: Scratch, backend: str
) -> tuple[Tensor, Tensor]:
    """Compute log Σ exp(logit) and the mean key for the queries around each key position of a row.

    neighbours: [W, B*P*P, C]; keys: [W, N, C] -> [W, B*P*P], [W, B*P*P, channels], the first channels of the mean.
    """
    if backend == "triton":
        from functional.triton_kernels import read_negatives

        log_sum, mean_key = read_negatives(neighbours, keys, used)
        return log_sum, mean_key[..., :channels]
    out = scratch("logits", keys, *neighbours.shape[:2], keys.shape[1])
    logits = torch.matmul(neighbours, keys.transpose(1, 2), out=out)
    logits.unflatten(1, (len(used), -1)).masked_fill_(~used[:, None], -math.inf)
    weights = torch.softmax(logits, -1, out=scratch("weights", logits, *logits.shape))
    return logits.amax(-1) - weights.amax(-1).log(), weights @ keys[..., :channels]
