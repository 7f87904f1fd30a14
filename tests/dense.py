"""Plain definitions of the operators: every window built in full, by another way than the code under test."""

import torch
from torch import Tensor
from torch.nn import functional as F


def window_of(maps: Tensor, radius: int, *, dilation: int = 1, offset: Tensor | None = None) -> Tensor:
    """Windows of a map, read bilinearly, zero outside: [B, C, H, W] -> [B, C, P*P, H, W].

    offset: [B, 2, H, W] (dx, dy) moves the windows' centres.
    """
    height, width = maps.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack((x, y)).to(maps)[None]
    if offset is not None:
        position = position + offset
    padded = F.pad(maps, (1, 1, 1, 1))  # so that a frame of one row or column has a scale
    cells = []
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            at = position + dilation * torch.tensor([dx, dy]).to(maps).view(1, 2, 1, 1) + 1
            size = torch.tensor([width + 2, height + 2]).to(maps).view(1, 2, 1, 1)
            grid = (2 * at / (size - 1) - 1).permute(0, 2, 3, 1).expand(len(maps), -1, -1, -1)
            cells.append(F.grid_sample(padded, grid, padding_mode="zeros", align_corners=True))
    return torch.stack(cells, dim=2)


def correlate(query: Tensor, key: Tensor, radius: int, dilation: int = 1) -> Tensor:
    """[B, P*P, H, W]."""
    return (query[:, :, None] * window_of(key, radius, dilation=dilation)).sum(1)


def expected_offset(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    """[B, 2, H, W]."""
    steps = [(dx, dy) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]
    cells = dilation * torch.tensor(steps).to(query)
    return torch.einsum("bphw,pc->bchw", correlate(query, key, radius, dilation).softmax(1), cells)


def attend(query: Tensor, keys: Tensor, values: Tensor, radius: int, offsets=None, prior=None) -> Tensor:
    """[B, K, H, W]; prior: windows of weights [..., P*P] -> windows of weights."""
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


def two_gaussians(windows: Tensor) -> Tensor:
    """Around the two largest cells of each window [N, P*P]; of equal ones the first, row by row, is the largest."""
    size = round(windows.shape[-1] ** 0.5)
    cells = torch.arange(size * size)
    places = torch.stack((cells // size, cells % size), 1).to(windows)
    bells = 2.0 ** (-4 * (places[:, None] - places).square().sum(2))  # of each cell, [P*P, P*P]
    values, order = windows.sort(dim=-1, descending=True, stable=True)
    shares = values[:, :2].softmax(1)
    return (shares[..., None] * bells[order[:, :2]]).sum(1)


def compactness_prior(weights: Tensor, threshold: float = 0.1) -> Tensor:
    """Windows of weights [..., P*P] -> the same, the peaked ones replaced."""
    windows = weights.reshape(-1, weights.shape[-1])
    peaked = windows.amax(1, keepdim=True) > threshold
    return torch.where(peaked, two_gaussians(windows), windows).view_as(weights)
