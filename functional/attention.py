"""Local attention over all references at once: the step that carries labels from frame to frame (docs/method.md §3).

Every window is read on its own, which yields the mean value it sees and the log of its softmax's denominator. A softmax
of the latter over all references weighs the former: together that is one softmax over all windows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from functional.compactness import PEAK_AT_TEST, bells, two_largest
from functional.correlation import correlate
from functional.scratch import Scratch
from functional.windows import BUCKET, Buckets, Windows, mask, outside, pad_frame, tiles


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    radius: int,
    *,
    offsets: Sequence[Tensor | None] | None = None,
    prior: bool = False,
    backend: str = "native",
) -> Tensor:
    """Σ weight · value, the weights a joint softmax over the windows of all T references.

    query: [B, C, H, W]; keys: [B, T, C, H, W]; values: [B, T, K, H, W] -> [B, K, H, W].
    A cell outside the frame has logit 0, keeps its share of the softmax, and has value 0.
    offsets: per reference None, for windows centred on their queries, or the centres' shifts [B, 2, H, W].
    prior: apply the compactness prior to the weights of each window; radius must not be 0.
    """
    offsets = [None] * keys.shape[1] if offsets is None else offsets
    if not keys.shape[1] == values.shape[1] == len(offsets):
        raise ValueError(f"{keys.shape[1]} keys, {values.shape[1]} values and {len(offsets)} offsets must be as many")
    reader, readings = _Reader(radius, prior, Scratch(query, keys, values), like=query), []
    if plain := [t for t, offset in enumerate(offsets) if offset is None]:
        readings.append(_read_centred(query, keys[:, plain], values[:, plain], reader, backend))
    for t, offset in enumerate(offsets):
        if offset is not None:
            readings.append(_read_searched(query, keys[:, t], values[:, t], offset, reader))
    return reader.merge(torch.cat(readings, 1))


class _Reader:
    """Reads windows, each on its own."""

    def __init__(self, radius: int, prior: bool, scratch: Scratch, *, like: Tensor) -> None:
        self.radius = radius
        self.scratch = scratch
        self.bells = bells(2 * radius + 1, BUCKET, like=like) if prior else None  # [BUCKET, cells, cells]

    def numbers(self, labels: int) -> list[int]:
        """How many numbers `read` yields of a window, kind by kind."""
        return [1, labels, *((0, 0) if self.bells is None else (2, 2 * labels))]

    def read(self, logits: Tensor, values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """What windows yield.

        logits: of blocks, -inf outside the windows, [B, queries, T, h, w]; values: [B, T, K, h, w]; rows, columns:
        where the windows start, [queries].
        -> [B, T, queries, ...]: log Σ exp(logit) and Σ weight · value; with the prior also the two largest logits, and
        Σ Gaussian · value around each of the two.
        """
        flat = logits.flatten(3)
        weights = torch.softmax(flat, -1, out=self.scratch("weights", flat, *flat.shape))
        log_sum = logits.amax((-2, -1)) - weights.amax(-1).log()  # [B, queries, T]
        read = [log_sum.mT[..., None], weights.transpose(1, 2) @ values.flatten(3).mT]
        if self.bells is not None:
            height, width = logits.shape[3:]
            largest, row, column = two_largest(logits.detach())  # [B, queries, T, 2]
            down = self.bells[rows[:, None, None], row][..., :height]  # [B, queries, T, 2, h]
            along = self.bells[columns[:, None, None], column][..., :width]
            across = along.transpose(1, 2).flatten(2, 3) @ values.flatten(2, 3).mT  # [B, T, queries * 2, K * h]
            across = across.unflatten(2, (-1, 2)).unflatten(4, (-1, height))
            found = (across * down.transpose(1, 2)[..., None, :]).sum(-1)  # [B, T, queries, 2, K]
            read += [largest.transpose(1, 2), found.flatten(3)]
        return torch.cat(read, -1)

    def merge(self, readings: Tensor) -> Tensor:
        """All references together: what `read` yields, [B, T, H, W, ...] -> [B, K, H, W]."""
        labels = (readings.shape[-1] - 1) // (1 if self.bells is None else 3)
        log_sum, mean, largest, found = readings.split(self.numbers(labels), -1)
        parts = log_sum.softmax(1) * mean
        if self.bells is not None:
            weights = (largest - log_sum.logsumexp(1, keepdim=True)).exp().detach()
            mixed = (weights.softmax(-1)[..., None] * found.unflatten(-1, (2, labels))).sum(-2)
            parts = torch.where(weights[..., :1] > PEAK_AT_TEST, mixed, parts)
        return parts.sum(1).permute(0, 3, 1, 2)


def _read_centred(query: Tensor, keys: Tensor, values: Tensor, reader: _Reader, backend: str) -> Tensor:
    """What windows centred on their queries yield in all of these references, [B, T, H, W, ...]."""
    windows, scratch, correlations = Windows(reader.radius), reader.scratch, None
    if backend != "native":
        maps = [correlate(query, key, reader.radius, backend=backend) for key in keys.unbind(1)]
        correlations = torch.stack(maps, 1)  # [B, T, P*P, H, W]
    readings = query.new_empty(*keys.shape[:2], sum(reader.numbers(values.shape[2])), *query.shape[-2:])
    keys, values = pad_frame(keys, reader.radius).movedim(2, -1).contiguous(), pad_frame(values, reader.radius)
    for tile in tiles(*query.shape[-2:]):
        rows, columns = windows.area(tile)
        block = keys[:, :, rows, columns]  # [B, T, h, w, C]
        starts, beyond = windows.place(tile, like=query)
        if correlations is None:
            queries, cells = tile.rows(query).contiguous(), scratch.copy("block", block).flatten(1, 3)
            out = scratch("logits", query, *queries.shape[:2], cells.shape[1])
            logits = torch.matmul(queries, cells.mT, out=out).unflatten(2, block.shape[1:4])
            logits += beyond[:, None]
        else:
            logits = windows.deposit(tile.of(correlations).flatten(0, 1), tile)
            logits = logits.unflatten(0, keys.shape[:2]).transpose(1, 2)
        read = reader.read(logits, values[..., rows, columns], *starts)
        tile.write(readings.flatten(0, 1), read.flatten(0, 1))
    return readings.movedim(2, -1)


def _read_searched(query: Tensor, key: Tensor, value: Tensor, offset: Tensor, reader: _Reader) -> Tensor:
    """What windows of one reference centred at query + offset, read bilinearly, yield: [B, 1, H, W, ...].

    A dot product is linear in the key, so a bilinear window of logits is the bilinear mix of integer ones, one cell
    apart; and what it reads is the bilinear mix of what it would read from values moved by a cell. No feature is
    interpolated.
    """
    buckets, scratch, labels = Buckets(offset, reader.radius), reader.scratch, value.shape[1]
    key = buckets.pad(key).movedim(1, -1).contiguous()  # [B, H', W', C]
    corners = buckets.pad(value)
    upper, lower = corners[..., :-1, :], corners[..., 1:, :]
    corners = torch.cat((upper[..., :-1], upper[..., 1:], lower[..., :-1], lower[..., 1:]), 1)  # [B, 4 * K, …]
    queries, fractions = buckets.sort(query), buckets.sort(offset - offset.detach().floor())
    readings = query.new_empty(len(queries), sum(reader.numbers(labels)))
    beyond = outside(2 * reader.radius + 1, like=query)
    for chosen, sample, rows, columns, starts in buckets.blocks():
        block = scratch.copy("block", key[sample, rows, columns])  # [h + 1, w + 1, C]
        x, y = fractions[chosen].unbind(1)
        count, height, width = len(x), *block.shape[:2]
        out = scratch("whole", query, count, height * width)
        whole = torch.matmul(queries[chosen], block.flatten(0, 1).mT, out=out).unflatten(1, (height, width))
        out = scratch("mixed", query, count, height - 1, width)
        mixed = torch.lerp(whole[:, :-1], whole[:, 1:], y[:, None, None], out=out)
        out = scratch("logits", query, count, height - 1, width - 1)
        logits = torch.lerp(mixed[..., :-1], mixed[..., 1:], x[:, None, None], out=out)
        for added in mask(beyond, *starts, *logits.shape[1:]):
            logits += added
        values = corners[sample, :, rows, columns][None, None, :, :-1, :-1]
        log_sum, mean, largest, found = reader.read(logits[None, :, None], values, *starts)[0, 0].split(
            reader.numbers(4 * labels), -1
        )
        mixed = [_mix(part.unflatten(1, (-1, 2, 2, labels)), x, y).flatten(1) for part in (mean, found)]
        readings[chosen] = torch.cat((log_sum, mixed[0], largest, mixed[1]), -1)
    return buckets.unsort(readings)[:, None]


def _mix(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear mixes of what is read at four corners: [N, n, 2, 2, K], fractions [N] -> [N, n, K]."""
    rows = torch.lerp(corners[:, :, 0], corners[:, :, 1], y[:, None, None, None])
    return torch.lerp(rows[:, :, 0], rows[:, :, 1], x[:, None, None])
