"""Random inputs of the operators, in float64."""

import torch

SIZES = [(1, 1), (1, 9), (7, 1), (3, 5), (8, 16), (9, 17), (20, 37)]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Normally distributed values."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def problem(size: tuple[int, int], *, batch: int = 2, references: int = 3, channels: int = 4, labels: int = 3):
    """Queries [B, C, H, W], keys [B, T, C, H, W] and values [B, T, K, H, W]."""
    query = normal(batch, channels, *size)
    keys = normal(batch, references, channels, *size, seed=1)
    return query, keys, normal(batch, references, labels, *size, seed=2)


def offsets_for(size: tuple[int, int], batch: int = 2, scale: float = 4.0) -> list[torch.Tensor | None]:
    """Offsets of three references: none for the first, then offsets that leave small frames."""
    return [None, scale * normal(batch, 2, *size, seed=3), 3 * scale * normal(batch, 2, *size, seed=4)]
