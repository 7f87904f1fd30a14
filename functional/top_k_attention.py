"""Attention to the k most similar cells of all reference frames, for other features (docs/method.md §10)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from functional.scratch import Scratch
from functional.tiles import TILE, Tiles, displacements

QUERIES_AT_ONCE = 1024  # in a comparison with all cells of a frame


class TopK(NamedTuple):
    """The largest logits of each query in one reference frame, and their cells."""

    logits: Tensor  # [B, k, H, W]
    cells: Tensor  # row-major indices in the frame, [B, k, H, W]


def attend_top_k(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    radius: int,
    top_k: int,
    *,
    circle: bool = False,
    windowed: Sequence[bool] | None = None,
    counts: Sequence[int] | None = None,
    ties: bool = False,
) -> Tensor:
    """Compute Σ softmax(logit) · value over the `top_k` cells with the largest logits in all T reference frames.

    query: [B, C, H, W]; keys: T of [B, C, H, W]; values: T of [B, K, H, W] -> [B, K, H, W].
    A query is compared with the cells of its window inside the frame: a square, or with `circle` those at a distance
    less than `radius`. windowed: for each reference frame; False: compare with all its cells. counts: the number of
    copies of each reference frame. ties: keep all cells whose logit equals the smallest of the top k.
    """
    windowed, counts = windowed or [True] * len(keys), counts or [1] * len(keys)
    if not len(keys) == len(values) == len(windowed) == len(counts):
        lengths = len(keys), len(values), len(windowed), len(counts)
        raise ValueError(f"{lengths} keys, values, choices of windows and counts must be as many")
    cells = query.shape[2] * query.shape[3]
    candidates = top_k + ties
    while True:
        found = [
            top_k_in_windows(query, key, radius, candidates, circle=circle)
            if local
            else top_k_in_frame(query, key, candidates)
            for key, local in zip(keys, windowed, strict=True)
        ]
        best = _merge(found, counts, top_k, cells, ties=ties)
        if not ties or candidates >= cells or not _has_more_ties(found, best):
            break
        candidates *= 2
    flat = torch.cat([value.flatten(2) for value in values], 2)  # [B, K, T*H*W]
    weights = best.logits.softmax(1).flatten(2)
    result = torch.zeros_like(values[0]).flatten(2)
    for weight, cell in zip(weights.unbind(1), best.cells.flatten(2).unbind(1), strict=True):
        result += weight[:, None] * flat.gather(2, cell[:, None].expand_as(result))
    return result.view_as(values[0])


def _has_more_ties(found: list[TopK], best: TopK) -> bool:
    """Whether some reference frame's last candidate equals the smallest of the top k, so that more cells may do so."""
    least = best.logits.masked_fill(best.logits.isneginf(), torch.inf).amin(1, keepdim=True)
    return bool(torch.stack([part.logits[:, -1:] >= least for part in found]).any())


def _merge(found: list[TopK], counts: Sequence[int], top_k: int, size: int, *, ties: bool) -> TopK:
    """Select the top k of all reference frames; frame i takes part `counts[i]` times.

    size: cells of a frame. ties: more channels than k, -inf where a query has no ties.
    """
    parts = list(zip(found, counts, strict=True))
    logits = torch.cat([part.logits.repeat(1, count, 1, 1) for part, count in parts], 1)
    cells = torch.cat([part.cells.repeat(1, count, 1, 1) + size * i for i, (part, count) in enumerate(parts)], 1)
    number = min(top_k, logits.shape[1])
    largest, which = logits.topk(number, 1)
    least = largest[:, -1:]
    if ties and (number := int((logits >= least).sum(1).max())) > top_k:
        largest, which = logits.topk(number, 1)
        largest = largest.masked_fill(largest < least, -torch.inf)
    return TopK(largest, cells.gather(1, which))


def top_k_in_windows(query: Tensor, key: Tensor, radius: int, top_k: int, *, circle: bool) -> TopK:
    """Return the `top_k` largest logits of each query's window, -inf at arbitrary cells if it has fewer cells."""
    tiles, (height, width) = Tiles(query, radius), query.shape[2:]
    mask = tiles.mask + circle_mask(tiles, radius) if circle else tiles.mask
    inside = tiles.blocks(torch.ones_like(query[:, :1]))  # 0 outside the frame
    tops, lefts = (TILE * torch.arange(number, device=query.device) - radius for number in (tiles.rows, tiles.columns))
    logits, cells = [], []
    for chunk, products in tiles.products(key, Scratch(query, key)):
        products += mask
        outside_frame = inside[chunk].flatten(0, 1).flatten(1)[:, None] == 0  # [n, 1, cells]
        products.masked_fill_(outside_frame, -torch.inf)
        largest, indices = products.topk(min(top_k, products.shape[2]), 2)  # [n, queries, k]
        corners = torch.meshgrid(tops[chunk[1]], lefts[chunk[2]], indexing="ij")
        row, column = (corner.flatten()[:, None, None] for corner in corners)
        row = (row + indices // tiles.side).clamp(0, height - 1)
        column = (column + indices % tiles.side).clamp(0, width - 1)
        logits.append(largest.mT)
        cells.append((row * width + column).mT)
    return TopK(tiles.assemble(logits), tiles.assemble(cells))


def circle_mask(tiles: Tiles, radius: int) -> Tensor:
    """Return an additive mask [queries, cells of a block]: -inf in the window at a distance of `radius` or more."""
    squares = displacements(radius, device=tiles.mask.device).square().sum(1).view(tiles.size, tiles.size)
    far = torch.zeros(1, *tiles.mask.shape, device=tiles.mask.device)
    tiles.windows(far).masked_fill_(squares >= radius**2, -torch.inf)
    return far[0]


def top_k_in_frame(query: Tensor, key: Tensor, top_k: int) -> TopK:
    """Return the `top_k` largest logits of each query in the whole frame."""
    queries, keys = query.flatten(2).mT, key.flatten(2)
    parts = [(part @ keys).topk(min(top_k, keys.shape[2]), 2) for part in queries.split(QUERIES_AT_ONCE, 1)]
    return TopK(*(torch.cat(kind, 1).mT.unflatten(2, query.shape[2:]) for kind in zip(*parts, strict=True)))
