"""VIP (video instance parsing): 20 classes of human parts, including the background (docs/method.md §9)."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataloaders.frames import list_frames, read_frame, require_size
from dataloaders.layout import require_layout
from dataloaders.lists import choose, read_list
from dataloaders.masks import read_mask
from utils.errors import UserError

LIST = "lists/val_videos.txt"
CLASSES = (
    "background", "hat", "hair", "gloves", "sunglasses", "upper clothes", "dress", "coat", "socks", "pants",
    "torso skin", "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg", "left shoe", "right shoe",
)  # fmt: skip


@dataclass(frozen=True)
class Video:
    """One video and its annotations, one mask of classes for each frame."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files from which masks and scores are computed."""
        return *self.frames, *self.masks

    def truth(self, index: int) -> np.ndarray:
        """Read the class of every pixel of a frame, uint8 [H, W]; values above 19 are to be ignored."""
        return read_mask(self.masks[index])

    def given(self) -> np.ndarray:
        """Read the classes of the first frame, uint8 [H, W], with values above 19 as background."""
        mask = self.truth(0)
        require_size(self.masks[0], mask, read_frame(self.frames[0]).shape[:2])
        return np.where(mask < len(CLASSES), mask, 0)


def load_videos(root: Path, names: list[str] | None) -> list[Video]:
    """Load the videos of ROOT/lists/val_videos.txt, or those of `names`."""
    return [_load_video(root, name) for name in choose(list_videos(root), names, root / LIST)]


def list_videos(root: Path) -> list[str]:
    """Read the video names in ROOT/lists/val_videos.txt."""
    require_layout("vip", root)
    return read_list(root / LIST, way_out="check --datapath")


def _load_video(root: Path, name: str) -> Video:
    frames = list_frames(root / "Images" / name)
    masks = [root / "Annotations" / "Category_ids" / name / f"{frame.stem}.png" for frame in frames]
    for mask in masks:
        if not os.path.isfile(mask):
            raise UserError(f"{mask}: no such file; every frame needs its mask of classes")
    return Video(name, tuple(frames), tuple(masks))
