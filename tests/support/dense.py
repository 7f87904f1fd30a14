"""Plain definitions of the operators, which build every window in full."""

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.reconstruction import Negatives


def window_of(maps: Tensor, radius: int, *, dilation: int = 1, offset: Tensor | None = None) -> Tensor:
    """Windows of a map, read bilinearly, zero outside: [B, C, H, W] -> [B, C, P*P, H, W].

    offset: [B, 2, H, W] (dx, dy) moves the windows' centres.
    """
    height, width = maps.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack((x, y)).to(maps)[None]
    if offset is not None:
        position = position + offset
    padded = F.pad(maps, (1, 1, 1, 1))  # grid_sample needs more than one row and column
    cells = []
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            at = position + dilation * torch.tensor([dx, dy]).to(maps).view(1, 2, 1, 1) + 1
            size = torch.tensor([width + 2, height + 2]).to(maps).view(1, 2, 1, 1)
            grid = (2 * at / (size - 1) - 1).permute(0, 2, 3, 1).expand(len(maps), -1, -1, -1)
            cells.append(F.grid_sample(padded, grid, padding_mode="zeros", align_corners=True))
    return torch.stack(cells, dim=2)


def correlate(query: Tensor, key: Tensor, radius: int, dilation: int = 1) -> Tensor:
    """Products of each query with its window of keys, [B, P*P, H, W]."""
    return (query[:, :, None] * window_of(key, radius, dilation=dilation)).sum(1)


def expected_offset(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    """The softmax mean of a window's offsets (dx, dy), [B, 2, H, W]."""
    steps = [(dx, dy) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]
    cells = dilation * torch.tensor(steps).to(query)
    return torch.einsum("bphw,pc->bchw", correlate(query, key, radius, dilation).softmax(1), cells)


def attend(query: Tensor, keys: Tensor, values: Tensor, radius: int, offsets=None, prior=None) -> Tensor:
    """Local attention, [B, K, H, W]; prior: windows of weights [..., P*P] -> windows of weights."""
    offsets = offsets or [None] * keys.shape[1]
    logits = [
        (query[:, :, None] * window_of(keys[:, t], radius, offset=offset)).sum(1) for t, offset in enumerate(offsets)
    ]
    stacked = torch.stack(logits, dim=1)  # [B, T, P*P, H, W]
    weights = stacked.flatten(1, 2).softmax(1).view_as(stacked)
    if prior is not None:
        weights = prior(weights.movedim(2, -1)).movedim(-1, 2)
    read = [
        (weights[:, None, t] * window_of(values[:, t], radius, offset=offset)).sum(2)
        for t, offset in enumerate(offsets)
    ]
    return sum(read)


def window_mask(height: int, width: int, radius: int, *, circle: bool) -> Tensor:
    """Whether a cell lies in a query's window, bool [H*W (query), H*W (cell)]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((y, x), -1).flatten(0, 1).double()
    apart = places[:, None] - places
    return (apart.norm(dim=-1) < radius) if circle else (apart.abs().amax(-1) <= radius)


def attend_top_k(
    query: Tensor, keys: Tensor, values: Tensor, windows: list[Tensor], top_k: int, *, ties: bool = True
) -> Tensor:
    """Attention of queries [C, N] over the best cells of T references [T, C, N], in windows bool [N, N]; [K, N].

    ties: with all cells equal to the last of them; else the first of equal cells count.
    """
    logits = torch.cat(
        [(query.T @ key).masked_fill(~window, -torch.inf) for key, window in zip(keys, windows, strict=True)], 1
    )
    ordered, places = logits.sort(dim=1, descending=True, stable=True)
    least = ordered[:, min(top_k, logits.shape[1]) - 1, None]
    dropped = logits < least if ties else places.argsort(1) >= top_k
    weights = logits.masked_fill(dropped, -torch.inf).softmax(1)
    return torch.cat(list(values), 1) @ weights.T


def reconstruct_inter(query: Tensor, key: Tensor, colours: Tensor, negatives: Negatives, radius: int) -> Tensor:
    """One softmax over a sample's own window and the windows in all negatives, which have no colour."""
    results = []
    for b, used in enumerate(negatives.used):
        own = correlate(query[b : b + 1], key[b : b + 1], radius)[0]  # [P*P, H, W]
        others = negatives.keys[:, :, used].permute(2, 3, 0, 1)  # [n, C, H, W]
        logits = torch.cat([own, correlate(query[b].expand_as(others), others, radius).flatten(0, 1)])
        weights = logits.softmax(0)[: len(own)]
        results.append((weights * window_of(colours[b : b + 1], radius)[0]).sum(1))
    return torch.stack(results)


def two_gaussians(windows: Tensor) -> Tensor:
    """Gaussians around the two largest cells of each window [N, P*P]; among equal cells the first counts as largest."""
    size = round(windows.shape[-1] ** 0.5)
    cells = torch.arange(size * size)
    places = torch.stack((cells // size, cells % size), 1).to(windows)
    bells = 2.0 ** (-4 * (places[:, None] - places).square().sum(2))  # of each cell, [P*P, P*P]
    values, order = windows.sort(dim=-1, descending=True, stable=True)
    shares = values[:, :2].softmax(1)
    return (shares[..., None] * bells[order[:, :2]]).sum(1)


def compactness_prior(weights: Tensor, threshold: float = 0.1) -> Tensor:
    """Windows of weights [..., P*P], the peaked ones replaced by `two_gaussians`."""
    windows = weights.reshape(-1, weights.shape[-1])
    peaked = windows.amax(1, keepdim=True) > threshold
    return torch.where(peaked, two_gaussians(windows), windows).view_as(weights)
