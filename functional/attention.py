"""Local attention over all references at once: the step that carries labels from frame to frame (docs/method.md §3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from functional.correlation import correlate, window_logits
from functional.windows import ShiftedWindows, Tile, Windows, pad_frame, tiles

Prior = Callable[[Tensor], Tensor]  # windows of weights [..., P*P] -> windows of weights


@dataclass(frozen=True)
class _Group:
    """References whose windows are placed alike: all plain ones together, or one searched one."""

    windows: Windows | ShiftedWindows
    keys: Tensor  # [B, T, C, H, W]
    values: Tensor  # [B, T, K, H, W]

    def padded(self) -> "_Group":
        margin = self.windows.padding
        return _Group(self.windows, pad_frame(self.keys, margin), pad_frame(self.values, margin))

    def score(self, queries: Tensor, tile: Tile) -> Tensor:
        """Logits of a tile's queries [B, queries, C] -> [B, queries, T, P*P]; `keys` are padded."""
        return self.windows.extract(queries[:, None] @ self.windows.block(self.keys, tile), tile)

    def read(self, weights: Tensor, tile: Tile) -> Tensor:
        """Σ weight · value, [B, queries, T, P*P] -> [B, queries, K]; `values` are padded."""
        block = self.windows.deposit(weights, tile)  # [B, T, queries, cells]
        return (block @ self.windows.block(self.values, tile).transpose(-1, -2)).sum(1)


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    radius: int,
    *,
    offsets: Sequence[Tensor | None] | None = None,
    prior: Prior | None = None,
    backend: str = "native",
) -> Tensor:
    """Σ weight · value, the weights a joint softmax over the windows of all T references.

    query: [B, C, H, W]; keys: [B, T, C, H, W]; values: [B, T, K, H, W] -> [B, K, H, W].
    A cell outside the frame has logit 0, keeps its share of the softmax, and has value 0.
    offsets: per reference None, for windows centred on their queries, or the centres' shifts [B, 2, H, W].
    prior: applied to the weights of each window (`compactness_prior`).
    """
    groups = _group(keys, values, radius, [None] * keys.shape[1] if offsets is None else offsets)
    if backend == "native":
        return _attend_by_tile(query, groups, prior)
    return _attend_by_reference(query, groups, prior, backend)


def _group(keys: Tensor, values: Tensor, radius: int, offsets: Sequence[Tensor | None]) -> list[_Group]:
    if not keys.shape[1] == values.shape[1] == len(offsets):
        raise ValueError(f"{keys.shape[1]} keys, {values.shape[1]} values and {len(offsets)} offsets must be as many")
    plain = [t for t, offset in enumerate(offsets) if offset is None]
    groups = [_Group(Windows(radius), keys[:, plain], values[:, plain])] if plain else []
    for t, offset in enumerate(offsets):
        if offset is not None:
            groups.append(_Group(ShiftedWindows(radius, offset), keys[:, t : t + 1], values[:, t : t + 1]))
    return groups


def _attend_by_tile(query: Tensor, groups: list[_Group], prior: Prior | None) -> Tensor:
    """All references for one tile of queries at a time."""
    groups = [group.padded() for group in groups]
    counts = [group.keys.shape[1] for group in groups]
    output = query.new_empty(query.shape[0], groups[0].values.shape[2], *query.shape[-2:])
    for tile in tiles(*query.shape[-2:]):
        queries = tile.rows(query)
        logits = torch.cat([group.score(queries, tile) for group in groups], dim=2)  # [B, queries, T, P*P]
        weights = logits.flatten(2).softmax(-1).view_as(logits)
        if prior is not None:
            weights = prior(weights)
        parts = weights.split(counts, dim=2)
        tile.write(output, sum(group.read(part, tile) for group, part in zip(groups, parts, strict=True)))
    return output


def _attend_by_reference(query: Tensor, groups: list[_Group], prior: Prior | None, backend: str) -> Tensor:
    """One reference for the whole frame at a time, for backends that correlate whole frames.

    Holds one reference's logits: a first pass adds up the softmax's denominator, a second one reads the values.
    """
    single = [
        _Group(group.windows, group.keys[:, t : t + 1], group.values[:, t : t + 1])
        for group in groups
        for t in range(group.keys.shape[1])
    ]
    log_sum = torch.stack([_logits(query, group, backend).logsumexp(1) for group in single]).logsumexp(0)
    output = query.new_zeros(query.shape[0], single[0].values.shape[2], *query.shape[-2:])
    for group in single:
        weights = (_logits(query, group, backend) - log_sum[:, None]).exp()
        padded = group.padded()
        for tile in tiles(*query.shape[-2:]):
            rows = tile.rows(weights)[:, :, None]  # [B, queries, 1, P*P]
            rows = rows if prior is None else prior(rows)
            tile.write(output, tile.rows(output) + padded.read(rows, tile))
    return output


def _logits(query: Tensor, group: _Group, backend: str) -> Tensor:
    """One reference's logits [B, P*P, H, W]; shifted windows are no backend's business but ours."""
    if isinstance(group.windows, ShiftedWindows):
        return window_logits(query, group.keys[:, 0], group.windows)
    return correlate(query, group.keys[:, 0], group.windows.radius, backend=backend)
