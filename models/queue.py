"""The queue of negatives of inter-video reconstruction: region keys of earlier batches (docs/method.md §6)."""

import torch
from torch import Tensor

from functional.reconstruction import Negatives


class NegativeQueue:
    """A ring buffer of region key maps and the index rows of their videos; one global batch is written per step.

    keys: [H, W, N, C], so that the keys at one position are contiguous in memory. Identical in all processes.
    """

    def __init__(
        self, batch: int, factor: int, *, channels: int, height: int, width: int, device: torch.device
    ) -> None:
        """batch: global batch size; factor: capacity in batches; height, width: of a key map."""
        self.batch = batch
        self.factor = factor
        self.keys = torch.zeros(height, width, batch * factor, channels, device=device)
        self.videos = torch.full((batch * factor,), -1, dtype=torch.int64, device=device)
        self.written = 0  # number of batches written so far

    def negatives(self, videos: Tensor, all_videos: Tensor) -> Negatives | None:
        """Select entries of other videos for each sample; None until more than `factor` batches have been written.

        videos: of this process's samples [B]; all_videos: of the global batch. All samples get the same number, the
        first ones in the ring: the fewest of any sample in the global batch (reference implementation: the process).
        """
        if self.written <= self.factor:
            return None
        count = (self.videos != all_videos[:, None]).sum(1).min()
        other = self.videos != videos[:, None]  # [B, N]
        return Negatives(self.keys, other & (other.cumsum(1) <= count)) if count else None

    def push(self, keys: Tensor, videos: Tensor) -> None:
        """Overwrite the oldest batch with a new global batch: keys [batch, C, H, W], videos [batch]."""
        first = self.written * self.batch % len(self.videos)
        self.keys[:, :, first : first + self.batch] = keys.detach().permute(2, 3, 0, 1)
        self.videos[first : first + self.batch] = videos
        self.written += 1

    def renumber(self, rows: Tensor) -> None:
        """Replace each video's row in the index, i by rows[i]: int64 [number of videos], on the CPU; -1 stays."""
        rows = torch.cat([rows, torch.tensor([-1])])  # the last element, which index -1 reads
        self.videos.copy_(rows[self.videos.cpu()])

    def state_dict(self) -> dict:
        """Return the whole state, for an exact resume."""
        return {"keys": self.keys, "videos": self.videos, "written": self.written}

    def load_state_dict(self, state: dict) -> None:
        """Restore the state of a queue of the same size; ValueError if its size differs or it is not valid."""
        for name, own in (("keys", self.keys), ("videos", self.videos)):
            if state[name].shape != own.shape or not torch.isfinite(state[name]).all():
                raise ValueError(f"{name} {list(state[name].shape)} must be finite and {list(own.shape)}")
        if not isinstance(state["written"], int) or state["written"] < 0:
            raise ValueError(f"written is {state['written']!r}; it must be a number of batches")
        self.keys.copy_(state["keys"])
        self.videos.copy_(state["videos"])
        self.written = state["written"]
