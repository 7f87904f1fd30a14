"""Labels between masks and the feature grid: how each protocol brings them down and up (docs/method.md §4, §10)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.propagation.protocol import ToGrid, ToMask

CHANNELS_AT_ONCE = 16  # label channels held at the size of a mask
Size = tuple[int, int]  # height, width


def to_grid(mask: Tensor, rule: ToGrid, grid: Size, *, stride: int, channels: int) -> Tensor:
    """Bring a mask, int64 [H, W], to the feature grid: label weights [K, h, w]; `channels` is K."""
    if rule == ToGrid.CORNER:
        return one_hot(mask[::stride, ::stride], channels)
    if rule == ToGrid.CENTRE:
        return one_hot(resize_nearest(mask, grid), channels)
    parts = []
    for first in range(0, channels, CHANNELS_AT_ONCE):
        labels = torch.arange(first, min(first + CHANNELS_AT_ONCE, channels), device=mask.device)
        maps = (mask == labels[:, None, None]).float()[None]
        parts.append(F.interpolate(maps, grid, mode="bilinear", align_corners=False)[0])
    return torch.cat(parts)


def to_mask(soft: Tensor, rule: ToMask, frame: Size, size: Size, *, stride: int) -> Tensor:
    """Convert label weights [K, h, w] to the strongest label of each pixel, int64 [H, W].

    frame: the frame's size at the encoder; size: that of the mask; stride: pixels per cell at the encoder.
    """
    if rule == ToMask.DIRECT:
        return _argmax_at(soft, size)
    cells = soft.shape[1] * stride, soft.shape[2] * stride
    if rule == ToMask.STRETCHED:
        return resize_nearest(_argmax_at(soft, cells, stretch=True), size)
    padded = [round(side * (wanted / own)) for side, wanted, own in zip(cells, size, frame, strict=True)]
    return _argmax_at(soft, (padded[0], padded[1]))[: size[0], : size[1]]


def one_hot(labels: Tensor, channels: int) -> Tensor:
    """Labels, int64 [h, w], as weights, float [K, h, w]."""
    return F.one_hot(labels, channels).permute(2, 0, 1).float()


def resize_nearest(labels: Tensor, size: Size) -> Tensor:
    """Resize labels, int64 [h, w]: each pixel takes the label nearest to its centre."""
    rows, columns = (
        (2 * torch.arange(wanted, device=labels.device) + 1) * own // (2 * wanted)
        for own, wanted in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns]


def _argmax_at(soft: Tensor, size: Size, *, stretch: bool = False) -> Tensor:
    """The argmax after bilinear upsampling to a size, [K, h, w] -> int64 [H, W].

    A few channels are upsampled at a time, which bounds the memory for many objects.
    """

    def strongest(first: int) -> tuple[Tensor, Tensor]:
        part = soft[None, first : first + CHANNELS_AT_ONCE]
        maps = F.interpolate(part, size, mode="bilinear", align_corners=False)[0]
        strength, label = (_stretched(maps) if stretch else maps).max(0)
        return strength, label + first

    best, labels = strongest(0)
    for first in range(CHANNELS_AT_ONCE, len(soft), CHANNELS_AT_ONCE):
        strength, label = strongest(first)
        stronger = strength > best
        best, labels = torch.where(stronger, strength, best), torch.where(stronger, label, labels)
    return labels


def _stretched(maps: Tensor) -> Tensor:
    """Rescale each map of [K, H, W] linearly to 0 … 1; maps without positive values are unchanged."""
    least, largest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = torch.where(largest > least, largest - least, 1)
    return torch.where(largest > 0, (maps - least) / span, maps)
