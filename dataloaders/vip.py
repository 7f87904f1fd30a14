"""VIP, video instance parsing, as evaluated: parts of people, 20 classes with the background (docs/method.md §9)."""

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataloaders.layout import require_layout
from dataloaders.video import list_frames, read_frame, read_list, read_mask
from utils.errors import UserError

LIST = "lists/val_videos.txt"
CLASSES = (
    "background", "hat", "hair", "gloves", "sunglasses", "upper clothes", "dress", "coat", "socks", "pants",
    "torso skin", "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg", "left shoe", "right shoe",
)  # fmt: skip


@dataclass(frozen=True)
class Video:
    """One video, and the classes of the pixels of its frames."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]

    def truth(self, index: int) -> np.ndarray:
        """Class of every pixel of a frame, uint8 [H, W]; UserError if it is none."""
        mask = read_mask(self.masks[index])
        if mask.max() >= len(CLASSES):
            raise UserError(f"{self.masks[index]}: holds class {mask.max()}; VIP has 0 … {len(CLASSES) - 1}")
        return mask

    def read_frame(self, index: int, size: int) -> np.ndarray:
        """A frame squeezed to size × size, BGR uint8."""
        return cv2.resize(read_frame(self.frames[index]), (size, size), interpolation=cv2.INTER_LINEAR)


def load_videos(root: Path, names: list[str] | None) -> list[Video]:
    """The videos of ROOT/lists/val_videos.txt, or those of `names`."""
    listed = list_videos(root)
    if unknown := [name for name in names or [] if name not in listed]:
        raise UserError(f"--videos {','.join(unknown)}: not in {root / LIST}")
    return [_load_video(root, name) for name in listed if names is None or name in names]


def list_videos(root: Path) -> list[str]:
    """The names in ROOT/lists/val_videos.txt."""
    require_layout("vip", root)
    return read_list(root / LIST, way_out="check --datapath")


def _load_video(root: Path, name: str) -> Video:
    frames = list_frames(root / "Images" / name)
    masks = [root / "Annotations" / "Category_ids" / name / f"{frame.stem}.png" for frame in frames]
    for mask in masks:
        if not os.path.isfile(mask):
            raise UserError(f"{mask}: no such file; VIP has the classes of every frame")
    return Video(name, tuple(frames), tuple(masks))
