"""Attention over the few best cells of all references: how most other features are propagated (docs/method.md §10)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from functional.scratch import Scratch
from functional.windows import TILE, Tiles, displacements

QUERIES_AT_ONCE = 1024  # that look at a whole frame

Best = tuple[Tensor, Tensor]  # the largest logits of each query [B, k, H, W], and their cells' places in the frame


def attend_top(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    radius: int,
    *,
    top_k: int,
    circle: bool = False,
    windowed: Sequence[bool] | None = None,
) -> Tensor:
    """Σ weight · value over the `top_k` cells of all T references with the largest logits, weights by their softmax.

    query: [B, C, H, W]; keys: T of [B, C, H, W]; values: T of [B, K, H, W] -> [B, K, H, W].
    A query sees the cells of its window inside the frame: a square, or with `circle` those nearer than `radius`.
    windowed: per reference; a query sees all of a reference for which it is False.
    """
    windowed = [True] * len(keys) if windowed is None else windowed
    if not len(keys) == len(values) == len(windowed):
        raise ValueError(f"{len(keys)} keys, {len(values)} values and {len(windowed)} choices must be as many")
    size = query.shape[2] * query.shape[3]
    found = [
        best_in_windows(query, key, radius, top_k, circle=circle) if local else best_anywhere(query, key, top_k)
        for key, local in zip(keys, windowed, strict=True)
    ]
    logits = torch.cat([of_reference for of_reference, _ in found], 1)
    cells = torch.cat([places + size * i for i, (_, places) in enumerate(found)], 1)
    largest, which = logits.topk(min(top_k, logits.shape[1]), 1)
    weights, cells = largest.softmax(1).flatten(2), cells.gather(1, which).flatten(2)  # [B, k, H*W]
    flat = torch.cat([value.flatten(2) for value in values], 2)  # [B, K, T*H*W]
    result = torch.zeros_like(values[0]).flatten(2)
    for weight, cell in zip(weights.unbind(1), cells.unbind(1), strict=True):
        result += weight[:, None] * flat.gather(2, cell[:, None].expand_as(result))
    return result.view_as(values[0])


def best_in_windows(query: Tensor, key: Tensor, radius: int, count: int, *, circle: bool) -> Best:
    """The `count` largest logits of each query's window; -inf, at any place, where there are not so many."""
    tiles, (height, width) = Tiles(query, radius), query.shape[2:]
    beyond = tiles.beyond + outside_circle(tiles, radius) if circle else tiles.beyond
    inside = tiles.blocks(torch.ones_like(query[:, :1]))  # 0 in the cells outside the frame
    tops, lefts = (TILE * torch.arange(number, device=query.device) - radius for number in (tiles.rows, tiles.columns))
    logits, cells = [], []
    for chunk, products in tiles.products(tiles.queries(query), key, Scratch(query, key)):
        products += beyond
        hidden = inside[chunk].flatten(0, 1).flatten(1)[:, None] == 0  # [n, 1, cells]
        products.masked_fill_(hidden, -torch.inf)
        largest, which = products.topk(min(count, products.shape[2]), 2)  # [n, queries, k]
        corners = torch.meshgrid(tops[chunk[1]], lefts[chunk[2]], indexing="ij")
        row, column = (corner.flatten()[:, None, None] for corner in corners)
        row = (row + which // tiles.side).clamp(0, height - 1)
        column = (column + which % tiles.side).clamp(0, width - 1)
        logits.append(largest.mT)
        cells.append((row * width + column).mT)
    return tiles.assemble(logits), tiles.assemble(cells)


def outside_circle(tiles: Tiles, radius: int) -> Tensor:
    """-inf for the cells of a query's window that are not nearer than `radius`, [queries, cells]; 0 elsewhere."""
    squares = displacements(radius, device=tiles.beyond.device).square().sum(1).view(tiles.size, tiles.size)
    far = torch.zeros(1, *tiles.beyond.shape, device=tiles.beyond.device)
    tiles.windows(far).masked_fill_(squares >= radius**2, -torch.inf)
    return far[0]


def best_anywhere(query: Tensor, key: Tensor, count: int) -> Best:
    """The `count` largest logits of each query in the whole frame."""
    queries, keys = query.flatten(2).mT, key.flatten(2)
    parts = [(part @ keys).topk(min(count, keys.shape[2]), 2) for part in queries.split(QUERIES_AT_ONCE, 1)]
    maps = (torch.cat(kind, 1).mT.unflatten(2, query.shape[2:]) for kind in zip(*parts, strict=True))
    return tuple(maps)
