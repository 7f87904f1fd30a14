"""Region keys of earlier batches, the negatives of inter-video reconstruction (docs/method.md §6)."""

import torch
from torch import Tensor

from functional.reconstruction import Negatives


class NegativeQueue:
    """A ring of region key maps with their videos' numbers, one global batch written per step.

    keys: [H, W, N, C], so that the keys at one position lie together. The same on every process.
    """

    def __init__(
        self, batch: int, factor: int, *, channels: int, height: int, width: int, device: torch.device
    ) -> None:
        """factor: how many batches it holds."""
        self.batch = batch
        self.factor = factor
        self.keys = torch.zeros(height, width, batch * factor, channels, device=device)
        self.videos = torch.full((batch * factor,), -1, dtype=torch.int64, device=device)
        self.written = 0  # batches; never wraps

    def negatives(self, videos: Tensor, all_videos: Tensor) -> Negatives | None:
        """Entries of other videos for each sample, in the queue's order; None before the ring is full.

        videos: [B], this process's samples; all_videos: [B of all processes]. Every sample gets as many entries as
        the sample of the global batch that has the fewest. Reference: the fewest of one process's samples.
        """
        if self.written <= self.factor:
            return None
        count = (self.videos != all_videos[:, None]).sum(1).min()
        other = self.videos != videos[:, None]  # [B, N]
        return Negatives(self.keys, other & (other.cumsum(1) <= count)) if count else None

    def push(self, keys: Tensor, videos: Tensor) -> None:
        """Write one global batch over the oldest one: keys [batch, C, H, W], videos [batch]."""
        first = self.written * self.batch % len(self.videos)
        self.keys[:, :, first : first + self.batch] = keys.detach().permute(2, 3, 0, 1)
        self.videos[first : first + self.batch] = videos
        self.written += 1

    def state_dict(self) -> dict:
        """Everything, for an exact resume."""
        return {"keys": self.keys, "videos": self.videos, "written": self.written}

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`, for a queue of the same size; ValueError if it is of another."""
        for name, own in (("keys", self.keys), ("videos", self.videos)):
            if state[name].shape != own.shape or not torch.isfinite(state[name]).all():
                raise ValueError(f"{name} {list(state[name].shape)} are not finite, or not {list(own.shape)}")
        if not isinstance(state["written"], int) or state["written"] < 0:
            raise ValueError(f"written {state['written']!r} times")
        self.keys.copy_(state["keys"])
        self.videos.copy_(state["videos"])
        self.written = state["written"]
