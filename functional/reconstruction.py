"""Repainting a frame from another one: LIIR's training task (docs/method.md §6)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.correlation import correlate
from functional.windows import pad_frame

COLOUR_SCALE = 20.0  # of both sides of a smooth L1 loss


@dataclass(frozen=True)
class Negatives:
    """Region keys of other videos, and which of them each sample of the batch is compared with."""

    keys: Tensor  # [H, W, N, C], no gradient
    used: Tensor  # [B, N] bool, as many in each row


def reconstruct(weights: Tensor, colours: Tensor) -> Tensor:
    """Σ weight · colour over each query's window, zero outside: [B, P*P, H, W], [B, K, H, W] -> [B, K, H, W]."""
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
    """Reconstruction whose softmax also runs over the windows of other videos, which carry no colour.

    query, key: [B, C, H, W]; colours: [B, K, H, W] -> [B, K, H, W]. No gradient reaches the negatives.
    shifted_query: what the negatives are compared with, if not the query.
    """
    logits = correlate(query, key, radius, backend=backend)
    others = negatives_log_sum_exp(query if shifted_query is None else shifted_query, negatives, radius)
    total = torch.logaddexp(logits.logsumexp(1), others)
    return reconstruct((logits - total[:, None]).exp(), colours)


def reconstruction_loss(reconstruction: Tensor, colours: Tensor) -> Tensor:
    """Smooth L1 between a reconstruction and the true colours, both scaled, mean over all entries."""
    return F.smooth_l1_loss(COLOUR_SCALE * reconstruction, COLOUR_SCALE * colours)


def negatives_log_sum_exp(query: Tensor, negatives: Negatives, radius: int) -> Tensor:
    """log Σ exp(<query, key>) over the windows of all of a sample's negatives, [B, C, H, W] -> [B, H, W].

    A cell outside the frame has logit 0 and counts. Every row of `used` must have the same number of entries, not 0.
    """
    return _NegativesLogSumExp.apply(query, negatives.keys, negatives.used, radius)


class _NegativesLogSumExp(torch.autograd.Function):
    """One row of key positions at a time, so that the correlations with all negatives are never held at once.

    All queries around one key position meet the same N keys there: a single matrix product without wasted cells.
    The backward pass computes the products again.
    """

    @staticmethod
    def forward(ctx, query: Tensor, keys: Tensor, used: Tensor, radius: int) -> Tensor:
        height, width = query.shape[-2:]
        size = 2 * radius + 1
        padded = pad_frame(query, radius)
        by_key = query.new_empty(height, width, len(query), size * size)  # over n, for each key and query around it
        for y in range(height):
            logits = _row_logits(_neighbours(padded, y, size), keys[y], used)
            by_key[y] = logits.logsumexp(-1).unflatten(1, (len(query), -1))
        # A key outside the frame: logit 0 for each of the sample's negatives.
        outside = used.sum(1).to(query.dtype).log()[:, None, None, None]
        by_key = by_key.permute(2, 3, 0, 1) - outside  # [B, P*P, H, W], of key positions
        by_key = pad_frame(by_key, radius).unflatten(1, (size, size))
        # The query (i, j) of a key's neighbourhood lies at key + (i, j) - radius.
        shifted = [
            by_key[:, i, j, 2 * radius - i :, 2 * radius - j :][..., :height, :width]
            for i in range(size)
            for j in range(size)
        ]
        result = (torch.stack(shifted, 1) + outside).logsumexp(1)
        ctx.save_for_backward(query, keys, used, result)
        ctx.radius = radius
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor):
        query, keys, used, result = ctx.saved_tensors
        size = 2 * ctx.radius + 1
        height, width = query.shape[-2:]
        padded, total, incoming = (
            pad_frame(maps, ctx.radius) for maps in (query, result[:, None], gradient[:, None].contiguous())
        )
        outgoing = torch.zeros_like(padded)
        for y in range(height):
            logits = _row_logits(_neighbours(padded, y, size), keys[y], used)  # [W, B*P*P, N]
            weights = (logits - _neighbours(total, y, size)).exp_() * _neighbours(incoming, y, size)
            parts = (
                (weights @ keys[y]).view(width, len(query), size, size, -1).permute(1, 4, 2, 3, 0)
            )  # [B, C, P, P, W]
            for j in range(size):
                outgoing[:, :, y : y + size, j : j + width] += parts[:, :, :, j]
        radius = ctx.radius
        return outgoing[:, :, radius : radius + height, radius : radius + width], None, None, None


def _neighbours(padded: Tensor, y: int, size: int) -> Tensor:
    """The queries around each key position of row y, [B, C, H+2R, W+2R] -> [W, B*P*P, C]."""
    windows = padded[:, :, y : y + size].unfold(3, size, 1)  # [B, C, P, W, P]
    return windows.permute(3, 0, 2, 4, 1).flatten(1, 3)


def _row_logits(neighbours: Tensor, keys: Tensor, used: Tensor) -> Tensor:
    """Products with the negatives' keys at each position of a row, [W, B*P*P, C], [W, N, C] -> [W, B*P*P, N]."""
    logits = neighbours @ keys.transpose(1, 2)
    by_sample = logits.unflatten(1, (len(used), -1))
    return by_sample.masked_fill_(~used[:, None], float("-inf")).flatten(1, 2)
