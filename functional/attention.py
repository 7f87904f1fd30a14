"""Local attention over all references at once: the step that carries labels from frame to frame (docs/method.md §3).

Every window is read on its own, which yields the mean value it sees and the log of its softmax's denominator. A softmax
of the latter over all references weighs the former: together that is one softmax over all windows.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from functional.compactness import PEAK_AT_TEST, read_gaussians, two_largest
from functional.correlation import correlate
from functional.scratch import Scratch
from functional.windows import TILE, Buckets, Chunk, Tiles, first_cells, mask, outside


def attend(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    radius: int,
    *,
    offsets: Sequence[Tensor | None] | None = None,
    prior: bool = False,
    backend: str = "native",
) -> Tensor:
    """Σ weight · value, the weights a joint softmax over the windows of all T references.

    query: [B, C, H, W]; keys: T of [B, C, H, W]; values: T of [B, K, H, W] -> [B, K, H, W].
    A cell outside the frame has logit 0, keeps its share of the softmax, and has value 0.
    offsets: per reference None, for windows centred on their queries, or the centres' shifts [B, 2, H, W].
    prior: apply the compactness prior to the weights of each window; radius must not be 0.
    """
    offsets = [None] * len(keys) if offsets is None else offsets
    if not len(keys) == len(values) == len(offsets):
        raise ValueError(f"{len(keys)} keys, {len(values)} values and {len(offsets)} offsets must be as many")
    reader = _Reader(query, radius, prior, Scratch(query, *keys, *values), backend)
    readings = [
        reader.centred(key, value) if offset is None else reader.searched(key, value, offset)
        for key, value, offset in zip(keys, values, offsets, strict=True)
    ]
    log_sums = torch.stack([reading[:, :1] for reading in readings]).logsumexp(0)  # [B, 1, H, W]
    result = torch.zeros_like(values[0])
    for reading, value, offset in zip(readings, values, offsets, strict=True):
        log_sum, mean, *peaks = reading.split((1, value.shape[1], 2, 2, 2) if prior else (1, value.shape[1]), 1)
        part = (log_sum - log_sums).exp() * mean
        if prior:
            _replace_peaked(part, value, offset, (peaks[0] - log_sums).exp().detach(), peaks[1], peaks[2], radius)
        result += part
    return result


def _replace_peaked(
    part: Tensor, value: Tensor, offset: Tensor | None, weights: Tensor, rows: Tensor, columns: Tensor, radius: int
) -> None:
    """Where the larger of a window's two largest weights exceeds the threshold, its part becomes Σ Gaussians · value.

    part: [B, K, H, W]; weights: the two largest ones, rows, columns: their cells in the window, [B, 2, H, W] each.
    """
    peaked = weights[:, 0] > PEAK_AT_TEST  # [B, H, W]
    fractions = None if offset is None else (offset - offset.detach().floor()).flip(1).movedim(1, -1)[peaked]
    offset = torch.zeros_like(part[:, :2]) if offset is None else offset
    part.movedim(1, -1)[peaked] = read_gaussians(
        value,
        samples=peaked.nonzero()[:, 0],
        starts=torch.stack(first_cells(offset, radius), -1)[peaked],
        cells=torch.stack((rows, columns), -1).movedim(1, -2)[peaked].long(),
        weights=weights.movedim(1, -1)[peaked],
        fractions=fractions,
        size=2 * radius + 1,
    )


class _Reader:
    """Reads the windows of one reference after the other, each window on its own.

    A window yields numbers: log Σ exp(logit) and, for each label channel, Σ weight · value; with the prior also its two
    largest logits, their rows and their columns in the window.
    """

    def __init__(self, query: Tensor, radius: int, prior: bool, scratch: Scratch, backend: str) -> None:
        self.query = query
        self.radius = radius
        self.prior = prior
        self.scratch = scratch
        self.backend = backend
        self.tiles = Tiles(query, radius)
        self.queries = self.tiles.queries(query)

    def centred(self, key: Tensor, value: Tensor) -> Tensor:
        """Windows centred on their queries, -> [B, numbers, H, W]."""
        if self.backend == "triton":
            from functional.triton_kernels import read_centred

            return read_centred(self.query, key, value, self.radius, prior=self.prior)
        values, parts = self.tiles.blocks(value), []
        for chunk, logits in self._logits(key):
            logits += self.tiles.beyond
            of_cells = values[chunk].flatten(0, 1).movedim(-1, 1)  # [n, K, h, w]
            parts.append(self._read(logits, of_cells, *self.tiles.starts))
        return self.tiles.assemble(parts)

    def _logits(self, key: Tensor) -> Iterator[tuple[Chunk, Tensor]]:
        """Logits of the queries of some tiles for the cells of their blocks, [n, queries, cells]."""
        tiles = self.tiles
        if self.backend != "sampler":
            yield from tiles.products(self.queries, key, self.scratch)
            return
        windows = tiles.queries(correlate(self.query, key, self.radius, backend=self.backend))
        for chunk in tiles.chunks():
            of_tiles = windows[chunk].flatten(0, 1)  # [n, queries, P*P]
            block = of_tiles.new_full((*of_tiles.shape[:2], tiles.side**2), -math.inf)
            tiles.windows(block).copy_(of_tiles.unflatten(2, (tiles.size, -1)).unflatten(1, (TILE, TILE)))
            yield chunk, block

    def searched(self, key: Tensor, value: Tensor, offset: Tensor) -> Tensor:
        """Windows centred at query + offset and read bilinearly, -> [B, numbers, H, W].

        A dot product is linear in the key, so a bilinear window of logits is the bilinear mix of integer ones, one cell
        apart; and what it reads is the bilinear mix of what it would read from values moved by a cell. No feature is
        interpolated.
        """
        if self.backend == "triton":
            from functional.triton_kernels import read_searched

            return read_searched(self.query, key, value, offset, self.radius, prior=self.prior)
        buckets, scratch, labels = Buckets(offset, self.radius), self.scratch, value.shape[1]
        key = buckets.pad(key).movedim(1, -1).contiguous()  # [B, H', W', C]
        corners = buckets.pad(value)
        upper, lower = corners[..., :-1, :], corners[..., 1:, :]
        corners = torch.cat((upper[..., :-1], upper[..., 1:], lower[..., :-1], lower[..., 1:]), 1)  # [B, 4 * K, …]
        queries, fractions = buckets.sort(self.query), buckets.sort(offset - offset.detach().floor())
        beyond, parts = outside(2 * self.radius + 1, like=self.query), []
        for chosen, sample, rows, columns, starts in buckets.blocks():
            block = scratch.copy("block", key[sample, rows, columns])  # [h + 1, w + 1, C]
            x, y = fractions[chosen].unbind(1)
            count, height, width = len(x), *block.shape[:2]
            out = scratch("products", key, count, height * width)
            whole = torch.matmul(queries[chosen], block.flatten(0, 1).mT, out=out).unflatten(1, (height, width))
            out = scratch("mixed", key, count, height - 1, width)
            mixed = torch.lerp(whole[:, :-1], whole[:, 1:], y[:, None, None], out=out)
            out = scratch("logits", key, count, height - 1, width - 1)
            logits = torch.lerp(mixed[..., :-1], mixed[..., 1:], x[:, None, None], out=out)
            for added in mask(beyond, *starts, *logits.shape[1:]):
                logits += added
            read = self._read(logits.flatten(1)[None], corners[sample, :, rows, columns][None, :, :-1, :-1], *starts)
            log_sum, mean, peaks = read[0].tensor_split((1, 1 + 4 * labels))
            mean = mean.view(2, 2, labels, count)
            left, right = torch.lerp(mean[0], mean[1], y).unbind()
            mean = torch.lerp(left, right, x)
            parts.append(torch.cat((log_sum, mean, peaks)))
        return buckets.unsort(torch.cat(parts, 1).mT)

    def _read(self, logits: Tensor, values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """What windows in blocks yield.

        logits: -inf outside the windows, [n, queries, h*w]; values: [n, K, h, w]; rows, columns: where the windows
        start in their block, [queries] -> [n, numbers, queries].
        """
        weights = torch.softmax(logits, -1, out=self.scratch("weights", logits, *logits.shape))
        mean = values.flatten(2) @ weights.mT
        if not self.prior:
            return torch.cat(((logits.amax(-1) - weights.amax(-1).log())[:, None], mean), 1)
        largest, row, column = two_largest(logits.unflatten(2, values.shape[2:]))  # [n, queries, 2]
        log_sum = largest[..., 0] - weights.amax(-1).log()
        cells = row - rows[:, None], column - columns[:, None]
        return torch.cat((log_sum[:, None], mean, *(part.mT for part in (largest, *cells))), 1)
